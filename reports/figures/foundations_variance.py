"""The variance of a layer's outputs by fan-in and through depth, for three initialisations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from cifar_ablations.reports.figures import panels, theme
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = {
    "fan_in": "Variance of ten outputs of a layer by its number of inputs: the mean of 199 seeds and 95 % of them. "
    "Crosses: what the notebook prints, purple where it is outside the range.",
    "depth": "Mean square before the activation through 30 layers of 256 units, the mean of 20 stacks. "
    "Weights from N(0, 1) leave the plot at the top, multiplied by 256 (128 with ReLU) per layer.",
}
TOP = 12.0
"""Powers of ten: how much of the depth figure is shown."""


def data(frames: Mapping[str, pd.DataFrame], part: str) -> pd.DataFrame:
    """By fan-in with the printed variances beside; by depth as means over stacks."""
    if part == "fan_in":
        printed = frames["printed"][["initialisation", "fan_in", "printed", "inside"]]
        return frames["fan_in"].merge(printed, on=["initialisation", "fan_in"], how="left")
    by = ["initialisation", "relu", "depth"]
    return frames["depth"].groupby(by, sort=False)[["log10_variance", "theory"]].mean().reset_index()


def draw(data: pd.DataFrame, part: str) -> Figure:
    """A panel per initialisation, or one without and one with ReLU."""
    with theme.styled():
        if part == "fan_in":
            figure, axes = panels.grid(1, data["initialisation"].nunique(), 2.6, sharey=True)
            for ax, (name, rows) in zip(axes, data.groupby("initialisation", sort=False), strict=True):
                panels.band(ax, rows, "fan_in", 0)
                panels.line(ax, rows["fan_in"], rows["mean"], 0, "mean of seeds")
                panels.circles(ax, rows["fan_in"], rows["theory"], "theory")
                printed = rows.dropna(subset=["printed"])
                for inside, colour in ((True, theme.INK), (False, theme.ACCENT)):
                    points = printed[printed["inside"].astype(bool) == inside]
                    if not points.empty:
                        label = "printed" if inside else "printed, outside the range"
                        panels.crosses(ax, points["fan_in"], points["printed"], label, color=colour)
                ax.set_xscale("log")
                ax.set_yscale("log")
                ax.set_xlabel("inputs")
                panels.title(ax, str(name))
            panels.legend(figure, axes)
            return figure
        figure, axes = panels.grid(1, 2, 2.6, sharey=True)
        for ax, relu in zip(axes, (False, True), strict=True):
            for i, (name, rows) in enumerate(data[data["relu"] == relu].groupby("initialisation", sort=False)):
                panels.line(ax, rows["depth"], rows["log10_variance"], i, str(name))
                panels.circles(ax, rows["depth"][4::5], rows["theory"][4::5], "theory")
            ax.set_ylim(-TOP, TOP)
            ax.set_xlim(1, data["depth"].max())
            ax.set_xlabel("layer")
            panels.title(ax, "with ReLU" if relu else "without activation")
        axes[0].set_ylabel("log₁₀ of the mean square")
        panels.legend(figure, axes)
    return figure


def describe(data: pd.DataFrame, part: str) -> str:
    """The variances at the largest fan-in or in the last layer."""
    x = "fan_in" if part == "fan_in" else "depth"
    ends = data[data[x] == data[x].max()].to_dict("records")
    if part == "fan_in":
        parts = [f"{row['initialisation']} {phrases.significant(row['mean'])}" for row in ends]
        return f"Mean variance of outputs at {data[x].max():,} inputs: {phrases.listing(parts)}."
    parts = [
        f"{row['initialisation']} {'with' if row['relu'] else 'without'} ReLU "
        f"{phrases.number(row['log10_variance'], 1)}"
        for row in ends
    ]
    return f"Powers of ten of the mean square in layer {data[x].max()}: {phrases.listing(parts)}."
