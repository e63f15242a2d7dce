"""The mean of all combinations without a technique and of all with it, seed by seed: its main effect, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.figures import paired, theme
from cifar_ablations.reports.wording import phrases, tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ["label", "seed", "control_value", "treatment_value"]


def data(runs: pd.DataFrame, plan: PlanRecord) -> pd.DataFrame:
    """One row per factor and seed that has every arm: mean test accuracy without and with it, in per cent."""
    used = {arm.name: {name for name in plan.factors if arm.levels.get(name, "off") != "off"} for arm in plan.arms}
    known = runs[runs["arm"].isin(list(used))]
    table = known.pivot(index="seed", columns="arm", values=schema.TEST_ACCURACY).reindex(columns=list(used)).dropna()
    parts = []
    for name in plan.factors:
        treatment = [arm for arm, factors in used.items() if name in factors]
        sides = {
            "control_value": table.drop(columns=treatment).mean(axis=1),
            "treatment_value": table[treatment].mean(axis=1),
        }
        label = phrases.technique_title(plan, name)
        parts.append((100 * pd.DataFrame(sides)).rename_axis("seed").reset_index().assign(label=label))
    return tables.stacked(parts, COLUMNS)


def draw(data: pd.DataFrame) -> Figure:
    """A slope per technique, all on one scale."""
    with theme.styled():
        if data.empty:
            return theme.nothing("no seed has a run of every arm yet")
        labels = list(data["label"].unique())
        figure = theme.new_figure(theme.WIDTH, 2.3)
        axes = figure.add_subplot()
        paired.slopes(axes, data, labels, 18)
        axes.set_ylabel("test accuracy, per cent")
    return figure


def describe(data: pd.DataFrame) -> str:
    """The figure in words."""
    if data.empty:
        return "No seed has a run of every arm yet."
    means = data.groupby("label", sort=False)[["control_value", "treatment_value"]].mean()
    parts = [
        f"{label} {phrases.number(row['control_value'])} without, {phrases.number(row['treatment_value'])} with"
        for label, row in means.iterrows()
    ]
    return "Mean test accuracy over all combinations, in per cent. " + "; ".join(parts) + "."
