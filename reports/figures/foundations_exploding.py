"""Products of random matrices, activation functions with their slopes, and gradients on their way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from cifar_ablations.reports.figures import panels, theme
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = {
    "products": "Size of a product of random 3×3 matrices: the median of 999 and 95 % of them. Circles: the growth "
    "rate that theory gives. Cross: the matrix that the notebook prints, a product of 21.",
    "activations": "Activation functions and, dashed, their slopes, as the notebook plots them.",
    "gradients": "Mean square of a gradient on its way back through layers of 128 units, relative to where it starts: "
    "the mean of 12 stacks; the right panel is a part of the left one. Circles: closed forms, for sigmoid the slowest "
    "possible fall.",
}
TITLES = {"sigmoid": "sigmoid", "relu": "ReLU", "leaky_relu": "leaky ReLU, 0.2", "tanh": "tanh"}


def data(frames: Mapping[str, pd.DataFrame], part: str) -> pd.DataFrame:
    """The frame of that name; gradients as means over stacks."""
    frame = frames[part]
    if part != "gradients":
        return frame
    return frame.groupby(["activation", "depth"], sort=False)[["log10_mean_square", "theory"]].mean().reset_index()


def draw(data: pd.DataFrame, part: str) -> Figure:
    """One panel, or one per activation function."""
    with theme.styled():
        if part == "activations":
            names = list(data["activation"].unique())
            figure, axes = panels.grid(1, len(names), 2.2)
            for ax, (name, rows) in zip(axes, data.groupby("activation", sort=False), strict=True):
                panels.line(ax, rows["x"], rows["value"], 0, "value")
                panels.line(ax, rows["x"], rows["slope"], 1, "slope")
                if name != "sigmoid":
                    ax.set_ylim(-1.8, 4)
                panels.title(ax, TITLES[str(name)])
            panels.legend(figure, axes)
            return figure
        if part == "products":
            figure, (ax,) = panels.grid(1, 1, 2.9)
            for i, (name, rows) in enumerate(data.groupby("entries", sort=False)):
                panels.band(ax, rows, "matrices", i)
                panels.line(ax, rows["matrices"], rows["median"], i, f"entries from {name}")
                panels.circles(ax, rows["matrices"][9::10], rows["theory"][9::10])
            panels.crosses(ax, data["matrices"], data["printed"], "printed by the notebook")
            ax.set_xlabel("matrices multiplied")
            ax.set_ylabel("log₁₀ of the norm")
            ax.set_xlim(1, data["matrices"].max())
        else:
            figure, (ax, near) = panels.grid(1, 2, 2.9)
            for i, (name, rows) in enumerate(data.groupby("activation", sort=False)):
                for one in (ax, near):
                    panels.line(one, rows["depth"], rows["log10_mean_square"], i, TITLES[str(name)])
                    if name != "tanh":
                        panels.circles(one, rows["depth"][10::10], rows["theory"][10::10])
                    one.set_xlabel("layers passed on the way back")
                    one.set_xlim(0, data["depth"].max())
            near.set_ylim(-2, 1)
            ax.set_ylabel("log₁₀ of the mean square")
        panels.legend(figure, ax)
    return figure


def describe(data: pd.DataFrame, part: str) -> str:
    """Where the lines end."""
    if part == "activations":
        steepest = data.groupby("activation", sort=False)["slope"].max()
        parts = [f"{TITLES[str(name)]} {phrases.significant(slope)}" for name, slope in steepest.items()]
        return f"Values and slopes of activation functions; the steepest slopes are {phrases.listing(parts)}."
    by, x, y = ("entries", "matrices", "median") if part == "products" else ("activation", "depth", "log10_mean_square")
    ends = data[data[x] == data[x].max()]
    parts = [f"{TITLES.get(row[by], row[by])} {phrases.number(row[y], 1)}" for row in ends.to_dict("records")]
    what = "the norm of a product" if part == "products" else "a gradient's mean square"
    return f"Powers of ten of {what} after {data[x].max()} {x if part == 'products' else 'layers'}: " + (
        phrases.listing(parts) + "."
    )
