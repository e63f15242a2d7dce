"""Which figures a plan's page has: those that have something to show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from cifar_ablations.reports.reading import details

MANY_ARMS = 20
"""Of more arms, what would list every one is left out or folded."""

Drawing = tuple[Any, pd.DataFrame]
"""A module of `reports.figures` and what it draws."""


def of_plan(
    plan: Mapping[str, Any],
    runs: pd.DataFrame,
    curves: pd.DataFrame,
    verdicts: pd.DataFrame,
    arrays: details.Arrays,
    kept: Mapping[str, Any],
) -> dict[str, Drawing]:
    """By name, the figures of a plan; learning curves, seeds and the forest say so themselves where nothing is there.

    Those of a technique's mechanism are named by `mechanism_name`.
    runs, verdicts: the frames of `load.runs_of` and `verdict.judge`; curves: of `load.curves_of`; arrays: of
    `details.arrays_of`; kept: of `load.gallery_of`.
    """
    from cifar_ablations.reports.figures import confusion, cost, forest, gallery, gap, learning_curves, paired, seeds

    found: dict[str, Drawing] = {
        "curves": (learning_curves, learning_curves.data(curves, plan)),
        "seeds": (seeds, seeds.data(runs, plan)),
    }
    if plan["claims"] and plan.get("layout") != "ledger":
        found["forest"] = (forest, forest.data(verdicts, plan.get("titles", {})))
    others: dict[str, Drawing] = {
        "paired": (paired, paired.data(runs, plan)),
        "cost": (cost, cost.data(runs, plan)),
        "gallery": (gallery, gallery.data(kept)),
        "confusion": (confusion, confusion.data(arrays, runs, plan)),
    }
    if len(plan["arms"]) <= MANY_ARMS:
        others["gap"] = (gap, gap.data(runs, plan))
    others |= _of_mechanisms(plan, runs, arrays)
    return found | {name: (room, data) for name, (room, data) in others.items() if not data.empty}


def _of_mechanisms(plan: Mapping[str, Any], runs: pd.DataFrame, arrays: details.Arrays) -> dict[str, Drawing]:
    from cifar_ablations.reports.figures import depth, mechanism

    found: dict[str, Drawing] = {}
    for kind, room, data in (
        ("mechanism", mechanism, mechanism.data(runs, plan)),
        ("depth", depth, depth.data(arrays, runs, plan)),
    ):
        for technique, rows in data.groupby("technique", sort=False):
            found[mechanism_name(plan, kind, str(technique))] = (room, rows)
    return found


def mechanism_name(plan: Mapping[str, Any], kind: str, technique: str) -> str:
    """What a technique's figure is called; by number, since a name out of the store may hold anything."""
    return f"{kind}-{list(dict.fromkeys(claim['technique'] for claim in plan['claims'])).index(technique) + 1}"


def of_factorial(
    plan: Mapping[str, Any], runs: pd.DataFrame, contributions: pd.DataFrame, pairs: pd.DataFrame
) -> dict[str, Drawing]:
    """By name, the figures of a factorial, from `factorial.contributions` to test accuracy and its interactions."""
    from cifar_ablations.reports.figures import interactions, main_effects, waterfall

    found: dict[str, Drawing] = {
        "waterfall": (waterfall, waterfall.data(contributions, plan, runs)),
        "main_effects": (main_effects, main_effects.data(runs, plan)),
        "interactions": (interactions, interactions.data(pairs, plan)),
    }
    return {name: (room, data) for name, (room, data) in found.items() if not data.empty}
