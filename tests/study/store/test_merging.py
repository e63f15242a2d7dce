"""What is brought from another store is what was there, each training once, whatever happens in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import text

from cifar_ablations.ablations import addresses, schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.reading import load
from cifar_ablations.study.store import merging
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.merging import Merged, merge
from cifar_ablations.study.store.tracking import Store, open_store
from tests.fresh_store import put_fresh_store
from tests.reports.conftest import Writer, planted_runs, small_plan

SEEDS = (0, 2)
"""Of the planted runs, one of which diverged in the second seed."""


def _written(folder: Path, seeds: tuple[int, ...], plan: PlanRecord | None = None) -> Writer:
    """An output folder in which these seeds of a plan were trained."""
    folder.mkdir()
    writer, plan = Writer(folder), plan or small_plan()
    experiment = writer.experiment("first")
    parent = writer.invoke(experiment, plan, started=1_000, commit="1111111", device="cpu")
    for row in planted_runs(plan).to_dict("records"):
        if row["seed"] in seeds:
            writer.train(experiment, parent, plan, row)
    return writer


def _brought(store: Store, address: str) -> Merged:
    with store.delivering():
        return merge(store, address, lambda _: None)


def _trainings(store: Store) -> dict[tuple[str, str], Any]:
    found = store.search_runs(f"tags.{schema.KIND} = '{schema.KIND_TRAINING}'")
    ended = [run for run in found if run.data.tags.get(schema.OUTCOME) in schema.RESULTS]
    by_key = {(run.data.tags[schema.DIGEST], run.data.tags[schema.SEED]): run for run in ended}
    assert len(by_key) == len(ended), "each training once"
    return by_key


def _all_of(store: Store, run: Any) -> dict[str, Any]:
    """All that a store knows of a run but where it stands in it."""
    own = {*merging.OF_THE_STORE, schema.COPY_OF}
    histories = {
        name: sorted((one.step, one.timestamp, one.value.hex()) for one in store.client.get_metric_history(id, name))
        for id in [run.info.run_id]
        for name in run.data.metrics
    }
    (folder,) = {one for one in addresses.folders(run.info.artifact_uri, store.uri) if one.is_dir()} or {None}
    files = {} if folder is None else {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {
        "name": run.info.run_name,
        "times": (run.info.start_time, run.info.end_time, run.info.status),
        "tags": {name: value for name, value in run.data.tags.items() if name not in own},
        "params": run.data.params,
        "data": [one.dataset.to_dictionary() for one in run.inputs.dataset_inputs],
        "metrics": histories,
        "files": files,
    }


@pytest.fixture
def shards(tmp_path: Path) -> list[Writer]:
    return [_written(tmp_path / f"shard {seed}", (seed,)) for seed in SEEDS]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "all").mkdir()
    return open_store(Home(put_fresh_store(tmp_path / "all")))


@pytest.mark.parametrize("within_a_database", [True, False])
def test_shards_come_to_what_one_run_is(
    shards: list[Writer], store: Store, tmp_path: Path, within_a_database: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not within_a_database:  # as of a server, whose database is out of reach
        monkeypatch.setattr(merging, "_engine", lambda client: None)
    plan = small_plan()
    brought = [_brought(store, shard.uri) for shard in shards]
    assert [one.trainings for one in brought] == [len(plan.arms)] * 2
    assert {*brought[0].plans, *brought[1].plans} == {plan.name}
    copies = _trainings(store)
    for shard in shards:
        for key, run in _trainings(shard.store).items():
            copy = copies.pop(key)
            assert _all_of(store, copy) == _all_of(shard.store, run)
            assert copy.data.tags[schema.COPY_OF] == run.info.run_id
    assert not copies

    whole = _written(tmp_path / "whole", SEEDS)
    asked = replace(plan, seeds=SEEDS)
    one, other = (load.runs_of(load.connect(uri), asked) for uri in (store.uri, whole.uri))
    own = ["run_id", "parent_run_id", "artifacts"]
    pd.testing.assert_frame_equal(one.drop(columns=own), other.drop(columns=own), check_exact=True)
    first, second = load.invocations(store.uri)
    assert first.plan == second.plan == plan


def test_what_is_here_already_is_not_brought_again(shards: list[Writer], store: Store) -> None:
    first, count = shards[0], len(small_plan().arms)
    assert _brought(store, first.uri).trainings == count
    assert vars(_brought(store, first.uri)) == {"trainings": 0, "known": count, "plans": []}
    assert _brought(first.store, store.uri).trainings == 0, "nor is a copy brought back"
    assert len(_trainings(store)) == count


@pytest.mark.parametrize("writes", [1, 4, 9, 14, 20])
def test_one_that_was_stopped_is_gone_on_with(
    writes: int, shards: list[Writer], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest: Callable[[Any], None] = store._make

    def stopped(write: Any) -> None:
        nonlocal writes
        writes -= 1
        if writes < 0:
            raise KeyboardInterrupt
        honest(write)

    monkeypatch.setattr(store, "_make", stopped)
    with pytest.raises(KeyboardInterrupt):
        _brought(store, shards[0].uri)
    store.home.pending.unlink()  # and what waited is lost
    again = open_store(store.home)
    again.reconcile()
    _brought(again, shards[0].uri)
    copies = _trainings(again)
    for key, run in _trainings(shards[0].store).items():
        assert _all_of(again, copies.pop(key)) == _all_of(shards[0].store, run)
    assert not copies


def test_other_data_are_refused_and_nothing_is_brought(shards: list[Writer], store: Store, tmp_path: Path) -> None:
    _brought(store, shards[0].uri)
    drawn = replace(small_plan().data, name="drawn", digest="5" * 16, stand_in=True)
    other = _written(tmp_path / "drawn", (0,), replace(small_plan(), data=drawn))
    with pytest.raises(AblateError, match=r"has trainings on drawn \(5{8}\), and those in .* are on cifar10 \(aa11"):
        _brought(store, other.uri)
    assert len(_trainings(store)) == len(small_plan().arms)


def test_no_password_is_said(
    shards: list[Writer], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = replace(small_plan().data, name="drawn", digest="5" * 16, stand_in=True)
    other = _written(tmp_path / "drawn", (0,), replace(small_plan(), data=drawn))
    _brought(store, shards[0].uri)
    for refused in (other, shards[1]):
        for plan in refused.folder.rglob(schema.PLAN_FILE):
            plan.write_text("{}")
        monkeypatch.setattr(merging, "client_of", lambda address, of=refused: of.client)
        with pytest.raises(AblateError) as error:
            _brought(store, "http://somebody:hush@a.server")
        assert "a.server" in str(error.value)
        assert "hush" not in str(error.value)


def test_of_a_store_with_other_data_too_only_what_is_compared_is_brought(
    shards: list[Writer], store: Store, tmp_path: Path
) -> None:
    _brought(store, shards[0].uri)
    both, plan = shards[1], small_plan()
    drawn = replace(plan, data=replace(plan.data, name="drawn", digest="5" * 16, stand_in=True))
    parent = both.invoke(both.experiment("drawn"), drawn)
    both.train(both.experiment("drawn"), parent, drawn, planted_runs(drawn).iloc[0].to_dict())
    said: list[str] = []
    with store.delivering():
        merged = merge(store, both.uri, said.append)
    assert merged.trainings == len(plan.arms)
    assert said == ["Left there: 1 trainings on drawn (55555555); those here are on cifar10 (aa11bb22)."]


def test_what_was_asked_before_is_brought_too(shards: list[Writer], store: Store) -> None:
    """Without a training of its own that is lacking: by it a page says what was changed since."""
    first, plan = shards[0], small_plan()
    _brought(store, first.uri)
    earlier = replace(plan, digest="0123012301230123", claims=plan.claims[:1])
    first.invoke(first.experiment("first"), earlier, started=500)
    merged = _brought(store, first.uri)
    assert (merged.trainings, merged.plans) == (0, [])
    assert {one.digest for one in load.invocations(store.uri)} == {plan.digest, earlier.digest}
    assert min(load.invocations(store.uri), key=lambda one: one.started).digest == earlier.digest


def test_a_copy_of_a_copy_has_one_invocation(shards: list[Writer], store: Store, tmp_path: Path) -> None:
    (tmp_path / "further").mkdir()
    further = open_store(Home(put_fresh_store(tmp_path / "further")))
    for seed in SEEDS[1:]:
        _brought(store, shards[0].uri)
        _brought(further, store.uri)
        first, plan = shards[0], small_plan()
        (parent,) = first.store.search_runs(f"tags.{schema.KIND} = '{schema.KIND_PLAN}'")
        for row in planted_runs(plan).to_dict("records"):
            if row["seed"] == seed:
                first.train(first.experiment("first"), parent.info.run_id, plan, row)
    _brought(store, shards[0].uri)
    _brought(further, store.uri)
    assert len(load.invocations(further.uri)) == 1
    assert len(_trainings(further)) == len(_trainings(shards[0].store))


def test_nothing_but_a_run_s_own_files_is_copied(shards: list[Writer], store: Store, tmp_path: Path) -> None:
    """Of a store of another person, which may name any folder, and have links in its own."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("hush")
    engine = shards[0].client._tracking_client.store.engine
    with engine.begin() as connection:
        ours = "SELECT run_uuid FROM tags WHERE value = :kind"
        moved = text(f"UPDATE runs SET artifact_uri = :elsewhere WHERE run_uuid IN ({ours})")
        connection.execute(moved, {"elsewhere": secret.as_uri(), "kind": schema.KIND_TRAINING})
    _brought(store, shards[0].uri)
    assert len(_trainings(store)) == len(small_plan().arms)
    assert not list(store.home.artifacts.rglob("key"))

    (details, *_) = sorted(shards[1].folder.rglob(schema.DETAILS_FILE))
    details.with_name("link").symlink_to(secret / "key")
    with pytest.raises(AblateError, match="link is a link, a pipe or a device, and its run cannot be brought"):
        _brought(store, shards[1].uri)
    assert not list(store.home.artifacts.rglob("link"))


def test_a_plan_of_another_version_is_refused_and_nothing_is_brought(shards: list[Writer], store: Store) -> None:
    (plan,) = shards[0].folder.rglob(schema.PLAN_FILE)
    plan.write_text('{"a later version": "says it otherwise"}')
    with pytest.raises(AblateError, match=f"{schema.PLAN_FILE} of run .* It may be of another version"):
        _brought(store, shards[0].uri)
    assert not _trainings(store)
