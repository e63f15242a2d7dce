"""The examples in docstrings, which the reference shows, are what Python answers."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = [
    ".".join(("cifar_ablations", *path.relative_to(ROOT).with_suffix("").parts))
    for package in ("ablations", "study", "reports")
    for path in sorted((ROOT / package).rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("module", MODULES)
def test_examples_are_what_python_answers(module: str) -> None:
    done = doctest.testmod(import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert done.attempted > 0
    assert done.failed == 0, "the differences are printed above"


def test_what_a_beginner_calls_first_has_an_example() -> None:
    wanted = {"recipe", "catalog", "technique", "naming", "randomness", "statistics", "judged_page"}
    assert wanted <= {module.rpartition(".")[2] for module in MODULES}
