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

MOST = 30
"""Classes that are drawn: of more, those with the most mistakes."""
COLUMNS = ["arm", "truth", "answer", "count", "share", "n"]


def data(arrays: details.Arrays, runs: pd.DataFrame, plan: PlanRecord) -> pd.DataFrame:
    """One row per true class and answer: images over all seeds of the first arm, and their `share` of the class's.

    Of more than MOST classes, what never occurred has no row. A diverged run has no answers and is left out; `n` is the
    number of runs.
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
    truth, answer = np.nonzero((total > 0) | (len(classes) <= MOST))
    names = np.array(classes)
    return pd.DataFrame(
        {
            "arm": arm,
            "truth": names[truth],
            "answer": names[answer],
            "count": total[truth, answer],
            "share": share[truth, answer],
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
        total, classes = _drawn(data)
        data = data[data["truth"].isin(classes) & data["answer"].isin(classes)]
        figure = theme.new_figure(theme.WIDTH, 0.26 * len(classes) + 0.7)
        axes = figure.add_subplot()
        mistakes = max(data.loc[data["truth"] != data["answer"], "share"], default=0.0) or 1.0
        shares = (
            data.pivot(index="truth", columns="answer", values="share").reindex(classes, columns=classes).fillna(0.0)
        )
        texts = shares.map(lambda share: phrases.percent(share, 0)).replace("0", "")
        hue = theme.shades(theme.ACCENT)
        sns.heatmap(shares, vmin=0, vmax=mistakes, annot=texts, cmap=hue, ax=axes, **theme.CELLS)
        axes.grid(False)
        if total > len(classes):
            axes.set_title(f"The {len(classes)} of {total:,} classes with the most mistakes", fontsize=9)
        axes.tick_params(rotation=0, length=0, labelsize=9, labelcolor=theme.INK)
    return figure


def _drawn(data: pd.DataFrame) -> tuple[int, list[str]]:
    """How many classes there are, and those that are drawn, in their order."""
    classes = list(dict.fromkeys([*data["truth"], *data["answer"]]))
    wrong = data[data["truth"] != data["answer"]]
    mistakes = pd.concat([wrong.groupby(name)["count"].sum() for name in ("truth", "answer")]).groupby(level=0).sum()
    drawn = set(mistakes.reindex(classes, fill_value=0).nlargest(MOST, keep="first").index)
    return len(classes), [name for name in classes if name in drawn]


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
    return f"{about}, in per cent. Most common mistakes: {'; '.join(parts) or 'none'}."
