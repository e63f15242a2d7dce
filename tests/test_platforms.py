"""Nothing is imported, and little is asked for, that macOS or Windows do not have; as far as Linux can tell."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cifar_ablations.ablations import addresses
from cifar_ablations.study.commands import app
from cifar_ablations.study.search import optuna_study
from cifar_ablations.study.store import provenance
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.training.kernels import build

ELSEWHERE = """
import importlib, os, pkgutil, signal, sys
# What others do on other systems is theirs: they are imported as they are here.
import mlflow, optuna, pandas, scipy.stats, seaborn, torch, torchvision, typer, pydantic, psutil
import statsmodels.formula.api
import filelock, safetensors.numpy, pyarrow.parquet, rich.progress, typer.testing, multiprocessing.forkserver
import mlflow.store.artifact.artifact_repository_registry, optuna.storages.journal, torchvision.transforms.v2
HIDDEN = ["fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog"]
sys.platform = PLATFORM
if PLATFORM == "win32":
    for module in HIDDEN:
        sys.modules[module] = None
    for name in ("fork", "forkpty", "killpg", "getpgid", "setsid", "getuid", "geteuid", "uname", "mkfifo", "sysconf"):
        delattr(os, name)
    for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGALRM", "SIGSTOP", "SIGCHLD", "pthread_sigmask", "alarm"):
        delattr(signal, name)
delattr(os, "sched_getaffinity")
import cifar_ablations
for part in ("ablations", "study", "reports", "interface"):
    package = importlib.import_module(f"cifar_ablations.{part}")
    for module in pkgutil.walk_packages(getattr(package, "__path__", []), f"{package.__name__}."):
        if ".training.gpu." not in module.name:
            importlib.import_module(module.name)
from cifar_ablations.study.commands import app
for words in (["--version"], ["list"], ["run", "--device", "mps"]):
    done = typer.testing.CliRunner().invoke(app.app, words)
    print(words[0], done.exit_code, repr(done.exception) if done.exception else "")
from cifar_ablations.study.execution.cores import cores
from cifar_ablations.study.execution.starting import prepare, start_method
prepare("cpu")
print(start_method("cpu"), cores() >= 1)
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_every_module_is_imported_without_what_the_system_lacks(platform: str) -> None:
    code = f"PLATFORM = {platform!r}\n{ELSEWHERE}"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["--version 0 ", "list 0 ", "run 2 SystemExit(2)", "spawn True"]


def test_a_gpu_of_apples_is_refused_with_what_to_take() -> None:
    done = CliRunner().invoke(app.app, ["run", "--device", "mps"])
    assert (done.exit_code, done.stderr) == (
        2,
        "ablate: --device 'mps': Apple's GPUs have no 64-bit numbers, in which sums are kept here; --device cpu trains "
        "on this machine's cores\n",
    )


def test_a_folder_on_another_drive_is_shown_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(path: Path) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr("os.path.relpath", elsewhere)
    assert Home(tmp_path).shown(tmp_path / "x") == str(tmp_path / "x")


def test_an_address_of_a_file_is_read_as_the_system_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from nturl2path import url2pathname  # what Windows has under that name

    monkeypatch.setattr(addresses, "url2pathname", url2pathname)
    assert str(addresses.folder("file:///C:/my%20runs/artifacts")) == r"C:\my runs\artifacts"


def test_where_users_have_no_names_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_module() -> str:
        raise ModuleNotFoundError("No module named 'pwd'")

    monkeypatch.setattr("getpass.getuser", no_module)
    assert provenance.user() == "unknown"


def test_on_windows_torch_trains_and_a_journal_is_locked_without_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*paths: str) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr("os.symlink", no_link)
    assert build._missing_instructions() == "the kernels are not compiled on Windows"
    storage = optuna_study.storage_at(None, tmp_path / "optuna.journal")
    assert storage.get_all_studies() == []
    storage.create_new_study([optuna_study.StudyDirection.MAXIMIZE], "s")
    assert [study.study_name for study in storage.get_all_studies()] == ["s"]
