"""The command line as a person meets it: what works says where to look, what is wrong says what to type instead."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from typer.testing import CliRunner

from ablations import schema
from study import cli
from study.data import Dataset
from study.home import Home

TINY = [
    f"--set={setting}"
    for setting in (
        "model.width=0.0625",
        "budget.epochs=2",
        "budget.train_images=80",
        "budget.validation_images=40",
        "budget.test_images=60",
    )
]


@pytest.fixture
def home(tmp_path: Path, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An output folder whose cache holds the tiny data set, so that no command needs --data."""
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    for name in ("ABLATE_DATA", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    home = Home()
    assert tiny_data.folder is not None
    shutil.copytree(tiny_data.folder, home.data / tiny_data.folder.name)
    return home


def _ablate(*words: str):
    return CliRunner().invoke(cli.app, list(words), catch_exceptions=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "technique"], "no plan 'technique'; did you mean techniques?"),
        (["plan", "nonsense"], "no plan 'nonsense'. Known: a-a, claims, data-size"),
        (["report", "notebok"], "no plan 'notebok'; did you mean notebook?"),
        (["run", "--profile", "quik"], "no profile 'quik'; did you mean quick?"),
        (["run", "--seeds", "0"], "--seeds must be at least 1, not 0"),
        (
            ["run", "--seeds", "adaptve"],
            "--seeds must be a whole number or a way, not 'adaptve'; did you mean adaptive?",
        ),
        (["run", "--first-seed", "-1"], "--first-seed must be at least 0, not -1"),
        (["run", "--workers", "-2"], "--workers must be at least 1, not -2"),
        (["run", "--device", "gpu"], "no device 'gpu'. Known: cpu, cuda"),
        (["run", "--device", "cuda:99"], "--device cuda:99: this machine has"),
        (["run", "--set", "dropout"], "--set 'dropout' is not of the form object.field=value"),
        (["run", "--set", "droput.p=0.3"], "--set droput.p=0.3: no object 'droput'; did you mean dropout?"),
        (["run", "--set", "dropout.q=0.3"], "dropout has no field 'q'. Known: p"),
        (["run", "--set", "dropout.p=high"], "dropout.p must be a number, not 'high'"),
        (["run", "--set", "dropout.p=1.5"], "dropout.p must lie between 0 and 0.95, not at 1.5"),
        (["run", "--set", "augmentation=flp"], "augmentation has no level 'flp'; did you mean flip?"),
        (["run", "--set", "budget.epochs=0"], "budget.epochs must be at least 1, not 0"),
        (["run", "--set", "budget.epochs=2.5"], "budget.epochs must be a whole number, not '2.5'"),
        (["run", "--set", "budget.precision=fp8"], "budget.precision cannot be 'fp8'"),
        (["run", "--set", "model.name=resnet"], "model.name cannot be 'resnet'; did you mean resnet9?"),
        (["run", "--profile", "smoke", "--set", "budget.train_images=70000"], "lower one of them with --set"),
        (["run", "--data", "no/such/place"], "no/such/place does not exist"),
    ],
)
def test_a_mistake_is_one_sentence_and_code_2(home: Home, words: list[str], said: str) -> None:
    result = _ablate(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith("ablate: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (home.folder / "mlflow.db").exists(), "nothing is stored for a command that cannot run"


def test_an_error_of_ours_is_not_taken_for_the_users(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_invocation", lambda *_: int("not a number of the user's"))
    with pytest.raises(ValueError, match="invalid literal"):
        _ablate("run")


def test_run_report_and_run_again(home: Home) -> None:
    planned = _ablate("plan", "notebook", "--seeds", "2", *TINY)
    assert planned.exit_code == 0
    assert "2 trainings, 0 already done; the other 2 take about" in planned.output

    first = _ablate("run", "notebook", "--seeds", "1", "--workers", "1", *TINY)
    assert first.exit_code == 0, first.output
    assert "1 trainings in" in first.output or "1 training in" in first.output
    (shown,) = re.findall(r"^Report: (.+)$", first.output, re.MULTILINE)
    page = Path(shown).resolve()
    assert page.parent == home.reports
    assert page.stat().st_size > 10_000

    again = _ablate("run", "notebook", "--seeds", "1", *TINY)
    assert again.exit_code == 0
    assert "1 already done" in again.output
    planned = _ablate("plan", "notebook", "--seeds", "2", *TINY)
    assert "2 trainings, 1 already done" in planned.output

    page.unlink()
    assert _ablate("report", "notebook").exit_code == 0
    assert page.exists()


def test_ctrl_c_ends_in_order(home: Home) -> None:
    command = [sys.executable, "-c", "from study.cli import main; main()", "run", "notebook", "--seeds=8", *TINY]
    command += ["--workers=1", "--set=budget.epochs=400"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        _wait_for_a_run(home, process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip() == cli.STOPPED
    client = mlflow.MlflowClient(home.tracking_uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert runs
    assert {r.info.status for r in runs} == {"KILLED"}
    assert schema.FINISHED not in {r.data.tags.get(schema.OUTCOME) for r in runs}


def _wait_for_a_run(home: Home, process: subprocess.Popen) -> None:
    """Until a training is under way: its metrics appear in the store."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        if (home.folder / "mlflow.db").exists():
            with sqlite3.connect(f"file:{home.folder / 'mlflow.db'}?mode=ro", uri=True) as database:
                try:
                    if database.execute("select count(*) from metrics").fetchone()[0]:
                        return
                except sqlite3.OperationalError:  # being made
                    pass
        time.sleep(0.2)
    raise AssertionError("no training began")


def test_looks_stop_when_every_claim_is_decided_and_are_not_taken_twice(home: Home) -> None:
    small = ["a-a", *TINY, "--seeds", "adaptive", "--set", "budget.epochs=1", "--workers", "1"]
    first = _ablate("run", *small)
    assert first.exit_code == 0, first.stderr
    assert "2 arms × up to 15 seeds = up to 30 trainings, 0 already done" in first.stdout
    looks = re.findall(r"(\d) of 3 claims decided", first.stdout)
    assert 1 <= len(looks) <= 2  # the third look is the last, and nobody asks after it
    trained = int(re.search(r"(\d+) trainings in", first.stdout)[1])  # type: ignore[index]
    assert trained == (10 * len(looks) if looks[-1] == "3" else 30)
    again = _ablate("run", *small)
    assert f"{trained} already done" in again.stdout
    assert "trainings in" not in again.stdout
    (page,) = home.reports.glob("*.html")
    assert "looks after 5, 10 and 15 seeds, until every claim is decided" in page.read_text()
