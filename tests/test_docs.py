"""The documentation: its commands can be typed, its examples in Python run, and it is built without a warning."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_readme import _ablate_takes, _calls, _make_takes

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
WRITTEN = "\n".join(page.read_text() for page in PAGES)


def _blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def _lines(program: str) -> list[str]:
    """Commands of a program, without their comments."""
    lines = [line for block in _blocks("sh", WRITTEN) for line in block.splitlines()]
    return _calls(program, [bare for line in lines if (bare := re.sub(r"\s#.*", "", line).strip())])


@pytest.mark.parametrize("line", _lines("ablate"))
def test_a_line_of_ablate_can_be_typed(line: str) -> None:
    _ablate_takes(line, WRITTEN)


@pytest.mark.parametrize("line", _lines("make"))
def test_a_line_of_make_can_be_typed(line: str) -> None:
    _make_takes(line)


def test_what_stands_in_a_block_is_one_of_these() -> None:
    assert set(re.findall(r"```(\w+)", WRITTEN)) <= {"sh", "python", "toml", "json", "text", "yaml"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if _blocks("python", page.read_text())], ids=lambda page: page.stem
)
def test_examples_in_python_run(page: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "ABLATE_HOME": str(tmp_path / "out")}
    script = "\n".join(_blocks("python", page.read_text()))
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs what `make docs` installs")
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "site" / "reference" / "techniques" / "dropout.html").exists()
