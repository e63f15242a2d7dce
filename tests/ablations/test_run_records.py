"""What `study` writes of trainings and trials is what `reports` reads of them, whatever became of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import (
    BaselineRecord,
    EnvironmentRecord,
    PlanParentRecord,
    PlanRecord,
    ProvenanceRecord,
    RecordError,
    RunRecord,
    SearchParentRecord,
    SearchRecord,
    TrialRecord,
    from_tags,
    to_tags,
)
from cifar_ablations.reports.pages import search_page
from cifar_ablations.reports.reading import load, searches
from tests.reports.conftest import ENVIRONMENT, Unmade, Writer, planted_runs, small_plan

pytestmark = pytest.mark.exhaustive

RUN = RunRecord(
    digest="00ff",
    seed=3,
    data_digest="aa11",
    data="cifar10",
    stand_in=True,
    plan="techniques",
    profile="quick",
    arm="full recipe",
    outcome=schema.FINISHED,
    parent="0f0f",
)
RUN_TAGS = {
    "digest": "00ff",
    "seed": "3",
    "data_digest": "aa11",
    "data": "cifar10",
    "stand_in": "true",
    "plan": "techniques",
    "profile": "quick",
    "arm": "full recipe",
    "outcome": "finished",
    "mlflow.parentRunId": "0f0f",
}
TRIAL = TrialRecord(
    search_digest="5ea5",
    study="rates",
    trial=0,
    digest="00ff",
    data_digest="aa11",
    data="cifar10",
    search="found",
    profile="quick",
    sampled={"optimizer.rate": 0.1, "mixup": "off", "augmentation.padding": 4},
    parent="0f0f",
)
TRIAL_TAGS = {
    "search_digest": "5ea5",
    "study": "rates",
    "trial": "0",
    "digest": "00ff",
    "data_digest": "aa11",
    "data": "cifar10",
    "stand_in": "false",
    "search": "found",
    "profile": "quick",
    "sampled": '{"optimizer.rate": 0.1, "mixup": "off", "augmentation.padding": 4}',
    "mlflow.parentRunId": "0f0f",
}


@pytest.mark.parametrize(("record", "tags"), [(RUN, RUN_TAGS), (TRIAL, TRIAL_TAGS)], ids=["training", "trial"])
def test_the_tags_have_these_names_and_forms(record: RunRecord | TrialRecord, tags: dict[str, str]) -> None:
    assert to_tags(record) == tags
    assert set(tags) <= {value for value in vars(schema).values() if isinstance(value, str)}
    found = from_tags(type(record), {**tags, "kind": "of another", "mlflow.user": "me"}, "", "run 7")
    assert found == record
    if isinstance(found, TrialRecord):
        assert repr(found.sampled) == repr(TRIAL.sampled), "whole and real numbers are told apart"


ABOUT = {"profile": "quick", "data": "cifar10", "data_digest": "aa11"}


@pytest.mark.parametrize(
    ("record", "own"),
    [
        (PlanParentRecord(plan="techniques", **ABOUT), {"plan": "techniques"}),
        (
            PlanParentRecord(plan_digest="00ff", note="**?**", **ABOUT),
            {"plan_digest": "00ff", "mlflow.note.content": "**?**"},
        ),
        (
            SearchParentRecord(search="found", search_digest="5ea5", **ABOUT),
            {"search": "found", "search_digest": "5ea5"},
        ),
    ],
    ids=["a plan in the making", "a plan", "a search"],
)
def test_the_tags_of_parents_have_these_names(
    record: PlanParentRecord | SearchParentRecord, own: dict[str, str]
) -> None:
    tags = {**ABOUT, "stand_in": "false", "invocation": "0", **own}
    assert to_tags(record) == tags
    assert from_tags(type(record), {**tags, "kind": "of another", "outcome": "interrupted"}, "", "run 7") == record


@pytest.mark.parametrize(
    ("record", "tag", "value", "said"),
    [
        (RUN, "seed", "zero", "a valid integer, unable to parse string as an integer"),
        (RUN, "stand_in", "perhaps", "a valid boolean, unable to interpret input"),
        (TRIAL, "trial", "", "a valid integer, unable to parse string as an integer"),
        (TRIAL, "sampled", "{0.1", "a valid dictionary"),
        (TRIAL, "sampled", "[0.1]", "a valid dictionary"),
    ],
)
def test_a_tag_that_was_edited_is_named_with_its_value(record: Any, tag: str, value: str, said: str) -> None:
    with pytest.raises(RecordError) as raised:
        from_tags(type(record), to_tags(record) | {tag: value}, "", "run 7")
    assert str(raised.value).startswith(f"run 7: the tag {tag} input should be {said}, not '{value[:1]}")


@pytest.mark.parametrize("tag", ["digest", "seed", "data_digest"])
def test_a_run_must_say_what_was_trained(tag: str) -> None:
    with pytest.raises(RecordError, match=f"^run 7: the tag {tag} is missing$"):
        from_tags(RunRecord, {name: value for name, value in RUN_TAGS.items() if name != tag}, "", "run 7")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    return Writer(tmp_path_factory.mktemp("store"))


OUTCOMES = [schema.FINISHED, schema.STOPPED, schema.DIVERGED, schema.FAILED, schema.INTERRUPTED, ""]


@pytest.fixture(scope="module")
def trained(store: Writer) -> tuple[PlanRecord, str, dict[str, dict[str, Any]]]:
    """The plan, its run, and by outcome what one training was and its run: each with the seed of its place."""
    plan, experiment = small_plan(), store.experiment("first")
    parent = store.invoke(experiment, plan)
    rows = {outcome: planted_runs(plan).iloc[0].to_dict() | {"seed": seed} for seed, outcome in enumerate(OUTCOMES)}
    for outcome, row in rows.items():
        row["outcome"] = outcome
        row["run_id"] = store.train(experiment, parent, plan, row)
    return plan, parent, rows


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_training_is_read_as_it_was_written(store: Writer, trained: Any, outcome: str) -> None:
    plan, parent, rows = trained
    row = rows[outcome]
    tags = store.client.get_run(row["run_id"]).data.tags
    expected = RunRecord(
        digest=row["digest"],
        seed=row["seed"],
        data_digest=plan.data.digest,
        data=plan.data.name,
        stand_in=plan.data.stand_in,
        plan=plan.name,
        profile=plan.profile.name,
        arm=row["arm"],
        outcome=outcome,
        parent=parent,
    )
    assert from_tags(RunRecord, tags, "", "a run") == expected
    assert from_tags(EnvironmentRecord, tags, schema.ENVIRONMENT, "a run") == ENVIRONMENT
    assert (tags.get(schema.ERROR) is not None) is (outcome == schema.FAILED)
    unreadable: list[str] = []
    matching = load.matching_runs(store.client, plan, unreadable=unreadable).set_index("run_id")
    found = matching.loc[row["run_id"]]
    assert unreadable == []
    assert (found["arm"], found["seed"], found["digest"]) == (row["arm"], row["seed"], row["digest"])
    assert (found["outcome"], found["converged"]) == (outcome, outcome in schema.CONVERGED)
    assert found["parent_run_id"] == parent
    if outcome == schema.FINISHED:
        assert found[schema.TEST_ACCURACY] == row[schema.TEST_ACCURACY]


def test_both_sides_count_the_same_trainings_as_results(store: Writer, trained: Any) -> None:
    plan, _, rows = trained
    results = {(row["digest"], row["seed"]) for outcome, row in rows.items() if outcome in schema.RESULTS}
    assert store.store.results(plan.data, ENVIRONMENT) == results
    runs = load.runs_of(store.client, plan)
    assert set(zip(runs["digest"], runs["seed"], strict=True)) == results


TRIALS = [schema.FINISHED, schema.DIVERGED, schema.PRUNED, schema.FAILED, schema.INTERRUPTED, ""]


def search(writer: Writer) -> dict[str, str]:
    """A search with a trial of each outcome, numbered by its place, written to a store: their runs."""
    from cifar_ablations.study.store.search_log import SearchLog

    plan, log = small_plan(), SearchLog(writer.store)
    asked = SearchRecord(
        name="found",
        question="What is best?",
        profile=plan.profile,
        data=plan.data,
        epochs=3,
        baseline=BaselineRecord("notebook", "00aa"),
        seeds=(100_000,),
        seed=0,
        sampler="tpe",
        pruner="halving",
        rungs=(1,),
        trials=6,
        pareto=False,
        at_once=1,
        chance=0.1,
        digest="5ea55ea55ea55ea5",
    )
    parent = log.open(writer.experiment("search found"), asked, ProvenanceRecord())
    runs = {}
    for number, outcome in enumerate(TRIALS):
        run = log.start_trial(parent, "rates", number, TRIAL.sampled, Unmade(f"{number:016x}"))  # type: ignore[arg-type]
        if outcome == schema.INTERRUPTED:
            writer.store.interrupt(run)
        elif outcome:
            metrics = {schema.OBJECTIVE: 0.5, schema.EPOCHS: 3.0} if outcome == schema.FINISHED else {}
            log.end_trial(run, outcome, metrics, "ValueError" if outcome == schema.FAILED else "")
        runs[outcome] = run
    return runs


@pytest.fixture(scope="module")
def searched(store: Writer) -> dict[str, str]:
    return search(store)


@pytest.mark.parametrize("outcome", TRIALS)
def test_a_trial_is_read_as_it_was_written(store: Writer, searched: dict[str, str], outcome: str) -> None:
    (asked,) = searches.searches(store.uri)
    number, data, run = TRIALS.index(outcome), asked.plan.data, searched[outcome]
    stored = store.client.get_run(run)
    expected = TrialRecord(
        search_digest=asked.digest,
        study="rates",
        trial=number,
        digest=f"{number:016x}",
        data_digest=data.digest,
        data=data.name,
        stand_in=data.stand_in,
        search=asked.name,
        profile=asked.profile,
        sampled=TRIAL.sampled,
        outcome=outcome,
        parent=asked.run_id,
    )
    assert from_tags(TrialRecord, stored.data.tags, "", "a run") == expected
    killed = dict.fromkeys((schema.PRUNED, schema.INTERRUPTED), "KILLED")
    assert stored.info.status == {"": "RUNNING", schema.FAILED: "FAILED", **killed}.get(outcome, "FINISHED")
    unreadable: list[str] = []
    found = searches.trials_of(store.client, asked, unreadable).set_index("run_id").loc[run]
    assert unreadable == []
    assert (found["study"], found["trial"], found["outcome"]) == ("rates", number, outcome)
    assert {name: found[name] for name in TRIAL.sampled} == TRIAL.sampled
    reached = {schema.FINISHED: 0.5, schema.DIVERGED: 0.1}
    assert found["value"] == reached[outcome] if outcome in reached else found["value"] != found["value"]


@pytest.mark.parametrize(
    ("tag", "value", "said"),
    [
        (schema.TRIAL, "one", "input should be a valid integer, unable to parse string as an integer, not 'one'"),
        (schema.SAMPLED, "{0.1", "input should be a valid dictionary, not '{0.1'"),
        (schema.DIGEST, None, "is missing"),
    ],
)
def test_a_trial_whose_tags_were_edited_is_left_out_and_said(
    tmp_path: Path, tag: str, value: str | None, said: str
) -> None:
    writer = Writer(tmp_path)
    edited = search(writer)[schema.DIVERGED]
    (asked,) = searches.searches(writer.uri)
    if value is None:
        writer.client.delete_tag(edited, tag)
    else:
        writer.client.set_tag(edited, tag, value)
    unreadable: list[str] = []
    found = searches.trials_of(writer.client, asked, unreadable)
    assert set(found["outcome"]) == set(TRIALS) - {schema.DIVERGED}
    assert unreadable == [f"run {edited}: the tag {tag} {said}"]
    heard: list[str] = []
    search_page.write_search_reports(writer.uri, tmp_path / "pages", tell=heard.append)
    assert heard == [f"Left out: {unreadable[0]}."]
