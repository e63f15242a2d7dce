"""Whatever a record holds: what the writer puts into MLflow's store, the reader gets back equal.

Records are drawn from the types of their fields, so that a field is tested by being there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from itertools import count
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import (
    DataRecord,
    GalleryRecord,
    PlanParentRecord,
    PlanRecord,
    ProfileRecord,
    ProvenanceRecord,
    RunRecord,
    SearchOutcomeRecord,
    SearchParentRecord,
    SearchRecord,
    TrialRecord,
    from_tags,
)
from cifar_ablations.reports.reading import load, searches, stored
from tests.reports.conftest import Unmade, Writer, planted_runs, small_plan

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
INTEGERS, FLOATS = st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: INTEGERS,
    float: FLOATS,
    bool: st.booleans(),
    NoneType: st.none(),
    Any: TEXT | INTEGERS | FLOATS,
}
few = settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
"""Without shrinking: every example writes to a database."""


def drawn(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a type that a record's field has, or records of a kind."""
    if hint in PLAIN:
        return PLAIN[hint]
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        values = {one.name: drawn(hints[one.name]) for one in fields(hint)}
        # A text that must be there is never empty: what is "" has no tag.
        needed = {n.name for n in fields(hint) if n.default is MISSING and hints[n.name] is str}
        return st.builds(hint, **values | {name: TEXT.filter(bool) for name in needed})
    args = get_args(hint)
    if get_origin(hint) is Mapping:
        return st.dictionaries(drawn(args[0]), drawn(args[1]), max_size=2)
    if get_origin(hint) is tuple:
        return st.lists(drawn(args[0]), max_size=2).map(tuple) if ... in args else st.tuples(*map(drawn, args))
    return st.one_of(*map(drawn, args))


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    return Writer(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    """Numbers that are not used twice in a store."""
    return count(1)


def _parent(asked: PlanRecord | SearchRecord) -> dict[str, Any]:
    """What the parent run's tags must say of what is asked."""
    data = asked.data
    return {"profile": asked.profile.name, "data": data.name, "data_digest": data.digest, "stand_in": data.stand_in}


@few
@given(plan=drawn(PlanRecord), facts=drawn(ProvenanceRecord), gallery=drawn(GalleryRecord))
def test_a_plan(writer: Writer, plan: PlanRecord, facts: ProvenanceRecord, gallery: GalleryRecord) -> None:
    run = writer.store.open_invocation(writer.experiment("plans"), plan, facts, gallery)
    unreadable: list[str] = []
    found = {one.run_id: one for one in load.invocations(writer.uri, unreadable)}[run]
    assert unreadable == []
    assert (found.plan, found.provenance) == (plan, facts)
    assert load.gallery_of(writer.client, found) == gallery
    tags = from_tags(PlanParentRecord, writer.client.get_run(run).data.tags, "", run)
    expected = PlanParentRecord(plan=plan.name, plan_digest=plan.digest, **_parent(plan))
    assert replace(tags, note="", number=0) == expected
    assert plan.question in tags.note


@few
@given(about=drawn(RunRecord), outcome=st.sampled_from(["", *schema.RESULTS, schema.FAILED, schema.INTERRUPTED]))
def test_a_training(writer: Writer, about: RunRecord, outcome: str) -> None:
    data = DataRecord(about.data, about.data_digest, stand_in=about.stand_in)
    plan = replace(small_plan(), name=about.plan, profile=ProfileRecord(about.profile), data=data)
    asked = {"arm": about.arm, "digest": about.digest, "seed": about.seed, "outcome": outcome}
    row = planted_runs(small_plan()).iloc[0].to_dict() | asked
    run = writer.train(writer.experiment("trainings"), about.parent, plan, row)
    written = stored.find(writer.client, {schema.KIND: schema.KIND_TRAINING})
    unreadable: list[str] = []
    found = {one.run_id: said for one, said in load.tagged(RunRecord, written, unreadable)}
    assert unreadable == []
    assert found[run] == replace(about, outcome=outcome)


@few
@given(
    asked=drawn(SearchRecord),
    facts=drawn(ProvenanceRecord),
    outcome=drawn(SearchOutcomeRecord),
    trial=drawn(TrialRecord),
)
def test_a_search_and_a_trial(
    writer: Writer,
    numbers: Iterator[int],
    asked: SearchRecord,
    facts: ProvenanceRecord,
    outcome: SearchOutcomeRecord,
    trial: TrialRecord,
) -> None:
    from cifar_ablations.study.store.search_log import SearchLog

    log, asked = SearchLog(writer.store), replace(asked, digest=f"{next(numbers):016x}")
    parent = log.open(writer.experiment("searches"), asked, facts)
    recipe = Unmade(trial.digest)
    run = log.start_trial(parent, trial.study, trial.trial, trial.sampled, recipe, trial.origin)  # type: ignore[arg-type]
    log.end_trial(run, schema.FINISHED, {}, "")
    log.close(parent, outcome, failures=False)
    unreadable: list[str] = []
    found = {one.run_id: one for one in searches.searches(writer.uri, unreadable)}[parent.run_id]
    written = stored.find(writer.client, {schema.KIND: schema.KIND_TRIAL})
    trials = {one.run_id: said for one, said in load.tagged(TrialRecord, written, unreadable)}
    assert unreadable == []
    assert (found.plan, found.provenance, found.outcome) == (asked, facts, outcome)
    of_search = {"search": asked.name, "search_digest": asked.digest, "parent": parent.run_id, **_parent(asked)}
    assert trials[run] == replace(trial, outcome=schema.FINISHED, **of_search)
    tags = from_tags(SearchParentRecord, writer.client.get_run(parent.run_id).data.tags, "", "a run")
    expected = SearchParentRecord(search=asked.name, search_digest=asked.digest, **_parent(asked))
    assert replace(tags, note="", number=0) == expected
