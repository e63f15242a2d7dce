"""Finds techniques by looking in their folder: adding a file adds one. Beneath searches, which look up their knobs."""

from __future__ import annotations

import inspect
import pkgutil
from functools import cache
from importlib import import_module

import cifar_ablations.ablations.techniques
from cifar_ablations.ablations.technique import Technique


@cache
def techniques() -> dict[str, type[Technique]]:
    """Every technique by name, in alphabetical order."""
    found = {}
    for module_info in pkgutil.iter_modules(cifar_ablations.ablations.techniques.__path__):
        module = import_module(f"cifar_ablations.ablations.techniques.{module_info.name}")
        classes = [
            c
            for _, c in inspect.getmembers(module, inspect.isclass)
            if issubclass(c, Technique) and c.__module__ == module.__name__
        ]
        assert len(classes) == 1, f"{module.__name__} must define one technique, not {len(classes)}"
        assert classes[0].name == module_info.name, f"{module.__name__} must be named after its technique"
        found[module_info.name] = classes[0]
    return found
