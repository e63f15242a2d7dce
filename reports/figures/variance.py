"""How much of the variance between runs each purpose makes when it alone is drawn anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from cifar_ablations.ablations.purposes import EVERYTHING
from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.inference.variance import IMAGES, TOGETHER
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ["purpose", "label", "value", "low", "high", "n"]


def data(table: pd.DataFrame) -> pd.DataFrame:
    """One row per bar, from `inference.variance.table`, in squared percentage points; the largest purpose first."""
    known = table[table["variance"].notna() & (table["purpose"] != TOGETHER)]
    if not (known["purpose"] == EVERYTHING).any():
        return pd.DataFrame(columns=COLUMNS)
    values = {"value": "variance", "low": "variance_low", "high": "variance_high"}
    scaled = pd.DataFrame({name: 1e4 * known[column].astype(float) for name, column in values.items()})
    frame = pd.DataFrame({"purpose": known["purpose"], "label": known["title"], "n": known["n"].astype(int)}).join(
        scaled
    )
    place = frame["purpose"].map({EVERYTHING: 0, IMAGES: 2}).fillna(1)
    order = frame.assign(place=place, last=-frame["value"]).sort_values(["place", "last"], kind="stable").index
    return frame.loc[order, COLUMNS].reset_index(drop=True)


def draw(data: pd.DataFrame) -> Figure:
    """A bar per purpose with its interval; a thin line marks what all of them make."""
    with theme.styled():
        if data.empty:
            return theme.nothing("too few runs have a test accuracy")
        figure = theme.new_figure(theme.WIDTH, 0.3 * len(data) + 0.7)
        axes = figure.add_subplot()
        colours = [{EVERYTHING: theme.MUTED, IMAGES: theme.ACCENT}.get(name, theme.SECOND) for name in data["purpose"]]
        limits = (data["value"] - data["low"], data["high"] - data["value"])
        spans: dict[str, Any] = {"xerr": limits, "ecolor": theme.INK, "error_kw": {"elinewidth": 1.4}}
        axes.barh(range(len(data)), data["value"], height=0.56, color=colours, alpha=0.75, lw=0, **spans)
        axes.axvline(data["value"].iloc[0], color=theme.INK, lw=0.8, ls=(0, (3, 2)))
        largest = data["value"].max()
        reach = data["high"].max()
        axes.set_xlim(0, 1.05 * min(3 * largest, reach if reach > largest else largest) or 1.0)
        theme.listed(axes, list(data["label"]))
        axes.set_xlabel("variance of test accuracy between runs, squared percentage points")
    return figure


def describe(data: pd.DataFrame) -> str:
    """The figure in words."""
    if data.empty:
        return "Too few runs have a test accuracy."
    parts = [f"{row['label']} {phrases.number(row['value'])}" for row in data.to_dict("records")]
    return "Variance of test accuracy between runs in squared percentage points. " + "; ".join(parts) + "."
