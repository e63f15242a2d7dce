"""What every figure keeps to: a data step, a drawing step and words, in colours that mean one thing each."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from types import ModuleType

import pytest

from cifar_ablations.reports import figures
from cifar_ablations.reports.figures import theme

SHARED = {"images", "panels", "theme"}
"""What figures are made with."""
WITH_AND_WITHOUT = {"depth", "learning_curves", "mechanism", "paired", "theme"}
"""Whose blue is with a technique and whose orange is without it."""

NAMES = sorted(info.name for info in pkgutil.iter_modules(figures.__path__))


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{figures.__name__}.{name}")


def test_the_shared_modules_are_there() -> None:
    assert set(NAMES) > SHARED | WITH_AND_WITHOUT


@pytest.mark.parametrize("name", [name for name in NAMES if name not in SHARED])
def test_a_figure_has_data_that_are_drawn_and_described(name: str) -> None:
    module = _module(name)
    signatures = {step: inspect.signature(getattr(module, step)) for step in ("data", "draw", "describe")}
    returned = {step: signature.return_annotation for step, signature in signatures.items()}
    assert returned == {"data": "pd.DataFrame", "draw": "Figure", "describe": "str"}
    for step in ("draw", "describe"):
        first, *others = signatures[step].parameters.values()
        assert (first.name, first.annotation) == ("data", "pd.DataFrame")
        # The figures of a demonstration are parts of one module; all else is a choice that need not be made.
        assert all(one.name == "part" or one.default is not inspect.Parameter.empty for one in others)
    assert all(inspect.getdoc(getattr(module, step)) for step in signatures)


@pytest.mark.parametrize("name", NAMES)
def test_blue_and_orange_are_with_and_without_a_technique_and_nothing_else(name: str) -> None:
    source = inspect.getsource(_module(name))
    assert bool(re.search(r"\b(TREATMENT|CONTROL)\b", source)) == (name in WITH_AND_WITHOUT)
    assert name == "theme" or not re.search("(?i)" + "|".join(theme.COLOURS.values()), source)


def test_colours_are_apart_and_can_be_read() -> None:
    assert len(set(theme.COLOURS.values())) == len(theme.COLOURS)
    for name in ("ink", "muted", "treatment", "control", "accent", "second"):
        for behind in ("#ffffff", "#f6f7f9", theme.BAND if name == "ink" else theme.PAPER):
            assert _contrast(theme.COLOURS[name], behind) >= 4.5, f"{name} on {behind}"


@pytest.mark.exhaustive
def test_what_a_page_is_drawn_with_is_imported_only_to_draw() -> None:
    modules = [f"{figures.__name__}.{name}" for name in NAMES]
    check = (
        f"import sys, importlib; [importlib.import_module(name) for name in {modules}]; "
        "print({'seaborn', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def _contrast(one: str, other: str) -> float:
    """Of two colours, as WCAG 2.2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
