"""Ablations of training techniques that answer, from Python:

    import cifar_ablations as ca

    recipe = ca.notebook_recipe()
    result = ca.compare({"baseline": recipe, "no dropout": recipe.without("dropout")}, seeds=5, profile="quick")
    result.effects

The packages lie beside this folder, under one importable name. What stands here is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cifar_ablations.ablations.catalog import notebook_recipe
    from cifar_ablations.ablations.errors import AblateError
    from cifar_ablations.ablations.plan import Arm, Plan
    from cifar_ablations.ablations.recipe import Recipe
    from cifar_ablations.interface import compare, load, run, tune
    from cifar_ablations.reports.pages.result import Result

__all__ = ["AblateError", "Arm", "Plan", "Recipe", "Result", "compare", "load", "notebook_recipe", "run", "tune"]

_HOMES = {
    "AblateError": "ablations.errors",
    "Arm": "ablations.plan",
    "Plan": "ablations.plan",
    "Recipe": "ablations.recipe",
    "Result": "reports.pages.result",
    "notebook_recipe": "ablations.catalog",
} | dict.fromkeys(["compare", "load", "run", "tune"], "interface")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
