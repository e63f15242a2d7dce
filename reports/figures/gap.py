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
    """A line per arm from test to training accuracy, with the gap in words at its end."""
    with theme.styled():
        if data.empty:
            return theme.nothing("no run has ended yet")
        figure = theme.new_figure(8.2, 0.33 * len(data) + 0.8)
        axes = figure.add_subplot()
        for y, row in enumerate(data.to_dict("records")):
            axes.plot([row["test"], row["train"]], [y, y], color=theme.MUTED, lw=1.4, zorder=2)
            axes.plot(row["train"], y, "o", mfc=theme.PAPER, mec=theme.INK, mew=1.4, ms=6.5, zorder=3)
            axes.plot(row["test"], y, "o", color=theme.TREATMENT, ms=6.5, zorder=3)
            axes.annotate(
                phrases.number(row["train"] - row["test"], 1, signed=True),
                (max(row["train"], row["test"]), y),
                xytext=(7, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
                color=theme.MUTED,
            )
        axes.set_yticks(range(len(data)), [phrases.sentence_case(arm) for arm in data["arm"]])
        axes.set_ylim(len(data) - 0.5, -0.5)
        axes.margins(x=0.07)
        axes.spines["left"].set_visible(False)
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
