"""Finds techniques by looking in their folder: adding a file adds one. Beneath searches, which look up their knobs."""

from __future__ import annotations

import inspect
import pkgutil
from functools import cache
from importlib import import_module

import cifar_ablations.ablations.techniques
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.record import Value
from cifar_ablations.ablations.technique import Technique


@cache
def techniques() -> dict[str, type[Technique]]:
    """Every technique by name, in alphabetical order."""
    return {name: _technique(name) for name in _names()}


def _names() -> list[str]:
    return [info.name for info in pkgutil.iter_modules(cifar_ablations.ablations.techniques.__path__)]


def _technique(name: str) -> type[Technique]:
    """The technique that a file of the folder defines."""
    module = import_module(f"cifar_ablations.ablations.techniques.{name}")
    classes = [
        c
        for _, c in inspect.getmembers(module, inspect.isclass)
        if issubclass(c, Technique) and c.__module__ == module.__name__
    ]
    assert len(classes) == 1, f"{module.__name__} must define one technique, not {len(classes)}"
    found = classes[0]
    assert found.name == name, f"{module.__name__} must be named after its technique"
    return found


@cache
def setting_title(technique: str, knobs: tuple[tuple[str, Value], ...]) -> str:
    """What a technique is called as its knobs set it; empty where it is not known with these knobs at these values.

    Nothing but the technique's own file is imported, which may still bring torch.
    """
    if technique not in _names():
        return ""
    try:
        return _technique(technique)(**dict(knobs)).setting_title
    except (TypeError, AblateError):  # of another version
        return ""
