"""Commands as child processes: no shell, a time-out, and nothing left behind. The processes are real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cifar_ablations.study.execution import child_process
from cifar_ablations.study.execution.child_process import end_group, run_child

SLEEPS = "import time; time.sleep(60)"
PARENT = """
import subprocess, sys, time
own = len(sys.argv) > 1 and sys.argv[1] == "own"
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"], start_new_session=own)
print(child.pid, flush=True)
time.sleep(float(sys.argv[2]))
"""
"""Starts a grandchild, in a group of its own where asked for, says its number and stays for a while."""


def run(folder: Path, *words: str, timeout: float | None = 30, tick=lambda: None, **variables: str) -> int | None:
    started: list[int] = []
    code = run_child(words, folder, variables, folder / "out.txt", timeout, started.append, tick)
    assert started
    return code


def python(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", *words)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_command_gets_its_words_folder_and_variables_as_they_are(tmp_path: Path) -> None:
    code = (
        "import os, sys; print(sys.argv[1:], os.getcwd(), os.environ['X'])\nprint('oh', file=sys.stderr); sys.exit(3)"
    )
    assert run(tmp_path, *python(code, "$HOME; rm -rf *", "`id`"), X="y z") == 3
    text = (tmp_path / "out.txt").read_text()
    assert f"['$HOME; rm -rf *', '`id`'] {tmp_path} y z" in text
    assert "oh" in text
    assert run(tmp_path, *python("import os; os.kill(os.getpid(), 9)")) == -9
    assert run(tmp_path, *python("import sys; sys.exit(len(sys.stdin.read()))")) == 0, "nobody types"
    with pytest.raises(FileNotFoundError):
        run(tmp_path, "no-such-program")


@pytest.mark.exhaustive
@pytest.mark.parametrize("own", ["own", "shared"])
def test_a_time_out_ends_grandchildren_too(own: str, tmp_path: Path) -> None:
    began = time.monotonic()
    assert run(tmp_path, *python(PARENT, own, "60"), timeout=1.5) is None
    assert time.monotonic() - began < 20
    assert not alive(int((tmp_path / "out.txt").read_text()))


def test_what_a_command_leaves_running_ends_with_it(tmp_path: Path) -> None:
    assert run(tmp_path, *python(PARENT, "shared", "0")) == 0
    assert not alive(int((tmp_path / "out.txt").read_text()))


def test_one_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "GRACE_SECONDS", 0.3)
    before = psutil.Process().children()  # of tests that ran before in this process
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); {SLEEPS}"

    def stop() -> None:
        if (tmp_path / "out.txt").read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, *python(deaf), tick=stop)
    assert set(psutil.Process().children()) <= set(before)


def test_who_does_not_wait_for_the_end_has_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen(python(SLEEPS), start_new_session=True)

    def again(members: list[psutil.Process], leader: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(child_process, "_end", again)
    with pytest.raises(KeyboardInterrupt):
        end_group(process.pid)
    assert process.wait(10) == -signal.SIGKILL


def test_others_are_left_alone() -> None:
    other = subprocess.Popen(python(SLEEPS))
    try:
        end_group(other.pid)  # which leads no group
        assert other.poll() is None
        assert os.getpgid(other.pid) == os.getpgid(0)
    finally:
        other.kill()
        other.wait()
