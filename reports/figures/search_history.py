"""The value of each trial of a search, in the order in which trials ended, and the best value so far."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.reading import searches
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ["study", "trial", "order", "kind", "value", "best"]
PANELS_PER_ROW = 3
# Studies in one panel: the shape tells them apart too, for those to whom the colours look alike.
LOOKS = [
    (theme.ACCENT, "o", "-"),
    (theme.SECOND, "s", (0, (4, 1.5))),
    (theme.INK, "D", (0, (1, 1.2))),
    (theme.MUTED, "^", (0, (5, 1.5, 1, 1.5))),
    (theme.ACCENT, "v", (0, (4, 1.5))),
    (theme.SECOND, "P", "-"),
    (theme.INK, "X", "-"),
    (theme.MUTED, "p", "-"),
]


def data(trials: pd.DataFrame) -> pd.DataFrame:
    """One row per trial of `searches.trials_of` that counts, columns COLUMNS; values in per cent.

    `kind` is complete, pruned or diverged; a pruned trial's value is its last one, and is never the best so far.
    """
    frame = searches.in_order(trials).dropna(subset=["last"])
    kinds = {schema.PRUNED: "pruned", schema.DIVERGED: "diverged"}
    frame = frame.assign(
        kind=frame["outcome"].map(lambda outcome: kinds.get(outcome, "complete")),
        value=100 * frame["last"],
        best=100 * frame["best"],
    )
    return frame[COLUMNS].reset_index(drop=True)


def look(index: int) -> tuple[str, str, str | tuple[float, tuple[float, ...]]]:
    """Colour, marker and dashes of a study by its place among the studies."""
    return LOOKS[index % len(LOOKS)]  # type: ignore[return-value]


def window(values: pd.Series) -> tuple[float, float]:
    """Limits that show the usual values: a trial that failed to learn must not flatten all others."""
    values = values.dropna()
    if values.empty:
        return 0.0, 1.0
    first, third = values.quantile([0.25, 0.75])
    low, high = values.min(), values.max()
    if third > first:
        low = max(low, first - 3 * (third - first))
    edge = 0.06 * (high - low) or 1.0
    return low - edge, high + edge


def grid(count: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with that many panels, three in a row, on one scale of values."""
    columns, rows = min(PANELS_PER_ROW, count), math.ceil(count / PANELS_PER_ROW)
    figure = theme.new_figure(theme.WIDTH, height * rows + 0.3)
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for ax in axes[count:]:
        ax.set_axis_off()
    for ax in axes[:count]:
        theme.upright(ax)
    figure.supylabel("validation accuracy, per cent", fontsize=9, color=theme.MUTED)
    return figure, list(axes[:count])


def draw(data: pd.DataFrame) -> Figure:
    """A panel per study, all on one scale of values."""
    from matplotlib.ticker import MaxNLocator

    with theme.styled():
        if data.empty:
            return theme.nothing("no trial has ended yet")
        names = list(data["study"].unique())
        figure, panels = grid(len(names), 1.9)
        low, high = window(data["value"])
        for ax, name in zip(panels, names, strict=True):
            _panel(ax, data[data["study"] == name], low)
            ax.set_title(name, fontsize=10, weight="normal")
            ax.set_ylim(low, high)
            ax.set_xlim(0.3, data["order"].max() + 0.7)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        figure.supxlabel("trials in the order of ending", fontsize=9, color=theme.MUTED)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, low: float) -> None:
    axes.step(rows["order"], rows["best"], where="post", color=theme.INK, lw=1.3, zorder=1)
    looks = {
        "complete": ("o", theme.MUTED, theme.MUTED),
        "pruned": ("x", theme.ACCENT, theme.ACCENT),
        "diverged": ("s", theme.PAPER, theme.ACCENT),
    }
    for kind, (marker, face, colour) in looks.items():
        for below in (False, True):
            points = rows[(rows["kind"] == kind) & ((rows["value"] < low) == below)]
            if points.empty:
                continue
            heights = points["value"].clip(lower=low)
            shape, fill = ("v", colour) if below else (marker, face)
            axes.plot(
                points["order"], heights, shape, ms=5.5, mfc=fill, mec=colour, mew=1.4, ls="none", clip_on=not below
            )


def describe(data: pd.DataFrame) -> str:
    """The figure in words: how many trials each study had, and what the best came to."""
    if data.empty:
        return "No trial has ended yet."
    parts = []
    for name, rows in data.groupby("study", sort=False):
        pruned, diverged = ((rows["kind"] == kind).sum() for kind in ("pruned", "diverged"))
        best = phrases.number(rows["best"].max())
        parts.append(f"{name}: best {best} after {phrases.count(len(rows), 'trial')}, {pruned} pruned")
        parts[-1] += f", {diverged} diverged" if diverged else ""
    return "Validation accuracy in per cent by trial. " + "; ".join(parts) + "."
