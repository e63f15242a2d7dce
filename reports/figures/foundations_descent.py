"""Paths of the optimizers over the notebook's functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from cifar_ablations.reports.figures import panels, theme
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PARTS = {
    "square": "Plain descent on x² from 1.5, ten steps. The hollow dot is the start, the filled one the end.",
    "rates": "Plain descent on x·cos(0.15πx): ten steps from 10, five from −7. Minima are at −1.83 and 7.27; beyond "
    "the maxima at −7.27 and 13.66 the function falls on. A path may leave the plot.",
    "momentum": "Momentum in the (1 − β) form from −7, 35 steps at a rate of 1.1.",
    "rmsprop": "RMSProp from 12, ten steps at a rate of 0.5.",
    "adam": "Adam from 15, twenty steps at a rate of 0.7: without its bias correction, as the notebook draws it, and "
    "with it (dashed).",
}
CORRECTED = "adam_corrected"


def data(frames: Mapping[str, pd.DataFrame], part: str) -> pd.DataFrame:
    """The paths of a figure and the function under them, told apart by `kind`; Adam's in both forms."""
    paths, curves = frames["paths"], frames["curves"]
    wanted = (part, CORRECTED) if part == "adam" else (part,)
    return pd.concat(
        [
            curves[curves["figure"] == part].assign(kind="curve"),
            paths[paths["figure"].isin(wanted)].assign(kind="path"),
        ],
        ignore_index=True,
    )


def draw(data: pd.DataFrame, part: str) -> Figure:
    """A panel per setting."""
    with theme.styled():
        curve, paths = data[data["kind"] == "curve"], data[data["kind"] == "path"]
        names = list(paths["panel"].unique())
        columns = 4 if len(names) == 4 else 3
        figure, axes = panels.grid(math.ceil(len(names) / columns), columns, 1.9, sharex=True, sharey=True)
        room = curve["y"].max() - curve["y"].min()
        for ax, name in zip(axes, names, strict=True):
            ax.plot(curve["x"], curve["y"], color=theme.MUTED, lw=1)
            own = paths[paths["panel"] == name]
            for figure_name, rows in own.groupby("figure", sort=False):
                _path(ax, rows, str(figure_name) == CORRECTED)
            ax.set_xlim(curve["x"].min(), curve["x"].max())
            ax.set_ylim(curve["y"].min() - 0.08 * room, curve["y"].max() + 0.08 * room)
            panels.title(ax, str(name))
        if part == "adam":
            panels.legend(figure, axes)
    return figure


def _path(ax: Axes, rows: pd.DataFrame, corrected: bool) -> None:
    colour = theme.SECOND if corrected else theme.ACCENT
    label = "with bias correction" if corrected else "without"
    dashes = (0, (4, 1.5)) if corrected else "-"
    ax.plot(rows["x"], rows["y"], color=colour, ls=dashes, lw=1, marker="o", ms=2.6, label=label)
    ax.plot(rows["x"].iloc[:1], rows["y"].iloc[:1], "o", ms=7, mfc=theme.PAPER, mec=colour, mew=1.4)
    ax.plot(rows["x"].iloc[-1:], rows["y"].iloc[-1:], "o", ms=7, color=colour)


def describe(data: pd.DataFrame, part: str) -> str:
    """Where every path ends."""
    ends = data[data["kind"] == "path"].groupby(["figure", "panel"], sort=False).tail(1)
    parts = [
        f"{row['panel']}{' with bias correction' if row['figure'] == CORRECTED else ''} at {phrases.number(row['x'])}"
        for row in ends.to_dict("records")
    ]
    return f"Paths of descent; they end, by setting: {phrases.listing(parts)}."
