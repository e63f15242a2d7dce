"""Finds the demonstrations by looking in this folder: adding a file adds one."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType


@cache
def demonstrations() -> dict[str, ModuleType]:
    """Every demonstration by name, in the order of the course: modules with NAME, TITLE, CHAPTER and run(seed)."""
    modules = [
        import_module(f"cifar_ablations.study.foundations.{info.name}")
        for info in pkgutil.iter_modules([str(Path(__file__).parent)])
    ]
    found = [module for module in modules if hasattr(module, "run")]
    for module in found:
        assert module.__name__.rpartition(".")[2] == module.NAME, f"{module.__name__} must be named after its NAME"
    return {module.NAME: module for module in sorted(found, key=lambda module: (module.CHAPTER, module.NAME))}
