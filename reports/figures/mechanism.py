"""Why: the metrics behind each claim, in the arm that has the technique and in the one that has not, seed by seed."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from ablations.metrics import metric
from reports import wording
from reports.figures import theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ["metric", "panel", "treatment", "control", "seed", "having", "lacking"]


def data(runs: pd.DataFrame, plan: Mapping[str, Any]) -> pd.DataFrame:
    """One row per comparison, mechanism metric and seed that has a number in both arms, columns COLUMNS.

    A comparison stands once, whichever of its claims names the metric. Shares are in per cent.
    """
    wanted: dict[tuple[str, str, str], str] = {}
    for claim in plan["claims"]:
        for name in claim.get("mechanism") or ():
            if name in runs:
                panel = f"{claim['treatment']} / {claim['control']}"
                wanted.setdefault((name, claim["treatment"], claim["control"]), panel)
    parts = []
    for (name, treatment, control), panel in wanted.items():
        having, lacking = (runs[runs["arm"] == arm].set_index("seed")[name] for arm in (treatment, control))
        pairs = pd.DataFrame({"having": having, "lacking": lacking}).dropna()
        if metric(name).share:
            pairs *= 100
        about = {"metric": name, "panel": panel, "treatment": treatment, "control": control}
        parts.append(pairs.rename_axis("seed").reset_index().assign(**about))
    parts = [part for part in parts if len(part)]
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def draw(data: pd.DataFrame) -> Figure:
    """A panel per metric: a line per comparison, from the mean without to the mean with, and every seed as a dot."""
    with theme.styled():
        metrics = list(data["metric"].unique())
        if not metrics:
            figure = theme.new_figure(7.6, 1.2)
            theme.note(figure.add_subplot(), "no comparison has a run of both arms yet")
            return figure
        counts = [data.loc[data["metric"] == name, "panel"].nunique() for name in metrics]
        figure = theme.new_figure(8.2, sum(0.42 * n + 0.75 for n in counts))
        panels = figure.subplots(len(metrics), 1, squeeze=False, height_ratios=[0.42 * n + 0.55 for n in counts])[:, 0]
        for name, axes in zip(metrics, panels, strict=True):
            rows = data[data["metric"] == name]
            labels = list(rows["panel"].unique())
            for y, panel in enumerate(labels):
                of_panel = rows[rows["panel"] == panel]
                for column, colour, shift in (("lacking", theme.LACKING, 0.14), ("having", theme.HAVING, -0.14)):
                    axes.plot(of_panel[column], [y + shift] * len(of_panel), ".", color=colour, ms=5, alpha=0.6)
                    axes.plot(of_panel[column].mean(), y, "o", color=colour, ms=6.5, zorder=3)
                start, end = of_panel["lacking"].mean(), of_panel["having"].mean()
                axes.annotate("", (end, y), (start, y), arrowprops={"arrowstyle": "->", "color": theme.INK, "lw": 1})
            axes.set_yticks(range(len(labels)), ["\n".join(textwrap.wrap(_label(label), 44)) for label in labels])
            axes.tick_params(axis="y", labelsize=8.5)
            axes.set_ylim(len(labels) - 0.5, -0.5)
            axes.spines["left"].set_visible(False)
            unit = ", %" if metric(name).share else (f", {metric(name).unit}" if metric(name).unit else "")
            axes.set_title(wording.sentence_case(wording.metric_title(name).removeprefix("the ")) + unit)
            if _spans_decades(rows):
                axes.set_xscale("log")
    return figure


def _label(panel: str) -> str:
    return wording.sentence_case(panel)


def _spans_decades(rows: pd.DataFrame) -> bool:
    values = pd.concat([rows["having"], rows["lacking"]])
    return bool(values.min() > 0 and math.log10(values.max() / values.min()) > 2)


def describe(data: pd.DataFrame) -> str:
    """The figure in words: each comparison's means."""
    if data.empty:
        return "No comparison has a run of both arms yet."
    parts = []
    for (name, treatment, control), rows in data.groupby(["metric", "treatment", "control"], sort=False):
        means = [wording.significant(rows[column].mean()) for column in ("lacking", "having")]
        parts.append(f"{wording.metric_title(str(name))}: {means[0]} in '{control}', {means[1]} in '{treatment}'")
    return "Metrics behind the claims. " + "; ".join(parts) + "."
