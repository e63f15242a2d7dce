"""The metrics that a technique is said to act through, in the arm with it and the arm without it, seed by seed."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

import pandas as pd

from cifar_ablations.ablations.metrics import metric
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.inference import mechanisms
from cifar_ablations.reports.wording import phrases, tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ["technique", "metric", "panel", "treatment", "control", "seed", "treatment_value", "control_value"]
ABREAST = 2
"""Panels side by side."""


def data(runs: pd.DataFrame, plan: PlanRecord) -> pd.DataFrame:
    """One row per comparison, mechanism metric and seed that has a number in both arms, columns COLUMNS.

    A comparison stands once per technique, with every metric that a claim of the technique names. Shares are in per
    cent.
    """
    compared = mechanisms.comparisons(plan)
    named: dict[str, dict[str, None]] = {}
    for one in compared:
        named.setdefault(one.technique, {}).update(dict.fromkeys(one.mechanism))
    values = mechanisms.by_arm(runs, dict.fromkeys(name for names in named.values() for name in names))
    parts = []
    for one in compared:
        for name in named[one.technique]:
            both = mechanisms.pairs(one, values[name]) if name in values else pd.DataFrame()
            if both.empty:
                continue
            if metric(name).share:
                both *= 100
            about = {"technique": one.technique, "metric": name, "panel": one.label}
            sides = {"treatment": one.treatment, "control": one.control}
            parts.append(both.add_suffix("_value").reset_index().assign(**about, **sides))
    return tables.stacked(parts, COLUMNS)


def draw(data: pd.DataFrame) -> Figure:
    """A panel per metric: a line per comparison, from the mean without to the mean with, and every seed as a dot."""
    from matplotlib.ticker import MaxNLocator

    with theme.styled():
        metrics = list(data["metric"].unique())
        if not metrics:
            return theme.nothing("no comparison has a run of both arms yet")
        labels = list(data["panel"].unique())
        wrapped = ["\n".join(textwrap.wrap(phrases.sentence_case(label), 26)) for label in labels]
        rows, columns = math.ceil(len(metrics) / ABREAST), min(ABREAST, len(metrics))
        height = sum(0.3 + 0.15 * text.count("\n") for text in wrapped) + 0.6
        figure = theme.new_figure(theme.WIDTH, rows * height)
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
        for axes in panels[len(metrics) :]:
            axes.set_axis_off()
        for name, axes in zip(metrics, panels, strict=False):
            of_metric = data[data["metric"] == name]
            lines = of_metric["panel"].map({label: line for line, label in enumerate(labels)})
            means = of_metric.groupby(lines)[["control_value", "treatment_value"]].mean()
            axes.hlines(means.index, means["control_value"], means["treatment_value"], colors=theme.INK, lw=1.2)
            for column, colour, shift in (
                ("control_value", theme.CONTROL, 0.2),
                ("treatment_value", theme.TREATMENT, -0.2),
            ):
                axes.plot(of_metric[column], lines + shift, ".", color=colour, ms=5, alpha=0.6)
                axes.plot(means[column], means.index, "o", color=colour, ms=6.5, zorder=3)
            axes.set_yticks(range(len(labels)), wrapped)
            axes.tick_params(axis="y", labelsize=9)
            axes.set_ylim(len(labels) - 0.5, -0.5)
            axes.spines["left"].set_visible(False)
            title, unit = metric(name).title.removeprefix("the "), "%" if metric(name).share else metric(name).unit
            heading = phrases.sentence_case(title) + (f", {unit}" if unit and unit not in title else "")
            axes.set_title("\n".join(textwrap.wrap(heading, 44)), fontsize=9.5, weight="normal")
            if _spans_decades(of_metric):
                axes.set_xscale("log")
            else:
                axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
                axes.xaxis.set_major_formatter(lambda x, _: f"{x:.6g}".replace("-", "−"))
    return figure


def _spans_decades(rows: pd.DataFrame) -> bool:
    values = pd.concat([rows["treatment_value"], rows["control_value"]])
    return bool(values.min() > 0 and math.log10(values.max() / values.min()) > 2)


def describe(data: pd.DataFrame) -> str:
    """The figure in words: each comparison's means."""
    if data.empty:
        return "No comparison has a run of both arms yet."
    parts = []
    for (name, treatment, control), rows in data.groupby(["metric", "treatment", "control"], sort=False):
        means = [phrases.significant(rows[column].mean()) for column in ("control_value", "treatment_value")]
        parts.append(f"{phrases.metric_title(str(name))}: {means[0]} in '{control}', {means[1]} in '{treatment}'")
    return "Metrics behind the claims. " + "; ".join(parts) + "."
