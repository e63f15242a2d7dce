"""A local minimum, an inflection point and a saddle, and where descent ends on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from cifar_ablations.reports.figures import panels, theme
from cifar_ablations.reports.figures.search_history import look
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PARTS = {
    "functions": "The notebook's three functions. On the saddle, lines of equal height (dashed below zero), and "
    "descent from four starts.",
    "descents": "Left: where descent on x·cos(πx) ends by where it starts. Right: on x³ its steps shrink on the way to "
    "the inflection point; the dots are 1 / (3ηt + 1/x₀).",
}


def data(frames: Mapping[str, pd.DataFrame], part: str) -> pd.DataFrame:
    """All frames of a figure in one, told apart by `panel`."""
    names = ("curves", "marks", "heights", "saddle") if part == "functions" else ("ends", "creeping")
    return pd.concat([frames[name].assign(panel=name) for name in names], ignore_index=True)


def draw(data: pd.DataFrame, part: str) -> Figure:
    """Three functions, or two descents."""
    with theme.styled():
        if part == "functions":
            figure, (first, second, third) = panels.grid(1, 3, 2.8)
            for ax, name in ((first, "x·cos(πx)"), (second, "x³")):
                _curve(ax, data[data["function"] == name])
                panels.title(ax, name)
            _saddle(third, data)
            panels.title(third, "x² − y²")
            panels.legend(figure, third)
            return figure
        figure, (left, right) = panels.grid(1, 2, 2.5)
        ends, creeping = data[data["panel"] == "ends"], data[data["panel"] == "creeping"]
        left.plot(ends["start"], ends["end"], "o", color=theme.SECOND, ms=2.4)
        left.set_xlabel("start")
        left.set_ylabel("end", labelpad=2)
        panels.title(left, "x·cos(πx): one end per basin")
        some = creeping[creeping["step"] % 20 == 0]
        right.plot(creeping["step"], creeping["x"], color=theme.SECOND)
        right.plot(some["step"], some["theory"], "o", color=theme.INK, ms=3)
        right.set_yscale("log")
        right.set_xlabel("step")
        panels.title(right, "x³: distance from the inflection point")
    return figure


def _curve(ax: Axes, rows: pd.DataFrame) -> None:
    curve, marks = rows[rows["panel"] == "curves"], rows[rows["panel"] == "marks"]
    ax.plot(curve["x"], curve["y"], color=theme.SECOND)
    room = curve["y"].max() - curve["y"].min()
    for mark in marks.to_dict("records"):
        ax.plot(mark["x"], mark["y"], "o", color=theme.ACCENT, ms=6)
        up = mark["mark"] == "watershed"
        ax.annotate(
            mark["mark"],
            (mark["x"], mark["y"] + (0.05 if up else -0.05) * room),
            ha="center",
            va="bottom" if up else "top",
            fontsize=8.5,
        )
    ax.margins(y=0.14)
    ax.set_xlabel("x")


def _saddle(ax: Axes, data: pd.DataFrame) -> None:
    heights = data[data["panel"] == "heights"].pivot(index="y", columns="x", values="height")
    # Negative levels are dashed by matplotlib where lines have one colour.
    ax.contour(heights.columns, heights.index, heights, levels=range(-3, 4), colors=theme.MUTED, linewidths=0.7)
    paths = data[data["panel"] == "saddle"]
    for i, offset in enumerate(sorted(paths["offset"].unique())):
        rows = paths[paths["offset"] == offset]
        colour, marker, _ = look(i)
        # Paths lie upon each other at first; the one that stays behind must not be covered.
        ax.plot(
            rows["x"],
            rows["y"],
            color=colour,
            marker=marker,
            ms=3,
            lw=1,
            zorder=4 - 0.1 * i,
            label=f"{offset:g} beside the ridge" if offset else "on the ridge",
        )
    ax.plot(0, 0, "o", color=theme.ACCENT, ms=6, zorder=5)
    ax.grid(False)
    ax.set_xlabel("x")
    ax.set_ylabel("y", labelpad=0)
    ax.set_ylim(-2, 2)


def describe(data: pd.DataFrame, part: str) -> str:
    """Where the marks are, or where descent ends."""
    if part == "functions":
        marks = data[data["panel"] == "marks"].to_dict("records")
        parts = [f"a {m['mark']} at x = {phrases.number(m['x'])}" for m in marks]
        return f"Three functions: {phrases.listing(parts)}, and a saddle at the origin, which descent leaves sideways."
    ends = sorted({phrases.number(x) for x in data[data["panel"] == "ends"]["end"]})
    last = data[data["panel"] == "creeping"]["x"].iloc[-1]
    return f"Descent ends at {phrases.listing(ends)}; on x³ it is still {phrases.significant(last)} away at the end."
