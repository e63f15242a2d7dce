"""What waits to be written is written once, whatever happens in between."""

from __future__ import annotations

import json
import math
import threading
import time
from pathlib import Path

import pytest
from mlflow.entities import Metric

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.study.store import outbox
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.outbox import (
    BATCH,
    END,
    FILES,
    MOST_METRICS,
    Outbox,
    Refused,
    SilentStoreError,
    Write,
    _entry,
)
from cifar_ablations.study.store.tracking import Store
from cifar_ablations.study.training.engine import Epoch, Outcome
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
    monkeypatch.setattr(outbox, "SECONDS", 0.0)
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
    writer.client.log_batch(run, metrics=[Metric(*values) for values in _entry(lines[-1])["content"]["metrics"]])
    writer.store.home.pending.write_text("\n".join([*lines, lines[-1][:-20]]))

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


class Box:
    """An outbox whose store does what the test says, and that remembers what it was given."""

    def __init__(self, path: Path):
        self.given: list[Write] = []
        self.error: Exception | None = None
        self.said: list[str] = []
        self.box = Outbox(path, self._take, self.said.append)

    def _take(self, write: Write) -> None:
        if self.error is not None:
            raise self.error
        self.given.append(write)


LOSS = (BATCH, {"metrics": [["m", math.inf, 5, 1], ["n", math.nan, 5, 1]], "params": [["p", "ü"]]})


def test_numbers_that_json_does_not_know_survive(tmp_path: Path) -> None:
    Box(tmp_path / "pending.jsonl").box.put("a run", LOSS, urgent=False)
    found = Box(tmp_path / "pending.jsonl")
    assert found.box.take_up() == 0
    found.box.flush()
    (write,) = found.given
    assert write.again
    infinite, unknown = write.content["metrics"]
    assert infinite == ["m", math.inf, 5, 1]
    assert math.isnan(unknown[1])
    assert write.content["params"] == [["p", "ü"]]
    assert list(tmp_path.iterdir()) == []


def _metric(value: float, step: int) -> tuple[str, dict[str, object]]:
    return BATCH, {"metrics": [["loss", value, 7, step]], "params": []}


@pytest.mark.parametrize(("before", "after"), [('"loss"', '"lo[s"'), ("0.5", "0.4"), ("\t", "\t0")])
def test_a_line_with_another_byte_is_not_what_was_said(before: str, after: str, tmp_path: Path) -> None:
    file = tmp_path / "pending.jsonl"
    box = Box(file).box
    box.put("a run", _metric(0.5, 1), urgent=False)
    box.put("another", _metric(0.25, 1), urgent=False)
    first, second = file.read_text().splitlines()
    file.write_text(f"{first.replace(before, after)}\n{second}\n")
    found = Box(file)
    found.box.take_up()
    found.box.flush()
    assert [(write.run, write.content["metrics"]) for write in found.given] == [("another", [["loss", 0.25, 7, 1]])]


@pytest.mark.parametrize("rewritten", [False, True])
@pytest.mark.parametrize("lost", range(8))
def test_a_run_of_which_a_line_is_missing_does_not_end(lost: int, rewritten: bool, tmp_path: Path) -> None:
    """Nothing is written after a gap: what ended without an epoch of its own would count as whole."""
    file = tmp_path / "pending.jsonl"
    box, runs = Box(file).box, {"first": 4, "second": 3}
    writes = [(run, step) for step in range(1, 5) for run, count in runs.items() if step <= count]
    for run, step in writes:
        box.put(run, (END, {"status": "FINISHED"}) if step == runs[run] else _metric(1 / step, step), urgent=False)
    if rewritten:
        Box(file).box.take_up()
    lines = file.read_text().splitlines()
    del lines[lost : lost + 1]
    file.write_text("".join(f"{line}\n" for line in lines))

    found = Box(file)
    found.box.take_up()
    found.box.flush()
    hit, at = [*(sorted(writes) if rewritten else writes), ("", 0)][lost]
    for run, count in runs.items():
        given = [write for write in found.given if write.run == run]
        assert sum(len(write.numbers) for write in given) == (at - 1 if run == hit else count)
        assert any(write.kind == END for write in given) == (run != hit)
    assert bool(found.said) == (bool(hit) and at < runs[hit]), "it is said, unless its last line is missing"


@pytest.mark.parametrize("damaged", [1, 2, 3])
def test_a_damaged_line_that_was_delivered_costs_nothing(damaged: int, tmp_path: Path) -> None:
    """Of the run's four writes three were delivered; its end waits."""
    file, given = tmp_path / "pending.jsonl", list[Write]()
    box = Outbox(file, given.append, lambda _: None)
    box.put("another, so that the file stays", _metric(1.0, 1), urgent=False)
    box.put("a run", _metric(0.5, 1), _metric(0.25, 2), (FILES, {"folder": "files"}))
    box.put("a run", (END, {"status": "FINISHED"}), urgent=False)
    assert [write.kind for write in given] == [BATCH, FILES]
    lines = file.read_text().splitlines()
    del lines[damaged]
    file.write_text("".join(f"{line}\n" for line in lines))
    found = Box(file)
    assert found.box.take_up() == 1
    found.box.flush()
    assert [write.kind for write in found.given if write.run == "a run"] == [END]
    assert found.said == []


def test_a_training_of_which_an_epoch_is_missing_is_trained_again(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, whole, pending = _begun(writer), _begun(writer), writer.store.home.pending
    with monkeypatch.context() as patched:
        patched.setattr(Outbox, "_deliver_here", lambda *_, **__: None)  # the process ends before it delivers
        for one in (run, whole):
            for number in (1, 2, 3):
                _epoch(writer.store, one, number)
            writer.store.end(one, Outcome(MEMBER, schema.FINISHED, 3, {}))
    lines = pending.read_text().splitlines()
    (lost,) = [line for line in lines if run in line and f'["{schema.TRAIN_LOSS}", 0.5' in line]
    pending.write_text("".join(f"{line}\n" for line in lines if line != lost))

    store = Store(Home(writer.folder))
    assert store.reconcile() == 1
    assert _losses(writer, run) == [(1, 1.0)]
    assert writer.client.get_run(run).data.tags[schema.OUTCOME] == schema.INTERRUPTED
    assert _losses(writer, whole) == [(1, 1.0), (2, 1 / 2), (3, 1 / 3)]
    assert writer.client.get_run(whole).data.tags[schema.OUTCOME] == schema.FINISHED


def test_what_the_version_before_left_is_taken_up(tmp_path: Path) -> None:
    lines = ['["a run", [["m", 0.5, 7, 1]], []]', '["a run", [["m", 0.25, 8, 2]], [["p", "1"]]]', '["a run", [["m", 0.']
    (tmp_path / "pending.jsonl").write_text("\n".join(lines))
    found = Box(tmp_path / "pending.jsonl")
    found.box.take_up()
    found.box.flush()
    (write,) = found.given
    assert (write.run, write.content["metrics"]) == ("a run", [["m", 0.5, 7, 1], ["m", 0.25, 8, 2]])
    assert write.content["params"] == [["p", "1"]]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["..", "../files", "/tmp", "", 5, None, "a/b"])
def test_a_file_of_another_person_names_no_folder_elsewhere(folder: object, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "mine").write_text("x")
    write = {"number": 1, "run": "a run", "kind": FILES, "content": {"folder": folder}}
    (tmp_path / "pending.jsonl").write_text(f"{json.dumps(write)}\n{'[' * 100_000}\n")
    found = Box(tmp_path / "pending.jsonl")
    assert found.box.take_up() == 0
    assert found.box.runs() == []
    assert (tmp_path / "files" / "mine").read_text() == "x"


def test_the_file_does_not_grow_with_what_was_delivered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "SPARE_LINES", 20)
    store = Box(tmp_path / "pending.jsonl")
    store.box.put("a run that waits", LOSS, urgent=False)
    for number in range(100):
        store.box.put(f"run {number}", LOSS, (END, {"number": number}))
        assert len(store.box.path.read_text().splitlines()) <= 30
    again = Box(tmp_path / "pending.jsonl")
    again.box.take_up()
    assert again.box.runs() == ["a run that waits"]


def test_what_is_refused_is_told_once_and_the_rest_goes_on(tmp_path: Path) -> None:
    store = Box(tmp_path / "pending.jsonl")
    store.error = Refused()
    store.error.__cause__ = AblateError("deleted")
    with pytest.raises(AblateError, match="deleted"):
        store.box.put("a run", LOSS, (END, {}))
    store.error = None
    store.box.put("another", LOSS)
    assert [write.run for write in store.given] == ["another"]
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_nobody_expects_ends_the_command_and_keeps_what_waits(tmp_path: Path) -> None:
    store = Box(tmp_path / "pending.jsonl")
    store.error = ValueError("a fault")

    def train() -> None:
        with store.box.at_work():
            store.box.put("a run", LOSS)
            while True:
                store.box.put("another", LOSS)

    with pytest.raises(ValueError, match="a fault"):
        train()
    again = Box(tmp_path / "pending.jsonl")
    again.box.take_up()
    assert again.box.runs() == ["a run", "another"]


def test_a_thread_that_waits_for_an_answer_for_ever_is_left_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PATIENCE", 0.1)
    answered, done = threading.Event(), threading.Event()

    def hang(write: Write) -> None:
        answered.wait()
        done.set()

    box = Outbox(tmp_path / "pending.jsonl", hang, lambda sentence: None)
    with pytest.raises(SilentStoreError, match="what there is to say of 1 run waits"), box.at_work():
        box.put("a run", LOSS)
    before = box.path.read_text()
    answered.set()
    assert done.wait(5)
    time.sleep(0.05)
    assert box.path.read_text() == before


def test_each_store_has_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for one store is not written to another, nor forgotten there."""
    here = Home(tmp_path).pending
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert Home(tmp_path).pending != here


def test_what_waits_of_a_run_that_is_lost_is_dropped_and_the_rest_is_written(writer: Writer) -> None:
    ended, lost, training = _begun(writer), "0" * 32, _begun(writer)
    for run in (ended, lost, training):
        _epoch(writer.store, run, 1)
    writer.client.set_terminated(ended)
    store = Store(Home(writer.folder))
    store._in_home = False  # as on a server, where the run of a process that is there is left alone
    store.reconcile()
    assert not store.home.pending.exists()
    assert (store.deleted, writer.client.get_run(training).info.status) == ([], "RUNNING")
    assert _losses(writer, ended) == _losses(writer, training) == [(1, 1.0)]
