"""Which figures a plan's page has: those that have something to show."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import PlanRecord

if TYPE_CHECKING:
    from cifar_ablations.reports.pages.findings import Findings

MANY_ARMS = 20
"""Of more arms, what would list every one is left out or folded."""

Drawing = tuple[Any, pd.DataFrame]
"""What has `draw` and `describe`, such as a module of `reports.figures`, and what it draws."""


def of_plan(results: Findings) -> dict[str, Drawing]:
    """By name, the figures of a plan; learning curves and seeds say so themselves where nothing is there.

    'forest' is about test accuracy, or where nothing is claimed of it about all that is; 'forest_narrow' is the same
    for a phone, and 'forest_others' is about the other metrics. Those of a technique's mechanism are named by
    `mechanism_name`.
    """
    from cifar_ablations.reports.figures import learning_curves, seeds

    plan = results.plan
    made: dict[str, Drawing] = {
        "curves": (learning_curves, learning_curves.data(results.curves, plan)),
        "seeds": (seeds, seeds.data(results.runs, plan)),
    }
    if plan.claims and plan.layout != "ledger":
        made |= _forests(results)
    others = _of_runs(results) | _of_mechanisms(results) | (_of_factorial(results) if plan.factors else {})
    return made | {name: (room, data) for name, (room, data) in others.items() if not data.empty}


def frames(figures: Mapping[str, Drawing]) -> dict[str, pd.DataFrame]:
    """By name, the tidy frames that the figures of `of_plan` draw, in their order.

    The figures of all techniques' mechanisms have one frame together, and what one figure shows as another does is left
    out, as are pictures.
    """
    tables: dict[str, list[pd.DataFrame]] = {}
    for name, (_, data) in figures.items():
        if name not in ("forest_narrow", "gallery"):
            kind = name.partition("-")[0].removesuffix("_others")
            tables.setdefault(kind, []).append(data)
    return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}


def _forests(results: Findings) -> dict[str, Drawing]:
    from cifar_ablations.reports.figures import forest

    data = forest.data(results.verdicts, results.plan, results.runs)
    main, others = data[data["metric"] == schema.TEST_ACCURACY], data[data["metric"] != schema.TEST_ACCURACY]
    if main.empty:
        main, others = others, main
    narrow = SimpleNamespace(draw=partial(forest.draw, narrow=True), describe=forest.describe)
    made: dict[str, Drawing] = {"forest": (forest, main), "forest_narrow": (narrow, main)}
    return made if others.empty else made | {"forest_others": (forest, others)}


def _of_runs(results: Findings) -> dict[str, Drawing]:
    from cifar_ablations.reports.figures import confusion, gallery, gap, paired, variance

    plan, runs = results.plan, results.runs
    made: dict[str, Drawing] = {
        "paired": (paired, paired.data(runs, plan)),
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
    from cifar_ablations.reports.figures import interactions, main_effects, specification, waterfall

    plan, runs, shares = results.plan, results.runs, results.contributions[schema.TEST_ACCURACY]
    return {
        "waterfall": (waterfall, waterfall.data(shares, plan, runs)),
        "main_effects": (main_effects, main_effects.data(runs, plan)),
        "specification": (specification, specification.data(runs, plan)),
        "interactions": (interactions, interactions.data(results.interactions, plan)),
    }
