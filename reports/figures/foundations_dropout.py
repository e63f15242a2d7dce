"""Dropout: a mask on six activations, the noise of many masks, and what masks at test time tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cifar_ablations.reports.figures import panels, theme
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = {
    "masks": "Left: six activations before and after one mask of p = 0.5, which doubles what it keeps. Right: the "
    "variance of many masks' factors by p, the engine's and torch's; the line is p / (1 − p).",
    "doubt": "A small network trained with dropout on the dots and asked under 300 masks: the mean answer and two "
    "standard deviations either way, within and beyond the inputs it has seen.",
}


def data(frames: Mapping[str, pd.DataFrame], part: str) -> pd.DataFrame:
    """Both halves of a figure in one frame, told apart by `panel`."""
    names = ("mask", "masks") if part == "masks" else ("doubt", "examples")
    return pd.concat([frames[name].assign(panel=name) for name in names], ignore_index=True)


def draw(data: pd.DataFrame, part: str) -> Figure:
    """Bars and points, or a curve with its band."""
    with theme.styled():
        if part == "masks":
            return _masks(data)
        figure, (ax,) = panels.grid(1, 1, 2.8)
        rows, examples = data[data["panel"] == "doubt"], data[data["panel"] == "examples"]
        ax.axvspan(examples["x"].min(), examples["x"].max(), color=theme.BAND, alpha=0.5, lw=0, label="inputs seen")
        low, high = rows["mean"] - 2 * rows["std"], rows["mean"] + 2 * rows["std"]
        ax.fill_between(rows["x"], low, high, color=theme.MUTED, alpha=0.22, lw=0, label="± 2 standard deviations")
        ax.plot(rows["x"], rows["mean"], color=theme.INK, label="mean answer")
        ax.plot(examples["x"], examples["y"], "o", color=theme.ACCENT, ms=3, label="examples")
        ax.set_xlim(rows["x"].min(), rows["x"].max())
        ax.set_xlabel("input")
        panels.legend(figure, ax)
    return figure


def _masks(data: pd.DataFrame) -> Figure:
    figure, (left, right) = panels.grid(1, 2, 2.6)
    mask, many = data[data["panel"] == "mask"], data[data["panel"] == "masks"]
    left.bar(mask["unit"] - 0.2, mask["before"], 0.38, color=theme.GRID, edgecolor=theme.MUTED, label="before")
    left.bar(mask["unit"] + 0.2, mask["after"], 0.38, color=theme.ACCENT, label="after dropout")
    left.set_xticks(range(1, 7))
    left.set_xlabel("unit")
    panels.title(left, "activations")
    left.legend(loc="upper left")
    p = np.linspace(0, 0.78, 60)
    right.plot(p, p / (1 - p), color=theme.MUTED, lw=1.2)
    for i, (whose, rows) in enumerate(many.groupby("whose", sort=False)):
        colour, marker = (theme.SECOND, "o") if i == 0 else (theme.INK, "x")
        right.plot(rows["p"], rows["variance"], marker, color=colour, ms=8 - 2 * i, mew=1.8, label=whose)
    right.set_xlabel("p")
    right.set_xlim(0, 0.8)
    right.set_ylim(bottom=0)
    panels.title(right, "variance of a mask's factors")
    right.legend(loc="upper left")
    return figure


def describe(data: pd.DataFrame, part: str) -> str:
    """The figure in words: the share kept, or how far answers spread."""
    if part == "masks":
        mask = data[data["panel"] == "mask"]
        kept = [f"{row['before']:g} becomes {row['after']:g}" for row in mask.to_dict("records")]
        return f"Six activations under a mask: {phrases.listing(kept)}. The variance of many masks follows p / (1 − p)."
    rows = data[data["panel"] == "doubt"]
    seen = data[data["panel"] == "examples"]["x"].abs().max()
    inside, outside = (rows[(rows["x"].abs() <= seen) == near]["std"].mean() for near in (True, False))
    return (
        f"Answers under many masks spread by {phrases.significant(inside)} on average where examples were and by "
        f"{phrases.significant(outside)} beyond."
    )
