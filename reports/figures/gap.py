"""The generalisation gap: how accurate each arm is on images it was trained on, and on new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ["arm", "train", "test", "n"]


def data(runs: pd.DataFrame, plan: PlanRecord) -> pd.DataFrame:
    """One row per arm with a run, in the plan's order: mean accuracies on training and test images, in per cent."""
    known = runs.dropna(subset=[schema.TRAIN_ACCURACY, schema.TEST_ACCURACY])
    means = known.groupby("arm", sort=False)[[schema.TRAIN_ACCURACY, schema.TEST_ACCURACY]].mean() * 100
    counts = known.groupby("arm", sort=False).size()
    names = [arm.name for arm in plan.arms if arm.name in means.index]
    accuracies = means.loc[names].rename(columns={schema.TRAIN_ACCURACY: "train", schema.TEST_ACCURACY: "test"})
    return accuracies.assign(n=counts.reindex(names)).rename_axis("arm").reset_index()[COLUMNS]


def draw(data: pd.DataFrame) -> Figure:
    """A line per arm from test to training accuracy, with the gap at its end."""
    with theme.styled():
        if data.empty:
            return theme.nothing("no run has ended yet")
        figure = theme.new_figure(theme.WIDTH, 0.24 * len(data) + 0.6)
        axes = figure.add_subplot()
        gaps, lines = data["train"] - data["test"], range(len(data))
        bars = axes.barh(lines, gaps, height=0.06, left=data["test"], color=theme.MUTED, lw=0)
        labels = [phrases.number(gap, 1, signed=True) for gap in gaps]
        axes.bar_label(bars, labels, padding=7, color=theme.MUTED, fontsize=9)
        axes.plot(data["train"], lines, "o", mfc=theme.PAPER, mec=theme.INK, mew=1.4, ms=6)
        axes.plot(data["test"], lines, "o", color=theme.INK, ms=6)
        theme.listed(axes, list(data["arm"]))
        axes.use_sticky_edges = False
        axes.margins(x=0.07)
        axes.set_xlabel("accuracy, per cent")
    return figure


def describe(data: pd.DataFrame) -> str:
    """The figure in words."""
    if data.empty:
        return "No run has ended yet."
    parts = [
        f"{row['arm']}: {phrases.number(row['train'])} per cent in training, {phrases.number(row['test'])} in test"
        for row in data.to_dict("records")
    ]
    return "Mean accuracy on training images and on test images, by arm. " + "; ".join(parts) + "."
