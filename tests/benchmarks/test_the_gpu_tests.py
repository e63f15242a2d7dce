"""The tests that need a GPU: listed with what they prove, and ready for a machine that has little but torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.bare import ROOT, environment_with

FOLDER = ROOT / "tests" / "gpu"


def _docstrings() -> dict[str, str | None]:
    """Of every test in the folder, by file and name."""
    found = {}
    for file in sorted(FOLDER.glob("test_*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[f"{file.name}::{node.name}"] = ast.get_docstring(node)
    return found


@pytest.mark.exhaustive
def test_they_can_be_collected_without_the_suites_other_packages_and_the_readme_lists_them(tmp_path: Path) -> None:
    bare = environment_with("torch", "torchvision", "numpy", "pillow", "pytest", folder=tmp_path)
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "--collect-only", "-p", "no:cacheprovider", "tests/gpu"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=bare)
    assert done.returncode == 0, done.stdout + done.stderr
    collected = set(re.findall(r"^tests/gpu/(\w+\.py::\w+)", done.stdout, re.MULTILINE))
    docstrings = _docstrings()
    assert collected == set(docstrings)
    listed = re.findall(r"^\| `(\w+\.py::\w+)` \| (.+) \|$", (ROOT / "benchmarks/README.md").read_text(), re.MULTILINE)
    assert listed == list(docstrings.items())


def test_they_are_all_in_one_folder() -> None:
    marked = [file for file in (ROOT / "tests").rglob("test_*.py") if "mark." + "gpu" in file.read_text()]
    assert {file.parent for file in marked} == {FOLDER}
