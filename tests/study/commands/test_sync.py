"""Commands whose store is gone: said within seconds, trained through, and delivered when it is back."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from typer.testing import CliRunner

from cifar_ablations.ablations import schema
from cifar_ablations.study.commands import app
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.training.engine import Epoch
from cifar_ablations.study.training.fleet import Member
from tests.fresh_store import put_fresh_store
from tests.reports.conftest import ENVIRONMENT, Unmade, Writer, small_plan
from tests.tracking_server import TrackingServer, tracking_server

ROOT = Path(__file__).parents[3]
SMALL = ["notebook", "--seeds=3", "--workers=1", "--set=model.width=0.0625", "--set=budget.epochs=3"]
SMALL += ["--set=budget.train_images=80", "--set=budget.validation_images=40", "--set=budget.test_images=60"]


@pytest.fixture
def home(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    monkeypatch.setenv("ABLATE_DATA", str(tiny_folder))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Home()


@pytest.fixture
def server(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrackingServer]:
    with tracking_server(tmp_path / "server") as made:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
        yield made


@pytest.fixture
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """Of a server that is not there, in a way of its own."""
    match request.param:
        case "a closed port":
            yield "http://127.0.0.1:9"
        case "a black hole":
            yield "http://10.255.255.1:5000"
        case _:
            with socket.create_server(("127.0.0.1", 0)) as silent:
                yield f"http://127.0.0.1:{silent.getsockname()[1]}"


def _ablate(*words: str) -> str:
    result = CliRunner().invoke(app.app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def _in_a_process(*words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "cifar_ablations", *words]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True, stderr=-2
    )


def test_what_a_killed_command_left_is_delivered(home: Home) -> None:
    put_fresh_store(home.folder)
    writer = Writer(home.folder)
    member = Member(Unmade("a recipe"), 3)  # type: ignore[arg-type]
    run = writer.store.start(writer.experiment("first"), "a parent", "an arm", member, small_plan(), ENVIRONMENT)
    writer.store.epoch(run, Epoch(member, 1, {schema.TRAIN_LOSS: 0.5}))
    home.pending_of("abcdef12").write_text("")
    said = _ablate("sync")
    assert "Closed 1 training that an earlier call left unfinished." in said
    assert "All that waited is in the MLflow store; `ablate report` writes its pages." in said
    assert "pending-abcdef12.jsonl waits for another store: name that one in MLFLOW_TRACKING_URI." in said
    assert writer.client.get_run(run).data.metrics == {schema.TRAIN_LOSS: 0.5}
    assert "Nothing waits in" in _ablate("sync")


def test_where_nothing_waits_no_store_is_made(home: Home) -> None:
    assert "Nothing waits in" in _ablate("sync")
    assert not home.has_store


@pytest.mark.exhaustive
@pytest.mark.parametrize("address", ["a closed port", "a black hole", "a server that never answers"], indirect=True)
@pytest.mark.parametrize("words", [["run", *SMALL], ["plan", *SMALL], ["report"], ["foundations"]])
def test_a_server_that_is_not_there_is_said_within_seconds(
    words: list[str], address: str, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    _in_a_process("list").communicate(timeout=120)  # what is imported is at hand then
    began = time.monotonic()
    with _in_a_process(*words) as process:
        said, _ = process.communicate(timeout=120)
    assert time.monotonic() - began < 15
    assert process.returncode == 2
    assert f"ablate: The MLflow store {address} cannot be opened" in said
    assert "Traceback" not in said


def _after(server: TrackingServer, requests: int, act: Callable[[], None]) -> threading.Thread:
    """A thread that acts once training is under way and so many requests have been made of it."""

    def wait() -> None:
        while server.asked.count("runs/log-inputs") < requests:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def _results(uri: str) -> dict[tuple[str, str], object]:
    """By seed and name, metrics of the trainings in a store but their pace, and parameters; all have ended."""
    client = mlflow.MlflowClient(tracking_uri=uri)
    found: dict[tuple[str, str], object] = {}
    for run in client.search_runs([e.experiment_id for e in client.search_experiments()], "tags.kind = 'training'"):
        assert (run.info.status, run.data.tags[schema.OUTCOME]) == ("FINISHED", schema.FINISHED)
        seed = run.data.tags[schema.SEED]
        assert (seed, "params") not in found, "twice"
        found[seed, "params"] = run.data.params
        for name in run.data.metrics.keys() - {schema.SECONDS, schema.IMAGES_PER_SECOND}:
            history = client.get_metric_history(run.info.run_id, name)
            found[seed, name] = sorted((metric.step, repr(metric.value)) for metric in history)
    return found


@pytest.mark.exhaustive
def test_a_server_that_was_gone_for_a_while_has_what_it_would_have_had(home: Home, server: TrackingServer) -> None:
    def restart() -> None:
        server.stop()
        time.sleep(6)
        server.start()

    restarting = _after(server, 1, restart)
    with _in_a_process("run", *SMALL) as process:
        said, _ = process.communicate(timeout=300)
    restarting.join()
    assert process.returncode == 0, said
    disturbed = _results(f"sqlite:///{server.file}")
    assert list(home.folder.glob("pending*")) == []
    assert list(home.reports.glob("notebook-*.html"))
    os.environ.pop("MLFLOW_TRACKING_URI")
    _ablate("run", *SMALL)
    assert disturbed == _results(home.tracking_uri)
    assert {seed for seed, _ in disturbed} == {"0", "1", "2"}


@pytest.mark.exhaustive
def test_a_server_that_is_gone_for_good_is_told_by_sync(home: Home, server: TrackingServer) -> None:
    stopping = _after(server, 1, server.stop)
    with _in_a_process("run", *SMALL) as process:
        said, _ = process.communicate(timeout=300)
    stopping.join()
    assert process.returncode == 2, said
    assert "Traceback" not in said
    (waiting,) = home.folder.glob("pending-*.jsonl")
    last = " ".join(said.splitlines()[-1].split())
    assert last.startswith("ablate: The MLflow store does not answer (")
    assert f"waits in {home.shown(waiting)}. The same command delivers it" in last
    server.start()
    assert "Delivering how 4 runs ended" in _ablate("sync")
    assert {seed for seed, _ in _results(f"sqlite:///{server.file}")} == {"0", "1", "2"}
    assert list(home.folder.glob("pending*")) == []
    assert "3 already done" in _ablate("run", *SMALL)
