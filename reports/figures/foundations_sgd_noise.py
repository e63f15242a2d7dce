"""Gradient noise by batch size, its effect on a training, and the share of walkers that leave a local minimum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from cifar_ablations.reports.figures import panels, theme
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = {
    "noise": "Left: mean squared distance of a batch's gradient from that of all 1,024 examples; the line is the "
    "closed form, and nothing is left of it at 1,024. Right: the share of walkers that noise has taken out of the "
    "shallow minimum of x·cos(0.15πx) after 300 steps.",
    "training": "Loss above its minimum of a linear regression, at one rate and as many steps for all, the mean of 40 "
    "repetitions.",
}


def data(frames: Mapping[str, pd.DataFrame], part: str) -> pd.DataFrame:
    """Noise and escapes, told apart by `panel`, or the training."""
    if part == "training":
        return frames["training"]
    return pd.concat([frames[name].assign(panel=name) for name in ("noise", "escapes")], ignore_index=True)


def draw(data: pd.DataFrame, part: str) -> Figure:
    """Two panels by batch size, or a line per way of taking batches."""
    with theme.styled():
        if part == "training":
            figure, (ax,) = panels.grid(1, 1, 2.9)
            for i, (kind, rows) in enumerate(data.groupby("kind", sort=False)):
                panels.line(ax, rows["step"], rows["excess"], i, str(kind))
            ax.set_yscale("log")
            # The full batch falls on without end.
            ax.set_ylim(bottom=1e-7)
            ax.set_xlim(0, data["step"].max())
            ax.set_xlabel("step")
            ax.set_ylabel("excess loss")
            panels.legend(figure, ax)
            return figure
        figure, (left, right) = panels.grid(1, 2, 2.5)
        noise, escapes = data[data["panel"] == "noise"], data[data["panel"] == "escapes"]
        below = noise[noise["theory"] > 0]
        left.plot(below["batch"], below["theory"], color=theme.MUTED, lw=1.2)
        left.plot(below["batch"], below["mean_square"], "o", color=theme.ACCENT, ms=5)
        left.set_xscale("log", base=2)
        left.set_yscale("log")
        left.set_xlabel("batch size")
        panels.title(left, "gradient noise, mean square")
        places = range(len(escapes))
        right.bar(places, 100 * escapes["escaped"], 0.65, color=theme.ACCENT)
        right.set_xticks(places, [f"{batch:,.0f}" for batch in escapes["batch"]])
        right.set_xlabel("batch size")
        right.set_ylim(0, 100)
        panels.title(right, "walkers set free, per cent")
    return figure


def describe(data: pd.DataFrame, part: str) -> str:
    """The noise of one and of 512 examples, or where the lines end."""
    if part == "training":
        ends = data.groupby("kind", sort=False).tail(1).to_dict("records")
        parts = [f"{row['kind']} {row['excess']:.1e}" for row in ends]
        return f"Excess loss by step; at the end {phrases.listing(parts)}."
    noise, escapes = (data[data["panel"] == name].to_dict("records") for name in ("noise", "escapes"))
    parts = [f"{row['batch']:,.0f}: {100 * row['escaped']:.0f} %" for row in escapes]
    return (
        f"Gradient noise falls from {phrases.significant(noise[0]['mean_square'])} for one example as one over the "
        f"batch size. Walkers set free by batch size: {phrases.listing(parts)}."
    )
