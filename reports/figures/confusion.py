"""The confusion matrix of an arm: the answers of its runs by true class, all seeds together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.reading import details
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ["arm", "truth", "answer", "count", "share", "n"]
STRONGEST = 0.5
"""Opacity of a share of one: more would take the contrast from the number in the cell."""


def data(arrays: details.Arrays, runs: pd.DataFrame, plan: PlanRecord) -> pd.DataFrame:
    """One row per true class and answer: images over all seeds of the first arm, and their `share` of the class's.

    A diverged run has no answers and is left out; `n` is the number of runs.
    """
    arm = plan.arms[0].name
    ids = runs.loc[runs["arm"] == arm, "run_id"] if "run_id" in runs else ()
    matrices = [arrays[run_id][details.CONFUSION] for run_id in ids if details.CONFUSION in arrays.get(run_id, {})]
    if not matrices:
        return pd.DataFrame(columns=COLUMNS)
    total = np.sum(matrices, axis=0)
    classes = list(plan.data.classes)
    if len(classes) != len(total):
        classes = [f"class {i}" for i in range(len(total))]
    share = total / np.maximum(total.sum(axis=1, keepdims=True), 1)
    return pd.DataFrame(
        {
            "arm": arm,
            "truth": np.repeat(classes, len(classes)),
            "answer": np.tile(classes, len(classes)),
            "count": total.ravel(),
            "share": share.ravel(),
            "n": len(matrices),
        }
    )[COLUMNS]


def draw(data: pd.DataFrame) -> Figure:
    """A row per true class: in each cell the share of its images that got the answer, in per cent."""
    from matplotlib.patches import Rectangle

    with theme.styled():
        if data.empty:
            return theme.nothing("no run has kept its answers")
        classes = list(data["truth"].unique())
        figure = theme.new_figure(8.2, 0.34 * len(classes) + 1.1)
        axes = figure.add_subplot()
        mistakes = data.loc[data["truth"] != data["answer"], "share"].max() or 1.0
        for cell in data.to_dict("records"):
            x, y = classes.index(cell["answer"]), classes.index(cell["truth"])
            right = x == y
            shade = STRONGEST * (cell["share"] if right else cell["share"] / mistakes)
            colour = theme.TREATMENT if right else theme.CONTROL
            axes.add_patch(Rectangle((x - 0.48, y - 0.47), 0.96, 0.94, facecolor=colour, alpha=shade, lw=0))
            text = phrases.percent(cell["share"], 0)
            if text != "0":
                weight = "bold" if right else "normal"
                written = axes.text(x, y, text, ha="center", va="center", fontsize=9, color=theme.INK, weight=weight)
                written.set_in_layout(False)  # it lies within its cell
        axes.set_xticks(range(len(classes)), classes)
        axes.set_yticks(range(len(classes)), classes)
        axes.tick_params(axis="x", length=0, labelsize=8.5, labelcolor=theme.INK)
        axes.tick_params(axis="y", labelsize=9)
        axes.set_xlim(-0.5, len(classes) - 0.5)
        axes.set_ylim(len(classes) - 0.5, -0.5)
        axes.grid(False)
        axes.set_xlabel("answer")
        axes.set_ylabel("truth")
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure


def describe(data: pd.DataFrame) -> str:
    """The figure in words: the five commonest mistakes."""
    if data.empty:
        return "No run has kept its answers."
    mistakes = data[data["truth"] != data["answer"]].nlargest(5, "share", keep="first")
    parts = [
        f"{row['truth']} taken for {row['answer']} {phrases.percent(row['share'], 0)}"
        for row in mistakes.to_dict("records")
    ]
    about = f"Answers of '{data['arm'].iloc[0]}' by true class over {phrases.count(int(data['n'].iloc[0]), 'run')}"
    return f"{about}, in per cent. Most common mistakes: {'; '.join(parts)}."
