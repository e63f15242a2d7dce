"""What waits to be written is written once, whatever happens in between."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from mlflow.entities import Metric, Param

from cifar_ablations.ablations import schema
from cifar_ablations.study.store import pending
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.pending import Pending
from cifar_ablations.study.store.tracking import MOST_METRICS, Store
from cifar_ablations.study.training.engine import Epoch
from cifar_ablations.study.training.fleet import Member
from tests.reports.conftest import ENVIRONMENT, Unmade, Writer, small_plan


class Knobs(Unmade):
    """In place of a recipe with one knob."""

    def knobs(self):
        return {"dropout.p": 0.5}


MEMBER = Member(Knobs("a recipe"), 3)  # type: ignore[arg-type]


def _begun(writer: Writer) -> str:
    """A training that has begun."""
    return writer.store.start(writer.experiment("first"), "a parent", "an arm", MEMBER, small_plan(), ENVIRONMENT)


def _epoch(store: Store, run: str, number: int) -> None:
    store.epoch(run, Epoch(MEMBER, number, {schema.TRAIN_LOSS: 1 / number, schema.VALIDATION_ACCURACY: 0.1 * number}))


def _losses(writer: Writer, run: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in writer.client.get_metric_history(run, schema.TRAIN_LOSS)]


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path)


def test_a_run_that_ends_has_all_that_was_said_of_it(writer: Writer) -> None:
    run = _begun(writer)
    for number in (1, 2, 3):
        _epoch(writer.store, run, number)
    assert _losses(writer, run) == []
    writer.store.fail(run, "ValueError")
    assert _losses(writer, run) == [(1, 1.0), (2, 1 / 2), (3, 1 / 3)]
    assert writer.client.get_run(run).data.params == {"dropout.p": "0.5", "seed": "3"}
    assert not writer.store.home.pending.exists()


def test_nothing_waits_longer_than_it_should(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = _begun(writer), _begun(writer)
    _epoch(writer.store, first, 1)
    monkeypatch.setattr(pending, "SECONDS", 0.0)
    _epoch(writer.store, second, 1)
    assert _losses(writer, first) == _losses(writer, second) == [(1, 1.0)]
    assert writer.client.get_run(first).data.params["seed"] == "3"
    assert not writer.store.home.pending.exists()


def test_what_a_killed_process_had_been_told_is_in_the_run_that_it_left(writer: Writer) -> None:
    """Also where it was killed between writing and noting that it had, or in the middle of a line."""
    run, other = _begun(writer), _begun(writer)
    for number in (1, 2):
        _epoch(writer.store, run, number)
    told = writer.store.home.pending.read_text()
    _epoch(writer.store, other, 1)
    writer.store.interrupt(other)
    lines = told.splitlines()
    writer.client.log_batch(run, metrics=[Metric(*values) for values in json.loads(lines[-1])[1]])
    writer.store.home.pending.write_text("\n".join([*lines, lines[-1][:-9]]))

    store = Store(Home(writer.folder))
    assert store.reconcile() == 1
    assert _losses(writer, run) == [(1, 1.0), (2, 1 / 2)]
    assert _losses(writer, other) == [(1, 1.0)]
    ended = writer.client.get_run(run)
    assert (ended.info.status, ended.data.params["dropout.p"]) == ("KILLED", "0.5")
    assert not store.home.pending.exists()


def test_a_store_that_is_only_read_leaves_alone_what_waits(writer: Writer) -> None:
    run = _begun(writer)
    _epoch(writer.store, run, 1)
    told = writer.store.home.pending.read_text()
    Store(Home(writer.folder)).results(small_plan().data, ENVIRONMENT)  # type: ignore[arg-type]
    assert writer.store.home.pending.read_text() == told


def test_more_than_mlflow_takes_at_once(writer: Writer) -> None:
    run = _begun(writer)
    for number in range(1, MOST_METRICS // 2 + 20):
        _epoch(writer.store, run, number)
    writer.store.interrupt(run)
    assert [step for step, _ in _losses(writer, run)] == list(range(1, MOST_METRICS // 2 + 20))
    assert writer.client.get_run(run).data.tags[schema.OUTCOME] == schema.INTERRUPTED


def test_numbers_that_json_does_not_know_survive(tmp_path: Path) -> None:
    path = tmp_path / "pending.jsonl"
    Pending(path).add("a run", [Metric("m", math.inf, 5, 1), Metric("n", math.nan, 5, 1)], [Param("p", "ü")])
    found = Pending(path)
    found.recover()
    (infinite, unknown), (param,) = found.of("a run").metrics, found.of("a run").params
    assert infinite == Metric("m", math.inf, 5, 1)
    assert math.isnan(unknown.value)
    assert (param.key, param.value) == ("p", "ü")


def test_each_store_has_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for one store is not written to another, nor forgotten there."""
    here = Home(tmp_path).pending
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert Home(tmp_path).pending != here


def test_what_waits_of_a_run_that_has_ended_or_is_lost_is_dropped_and_the_rest_stays(writer: Writer) -> None:
    ended, lost, training = _begun(writer), "0" * 32, _begun(writer)
    for run in (ended, lost, training):
        _epoch(writer.store, run, 1)
    writer.client.set_terminated(ended)
    store = Store(Home(writer.folder))
    store._in_home = False  # as on a server, where the run of a process that is there is left alone
    store.reconcile()
    assert store._pending.runs() == [training]
    assert _losses(writer, ended) == []
