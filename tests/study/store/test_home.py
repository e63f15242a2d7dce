"""The output folder: where it is, what lies in it, and that one command holds it at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import pytest

from cifar_ablations.study.store.home import Home


def test_it_is_the_folder_given_else_that_of_the_environment_else_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "elsewhere"))
    assert Home(Path("given")).folder == tmp_path.resolve() / "given"
    assert Home().folder == tmp_path.resolve() / "elsewhere"
    monkeypatch.setenv("ABLATE_HOME", "")
    assert Home().folder == tmp_path.resolve() / "out"
    assert list(tmp_path.iterdir()) == [], "nothing is made before it is used"


def test_the_store_is_in_it_unless_another_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert Home(tmp_path).tracking_uri == f"sqlite:///{tmp_path.resolve()}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert Home(tmp_path).tracking_uri == "http://127.0.0.1:1"


def test_a_held_folder_says_who_holds_it_and_is_free_afterwards(tmp_path: Path) -> None:
    home, said = Home(tmp_path / "new"), list[str]()
    note = home.folder / "ablate.lock.json"
    with home.locked("run", said.append):
        about = json.loads(note.read_text())
        assert (about["pid"], about["doing"]) == (os.getpid(), "run")
        with pytest.raises(filelock.Timeout):
            filelock.FileLock(home.folder / "ablate.lock").acquire(timeout=0)
    assert not note.exists()
    with filelock.FileLock(home.folder / "ablate.lock").acquire(timeout=0):
        pass
    assert said == []


def test_it_is_free_again_after_an_error(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with pytest.raises(KeyError), home.locked("run", print):
        raise KeyError
    with home.locked("report", print):
        pass


@contextmanager
def _held_elsewhere(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder until its input ends, or it is killed."""
    code = (
        "import sys; from pathlib import Path; from cifar_ablations.study.store.home import Home\n"
        "with Home(Path(sys.argv[1])).locked('run', print): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(folder)]
    root, pipe = Path(__file__).parents[3], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=root) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield holder


@pytest.mark.parametrize("note", ["whole", "half", "none"])
def test_who_comes_second_says_for_whom_it_waits_and_then_goes_on(note: str, tmp_path: Path) -> None:
    home, file, said = Home(tmp_path), tmp_path / "ablate.lock.json", list[str]()
    with _held_elsewhere(tmp_path) as holder:
        whole = file.read_text()
        if note == "half":
            file.write_text(whole[: len(whole) // 2])
        elif note == "none":
            file.unlink()

        def say(sentence: str) -> None:
            said.append(sentence)
            assert holder.stdin is not None
            holder.stdin.close()

        with home.locked("report", say):
            assert json.loads(file.read_text())["pid"] == os.getpid()
    about = f"(process {holder.pid}, run, since {json.loads(whole)['since']}) " if note == "whole" else ""
    (sentence,) = said
    assert sentence.startswith(f"Another ablate {about}is at work in ")


def test_a_holder_that_is_killed_holds_nothing_any_more(tmp_path: Path) -> None:
    with _held_elsewhere(tmp_path) as holder:
        holder.kill()
    said: list[str] = []
    with Home(tmp_path).locked("report", said.append):
        pass
    assert said == []
