"""`ablate check-extension`: every contract of a folder, kept or not, and the exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cifar_ablations.ablations import extensions
from cifar_ablations.study.commands import app
from tests.own_extension import FILES, TECHNIQUE, put_extension


@pytest.fixture(autouse=True)
def named_anew():
    yield
    extensions.name()


def _checked(folder: Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app.app, ["check-extension", str(folder)])
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.slow
def test_an_extension_that_keeps_to_all_contracts(tmp_path: Path) -> None:
    code, said, _ = _checked(put_extension(tmp_path / "lab_that_keeps"))
    assert code == 0, said
    for name in ("techniques/fade", "plans/fading", "searches/fading", "metrics/surprise", "networks/patches"):
        assert f"ok      {name}: " in said
    assert "failed" not in said
    assert "of lab_that_keeps are kept" in said


@pytest.mark.slow
def test_one_that_does_not(tmp_path: Path) -> None:
    files = FILES | {"techniques/fade.py": TECHNIQUE.replace("if self.share == 0.0", "if True")}
    code, said, _ = _checked(put_extension(tmp_path / "lab_that_fails", files))
    assert code == 1
    assert said.count("failed  ") == 1, said
    assert "failed  techniques/fade: fade at 'on' changes nothing" in said


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"techniques/fade.py": "1 / 0\n"}, "line 1: ZeroDivisionError: division by zero"),
        ({"techniques/_only.py": ""}, "defines nothing yet"),
        ({"readme.py": ""}, "is no extension"),
    ],
)
def test_what_cannot_be_checked_is_a_sentence(files: dict[str, str], said: str, tmp_path: Path) -> None:
    code, _, errors = _checked(put_extension(tmp_path / "lab_that_cannot", files))
    assert code == 2
    assert said in errors
    assert "Traceback" not in errors
