"""A fault of the suite's own is said in a sentence that asks for a report, and its traceback is kept in a file."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from cifar_ablations.study.commands import fault

PASSWORD = "hunter2"


def _raised() -> Exception:
    try:
        raise ValueError(f"cannot ask http://me:{PASSWORD}@host/x?token={PASSWORD}")
    except ValueError as error:
        return error


def test_its_traceback_lies_in_the_output_folder_and_has_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    monkeypatch.setattr(sys, "argv", ["ablate", "run", "--storage", f"postgresql://me:{PASSWORD}@host/x"])
    sentence = fault.reported(_raised())
    (file,) = (tmp_path / "out" / "errors").iterdir()
    text = file.read_text()
    assert file.name in sentence
    assert "a fault of ablate's own" in sentence
    assert "ablate run --storage postgresql://me:***@host/x" in text
    assert re.search(r"cifar-ablations \d.*torch \d.*mlflow \d", text)
    assert "Traceback (most recent call last)" in text
    assert "in _raised" in text
    assert PASSWORD not in text + sentence


def test_where_no_file_can_be_written_the_traceback_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "file" / "out"))
    monkeypatch.setattr(fault.tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    sentence = fault.reported(_raised())
    assert "Traceback (most recent call last)" in sentence
    assert PASSWORD not in sentence
