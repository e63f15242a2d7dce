"""The output folder: where it is, what lies in it, and that one command holds it at a time."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import pytest

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import PARTIAL
from cifar_ablations.reports.reading import load
from cifar_ablations.study.store.home import Home
from tests.fresh_store import put_fresh_store


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


def test_a_tilde_is_the_home_folder_and_not_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("ABLATE_HOME", "~/out")
    assert Home().folder == tmp_path.resolve() / "me" / "out"
    monkeypatch.setenv("ABLATE_HOME", "./~/out")
    assert Home().folder == tmp_path.resolve() / "~" / "out"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("~no-such-user-here/out", r"ABLATE_HOME='~no-such-user-here/out' cannot be used: .*home directory\. Name"),
        (os.fsdecode(b"not \xff UTF-8"), r"ABLATE_HOME='not \\udcff UTF-8' cannot be used: its path is not UTF-8\."),
    ],
)
def test_a_path_that_cannot_be_one_is_said(asked: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATE_HOME", asked)
    with pytest.raises(AblateError, match=said):
        Home()


@pytest.mark.parametrize("name", ["a?b", "a?b/c", "a%20b", "a#b"])
def test_the_store_is_in_the_folder_whatever_it_is_called(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = Home(tmp_path / name)
    assert not home.has_store
    put_fresh_store(home.folder)
    assert home.has_store
    assert len(load.connect(home.tracking_uri).search_experiments()) == 1
    assert [path.name for path in tmp_path.iterdir()] == [name.partition("/")[0]]


def test_whether_there_is_a_store_is_asked_of_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_fresh_store(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert Home(tmp_path).has_store
    assert not Home(tmp_path / "another").has_store
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'none.db'}")
    assert not Home(tmp_path).has_store
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert Home(tmp_path / "another").has_store, "nobody knows before it is asked"


@pytest.mark.parametrize("below", ["", "below"])
def test_a_file_in_its_place_is_said_before_anything_is_written(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a person's")
    with (
        pytest.raises(
            AblateError, match=r"file.* cannot be written to: a file is in its way\. Name another output fold"
        ),
        Home(tmp_path / "file" / below).locked("run", print),
    ):
        pass
    assert (tmp_path / "file").read_text() == "a person's"


READ_ONLY = """
import os, sys
from pathlib import Path
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.study.commands.reporting import check_writable
from cifar_ablations.study.store.home import Home
if sys.argv[2]:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
home = Home(Path(sys.argv[1]))
for act in (lambda: home.locked("run", print).__enter__(), lambda: check_writable(home)):
    try:
        act()
    except AblateError as error:
        print(error)
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize("how", ["another user's", "a disk that is read-only"])
def test_a_folder_that_may_not_be_written_to_is_said(how: str) -> None:
    """Tests may run as root, whom no permission stops: so another user, or a mount of their own."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)  # another user may look, where pytest's own folders are closed
        _is_said(how, Path(place))


def _is_said(how: str, tmp_path: Path) -> None:
    put_fresh_store(tmp_path / "out")
    folder, root = shlex.quote(str(tmp_path / "out")), Path(__file__).parents[3]
    command = [sys.executable, "-c", READ_ONLY, str(tmp_path / "out"), "1" if how == "another user's" else ""]
    if how == "another user's":
        if os.getuid() != 0:
            pytest.skip("only root may become another user")
        expected = "Permission denied"
    else:
        mounted = f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}"
        if subprocess.run(["unshare", "-m", "sh", "-c", mounted], capture_output=True, check=False).returncode:
            pytest.skip("nothing may be mounted here")
        command = ["unshare", "-m", "sh", "-c", f"{mounted} && exec {shlex.join(command)}"]
        expected = "Read-only file system"
    clean = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env=clean).stdout.splitlines()
    assert len(said) == 2
    assert all(f"cannot be written to: {expected}. " in sentence for sentence in said)
    assert "Name another output folder: ABLATE_HOME=FOLDER." in said[0]
    assert f"ABLATE_HOME=FOLDER MLFLOW_TRACKING_URI=sqlite:///{tmp_path.resolve()}/out/mlflow.db" in said[1]


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


def test_what_was_left_half_written_a_day_ago_is_removed(tmp_path: Path) -> None:
    home = Home(tmp_path / "out")
    lefts = [folder / f"{PARTIAL}x" for folder in (home.folder, home.reports, home.recipes, home.exports)]
    for left in lefts:
        left.mkdir(parents=True)
        os.utime(left, (0, 0))
    with home.locked("testing", print):
        assert not any(left.exists() for left in lefts)


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


def test_a_store_elsewhere_is_held_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two output folders on one file: the second waits, and cannot take the first's trainings for left behind."""
    store = tmp_path / "shared" / "runs.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    said: list[str] = []
    with _held_elsewhere(tmp_path / "one") as holder:

        def say(sentence: str) -> None:
            said.append(sentence)
            assert holder.stdin is not None
            holder.stdin.close()

        with Home(tmp_path / "two").locked("run", say):
            pass
    (sentence,) = said
    assert sentence.startswith(f"Another ablate (process {holder.pid}, run, ")
    assert "runs.db; waiting" in sentence


def test_a_store_in_a_folder_that_cannot_be_written_to_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/runs.db")
    with (
        pytest.raises(AblateError, match=r"a file is in its way\. Name another store"),
        Home(tmp_path / "out").locked("run", print),
    ):
        pass


def test_who_will_not_wait_is_told_who_holds_it(tmp_path: Path) -> None:
    home, said = Home(tmp_path / "out"), list[str]()
    assert not home.is_held
    with home.locked("running plan techniques", print):
        assert home.is_held
        with (
            pytest.raises(AblateError, match=r"running plan techniques, since .*\) is at work in .*, and nothing"),
            home.locked("cleaning", said.append, wait=False),
        ):
            pass
    assert not home.is_held
    with home.locked("cleaning", said.append, wait=False):
        assert home.is_held
    assert said == []
