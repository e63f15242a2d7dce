"""How workers are started, where, and that it costs nothing to ask."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cifar_ablations.study.execution.starting import start_method

pytestmark = pytest.mark.slow

HEARD = """
import os, signal, sys
from multiprocessing import forkserver
from cifar_ablations.study.execution import starting
if __name__ == "__main__":
    starting.prepare("cpu")
    print("torch" in sys.modules)
    starting.prepare("cpu")
    server = forkserver._forkserver._forkserver_pid
    os.kill(server, signal.SIGINT)
    starting.prepare("cpu")
    print(forkserver._forkserver._forkserver_pid == server)
    print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


def test_a_gpu_is_driven_by_a_process_that_was_not_forked() -> None:
    assert start_method("cuda") == start_method("cuda:1") == "spawn"


@pytest.mark.exhaustive
@pytest.mark.skipif(start_method("cpu") != "forkserver", reason="where workers are forked")
def test_what_workers_are_forked_from_is_started_once_and_does_not_hear_ctrl_c(tmp_path) -> None:
    """Also while it is still importing; and who has it started imports nothing and goes on hearing it."""
    script = tmp_path / "script.py"
    script.write_text(HEARD)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False"]
    assert done.stderr == ""


SHADOWED = """
import os
from cifar_ablations.study.execution import starting
def origin():
    import cifar_ablations
    return cifar_ablations.__file__
if __name__ == "__main__":
    before = os.getcwd()
    starting.prepare("cpu")
    assert os.getcwd() == before
    from multiprocessing import get_context
    with get_context("forkserver").Pool(1) as pool:
        print(pool.apply(origin) == origin(), pool.apply(os.getcwd) == before)
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(start_method("cpu") != "forkserver", reason="where workers are forked")
@pytest.mark.parametrize("options", [[], ["-E"]], ids=["plain", "as pipx starts it"])
def test_what_lies_in_the_current_folder_is_not_taken_for_the_package(options: list[str], tmp_path) -> None:
    """Another checkout, for example, where the command is an installed one."""
    here = tmp_path / "here"
    for name in ("cifar_ablations", "reports", "study", "ablations"):
        (here / name).mkdir(parents=True)
        (here / name / "__init__.py").write_text("raise SystemExit('the wrong one')\n")
    (tmp_path / "script.py").write_text(SHADOWED)
    command = [sys.executable, *options, str(tmp_path / "script.py")]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (["True", "True"], "")


FORKED = """
import os, sys, multiprocessing
from cifar_ablations.study.execution import starting
starting.PRELOADED = "cifar_ablations.study.execution.starting"
if __name__ == "__main__":
    starting.prepare("cpu")
    process = multiprocessing.get_context("forkserver").Process(target=print, args=("a worker",))
    process.start()
    process.join()
    with starting.current_folder_kept_out():
        process = multiprocessing.get_context("spawn").Process(target=print, args=("a worker",))
        process.start()
    process.join()
    print(os.environ.get(starting.SAFE_PATH))
"""


@pytest.mark.skipif(start_method("cpu") != "forkserver", reason="where workers are forked")
def test_no_process_runs_code_of_the_current_folder(tmp_path) -> None:
    script, here = tmp_path / "script.py", tmp_path / "here"
    script.write_text(FORKED)
    here.mkdir()
    for name in ("pickle", "socket", "tempfile", "selectors", "torch", "resource_tracker"):
        (here / f"{name}.py").write_text("print('of the current folder', flush=True)\n")
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=True,
        cwd=here,
        env={**{k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}, "PYTHONPATH": root},
    )
    assert done.stdout.splitlines() == ["a worker", "a worker", "None"]


def test_the_command_as_a_module_takes_no_module_of_the_current_folder(tmp_path) -> None:
    for name in ("typer", "torch", "mlflow"):
        (tmp_path / f"{name}.py").write_text("print('of the current folder', flush=True)\n")
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-m", "cifar_ablations", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert "of the current folder" not in done.stdout
    assert "run" in done.stdout
