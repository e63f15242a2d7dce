"""What each technique adds beside every combination of the others, from the least to the most: a specification curve.

Simonsohn, Simmons and Nelson 2020: an effect that holds in one combination may be gone, or turned, in another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.inference import contrast, factorial
from cifar_ablations.reports.wording import phrases, tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ["label", "place", "beside", "effect", "low", "high"]
PANELS = 3
"""Side by side."""
HIGHER, LOWER, EITHER = "above zero", "below zero", "either"


def data(runs: pd.DataFrame, plan: PlanRecord) -> pd.DataFrame:
    """One row per factor and combination of the others, with the effect on test accuracy and the limits of its own
    interval, in percentage points; `place` counts them from the lowest effect, `beside` names the others in use."""
    used = factorial.combinations_of(plan)
    arm_of = {one: place for place, one in enumerate(used)}
    parts = []
    for name in plan.factors:
        pairs = [(one, one | {name}) for one in used if name not in one and one | {name} in arm_of]
        weights = np.zeros((len(pairs), len(used)))
        for row, (without, with_factor) in enumerate(pairs):
            weights[row, arm_of[without]], weights[row, arm_of[with_factor]] = -1.0, 1.0
        found = contrast.estimates(plan, runs, schema.TEST_ACCURACY, weights)
        titles = [
            phrases.listing([phrases.technique_title(plan, f) for f in plan.factors if f in one]) for one, _ in pairs
        ]
        frame = pd.DataFrame({"beside": titles, "effect": 100 * found["estimate"]})
        frame = frame.assign(low=100 * found["low"], high=100 * found["high"]).loc[(found["n"] > 0).to_numpy()]
        frame = frame.dropna(subset=["effect"]).sort_values("effect", kind="stable", ignore_index=True)
        parts.append(frame.assign(label=phrases.technique_title(plan, name), place=np.arange(len(frame))))
    return tables.stacked(parts, COLUMNS)


def told(data: pd.DataFrame) -> pd.Series:
    """On which side of zero the whole interval of an effect lies, if on one."""
    sides = np.select([data["low"] > 0, data["high"] < 0], [HIGHER, LOWER], EITHER)
    return pd.Series(sides, index=data.index)


def draw(data: pd.DataFrame) -> Figure:
    """A panel per technique, all on one scale."""
    with theme.styled():
        if data.empty:
            return theme.nothing("no two combinations that differ in one technique have runs yet")
        labels = list(data["label"].unique())
        rows = -(-len(labels) // PANELS)
        figure = theme.new_figure(theme.WIDTH, 0.5 + 1.7 * rows)
        grid = figure.subplots(rows, PANELS, sharey=True, squeeze=False).ravel()
        colours = {HIGHER: theme.SECOND, LOWER: theme.ACCENT, EITHER: theme.MUTED}
        for axes, label in zip(grid, labels, strict=False):
            mine = data[data["label"] == label]
            axes.axhline(0, color=theme.INK, lw=0.8)
            for side, part in mine.groupby(told(mine)):
                axes.vlines(part["place"], part["low"], part["high"], color=colours[str(side)], lw=1.2, alpha=0.6)
                axes.plot(part["place"], part["effect"], "o", ms=3, color=colours[str(side)])
            axes.set_title(phrases.sentence_case(label.removeprefix("the ")), fontsize=9)
            axes.set_xticks([])
            theme.upright(axes)
        for axes in grid[len(labels) :]:
            axes.set_visible(False)
        figure.supylabel("effect, percentage points", fontsize=9)
    return figure


def describe(data: pd.DataFrame) -> str:
    """The figure in words."""
    if data.empty:
        return "No two combinations that differ in one technique have runs yet."
    parts = []
    for label, rows in data.groupby("label", sort=False):
        sides = told(rows).value_counts()
        low, high = (phrases.number(rows["effect"].agg(end), signed=True) for end in ("min", "max"))
        parts.append(
            f"{label} from {low} to {high}, the interval above zero in {sides.get(HIGHER, 0)} and below in "
            f"{sides.get(LOWER, 0)} of {phrases.count(len(rows), 'combination')}"
        )
    return (
        "Effect on test accuracy beside every combination of the others, in percentage points. "
        + "; ".join(parts)
        + "."
    )
