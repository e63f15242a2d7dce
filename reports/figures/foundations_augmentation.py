"""Augmentation: the 4×4 flip, versions of one image, and digits mirrored and turned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cifar_ablations.reports.figures import images, panels, theme
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = {
    "flip": "A 4×4 image before and after the engine's flip.",
    "gallery": "One drawn image under the engine's pipelines. Each column has the same crop and flip; each "
    "row from the third on adds something to the notebook's.",
    "digits": "Digits of seven segments, mirrored and turned by the engine, with what each is read as; purple where "
    "the label has changed or is lost.",
}


def data(frames: Mapping[str, pd.DataFrame], part: str) -> pd.DataFrame:
    """The frame of that name."""
    return frames[part]


def draw(data: pd.DataFrame, part: str) -> Figure:
    """Two matrices, or a grid of images."""
    with theme.styled():
        if part == "flip":
            figure, axes = panels.grid(1, 2, 1.9)
            for ax, (which, rows) in zip(axes, data.groupby("which", sort=False), strict=True):
                for cell in rows.to_dict("records"):
                    ax.text(cell["column"], cell["row"], f"{cell['value']}", ha="center", va="center")
                ax.set_xlim(-0.5, 3.5)
                ax.set_ylim(3.5, -0.5)
                ax.set_aspect("equal")
                ax.grid(False)
                for edge in np.arange(-0.5, 4):
                    ax.axhline(edge, color=theme.GRID, lw=0.8)
                    ax.axvline(edge, color=theme.GRID, lw=0.8)
                images.bare(ax)
                panels.title(ax, str(which))
            return figure
        return _gallery(data) if part == "gallery" else _digits(data)


def _gallery(data: pd.DataFrame) -> Figure:
    names = list(data["level"].unique())
    columns = int(data["draw"].max()) + 1
    figure, axes = panels.grid(len(names), 1, 1.36)
    for ax, name in zip(axes, names, strict=True):
        rows = data[data["level"] == name].sort_values("draw")
        about = rows["about"].iloc[0]
        images.show(ax, images.strip(list(rows["png"]), 2, columns), about if name == "itself" else f"{name}: {about}")
    return figure


def _digits(data: pd.DataFrame) -> Figure:
    changes = list(data["change"].unique())
    figure, axes = panels.grid(len(changes), 1, 1.25)
    for ax, change in zip(axes, changes, strict=True):
        rows = data[data["change"] == change].sort_values("digit")
        height, width = images.pixels(rows["png"].iloc[0]).shape[:2]
        images.show(ax, images.strip(list(rows["png"]), width, len(rows)), str(change))
        for row in rows.to_dict("records"):
            kept = str(row["read_as"]) == str(row["digit"])
            middle = row["digit"] * 2 * width + (width - 1) / 2
            colour = theme.INK if kept else theme.ACCENT
            ax.text(middle, height + 0.6, f"{row['read_as']}", color=colour, ha="center", va="top", fontsize=9)
        ax.set_xlabel(" ", fontsize=9)
    return figure


def describe(data: pd.DataFrame, part: str) -> str:
    """The figure in words: which images are shown, and which digits keep their label."""
    if part == "flip":
        after = data[data["which"] == "after"].sort_values(["row", "column"])
        first = phrases.listing([f"{value}" for value in after["value"].head(4)])
        return f"A matrix of the numbers 1 to 16 and its mirror image, whose first row is {first}."
    if part == "gallery":
        levels = [f"{level} ({about})" for level, about in dict(zip(data["level"], data["about"], strict=True)).items()]
        return f"A drawn image and versions of it: {phrases.listing(levels)}."
    parts = []
    for change, rows in data[data["change"] != "itself"].groupby("change", sort=False):
        kept = rows[rows["read_as"].astype(str) == rows["digit"].astype(str)]["digit"]
        parts.append(f"{change}: {phrases.listing([str(d) for d in kept])} keep their label")
    return f"The ten digits. {'; '.join(parts)}."
