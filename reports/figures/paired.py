"""Test accuracy without and with a technique, seed by seed: the pairs of runs before anything is averaged."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

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
SLOTS = 7
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
    """Slopes side by side, each place with its own scale."""
    with theme.styled():
        if data.empty:
            return theme.nothing("no comparison has a run of both arms yet")
        parts: list[tuple[str, list[str]]] = []
        for where, of_place in data.groupby("where", sort=False):
            labels = list(of_place["label"].unique())
            parts += [(str(where), labels[at : at + SLOTS]) for at in range(0, len(labels), SLOTS)]
        layout: list[Any] = [[]]
        for i, (_, labels) in enumerate(parts):
            if len(layout[-1]) + len(labels) > SLOTS:
                layout.append([])
            layout[-1] += [f"{i}"] * len(labels)
        columns = max(len(row) for row in layout)
        layout = [row + ["."] * (columns - len(row)) for row in layout]
        figure = theme.new_figure(theme.WIDTH, 1.9 * len(layout))
        panels = figure.subplot_mosaic(layout)
        letters = round(SLOTS / columns * 18)
        for (where, labels), axes in zip(parts, panels.values(), strict=True):
            slopes(axes, data[data["where"] == where], labels, letters)
            axes.set_title(phrases.sentence_case(where) if len(labels) > 1 else _wrapped(where, letters), fontsize=9)
        for axes in {row[0]: panels[row[0]] for row in layout}.values():
            axes.set_ylabel("test accuracy, per cent")
    return figure


def slopes(axes: Axes, rows: pd.DataFrame, labels: list[str], letters: int) -> None:
    """Per label a slot with a line per seed, from control to treatment, and the mean's line above them.

    rows: columns `label`, `control_value` and `treatment_value`, accuracies in per cent. letters: of a label, on one
    line.
    """
    slots = rows["label"].map({label: slot for slot, label in enumerate(labels)}).dropna()
    rows = rows.loc[slots.index]
    values = rows[["control_value", "treatment_value"]]
    axes.plot([slots - 0.27, slots + 0.27], values.to_numpy().T, color=theme.MUTED, lw=0.9, alpha=0.6)
    means = values.groupby(slots).mean()
    left, right = means.index - 0.27, means.index + 0.27
    axes.plot([left, right], means.to_numpy().T, color=theme.INK, lw=2.2, zorder=3)
    axes.plot(left, means["control_value"], "o", color=theme.CONTROL, ms=6.5, zorder=4)
    axes.plot(right, means["treatment_value"], "o", color=theme.TREATMENT, ms=6.5, zorder=4)
    axes.set_xticks(range(len(labels)), [_wrapped(label, letters) for label in labels])
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.grid(False)
    theme.upright(axes)
    axes.tick_params(axis="x", length=0, labelcolor=theme.INK, labelsize=8.5)
    axes.locator_params(axis="y", nbins=5)


def _wrapped(label: str, letters: int) -> str:
    return "\n".join(textwrap.wrap(phrases.sentence_case(label.removeprefix("the ")), letters, break_long_words=False))


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
