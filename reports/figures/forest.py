"""Every claimed effect with its interval, beside zero and the band that would not matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ["metric", "where", "label", "effect", "low", "high", "margin", "verdict", "n"]
# The shape says the verdict too, for those to whom the colours look alike.
MARKERS = {"supported": ("o", theme.TREATMENT), "refuted": ("s", theme.CONTROL), "equivalent": ("D", theme.MUTED)}


def data(verdicts: pd.DataFrame, titles: Mapping[str, str]) -> pd.DataFrame:
    """One row per claim with an estimate, columns COLUMNS; effects, limits and the margin in percentage points.

    Limits end where a difference can be no larger.
    """
    if verdicts.empty:
        return pd.DataFrame(columns=COLUMNS)
    known = verdicts[verdicts["difference"].notna() & verdicts["margin"].notna()]
    frame = known[["metric", "where", "verdict", "n"]].assign(
        label=known["technique"].map(lambda name: titles.get(name, name.replace("_", " "))),
        effect=100 * known["difference"],
        low=100 * known["low"].clip(lower=-known["reach"]),
        high=100 * known["high"].clip(upper=known["reach"]),
        margin=100 * known["margin"],
    )
    return frame[COLUMNS].reset_index(drop=True)


def draw(data: pd.DataFrame) -> Figure:
    """A row of panels per metric, a column per place; within a panel one line per technique, in the plan's order."""
    with theme.styled():
        if data.empty:
            return theme.nothing("no comparison has a run of both arms yet")
        metrics, places = data["metric"].unique(), data["where"].unique()
        labels = {m: list(data.loc[data["metric"] == m, "label"].unique()) for m in metrics}
        rows = [len(labels[m]) for m in metrics]
        figure = theme.new_figure(8.2, 0.34 * sum(rows) + 0.95 * len(rows))
        panels = figure.subplots(
            len(metrics), len(places), squeeze=False, sharey="row", height_ratios=[n + 0.6 for n in rows]
        )
        for metric, axes_of_metric in zip(metrics, panels, strict=True):
            for place, axes in zip(places, axes_of_metric, strict=True):
                _panel(axes, data[(data["metric"] == metric) & (data["where"] == place)], labels[metric])
                title = f"{phrases.metric_title(metric)} {place}".removeprefix("the ")
                axes.set_title(phrases.sentence_case(title))
                axes.set_xlabel("difference, percentage points")
    return figure


def _panel(axes: Axes, rows: pd.DataFrame, labels: list[str]) -> None:
    axes.set_yticks(range(len(labels)), [phrases.sentence_case(label.removeprefix("the ")) for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.spines["left"].set_visible(False)
    if rows.empty:
        return
    left, right = _limits(rows)
    axes.set_xlim(left, right)
    axes.locator_params(axis="x", nbins=6)
    axes.axvspan(-rows["margin"].max(), rows["margin"].max(), color=theme.BAND, lw=0, zorder=0.5)
    axes.axvline(0, color=theme.INK, lw=0.9, zorder=1)
    for row in rows.to_dict("records"):
        y = labels.index(row["label"])
        marker, colour = MARKERS.get(row["verdict"], ("o", theme.MUTED))
        face = colour if row["verdict"] in MARKERS else theme.PAPER
        if row["low"] < row["high"]:
            axes.plot([row["low"], row["high"]], [y, y], color=colour, lw=1.8, solid_capstyle="butt", zorder=2)
            if row["low"] < left:
                axes.plot(left, y, "<", color=colour, ms=6, clip_on=False, zorder=2)
            if row["high"] > right:
                axes.plot(right, y, ">", color=colour, ms=6, clip_on=False, zorder=2)
        axes.plot(row["effect"], y, marker, ms=6.5, mfc=face, mec=colour, mew=1.5, zorder=3)


def _limits(rows: pd.DataFrame) -> tuple[float, float]:
    """Wide enough for zero, the band, every estimate and the usual interval: a huge one must not hide the rest."""
    low, high = (rows[limit].fillna(rows["effect"]) for limit in ("low", "high"))
    usual, margin = 2.5 * ((high - low) / 2).median(), rows["margin"].max()
    left = max(min(rows["effect"].min() - usual, -margin), min(low.min(), -margin))
    right = min(max(rows["effect"].max() + usual, margin), max(high.max(), margin))
    edge = 0.04 * (right - left)
    return left - edge, right + edge


def describe(data: pd.DataFrame) -> str:
    """The figure in words."""
    if data.empty:
        return "No comparison has a run of both arms yet."
    parts = [
        f"{row['label']} on {phrases.metric_title(row['metric'])} {row['where']}: "
        f"{phrases.number(row['effect'], signed=True)} from {phrases.number(row['low'])} "
        f"to {phrases.number(row['high'])}, {row['verdict']}"
        for row in data.to_dict("records")
    ]
    return "Effects in percentage points with their intervals. " + "; ".join(parts) + "."
