"""Whatever stands at the other end of the standard streams: plain words, the right exit code, and no traceback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cifar_ablations.study.commands import streams

pytestmark = pytest.mark.exhaustive

ABLATE = (sys.executable, "-c", "from cifar_ablations.study.commands.app import main; main()")
FULL = Path("/dev/full")


def _run(
    *words: str, shell: str = "", encoding: str | None = None, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """`ablate` with these words; shell: what a shell puts behind the command."""
    place = {"PYTHONIOENCODING": encoding} if encoding else {}
    command = ["sh", "-c", f'"$@" {shell}', "sh", *ABLATE, *words]
    return subprocess.run(command, capture_output=True, env={**os.environ, **place, **environment}, timeout=120)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_without_the_signs_gets_plain_ones(encoding: str) -> None:
    done = _run("list", encoding=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    said = done.stdout.decode(encoding)
    assert re.search("Levels off \\(the notebook's\\), [÷/]4, [×x]4, [×x]16", said)
    assert "\\x" not in said
    assert "\\u" not in said


def test_a_mistake_has_plain_words_too() -> None:
    done = _run("plan", "cafés", encoding="ascii")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(rb"ablate: no plan 'caf\xe9s'; did you mean claims?")


@pytest.mark.parametrize("columns", ["0", "1", "no number"])
def test_a_terminal_without_a_width_gets_whole_sentences(columns: str) -> None:
    done = _run("plan", "--first-seed", "0.5", COLUMNS=columns)
    assert done.returncode == 2
    assert b"must be a whole number, not '0.5'" in done.stderr


@pytest.mark.parametrize("shell", [">&-", ">&- 2>&-", ">&- 2>&- <&-", "| head -1", "| true"])
def test_who_does_not_read_does_no_harm(shell: str) -> None:
    done = _run("list", shell=shell)
    assert done.returncode == 0
    assert done.stderr == b""
    assert done.stdout.count(b"\n") == (shell == "| head -1")


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize(("words", "code"), [(("list",), 1), (("--help",), 1), (("plan", "x"), 2)])
def test_a_full_disk_is_said_and_keeps_the_exit_code_of_a_mistake(words: tuple[str, ...], code: int) -> None:
    done = _run(*words, shell=f"> {FULL}")
    assert done.returncode == code
    assert b"Traceback" not in done.stderr
    if code == 1:
        assert done.stderr == b"ablate: some of the output could not be written: No space left on device\n"
    assert _run(*words, shell=f"> {FULL} 2> {FULL}").returncode == code


@pytest.mark.exhaustive
@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_trainings_go_on_when_nobody_reads(tiny_folder: Path, tmp_path: Path) -> None:
    words = ["run", "levels/shuffling", "--seeds=1", "--profile=smoke", "--workers=1", "--backend=torch"]
    words += [f"--set=budget.{name}={n}" for name, n in (("epochs", 1), ("train_images", 80), ("test_images", 60))]
    words += ["--set=budget.validation_images=40", "--set=model.width=0.0625", f"--data={tiny_folder}"]
    done = _run(*words, shell=f"> {FULL}", ABLATE_HOME=str(tmp_path))
    assert (done.returncode, b"Traceback" in done.stderr) == (1, False)
    assert list((tmp_path / "reports").glob("levels-shuffling-*.html"))


LEAVING = """
import atexit, os, sys, threading, time
from cifar_ablations.study.commands import app
atexit.register(lambda: print("at exit"))
def command():
    print("said", end="")
    {0}
app.app = command
app.main()
"""


def _leave(what: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", LEAVING.format(what)], capture_output=True, timeout=60)


@pytest.mark.parametrize("code", [0, 1, 2, 3, 130])
def test_a_command_ends_with_its_code_all_written_and_its_exit_functions_run(code: int) -> None:
    done = _leave(f"sys.exit({code})")
    assert (done.returncode, done.stdout, done.stderr) == (code, b"saidat exit\n", b"")


def test_a_command_waits_for_threads_that_still_write() -> None:
    done = _leave("threading.Thread(target=lambda: (time.sleep(0.3), print(' late'))).start(); sys.exit(2)")
    assert (done.returncode, done.stdout) == (2, b"said late\nat exit\n")


def test_ctrl_c_keeps_its_code(tmp_path: Path) -> None:
    held = "import filelock; it = filelock.FileLock('ablate.lock'); it.acquire(); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", held], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        place = {**os.environ, "ABLATE_HOME": str(tmp_path)}
        command = subprocess.Popen([*ABLATE, "data"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=place)
        assert command.stdout is not None
        line = command.stdout.readline()
        command.send_signal(signal.SIGINT)
        _, said = command.communicate(timeout=30)
        other.communicate(b"\n")
    assert b"waiting for it to end" in line
    assert command.returncode == 130
    assert said == b"\nStopped. What has ended is kept; the same command goes on with the rest.\n"


def test_a_pipe_that_does_not_wait_loses_nothing() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    read: list[bytes] = []

    def slowly() -> None:
        time.sleep(0.2)
        while part := os.read(reading, 4096):
            read.append(part)

    reader = threading.Thread(target=slowly)
    reader.start()
    with open(writing, "wb", buffering=0) as file, open(reading, "rb", buffering=0, closefd=True):
        patient = streams.Patient(file)
        data = memoryview(b"x" * 500_000)
        while data:
            data = data[patient.write(data) :]
        file.close()
        reader.join()
    assert sum(map(len, read)) == 500_000
    assert patient.lost is None
