"""Which figures a plan's page has: those that have something to show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from ablations import schema
from reports import details, load

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

Drawing = tuple[Any, pd.DataFrame]
"""A module of `reports.figures` and what it draws."""


def of_plan(
    client: MlflowClient, plan: Mapping[str, Any], runs: pd.DataFrame, verdicts: pd.DataFrame, arrays: details.Arrays
) -> dict[str, Drawing]:
    """By name, the figures of a plan; learning curves, seeds and the forest say so themselves where nothing is there.

    runs, verdicts: the frames of `load.runs_of` and `verdict.judge`; arrays: of `details.arrays_of`.
    """
    from reports.figures import confusion, cost, depth, forest, learning_curves, mechanism, paired, seeds

    curves = load.curves_of(client, runs, [schema.VALIDATION_ACCURACY])
    if curves.empty:  # nothing was held out, or no epoch has ended
        curves = load.curves_of(client, runs, [schema.TRAIN_LOSS])
    found: dict[str, Drawing] = {
        "curves": (learning_curves, learning_curves.data(curves, plan)),
        "seeds": (seeds, seeds.data(runs, plan)),
    }
    if plan["claims"] and plan.get("layout") != "ledger":
        found["forest"] = (forest, forest.data(verdicts, plan.get("titles", {})))
    others: dict[str, Drawing] = {
        "mechanism": (mechanism, mechanism.data(runs, plan)),
        "paired": (paired, paired.data(runs, plan)),
        "cost": (cost, cost.data(runs, plan)),
        "depth": (depth, depth.data(arrays, runs, plan)),
        "confusion": (confusion, confusion.data(arrays, runs, plan)),
    }
    return found | {name: (room, data) for name, (room, data) in others.items() if not data.empty}


def of_factorial(
    plan: Mapping[str, Any], runs: pd.DataFrame, contributions: pd.DataFrame, pairs: pd.DataFrame
) -> dict[str, Drawing]:
    """By name, the figures of a factorial, from `factorial.contributions` to test accuracy and its interactions."""
    from reports.figures import interactions, main_effects, waterfall

    found: dict[str, Drawing] = {
        "waterfall": (waterfall, waterfall.data(contributions, plan, runs)),
        "main_effects": (main_effects, main_effects.data(runs, plan)),
        "interactions": (interactions, interactions.data(pairs, plan)),
    }
    return {name: (room, data) for name, (room, data) in found.items() if not data.empty}
