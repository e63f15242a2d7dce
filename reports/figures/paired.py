"""Test accuracy without and with a technique, seed by seed: the pairs of runs before anything is averaged."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.inference import contrast
from cifar_ablations.reports.wording import phrases, tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ["where", "label", "treatment", "control", "seed", "control_value", "treatment_value"]
SLOTS = 6
"""Comparisons side by side; more begin a new row."""


def data(runs: pd.DataFrame, plan: PlanRecord) -> pd.DataFrame:
    """One row per comparison that a claim on test accuracy makes and seed that has both sides, in per cent.

    A comparison stands once. Claims about means over arms or about differences beyond others are left out: their
    sides are no runs.
    """
    parts, seen = [], set()
    for claim in plan.claims:
        arms = (claim.treatment, claim.control)
        if claim.metric != schema.TEST_ACCURACY or claim.over or claim.beyond or arms in seen:
            continue
        seen.add(arms)
        sides = contrast.sides(claim, runs)
        pairs = 100 * pd.DataFrame({"control_value": sides.control, "treatment_value": sides.treatment}).dropna()
        ledger = plan.layout == "ledger"
        label = f"{arms[1]} → {arms[0]}" if ledger else phrases.technique_title(plan, claim.technique)
        where = "" if ledger else contrast.where(claim)
        about = {"where": where, "label": label, "treatment": arms[0], "control": arms[1]}
        parts.append(pairs.rename_axis("seed").reset_index().assign(**about))
    return tables.stacked(parts, COLUMNS)


def draw(data: pd.DataFrame) -> Figure:
    """A row of slopes per place, all comparisons of a place on one scale."""
    with theme.styled():
        if data.empty:
            return theme.nothing("no comparison has a run of both arms yet")
        rows = []
        for where in data["where"].unique():
            of_place = data[data["where"] == where]
            labels = list(of_place["label"].unique())
            per_row = math.ceil(len(labels) / math.ceil(len(labels) / SLOTS))
            rows += [(where, of_place, labels[i : i + per_row]) for i in range(0, len(labels), per_row)]
        deepest = max(_wrapped(label).count("\n") for label in data["label"])
        figure = theme.new_figure(8.2, (2.2 + 0.15 * deepest) * len(rows))
        panels = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
        previous = None
        for (where, of_place, labels), axes in zip(rows, panels, strict=True):
            slopes(axes, of_place, labels, max(len(row[2]) for row in rows))
            if where != previous:
                axes.set_title(phrases.sentence_case(where))
            previous = where
    return figure


def slopes(axes: Axes, rows: pd.DataFrame, labels: list[str], slots: int) -> None:
    """Per label a slot with a line per seed, from control to treatment, and the mean's line above them.

    rows: columns `label`, `control_value` and `treatment_value`, accuracies in per cent.
    """
    for slot, label in enumerate(labels):
        of_label = rows[rows["label"] == label]
        ends = [slot - 0.27, slot + 0.27]
        axes.plot(
            ends,
            of_label[["control_value", "treatment_value"]].to_numpy().T,
            color=theme.MUTED,
            lw=0.9,
            alpha=0.6,
            zorder=2,
        )
        means = [of_label["control_value"].mean(), of_label["treatment_value"].mean()]
        axes.plot(ends, means, color=theme.INK, lw=2.2, zorder=3)
        for x, mean, colour in zip(ends, means, (theme.CONTROL, theme.TREATMENT), strict=True):
            axes.plot(x, mean, "o", color=colour, ms=7, zorder=4)
    axes.set_xticks(range(len(labels)), [_wrapped(label) for label in labels])
    axes.set_xlim(-0.6, slots - 0.4)
    axes.grid(False)
    axes.grid(True, axis="y")
    axes.tick_params(axis="x", length=0, labelcolor=theme.INK)
    axes.tick_params(axis="y", labelsize=9, labelcolor=theme.MUTED)
    axes.locator_params(axis="y", nbins=5)
    axes.set_ylabel("test accuracy, per cent")


def _wrapped(label: str) -> str:
    return "\n".join(textwrap.wrap(phrases.sentence_case(label.removeprefix("the ")), 18))


def describe(data: pd.DataFrame) -> str:
    """The figure in words: in how many seeds each comparison goes which way."""
    if data.empty:
        return "No comparison has a run of both arms yet."
    parts = []
    for (where, label), rows in data.groupby(["where", "label"], sort=False):
        higher = int((rows["treatment_value"] > rows["control_value"]).sum())
        place = f" {where}" if where else ""
        parts.append(f"{label}{place}: higher in {higher} of {phrases.count(len(rows), 'seed')}")
    return "Test accuracy without and with, seed by seed. " + "; ".join(parts) + "."
