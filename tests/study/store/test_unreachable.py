"""A tracking server that is gone, slow, broken or loses its answers costs no training, and nothing is there twice."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import GalleryRecord, ProvenanceRecord
from cifar_ablations.study.store import outbox
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.outbox import SilentStoreError
from cifar_ablations.study.store.tracking import Store
from cifar_ablations.study.training.engine import Epoch, Outcome
from cifar_ablations.study.training.fleet import Member
from tests.fresh_store import put_fresh_store
from tests.reports.conftest import ENVIRONMENT, Unmade, small_plan
from tests.tracking_server import TrackingServer, tracking_server

pytestmark = pytest.mark.slow

PLAN = small_plan()
RUNS, EPOCHS = 3, 4


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrackingServer]:
    monkeypatch.setattr(outbox, "LONGEST_PAUSE", 0.1)
    with tracking_server(tmp_path / "server") as made:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
        yield made


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def store(server: TrackingServer, tmp_path: Path, said: list[str]) -> Store:
    return Store(Home(tmp_path / "out"), said.append)


class Trainings:
    """Trainings of a plan, as a coordinator tells a store of them."""

    def __init__(self, store: Store):
        self._store = store
        self._experiment = store.experiment(PLAN.name, PLAN.data)  # type: ignore[arg-type]
        self.parent = store.open_invocation(self._experiment, PLAN, ProvenanceRecord(), GalleryRecord())
        self._runs: list[str] = []

    def begin(self, count: int = RUNS) -> None:
        for seed in range(count):
            member = Member(Unmade("a recipe"), seed)  # type: ignore[arg-type]
            self._runs.append(self._store.start(self._experiment, self.parent, "an arm", member, PLAN, ENVIRONMENT))

    def train(self, first: int = 1, last: int = EPOCHS) -> None:
        for number in range(first, last + 1):
            for seed, run in enumerate(self._runs):
                member = Member(Unmade("a recipe"), seed)  # type: ignore[arg-type]
                self._store.epoch(run, Epoch(member, number, {schema.TRAIN_LOSS: 1 / (number + seed)}))

    def end(self) -> None:
        for seed, run in enumerate(self._runs):
            member = Member(Unmade("a recipe"), seed)  # type: ignore[arg-type]
            metrics = {schema.TEST_ACCURACY: 0.1 + seed / 7}
            outcome = Outcome(member, schema.FINISHED, EPOCHS, metrics, {"correct": np.arange(9) % 2 == 0})
            self._store.end(run, outcome)
        self._store.close_invocation(self.parent, 0)

    def whole(self) -> None:
        self.begin()
        self.train()
        self.end()


def _check(server: TrackingServer, runs: int = RUNS) -> None:
    """All that was said of the trainings is in the server's store, once."""
    client = server.own_client
    found = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert {run.info.status for run in found} == {"FINISHED"}
    (parent,) = (run for run in found if run.data.tags[schema.KIND] == schema.KIND_PLAN)
    trained = {int(r.data.tags[schema.SEED]): r for r in found if r.data.tags[schema.KIND] == schema.KIND_TRAINING}
    assert len(found) == 1 + len(trained) == 1 + runs
    for seed, run in trained.items():
        assert run.data.tags[schema.PARENT] == parent.info.run_id
        assert run.data.tags[schema.OUTCOME] == schema.FINISHED
        assert run.data.params == {"seed": str(seed)}
        assert run.data.metrics[schema.TEST_ACCURACY] == 0.1 + seed / 7
        history = client.get_metric_history(run.info.run_id, schema.TRAIN_LOSS)
        assert [(m.step, m.value) for m in history] == [(n, 1 / (n + seed)) for n in range(1, EPOCHS + 1)]
        assert run.info.start_time <= run.info.end_time
        assert run.inputs.dataset_inputs[0].dataset.digest == PLAN.data.digest
        (details,) = server.file.parent.glob(f"files/*/{run.info.run_id}/artifacts/{schema.DETAILS_FILE}")
        with np.load(details) as kept:
            assert kept["correct"].tolist() == (np.arange(9) % 2 == 0).tolist()
    files = server.file.parent.glob(f"files/*/{parent.info.run_id}/artifacts/*")
    assert {file.name for file in files} == {schema.PLAN_FILE, schema.GALLERY_FILE}


def _nothing_waits(store: Store) -> None:
    assert list(store.home.folder.glob("pending*")) == []
    assert not [thread for thread in threading.enumerate() if thread.name == "outbox"]


def test_a_training_costs_a_server_six_requests(server: TrackingServer, store: Store) -> None:
    with store.delivering():
        trainings = Trainings(store)
        before = len(server.asked)
        trainings.whole()
    _check(server)
    _nothing_waits(store)
    asked = [path for path in server.asked[before:] if not path.startswith("/api/2.0/mlflow-artifacts")]
    # MLflow's own client asks where to put a run's files, and twice for a run's name as it ends.
    assert len(asked) <= 7 * RUNS + 3, asked


@pytest.mark.exhaustive
@pytest.mark.parametrize("lost", ["runs/create", "runs/log-inputs", "runs/log-batch", "runs/update"])
def test_an_answer_that_is_lost_doubles_nothing(lost: str, server: TrackingServer, store: Store) -> None:
    with store.delivering():
        trainings = Trainings(store)
        server.loses = lost
        trainings.whole()
    assert server.loses == ""
    _check(server)
    _nothing_waits(store)


def test_a_run_that_was_created_twice_is_there_once(server: TrackingServer, store: Store) -> None:
    """The first answer comes after the second question, as from a server that has too much to do."""
    with store.delivering():
        trainings = Trainings(store)
        server.loses = "runs/create"
        trainings.begin(1)
        store.flush()
        (run,) = trainings._runs
        known = server.own_client.get_run(store._ids[run])
        server.own_client.create_run(known.info.experiment_id, tags=known.data.tags)
        trainings.train()
        trainings.end()
    _check(server, runs=1)


def test_a_server_that_is_gone_for_a_while_is_told_all_when_it_is_back(
    server: TrackingServer, store: Store, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "SPOKEN_OF", 0.2)
    store = Store(store.home, said.append)
    with store.delivering():
        trainings = Trainings(store)
        trainings.begin()
        server.stop()
        began = time.monotonic()
        trainings.train(1, 2)
        time.sleep(0.5)
        trainings.train(3)
        trainings.end()
        assert time.monotonic() - began < 1.5
        assert store.home.pending.exists()
        server.start()
    _check(server)
    _nothing_waits(store)
    gone = next(sentence for sentence in said if "Connection refused" in sentence)
    assert gone.startswith("The MLflow store has not answered for ")
    assert gone.endswith(f"waits in {store.home.shown(store.home.pending)}.")
    assert said[-1] == "The MLflow store answers again; what waited for it is being written."


@pytest.mark.exhaustive
def test_a_server_that_is_gone_for_good_is_told_by_the_next_command(
    server: TrackingServer, store: Store, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PATIENCE", 0.5)
    trainings = Trainings(store)

    def train() -> None:
        with store.delivering():
            server.stop()
            trainings.whole()

    with pytest.raises(SilentStoreError, match=r"what there is to say of 4 runs waits in .*pending-\w+\.jsonl"):
        train()
    assert not [thread for thread in threading.enumerate() if thread.name == "outbox"]
    server.start()
    ended = int(time.time() * 1000)
    time.sleep(0.01)
    again = Store(Home(store.home.folder), said.append)
    assert again.reconcile() == 0
    assert said == ["Delivering how 4 runs ended: the MLflow store has not heard of it."]
    _check(server)
    _nothing_waits(again)
    client = server.own_client
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert all(run.info.end_time <= ended for run in runs), "they ended when they did, and not when it was told"
    assert Store(Home(store.home.folder)).reconcile() == 0
    _check(server)


def test_a_process_that_was_killed_leaves_its_word(server: TrackingServer, store: Store) -> None:
    """Whatever it had delivered of what its file holds, all is there once; what it had in training is closed."""
    trainings = Trainings(store)
    with suppress(KeyboardInterrupt), store.delivering():
        trainings.begin()
        trainings.train()
        store.flush()
        server.broken = True
        trainings.end()
        outbox_file = store.home.pending.read_bytes()
        folder = {file: file.read_bytes() for file in store._outbox.folder.glob("*/*")}
        server.broken = False
    _check(server)
    store.home.pending.write_bytes(outbox_file + b'{"number": 5, "ru')
    for file, content in folder.items():
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
    again = Store(Home(store.home.folder))
    assert again.reconcile() == 0
    _check(server)
    _nothing_waits(again)


@pytest.mark.exhaustive
def test_a_slow_server_keeps_nobody_waiting(server: TrackingServer, store: Store) -> None:
    with store.delivering():
        trainings = Trainings(store)
        server.delay = 0.1
        began = time.monotonic()
        trainings.whole()
        told = time.monotonic() - began
        store.flush()
        delivered = time.monotonic() - began
    assert delivered > 2.0
    assert told < 0.25 * delivered
    _check(server)


def test_a_server_that_cannot_now_is_asked_again(server: TrackingServer, store: Store) -> None:
    with store.delivering():
        trainings = Trainings(store)
        server.broken = True
        trainings.whole()
        time.sleep(0.3)
        server.broken = False
    _check(server)


def test_ctrl_c_does_not_wait_long_for_a_server_that_is_gone(
    server: TrackingServer, store: Store, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "AFTER_STOPPED", 0.3)
    trainings = Trainings(store)
    began = time.monotonic()

    def train() -> None:
        with store.delivering():
            trainings.begin()
            server.stop()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert time.monotonic() - began < 3
    assert "`ablate sync` only delivers" in said[-1]


@pytest.mark.parametrize("seconds", [0.4, pytest.param(10.0, marks=pytest.mark.exhaustive)])
def test_a_file_that_another_program_holds_is_waited_for(
    seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "SPOKEN_OF", 0.3)
    said: list[str] = []
    store = Store(Home(put_fresh_store(tmp_path)), said.append)
    with store.delivering():
        trainings = Trainings(store)
        with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            trainings.begin(1)
            told = time.monotonic() - began
            time.sleep(seconds)
            began = time.monotonic()
            trainings.train()
            trainings.end()
            assert told + time.monotonic() - began < 0.6
            other.execute("ROLLBACK")
    assert said[0].startswith("The MLflow store has not answered for 0 s.")
    (run,) = store.search_runs(f"tags.{schema.KIND} = '{schema.KIND_TRAINING}'")
    assert (run.info.status, run.data.metrics[schema.TEST_ACCURACY]) == ("FINISHED", 0.1)
    _nothing_waits(store)
