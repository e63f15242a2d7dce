"""Three measurements that answer exercises: scaling in dropout, orders of images, and both ways through a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from cifar_ablations.reports.figures import panels, theme
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = {
    "measured": "Left: what the next layer receives under dropout, as a share of what it gets in testing. Middle: test "
    "accuracy after one epoch, 20 repetitions each. Right: what a layer of 400 inputs and 100 outputs multiplies a "
    "mean square by; the diamonds are closed forms.",
}


def data(frames: Mapping[str, pd.DataFrame], part: str) -> pd.DataFrame:
    """All three in one frame, told apart by `panel`; directions as means over draws."""
    by = ["weights", "way"]
    directions = frames["directions"].groupby(by, sort=False)[["factor", "theory"]].mean().reset_index()
    parts = {"scaling": frames["scaling"], "orders": frames["orders"], "directions": directions}
    return pd.concat([frame.assign(panel=name) for name, frame in parts.items()], ignore_index=True)


def draw(data: pd.DataFrame, part: str) -> Figure:
    """Three panels."""
    with theme.styled():
        figure, (left, middle, right) = panels.grid(1, 3, 2.9)
        for i, (how, rows) in enumerate(data[data["panel"] == "scaling"].groupby("how", sort=False)):
            panels.line(left, rows["p"], rows["share"], i, str(how), marker="o", ms=4)
        left.set_ylim(0, 1.15)
        left.set_xlim(0, 1)
        left.set_xlabel("p")
        left.legend(loc="lower left", fontsize=8)
        panels.title(left, "share received")
        orders = data[data["panel"] == "orders"]
        names = list(orders["order"].unique())
        for i, name in enumerate(names):
            rows = orders[orders["order"] == name]
            places = i + (rows["repeat"] / rows["repeat"].max() - 0.5) * 0.4
            colour = theme.ACCENT if i == 0 else theme.SECOND
            middle.plot(places, 100 * rows["accuracy"], "o", color=colour, ms=3.5)
        middle.set_xticks(range(len(names)), names)
        middle.set_xlim(-0.6, len(names) - 0.4)
        panels.title(middle, "test accuracy, per cent")
        directions = data[data["panel"] == "directions"]
        weights = list(directions["weights"].unique())
        for i, (way, rows) in enumerate(directions.groupby("way", sort=False)):
            colour = theme.ACCENT if i == 0 else theme.SECOND
            places = [weights.index(name) + 0.38 * i - 0.19 for name in rows["weights"]]
            right.bar(places, rows["factor"], 0.36, color=colour, label=str(way))
            right.plot(places, rows["theory"], "D", color=theme.INK, ms=4)
        right.axhline(1, color=theme.MUTED, lw=1)
        right.set_xticks(range(len(weights)), weights)
        right.tick_params(axis="x", labelsize=8)
        right.legend(loc="upper right", fontsize=8)
        panels.title(right, "factor, by variance of weights")
    return figure


def describe(data: pd.DataFrame, part: str) -> str:
    """The three results in words."""
    half = data[(data["panel"] == "scaling") & (data["p"] == 0.5)].to_dict("records")
    shares = [f"{row['how']} {phrases.number(row['share'])}" for row in half]
    orders = data[data["panel"] == "orders"].groupby("order", sort=False)["accuracy"].mean()
    means = [f"{name} {phrases.percent(value, 1)} %" for name, value in orders.items()]
    ways = [
        f"{row['weights']} {row['way']} {phrases.number(row['factor'])}"
        for row in data[data["panel"] == "directions"].to_dict("records")
    ]
    return (
        f"Share received at p = 0.5: {phrases.listing(shares)}. Test accuracy: {phrases.listing(means)}. Factors of "
        f"the mean square: {phrases.listing(ways)}."
    )
