"""Test accuracy of every seed of every arm, with the mean and its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.inference import contrast, decision, statistics
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ["arm", "kind", "seed", "value", "low", "high", "label"]
MANY_ARMS = 20
"""Of more, the lines stand closer."""


def data(runs: pd.DataFrame, plan: PlanRecord) -> pd.DataFrame:
    """Rows of kind 'seed', 'diverged' (a run without a value), 'mean' and 'reference'; values in per cent.

    `seed` is -1 but for runs; `low` and `high` bound the t interval of a mean and end at 0 and 100;
    `label` is a reference's source.
    """
    names = [arm.name for arm in plan.arms]
    planned = runs.loc[runs["arm"].isin(names), ["arm", "seed", "converged", schema.TEST_ACCURACY]]
    kinds = np.where(planned["converged"].astype(bool), "seed", "diverged")
    seeds = planned[["arm", "seed"]].assign(kind=kinds, value=100 * planned[schema.TEST_ACCURACY].astype(float))
    means: list[dict[str, Any]] = []
    for name, of_arm in zip(names, contrast.by_arm(seeds, names, ["value"]), strict=True):
        mean = statistics.mean_interval(of_arm["value"].dropna().to_numpy(), decision.confidence(plan.rule))
        if mean.n:
            low, high = np.clip([mean.low, mean.high], 0, 100)
            means.append({"arm": name, "kind": "mean", "value": mean.mean, "low": low, "high": high})
    references = [
        {"arm": reference.arm, "kind": "reference", "value": 100 * reference.value, "label": reference.source}
        for reference in plan.references
        if reference.metric == schema.TEST_ACCURACY
    ]
    data = pd.concat([seeds, pd.DataFrame(means), pd.DataFrame(references)], ignore_index=True).reindex(columns=COLUMNS)
    return data.astype({"label": object}).fillna({"seed": -1, "label": ""}).astype({"seed": int})


def draw(data: pd.DataFrame) -> Figure:
    """A line per arm, in the plan's order: seeds as dots, mean and interval above; the name says how many diverged."""
    with theme.styled():
        arms = list(data["arm"].unique())
        many = len(arms) > MANY_ARMS
        if not arms:
            return theme.nothing("no run has ended yet")
        figure = theme.new_figure(theme.WIDTH, (0.22 if many else 0.28) * len(arms) + 0.6)
        axes = figure.add_subplot()
        at = {arm: i for i, arm in enumerate(arms)}
        data = data.assign(line=data["arm"].map(at).astype(float))
        seeds, diverged = data[data["kind"] == "seed"], data.loc[data["kind"] == "diverged", "arm"].value_counts()
        # Spread over the seeds' own order, never at random: the same runs give the same picture.
        order = seeds.groupby("arm")["seed"].rank(method="first")
        count = seeds.groupby("arm")["seed"].transform("count")
        height = seeds["line"] + 0.24 * ((order - (count + 1) / 2) / count.clip(lower=2)) + 0.16
        axes.plot(seeds["value"], height, "o", color=theme.MUTED, alpha=0.65, ms=5, mew=0)
        means = data[data["kind"] == "mean"]
        limits = (means["value"] - means["low"], means["high"] - means["value"])
        axes.errorbar(means["value"], means["line"] - 0.14, xerr=limits, fmt="|", color=theme.INK, ms=9, mew=2)
        marks = data[data["kind"] == "reference"]
        ends = (marks["line"] - 0.42, marks["line"] + 0.42)
        axes.vlines(marks["value"], *ends, colors=theme.ACCENT, lw=1.6, ls=(0, (3, 2)))
        for value, top in zip(marks["value"], ends[0], strict=True):
            beside: dict[str, Any] = {"textcoords": "offset points", "va": "top", "fontsize": 9}
            axes.annotate(phrases.number(value), (value, top), (4, 2), color=theme.ACCENT, **beside)
        theme.listed(axes, [arm + (f" ({diverged[arm]} diverged)" if arm in diverged else "") for arm in arms])
        axes.tick_params(axis="y", labelsize=8.5 if many else 9)
        axes.set_xlabel("test accuracy, per cent")
    return figure


def describe(data: pd.DataFrame) -> str:
    """The figure in words."""
    if data[data["kind"] == "mean"].empty:
        return "No run has an accuracy."
    count = data[data["kind"] == "seed"].groupby("arm").size()
    lost = data[data["kind"] == "diverged"].groupby("arm").size()
    means = data[data["kind"] == "mean"]
    parts = [f"{m['arm']}: mean {phrases.number(m['value'])} over {count[m['arm']]}" for m in means.to_dict("records")]
    marks = [f"reference {phrases.number(m['value'])}" for m in data[data["kind"] == "reference"].to_dict("records")]
    gone = [f"{arm}: {n} diverged" for arm, n in lost.items()]
    return "Test accuracy in per cent of every seed, by arm. " + "; ".join(parts + gone + marks) + "."
