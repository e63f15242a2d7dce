"""`ablate data`: what it takes in is what a plain run trains on from then on; what it refuses, it explains."""

from __future__ import annotations

from pathlib import Path

import filelock
import pytest
from typer.testing import CliRunner

from cifar_ablations.study.commands import app, take_data
from cifar_ablations.study.data.dataset import load
from cifar_ablations.study.store.home import Home
from tests.official_like import NOWHERE, put_official, serving


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An output folder on a machine without a network."""
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("ABLATE_DATA", raising=False)
    for reader in ("CIFAR10", "CIFAR100"):
        monkeypatch.setattr(f"torchvision.datasets.{reader}.url", NOWHERE)
    return Home()


def _data(*words: str):
    return CliRunner().invoke(app.app, ["data", *words], catch_exceptions=False)


def _refused(*words: str) -> str:
    done = _data(*words)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("ablate: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize("form", ["archive", "folder", "folder that holds it"])
@pytest.mark.parametrize("words", [[], ["cifar10"]])
def test_cifar_10_from_a_path_is_what_a_plain_run_takes(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, words: list[str]
) -> None:
    archive = put_official("cifar10", tmp_path / "official", monkeypatch)
    source = {"archive": archive, "folder": archive.parent / "cifar-10-batches-py"}.get(form, archive.parent)
    done = _data(*words, "--from", str(source))
    assert done.exit_code == 0, done.stderr
    said: list[str] = []
    found = load(None, home.data, say=said.append)
    assert said == [f"Data: CIFAR-10, 10 training and 2 test images, digest {found.digest}"]
    *_, data, where = done.stdout.splitlines()
    assert data == said[0]
    assert found.folder is not None
    assert where == f"It is in {home.shown(found.folder)}, which every command takes without --data."
    assert Path(home.shown(found.folder)).is_dir()


def test_cifar_100_is_taken_in_beside_it(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_official("cifar10", tmp_path / "official", monkeypatch)
    put_official("cifar100", tmp_path / "official", monkeypatch)
    for name, title in (("cifar10", "CIFAR-10"), ("cifar100", "CIFAR-100")):
        done = _data(name, "--from", str(tmp_path / "official"))
        assert done.exit_code == 0, done.stderr
        assert f"Data: {title}, " in done.stdout
    assert done.stdout.endswith(", which --data cifar100 takes.\n")
    assert load("cifar100", home.data).name == "cifar100"
    assert load(None, home.data).name == "cifar10"


def test_without_a_path_it_is_downloaded_once(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = put_official("cifar10", tmp_path / "official", monkeypatch).read_bytes()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar10").mkdir()  # a folder that happens to have the name is not what is meant
    with serving(content) as host:
        monkeypatch.setattr("torchvision.datasets.CIFAR10.url", host.address)
        host.sends = 1000
        assert "the next call goes on" in _refused()
        host.sends = len(content)
        done = _data()
        assert done.exit_code == 0, done.stderr
        assert _data().exit_code == 0
    assert host.asked == [None, "bytes=1000-"]
    assert "Data: CIFAR-10, 10 training and 2 test images, digest " in done.stdout
    assert done.stdout.endswith("cifar10-download, which every command takes without --data.\n")


def test_what_cannot_be_downloaded_says_why_and_what_else_to_do(home: Home) -> None:
    said = _refused("cifar100")
    assert "CIFAR-100 could not be downloaded from 127.0.0.1:1 (Connection refused)." in said
    assert "To bring it from elsewhere: ablate data cifar100 --from PATH" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cifar"], "no data set 'cifar'; did you mean cifar10 or cifar100?"),
        (["imagenet"], "no data set 'imagenet'. Known: cifar10, cifar100."),
        (["--from", "no/such/place"], "no/such/place does not exist; give cifar-10-python.tar.gz or the folder"),
        (["--from", "notes.txt"], "notes.txt is not the official CIFAR-10"),
        (["--from", "notes.txt"], "other images are given with --data PATH"),
        (["--from", "cifar-10-batches-bin"], "is the binary version of CIFAR-10; give the Python version"),
        (["--from", "cut/cifar-10-python.tar.gz"], "it is damaged, cut short or packed anew"),
        (["--from", "bad"], "cifar-10-batches-py/data_batch_3 is missing or not the official file"),
        (["--from", "cifar-100-python.tar.gz"], "is CIFAR-100, not CIFAR-10; say `ablate data cifar100 --from …`"),
    ],
)
def test_a_mistake_is_one_sentence_and_code_2(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    archive = put_official("cifar10", tmp_path / "bad", monkeypatch)
    put_official("cifar100", tmp_path, monkeypatch)
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "cifar-10-batches-bin").mkdir()
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / archive.name).write_bytes(archive.read_bytes()[:-100])
    (tmp_path / "bad/cifar-10-batches-py/data_batch_3").write_bytes(b"other")
    assert said in _refused(*words)
    assert not list(home.data.glob("cifar*"))


def test_the_output_folder_is_held_meanwhile(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def take_in(*_: object) -> None:
        with pytest.raises(filelock.Timeout):
            filelock.FileLock(home.folder / "ablate.lock").acquire(timeout=0)

    monkeypatch.setattr(take_data, "take_in", take_in)
    assert _data().exit_code == 0


def test_the_home_folder_of_nobody_is_a_sentence(home: Home) -> None:
    assert "begins with the home folder of a user that there is not" in _refused("--from", "~nosuchuser/x")
