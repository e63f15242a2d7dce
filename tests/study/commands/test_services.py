"""Several coordinators on one MLflow server and one PostgreSQL, both real: work is shared, nothing is done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import mlflow
import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.study.commands import services
from cifar_ablations.study.commands.services import Services, running

pytest.importorskip("psycopg", reason="the extra `cluster` is not installed")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
TINY = ("model.width=0.0625", "budget.train_images=160", "budget.validation_images=40", "budget.test_images=60")
TIMES = {schema.SECONDS, schema.IMAGES_PER_SECOND}
LEASE = 4
COORDINATOR = f"""
import os
import sys
import time
from pathlib import Path
from cifar_ablations.study.store import claims
claims.LEASE_SECONDS = {LEASE}
if together := os.environ.get("TOGETHER"):  # the folder in which two say that they are ready to train
    from cifar_ablations.study.execution import runner
    run = runner._Call.run
    def begin(call):
        (Path(together) / str(os.getpid())).touch()
        while len(os.listdir(together)) < 2:
            time.sleep(0.05)
        return run(call)
    runner._Call.run = begin
from cifar_ablations.study.commands import app
sys.argv[0] = "ablate"
app.main()
"""


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Both services, on ports that are free."""
    try:
        services._programs()
    except AblateError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("shared")
    # PostgreSQL runs as a user of its own where this is run as root.
    for parent in takewhile(lambda path: path != Path(tempfile.gettempdir()), (folder, *folder.parents)):
        parent.chmod(0o755)
    with running(folder / "services", 56_432, 5_600, print) as both:
        yield both


def _begin(there: Services | None, home: Path, *words: str, **variables: str) -> subprocess.Popen[str]:
    """A command in an output folder of its own, on the shared services if there are any."""
    environment = {**os.environ, "ABLATE_HOME": str(home), "ABLATE_DATA": "synthetic", **variables}
    environment.pop("MLFLOW_TRACKING_URI", None)
    environment.pop("ABLATE_STORAGE", None)
    if there is not None:
        environment |= {"MLFLOW_TRACKING_URI": there.tracking, "ABLATE_STORAGE": there.database}
    command = [sys.executable, "-c", COORDINATOR, *words, "--profile", "smoke", "--workers", "1"]
    for setting in TINY:
        command += ["--set", setting]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _end(*commands: subprocess.Popen[str]) -> list[str]:
    said = []
    for command in commands:
        said.append(command.communicate(timeout=180)[0])
        assert command.returncode == 0, said[-1]
    return said


def _trainings(address: str) -> list[Any]:
    client = mlflow.MlflowClient(tracking_uri=address)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments, f"tags.{schema.KIND} = '{schema.KIND_TRAINING}'", max_results=1_000)
    return list(found)


def _of_seeds(runs: list[Any], first: int) -> list[Any]:
    return [run for run in runs if int(run.data.tags["seed"]) >= first]


def _results(runs: list[Any]) -> dict[tuple[str, str], dict[str, float]]:
    """By recipe and seed what was measured, without times; of those that came to an end, each once."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for run in runs:
        if run.data.tags.get(schema.OUTCOME) in schema.RESULTS:
            key = run.data.tags["digest"], run.data.tags["seed"]
            assert key not in found, "trained twice"
            found[key] = {name: value for name, value in run.data.metrics.items() if name not in TIMES}
    return found


@pytest.mark.exhaustive
def test_two_coordinators_share_a_plan_and_it_is_bitwise_the_whole(there: Services, tmp_path: Path) -> None:
    words = "run", "techniques", "--seeds", "3"
    (tmp_path / "ready").mkdir()
    together = str(tmp_path / "ready")
    _end(*(_begin(there, tmp_path / name, *words, TOGETHER=together) for name in ("one", "other")))
    _end(_begin(None, tmp_path / "alone", *words))
    runs = _trainings(there.tracking)
    assert {run.info.status for run in runs} == {"FINISHED"}
    by = Counter(run.data.tags[schema.COORDINATOR] for run in runs)
    assert len(by) == 2, by
    assert min(by.values()) >= len(runs) / 6, f"each has at least the fleet that it begins with: {by}"
    assert _results(runs) == _results(_trainings(f"sqlite:///{tmp_path / 'alone' / 'mlflow.db'}"))
    assert len(runs) == 42


@pytest.mark.exhaustive
def test_what_a_killed_coordinator_had_in_hand_is_taken_over_elsewhere(there: Services, tmp_path: Path) -> None:
    words = "run", "techniques", "--seeds", "1", "--first-seed", "1000", "--set", "budget.epochs=60"
    killed = _begin(there, tmp_path / "killed", *words)
    while not _of_seeds(_trainings(there.tracking), 1_000):
        time.sleep(0.2)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    (said,) = _end(_begin(there, tmp_path / "heir", *words))
    runs = _of_seeds(_trainings(there.tracking), 1_000)
    assert len(_results(runs)) == 14
    assert not [run for run in runs if run.info.status == "RUNNING"], "those of the dead are closed"
    assert [run for run in runs if run.info.status == "KILLED"]
    assert "14 trainings" in said


@pytest.mark.exhaustive
def test_a_database_that_is_started_again_in_between_costs_nothing(there: Services, tmp_path: Path) -> None:
    words = "run", "techniques", "--seeds", "1", "--first-seed", "2000", "--set", "budget.epochs=40"
    command = _begin(there, tmp_path / "patient", *words)
    while not _of_seeds(_trainings(there.tracking), 2_000):
        time.sleep(0.2)
    there.postgres.stop()
    time.sleep(3)
    there.postgres.start()
    _end(command)
    runs = _of_seeds(_trainings(there.tracking), 2_000)
    assert len(_results(runs)) == len(runs) == 14


@pytest.mark.exhaustive
def test_a_search_lies_in_the_database_and_is_carried_out_once(there: Services, tmp_path: Path) -> None:
    words = "tune", "joint", "--trials", "4"
    first, second = (_begin(there, tmp_path / name, *words) for name in ("one", "other"))
    said = _end(first, second)
    assert sum("4 trials in" in text for text in said) == 1, said
    assert sum("Nothing left to try" in text for text in said) == 1, said
    assert not (tmp_path / "one" / "optuna.journal").exists()


def test_without_the_programs_a_sentence_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "PLACES", ())
    monkeypatch.setenv("PATH", "")
    with pytest.raises(AblateError, match="PostgreSQL's programs are not on this machine: apt install postgresql"):
        services._programs()


def test_the_newest_of_several_versions_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    for version in ("9", "15", "16"):
        (tmp_path / version / "bin").mkdir(parents=True)
        for program in ("initdb", "postgres"):
            (tmp_path / version / "bin" / program).touch()
    monkeypatch.setattr(services, "PLACES", (f"{tmp_path}/*/bin",))
    assert services._programs() == tmp_path / "16" / "bin"
