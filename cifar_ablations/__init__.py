"""Ablations of training techniques that answer, from Python:

    import cifar_ablations as ca

    recipe = ca.notebook_recipe()
    result = ca.compare({"baseline": recipe, "no dropout": recipe.without("dropout")}, seeds=5, profile="quick")
    result.effects

The packages lie beside this folder, under one importable name. What stands here is imported when it is first used.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cifar_ablations.ablations.catalog import notebook_recipe
    from cifar_ablations.ablations.errors import AblateError
    from cifar_ablations.ablations.plan import Arm, Plan
    from cifar_ablations.ablations.recipe import Recipe
    from cifar_ablations.interface import compare, load, run, tune, use_extension
    from cifar_ablations.reports.pages.judged_page import Judged, judge
    from cifar_ablations.reports.pages.result import Result, SearchResult

__all__ = [
    "AblateError",
    "Arm",
    "Judged",
    "Plan",
    "Recipe",
    "Result",
    "SearchResult",
    "compare",
    "judge",
    "load",
    "notebook_recipe",
    "run",
    "tune",
    "use_extension",
]

# In a notebook, libraries that are imported later ask for a progress bar of widgets, and then show none.
warnings.filterwarnings("ignore", message="IProgress not found")

_HOMES = {
    "AblateError": "ablations.errors",
    "Arm": "ablations.plan",
    "Plan": "ablations.plan",
    "Recipe": "ablations.recipe",
    "Judged": "reports.pages.judged_page",
    "Result": "reports.pages.result",
    "SearchResult": "reports.pages.result",
    "judge": "reports.pages.judged_page",
    "notebook_recipe": "ablations.catalog",
} | dict.fromkeys(["compare", "load", "run", "tune", "use_extension"], "interface")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
