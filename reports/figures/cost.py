"""Accuracy against cost: the mean test accuracy of each arm and the mean cost of one of its runs."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.inference import decision, statistics
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ["arm", "cost", "unit", "value", "low", "high", "n", "named"]
MOST_NAMES = 16
UNITS = {"seconds": "seconds per run", "images": "training images seen per run, thousands"}
LINE = 0.19
"""Height of a line of text, in inches."""
LEADER = {"arrowstyle": "-", "color": theme.MUTED, "lw": 0.5, "alpha": 0.7, "shrinkB": 3, "relpos": (0, 0.5)}


def data(runs: pd.DataFrame, plan: PlanRecord) -> pd.DataFrame:
    """One row per arm with a run and a cost: mean accuracy with its t interval, in per cent, and the mean cost.

    The interval ends at 0 and 100. The cost is `seconds`, or thousands of `images` seen where an arm has no time.
    `named` says which arms bear their name in the figure: all, or where they are many the first arm and those that none
    beats in both.
    """
    confidence, rows = decision.confidence(plan.rule), []
    for arm in plan.arms:
        of_arm = runs[(runs["arm"] == arm.name) & runs[schema.TEST_ACCURACY].notna()]
        if of_arm.empty:
            continue
        mean = statistics.mean_interval(100 * of_arm[schema.TEST_ACCURACY].to_numpy(), confidence)
        images = arm.knobs.get("budget.train_images", math.nan) * arm.knobs.get("data_size.share", 1.0)
        costs = {"seconds": of_arm[schema.SECONDS].mean(), "images": of_arm[schema.EPOCHS].mean() * images / 1_000}
        low, high = np.clip([mean.low, mean.high], 0, 100)
        rows.append({"arm": arm.name, "value": mean.mean, "low": low, "high": high, "n": mean.n, **costs})
    if not rows:
        return pd.DataFrame(columns=COLUMNS)
    frame = pd.DataFrame(rows)
    unit = "images" if frame["seconds"].isna().any() and frame["images"].notna().all() else "seconds"
    frame = frame.assign(cost=frame[unit], unit=unit).dropna(subset=["cost"]).reset_index(drop=True)
    return frame.assign(named=_named(frame))[COLUMNS]


def _named(frame: pd.DataFrame) -> np.ndarray:
    """bool [arms]"""
    if len(frame) <= MOST_NAMES:
        return np.ones(len(frame), dtype=bool)
    cost, value = frame["cost"].to_numpy(), frame["value"].to_numpy()
    beaten = ((cost[None] <= cost[:, None]) & (value[None] > value[:, None])).any(axis=1)
    first = np.arange(len(frame)) == 0
    best = np.argsort(np.where(beaten, -np.inf, value), kind="stable")[::-1][: MOST_NAMES - 1]
    return np.asarray(first | (~beaten & np.isin(np.arange(len(frame)), best)))


def draw(data: pd.DataFrame) -> Figure:
    """A dot per arm with its interval; names stand in a column beside the axes, each led to its dot."""
    with theme.styled():
        if data.empty:
            return theme.nothing("no run has ended yet")
        named = data[data["named"]].sort_values("value", kind="stable")
        names = ["\n".join(textwrap.wrap(phrases.sentence_case(arm), 34)) for arm in named["arm"]]
        line = LINE * (1 + max(name.count("\n") for name in names))
        height = max(3.2, line * len(named) + 0.8)
        figure = theme.new_figure(8.2, height)
        axes = figure.add_subplot()
        for row in data.to_dict("records"):
            colour = theme.TREATMENT if row["named"] else theme.MUTED
            if row["named"] and row["low"] < row["high"]:
                axes.plot([row["cost"]] * 2, [row["low"], row["high"]], color=colour, lw=1, alpha=0.55, zorder=2)
            axes.plot(row["cost"], row["value"], "o", color=colour, ms=5.5, zorder=3)
        axes.margins(x=0.06)
        axes.grid(True, axis="both")
        low, high = _limits(data)
        axes.set_ylim(low, high)
        places = spread(((named["value"] - low) / (high - low)).to_list(), line / (height - 0.7))
        for place, name, row in zip(places, names, named.to_dict("records"), strict=True):
            axes.annotate(
                name,
                (row["cost"], row["value"]),
                xytext=(1.03, place),
                textcoords="axes fraction",
                va="center",
                fontsize=9,
                arrowprops=LEADER,
            )
        axes.set_xlabel(UNITS[data["unit"].iloc[0]])
        axes.set_ylabel("test accuracy, per cent")
        axes.tick_params(axis="y", labelsize=9, labelcolor=theme.MUTED)
    return figure


def _limits(data: pd.DataFrame) -> tuple[float, float]:
    """Wide enough for every mean and the usual interval: a huge one must not press the arms together."""
    usual = ((data["high"] - data["low"]) / 2).median()
    edge = max(0.08 * (data["value"].max() - data["value"].min()), usual if usual > 0 else 0.5)
    return max(data["value"].min() - edge, 0.0), min(data["value"].max() + edge, 100.0)


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Ascending places in [0, 1], moved as little as a push up and a push down take to be `gap` apart."""
    moved = list(places)
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    top = 1.0
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], top)
        top = moved[i] - gap
    return moved


def describe(data: pd.DataFrame) -> str:
    """The figure in words."""
    if data.empty:
        return "No run has ended yet."
    unit = "seconds" if data["unit"].iloc[0] == "seconds" else "thousand images"
    parts = [
        f"{row['arm']}: {phrases.number(row['value'])} per cent at {phrases.significant(row['cost'])} {unit}"
        for row in data[data["named"]].to_dict("records")
    ]
    return "Mean test accuracy and cost of a run, by arm. " + "; ".join(parts) + "."
