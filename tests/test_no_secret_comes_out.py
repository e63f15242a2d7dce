"""A run and what follows it, with passwords in every address and variable: nothing that is written or said
has one of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cifar_ablations.ablations import addresses
from cifar_ablations.study.commands import app, fault
from tests.fresh_store import put_fresh_store

MARK = "geheimnis"
TINY = [
    *("--set=model.width=0.0625", "--set=budget.epochs=1", "--set=budget.train_images=80"),
    *("--set=budget.validation_images=40", "--set=budget.test_images=60"),
    *("--workers=1", "--backend=torch"),
]
ABLATE = (sys.executable, "-c", "from cifar_ablations.study.commands.app import main; main()")
VARIABLES = {
    "MLFLOW_TRACKING_USERNAME": "anna",
    "MLFLOW_TRACKING_PASSWORD": f"{MARK}-of-mlflow",
    "MLFLOW_TRACKING_TOKEN": f"{MARK}-token",
    "AWS_SECRET_ACCESS_KEY": f"{MARK}/of+aws",
}


def _with_password(file: Path) -> str:
    """An address of a SQLite file as one of a server with a password; SQLite passes over what it does not know."""
    return f"sqlite+pysqlite:///file:{file}?uri=true&password={MARK}"


@pytest.fixture
def environment(tmp_path: Path, tiny_folder: Path) -> dict[str, str]:
    put_fresh_store(tmp_path / "out")
    return {
        **os.environ,
        **VARIABLES,
        "ABLATE_HOME": str(tmp_path / "out"),
        "ABLATE_DATA": str(tiny_folder),
        "MLFLOW_TRACKING_URI": _with_password(tmp_path / "out/mlflow.db"),
        "ABLATE_STORAGE": _with_password(tmp_path / "out/optuna.db"),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }


@pytest.mark.exhaustive
def test_nothing_that_is_written_or_said_has_a_password(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    said = ""

    def ablate(*words: str, code: int = 0, **more: str) -> None:
        nonlocal said
        monkeypatch.setattr(sys, "argv", ["ablate", *words])
        done = CliRunner().invoke(app.app, list(words), env=more)
        assert done.exit_code == code, done.output
        said += done.stdout + done.stderr

    size = ("--profile", "smoke", *TINY)
    ablate("run", "notebook", "--seeds", "1", *size)
    ablate("report", "--json")
    store = environment["MLFLOW_TRACKING_URI"]
    ablate("report", "--compare", f"{store}#notebook", "notebook")
    ablate("report", "--compare", f"{store}#nonsense", "notebook", code=2)
    for address in (f"http://anna:{MARK}@127.0.0.1:9", f"postgresql+none://anna:{MARK}@h/d", f"mysql+none://:{MARK}@h"):
        ablate("report", code=2, MLFLOW_TRACKING_URI=address)
        ablate("run", "notebook", *size, code=2, MLFLOW_TRACKING_URI=address)
    ablate("--verbose", "tune", "sweep", *size, "--storage", f"none://anna:{MARK}@h/d", code=2)
    assert "none://anna:***@h/d" in said
    assert MARK not in said
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if MARK.encode() in path.read_bytes()]
    assert not [path for path in files if MARK in str(path)]


def test_a_fault_of_our_own_is_reported_without_a_password(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["ablate", "tune", "sweep", f"--storage=postgresql://anna:{MARK} 1@h/d"])
    try:
        raise RuntimeError(f"{environment} of {sys.argv}, password authentication failed for '{MARK} 1'")
    except RuntimeError as error:
        sentence = fault.reported(error)
    (log,) = (tmp_path / "out/errors").iterdir()
    assert MARK not in sentence
    assert MARK not in log.read_text()
    assert "postgresql://anna:***@h/d" in log.read_text()


@pytest.mark.exhaustive
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="where processes can be looked at")
def test_no_process_has_the_address_of_the_store_among_its_words(environment: dict[str, str], tmp_path: Path) -> None:
    output = (tmp_path / "said").open("w+")
    server = subprocess.Popen(
        [*ABLATE, "ui", "--port", "5650"], env=environment, cwd=tmp_path, stdout=output, stderr=output
    )
    try:
        deadline = time.monotonic() + 120
        while "MLflow: http" not in (said := (tmp_path / "said").read_text()) and time.monotonic() < deadline:
            assert server.poll() is None, said
            time.sleep(0.2)
        words = {path: path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()}
        assert any(b"mlflow" in one for one in words.values())
        assert not [one for one in words.values() if MARK.encode() in one]
        assert "MLflow: http" in said
        assert MARK not in said
    finally:
        server.terminate()
        server.wait(timeout=60)
        output.close()
    assert MARK not in (tmp_path / "out/mlflow-server.log").read_text()
    assert addresses.sqlite_file(environment["MLFLOW_TRACKING_URI"]) == tmp_path / "out/mlflow.db"
