"""Which figures a plan's page has: those that have something to show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import PlanRecord

if TYPE_CHECKING:
    from cifar_ablations.reports.pages.findings import Findings

MANY_ARMS = 20
"""Of more arms, what would list every one is left out or folded."""

Drawing = tuple[Any, pd.DataFrame]
"""A module of `reports.figures` and what it draws."""


def of_plan(results: Findings) -> dict[str, Drawing]:
    """By name, the figures of a plan; learning curves, seeds and the forest say so themselves where nothing is there.

    Those of a technique's mechanism are named by `mechanism_name`.
    """
    from cifar_ablations.reports.figures import forest, learning_curves, seeds

    plan = results.plan
    made: dict[str, Drawing] = {
        "curves": (learning_curves, learning_curves.data(results.curves, plan)),
        "seeds": (seeds, seeds.data(results.runs, plan)),
    }
    if plan.claims and plan.layout != "ledger":
        made["forest"] = (forest, forest.data(results.verdicts, plan.titles))
    others = _of_runs(results) | _of_mechanisms(results) | (_of_factorial(results) if plan.factors else {})
    return made | {name: (room, data) for name, (room, data) in others.items() if not data.empty}


def _of_runs(results: Findings) -> dict[str, Drawing]:
    from cifar_ablations.reports.figures import confusion, cost, gallery, gap, paired, variance

    plan, runs = results.plan, results.runs
    made: dict[str, Drawing] = {
        "paired": (paired, paired.data(runs, plan)),
        "cost": (cost, cost.data(runs, plan)),
        "gallery": (gallery, gallery.data(results.gallery)),
        "variance": (variance, variance.data(results.variance)),
        "confusion": (confusion, confusion.data(results.arrays, runs, plan)),
    }
    if len(plan.arms) <= MANY_ARMS:
        made["gap"] = (gap, gap.data(runs, plan))
    return made


def _of_mechanisms(results: Findings) -> dict[str, Drawing]:
    from cifar_ablations.reports.figures import depth, mechanism

    plan, made = results.plan, {}
    for kind, room, data in (
        ("mechanism", mechanism, mechanism.data(results.runs, plan)),
        ("depth", depth, depth.data(results.arrays, results.runs, plan)),
    ):
        for technique, rows in data.groupby("technique", sort=False):
            made[mechanism_name(plan, kind, str(technique))] = (room, rows)
    return made


def mechanism_name(plan: PlanRecord, kind: str, technique: str) -> str:
    """The name of a technique's figure; by number, since a name out of the store may hold anything."""
    return f"{kind}-{list(dict.fromkeys(claim.technique for claim in plan.claims)).index(technique) + 1}"


def _of_factorial(results: Findings) -> dict[str, Drawing]:
    from cifar_ablations.reports.figures import interactions, main_effects, waterfall

    plan, runs, shares = results.plan, results.runs, results.contributions[schema.TEST_ACCURACY]
    return {
        "waterfall": (waterfall, waterfall.data(shares, plan, runs)),
        "main_effects": (main_effects, main_effects.data(runs, plan)),
        "interactions": (interactions, interactions.data(results.interactions, plan)),
    }
