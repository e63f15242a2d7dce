"""How the trials of a search learn, and where the pruner ended them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.reports.figures import search_history, theme
from cifar_ablations.reports.reading import searches
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ["study", "trial", "epoch", "kind", "value", "last"]
LOOKS = {
    "pruned": (theme.ACCENT, 0.9, 0.65),
    "diverged": (theme.MUTED, 0.9, 0.6),
    "complete": (theme.MUTED, 1.0, 0.6),
    "best": (theme.INK, 2.4, 1.0),
}


def data(curves: pd.DataFrame, trials: pd.DataFrame, rungs: Sequence[int]) -> pd.DataFrame:
    """The frame of `searches.curves_of` with what became of each trial, columns COLUMNS; values in per cent.

    `kind` is best (of the study), complete, diverged or pruned, and `last` marks a trial's last epoch. A row of kind
    'rung' per study and rung has nothing but the epoch.
    """
    if curves.empty:
        return pd.DataFrame(columns=COLUMNS)
    mine = searches.counted(trials)
    kinds = {schema.PRUNED: "pruned", schema.DIVERGED: "diverged"}
    mine["kind"] = mine["outcome"].map(lambda outcome: kinds.get(outcome, "complete"))
    complete = searches.complete(trials)
    for index in complete.groupby("study")["value"].idxmax():
        top = complete.loc[index]
        mine.loc[(mine["study"] == top["study"]) & (mine["trial"] == top["trial"]), "kind"] = "best"
    frame = curves.dropna(subset=["value"]).merge(mine[["study", "trial", "kind"]], on=["study", "trial"])
    frame["value"] *= 100
    frame["last"] = frame["epoch"] == frame.groupby(["study", "trial"])["epoch"].transform("max")
    lines = [
        {"study": study, "trial": -1, "epoch": rung, "kind": "rung", "last": False}
        for study in frame["study"].unique()
        for rung in rungs
    ]
    return pd.concat([frame, pd.DataFrame(lines)], ignore_index=True)[COLUMNS] if lines else frame[COLUMNS]


def compared(rungs: pd.DataFrame, trials: pd.DataFrame, epochs: Sequence[int]) -> list[str]:
    """Per rung a sentence with how many trials were compared there, from `searches.rungs_of`, and how many ended."""
    pruned = trials.loc[trials["outcome"] == schema.PRUNED, ["study", "trial"]]
    ended = rungs.merge(pruned, on=["study", "trial"]).groupby(["study", "trial"])["epoch"].max().value_counts()
    sentences = []
    for epoch in epochs:
        asked = int((rungs["epoch"] == epoch).sum())
        were = "was" if asked == 1 else "were"
        sentences.append(
            f"At epoch {epoch}, {phrases.count(asked, 'trial')} {were} compared and {int(ended.get(epoch, 0))} pruned."
        )
    return sentences


def draw(data: pd.DataFrame) -> Figure:
    """A panel per study, all on one scale."""
    from matplotlib.ticker import MaxNLocator

    with theme.styled():
        if data.empty:
            return theme.nothing("no trial has finished an epoch yet")
        names = list(data["study"].unique())
        figure, panels = search_history.grid(len(names), 2.0)
        learnt = data[data["kind"] != "rung"]
        for ax, name in zip(panels, names, strict=True):
            _panel(ax, data[data["study"] == name])
            ax.set_title(name, fontsize=10, weight="normal")
            ax.set_ylim(*search_history.window(learnt["value"]))
            ax.set_xlim(learnt["epoch"].min(), max(learnt["epoch"].max(), learnt["epoch"].min() + 1) + 0.2)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        figure.supxlabel("epoch", fontsize=9, color=theme.MUTED)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    axes.grid(False, axis="x")
    for epoch in rows.loc[rows["kind"] == "rung", "epoch"]:
        axes.axvline(epoch, color=theme.INK, lw=0.9, ls=(0, (1, 2)), zorder=0.9)
    for kind, (colour, width, alpha) in LOOKS.items():
        lines = rows[rows["kind"] == kind].pivot(index="epoch", columns="trial", values="value")
        axes.plot(lines.index, lines, color=colour, lw=width, alpha=alpha)
    for kind, marker in (("pruned", "x"), ("diverged", "s")):
        ends = rows[(rows["kind"] == kind) & rows["last"]]
        axes.plot(ends["epoch"], ends["value"], marker, color=theme.ACCENT, mfc=theme.PAPER, ms=5.5, mew=1.4)


def describe(data: pd.DataFrame) -> str:
    """The figure in words: how each study's best trial ends, and where trials were pruned."""
    if data.empty:
        return "No trial has finished an epoch yet."
    parts = []
    for name, rows in data.groupby("study", sort=False):
        ends = rows[rows["last"]]
        best, pruned = ends[ends["kind"] == "best"], ends[ends["kind"] == "pruned"]["epoch"].value_counts().sort_index()
        said = [f"best ends at {phrases.number(value)}" for value in best["value"]]
        said += [f"{count} pruned at epoch {epoch}" for epoch, count in pruned.items()]
        parts.append(f"{name}: {', '.join(said) or 'no trial is complete'}")
    return "Validation accuracy in per cent by epoch. " + "; ".join(parts) + "."
