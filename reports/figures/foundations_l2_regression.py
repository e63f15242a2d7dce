"""Losses of a linear regression with and without a penalty, over many seeds, and against the penalty's strength."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from cifar_ablations.reports.figures import panels, theme
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = {
    "curves": "Loss by epoch: the median over seeds and 95 % of them. Crosses: what the notebook prints. Its training "
    "loss contains the penalty.",
    "sweep": "Squared error after 1,000 epochs from fresh weights by λ, without the penalty: the median over seeds and "
    "95 % of them. Diamonds: the test error that training without end would reach.",
}
COURSES = {0.0: "from torch's first weights", 5.0: "going on, as in the notebook"}


def data(frames: Mapping[str, pd.DataFrame], part: str) -> pd.DataFrame:
    """The two curves that the notebook has, with its losses in `printed`; or the sweep by λ and split."""
    if part == "curves":
        curves = frames["curves"]
        shown = curves[curves["strength"].map(COURSES) == curves["start"]]
        return shown.merge(
            frames["printed"][["strength", "split", "epoch", "printed"]], on=["strength", "split", "epoch"], how="left"
        )
    sweep = frames["sweep"]
    parts = [
        sweep[["strength", f"{split}_low", f"{split}_median", f"{split}_high"]]
        .set_axis(["strength", "low", "median", "high"], axis=1)
        .assign(split=words, limit=sweep["limit_median"] if split == "test" else float("nan"))
        for split, words in (("train", "training"), ("test", "test"))
    ]
    return pd.concat(parts, ignore_index=True)


def draw(data: pd.DataFrame, part: str) -> Figure:
    """Two panels of curves, or the sweep in one."""
    with theme.styled():
        if part == "curves":
            figure, axes = panels.grid(1, 2, 2.9, sharey=True)
            for ax, split in zip(axes, ("training", "test"), strict=True):
                for i, strength in enumerate(sorted(data["strength"].unique())):
                    rows = data[(data["strength"] == strength) & (data["split"] == split)]
                    panels.band(ax, rows, "epoch", i)
                    panels.line(ax, rows["epoch"], rows["median"], i, f"λ = {strength:g}")
                    printed = rows.dropna(subset=["printed"])
                    panels.crosses(ax, printed["epoch"], printed["printed"], "printed by the notebook", clip_on=False)
                ax.set_yscale("log")
                ax.set_xlim(0, data["epoch"].max())
                ax.set_xlabel("epoch")
                panels.title(ax, f"{split} loss")
            panels.legend(figure, axes)
            return figure
        figure, axes = panels.grid(1, 1, 2.7)
        strengths = sorted(data["strength"].unique())
        for i, split in enumerate(("training", "test")):
            rows = data[data["split"] == split].set_index("strength").loc[strengths].reset_index()
            rows["place"] = rows.index
            panels.band(axes[0], rows, "place", i)
            panels.line(axes[0], rows["place"], rows["median"], i, f"{split} error", marker="o", ms=4)
            if split == "test":
                axes[0].plot(rows["place"], rows["limit"], "D", color=theme.INK, ms=5, label="test error in the limit")
        axes[0].set_yscale("log")
        axes[0].set_xticks(range(len(strengths)), [f"{s:g}" for s in strengths])
        axes[0].set_xlabel("λ")
        panels.legend(figure, axes)
    return figure


def describe(data: pd.DataFrame, part: str) -> str:
    """Where the curves end, or where the sweep is lowest."""
    if part == "curves":
        ends = data[data["epoch"] == data["epoch"].max()]
        parts = [
            f"{row['split']} loss {phrases.significant(row['median'])} with λ {row['strength']:g}"
            for row in ends.to_dict("records")
        ]
        return f"Loss by epoch, medians at the end: {phrases.listing(parts)}."
    test = data[data["split"] == "test"]
    best = test.sort_values("median").iloc[0]
    return f"Error by λ: the test error is lowest at λ {best['strength']:g}, {phrases.significant(best['median'])}."
