"""Journals as a power cut leaves them are read again, and what could not be read is kept beside them."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileSymlinkLock
from optuna.study import StudyDirection

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.study.search import journal
from cifar_ablations.study.search.optuna_study import storage_at


def _written(folder: Path, trials: int = 3) -> tuple[Path, bytes]:
    """A journal with a study of so many trials, and its bytes."""
    file = folder / "optuna.journal"
    study = optuna.create_study(storage=storage_at(None, file), study_name="s", load_if_exists=True)
    for value in range(trials):
        study.add_trial(optuna.trial.create_trial(value=float(value)))
    return file, file.read_bytes()


@pytest.mark.parametrize(
    "torn",
    [
        lambda text: text[:-30],
        lambda text: text[:-2],
        lambda text: text + b"\0" * 512,
        lambda text: text[:-30] + b'{"op_code":5,"worker_id":"x"}\n',  # versions before this one wrote behind it
        lambda text: text + b"\xff\xfe",
        lambda text: text + b"[]\n",
    ],
    ids=["30 bytes", "a bracket", "zeros", "written behind", "no text", "no entry"],
)
def test_a_torn_journal_is_mended_before_anything_is_written(torn, tmp_path: Path) -> None:
    file, whole = _written(tmp_path)
    file.write_bytes(torn(whole))
    said: list[str] = []
    study = optuna.load_study(study_name="s", storage=storage_at(None, file, said.append))
    kept = file.read_bytes()
    assert whole.startswith(kept)
    assert len(whole) - len(kept) <= len(whole.splitlines(keepends=True)[-1])
    (sentence,) = said
    assert sentence.startswith("optuna.journal ended in a line that cannot be read")
    beside = (tmp_path / "optuna.journal.torn").read_bytes()
    assert torn(whole).removeprefix(kept).rstrip(b"\n") == beside.rstrip(b"\n")
    study.add_trial(optuna.trial.create_trial(value=9.0))
    again = optuna.load_study(study_name="s", storage=storage_at(None, file, said.append))
    assert again.trials[-1].value == 9.0
    assert len(said) == 1, "mended once"


def test_what_is_torn_twice_is_all_kept(tmp_path: Path) -> None:
    file, _ = _written(tmp_path)
    for _ in range(2):
        _written(tmp_path, 1)
        file.write_bytes(file.read_bytes()[:-9])
        assert journal.mend(file)
    assert len((tmp_path / "optuna.journal.torn").read_bytes().splitlines()) == 2


def test_a_line_that_lacks_only_its_end_loses_nothing(tmp_path: Path) -> None:
    file, whole = _written(tmp_path)
    file.write_bytes(whole.removesuffix(b"\n"))
    assert journal.mend(file) == ""
    assert file.read_bytes() == whole
    assert not (tmp_path / "optuna.journal.torn").exists()


@pytest.mark.parametrize("content", [None, b""])
def test_no_journal_is_none_that_is_torn(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "optuna.journal"
    if content is not None:
        file.write_bytes(content)
    assert journal.mend(file) == ""
    assert file.exists() == (content is not None)


@pytest.mark.parametrize("line", [b"{}", b'{"op_code": 99, "worker_id": "w"}', b'{"op_code": 4, "worker_id": "w"}'])
def test_lines_that_are_none_of_optunas_are_a_sentence(line: bytes, tmp_path: Path) -> None:
    file, whole = _written(tmp_path)
    file.write_bytes(whole + line + b"\n")
    with pytest.raises(AblateError, match=r"optuna\.journal is no journal of Optuna's \(.*move it away"):
        storage_at(None, file)
    assert file.read_bytes() == whole + line + b"\n"


def test_a_line_that_is_nested_too_deeply_is_torn(tmp_path: Path) -> None:
    file, whole = _written(tmp_path)
    file.write_bytes(whole + b'{"a":' * 100_000 + b"\n")
    assert journal.mend(file)
    assert file.read_bytes() == whole


def test_looking_at_a_journal_writes_nothing(tmp_path: Path) -> None:
    file, whole = _written(tmp_path)
    assert journal.torn(file) == journal.torn(tmp_path / "none") == ""
    file.write_bytes(whole[:-1])
    assert journal.torn(file) == "", "nothing but the end of its line is missing"
    file.write_bytes(whole + b'{"op_co')
    assert journal.torn(file).endswith(f"{len(whole.splitlines())} lines before it can, 7 bytes cannot")
    assert file.read_bytes() == whole + b'{"op_co'


def test_a_lock_that_the_disk_keeps_is_the_disks_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: object, **named: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    file, _ = _written(tmp_path)
    storage = storage_at(None, file)
    for name in ("rename", "unlink", "remove"):
        monkeypatch.setattr(os, name, refuse)
    with pytest.raises(OSError, match="Read-only"):
        storage.create_new_study([StudyDirection.MAXIMIZE], "new")
    monkeypatch.undo()
    again = storage_at(None, file)
    assert "new" in [study.study_name for study in again.get_all_studies()]


def test_a_lock_that_is_another_programs_is_waited_for(tmp_path: Path) -> None:
    file, _ = _written(tmp_path)
    storage, held = storage_at(None, file), JournalFileSymlinkLock(str(file))
    held.acquire()
    waiting = threading.Thread(target=storage.create_new_study, args=([StudyDirection.MAXIMIZE], "new"))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    held.release()
    waiting.join(10)
    assert not waiting.is_alive()
