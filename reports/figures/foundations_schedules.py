"""Learning-rate schedules, and the noise that a walker in a bowl is left with under each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from cifar_ablations.reports.figures import panels, theme
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = {
    "shapes": "What the base rate is multiplied by over 20 epochs. Last: the notebook's ten steps of warm-up and "
    "cosine at a base rate of 0.1; crosses are the printed rates.",
    "settling": "Mean squared distance from the minimum of x²/2 of 2,000 walkers whose gradients have standard normal "
    "noise, at a base rate of 0.3.",
}
TEN = "ten steps, base 0.1"


def data(frames: Mapping[str, pd.DataFrame], part: str) -> pd.DataFrame:
    """The shapes with the notebook's ten steps as one more, or the distances."""
    if part == "settling":
        return frames["settling"]
    ten = frames["printed"].rename(columns={"step": "epoch", "found": "factor"}).assign(schedule=TEN)
    return pd.concat([frames["shapes"], ten], ignore_index=True)


def draw(data: pd.DataFrame, part: str) -> Figure:
    """A panel per schedule, or a line each."""
    with theme.styled():
        if part == "shapes":
            figure, axes = panels.grid(-(-data["schedule"].nunique() // 4), 4, 1.6)
            for ax, (name, rows) in zip(axes, data.groupby("schedule", sort=False), strict=False):
                ax.plot(rows["epoch"], rows["factor"], color=theme.ACCENT)
                if name == TEN:
                    panels.crosses(ax, rows["epoch"], rows["printed"], ms=5)
                    ax.set_xlabel("step")
                else:
                    ax.set_ylim(-0.04, 1.08)
                ax.set_xlim(left=0)
                panels.title(ax, str(name).replace("_", " "))
            for ax in axes[data["schedule"].nunique() :]:
                ax.set_axis_off()
            return figure
        figure, (ax,) = panels.grid(1, 1, 3.0)
        for i, (name, rows) in enumerate(data.groupby("schedule", sort=False)):
            panels.line(ax, rows["step"] / 20, rows["mean_square"], i, str(name).replace("_", " "))
        ax.set_yscale("log")
        ax.set_xlabel("epoch")
        ax.set_ylabel("mean squared distance")
        ax.set_xlim(0, data["step"].max() / 20)
        panels.legend(figure, ax)
    return figure


def describe(data: pd.DataFrame, part: str) -> str:
    """The last factor of each schedule, or the distance it leaves."""
    ends = data.groupby("schedule", sort=False).tail(1).to_dict("records")
    column = "factor" if part == "shapes" else "mean_square"
    parts = [f"{row['schedule'].replace('_', ' ')} {phrases.significant(row[column])}" for row in ends]
    what = "Learning-rate schedules; last value" if part == "shapes" else "Mean squared distance left at the end"
    return f"{what}: {phrases.listing(parts)}."
