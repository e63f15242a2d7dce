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
    """A row per true class: in each cell the share of its images that got the answer, in per cent.

    The commonest mistake is as strong as what is right.
    """
    import seaborn as sns

    with theme.styled():
        if data.empty:
            return theme.nothing("no run has kept its answers")
        classes = list(data["truth"].unique())
        figure = theme.new_figure(theme.WIDTH, 0.26 * len(classes) + 0.7)
        axes = figure.add_subplot()
        mistakes = data.loc[data["truth"] != data["answer"], "share"].max() or 1.0
        written = data.assign(text=[phrases.percent(share, 0) for share in data["share"]]).replace({"text": {"0": ""}})
        shares, texts = (
            written.pivot(index="truth", columns="answer", values=name).loc[classes, classes]
            for name in ("share", "text")
        )
        hue = theme.shades(theme.ACCENT)
        sns.heatmap(shares, vmin=0, vmax=mistakes, annot=texts, cmap=hue, ax=axes, **theme.CELLS)
        axes.grid(False)
        axes.tick_params(rotation=0, length=0, labelsize=9, labelcolor=theme.INK)
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
