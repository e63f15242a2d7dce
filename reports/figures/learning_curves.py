"""How arms learn: a curve per arm over epochs, each technique beside what it is compared with."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import pandas as pd
from scipy import stats

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.inference import contrast, decision
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ["metric", "where", "panel", "role", "arm", "epoch", "mean", "low", "high", "n"]
PANELS_PER_ROW = 6


def data(curves: pd.DataFrame, plan: PlanRecord) -> pd.DataFrame:
    """Per panel, arm and epoch the mean over seeds with its t interval at the plan's level, from `load.curves_of`.

    The intervals hold epoch by epoch, not for a whole curve at once; NaN where one seed has no spread.

    A panel is a comparison that the claims name (roles 'with' and 'without'); of combinations of techniques, each one's
    removal from the full combination; without claims, an arm (role 'with').
    The metric is validation accuracy, in per cent, or training loss where nothing was held out.
    """
    of_accuracy = curves[curves["metric"] == schema.VALIDATION_ACCURACY]
    accuracy = not of_accuracy.empty
    chosen = (of_accuracy if accuracy else curves[curves["metric"] == schema.TRAIN_LOSS]).dropna(subset=["value"])
    metric = schema.VALIDATION_ACCURACY if accuracy else schema.TRAIN_LOSS
    by_epoch = chosen.groupby(["arm", "epoch"], sort=True)["value"].agg(["mean", "sem", "count"]).reset_index()
    by_epoch = by_epoch.rename(columns={"count": "n"})
    half = by_epoch["sem"] * stats.t.ppf((1 + decision.confidence(plan.rule)) / 2, (by_epoch["n"] - 1).clip(lower=1))
    by_epoch = by_epoch.assign(low=by_epoch["mean"] - half, high=by_epoch["mean"] + half)
    if accuracy:
        by_epoch[["mean", "low", "high"]] *= 100
    parts = []
    for where, panel, role, arm in _panels(plan):
        of_arm = by_epoch[by_epoch["arm"] == arm]
        parts.append(of_arm.assign(metric=metric, where=where, panel=panel, role=role))
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def _panels(plan: PlanRecord) -> list[tuple[str, str, str, str]]:
    if plan.factors:
        return _removals(plan)
    shown: dict[tuple[str, str, str, str], None] = {}
    for claim in plan.claims:
        ledger = plan.layout == "ledger"
        panel = claim.treatment if ledger else phrases.technique_title(plan, claim.technique)
        if ledger and claim.treatment == plan.arms[0].name:
            panel = f"against {claim.control}"
        for role, arm in (("without", claim.control), ("with", claim.treatment)):
            shown[contrast.where(claim), panel, role, arm] = None
    if not shown:
        return [("", arm.name, "with", arm.name) for arm in plan.arms]
    return list(shown)


def _removals(plan: PlanRecord) -> list[tuple[str, str, str, str]]:
    """A factorial has too many arms for a panel each: the full combination, and what it is without each technique."""
    factors = set(plan.factors)
    by_used = {
        frozenset(name for name in factors if arm.levels.get(name, "off") != "off"): arm.name for arm in plan.arms
    }
    full = by_used[frozenset(factors)]
    shown = []
    for name in plan.factors:
        if without := by_used.get(frozenset(factors - {name})):
            title = phrases.technique_title(plan, name)
            shown += [("in the full recipe", title, "without", without), ("in the full recipe", title, "with", full)]
    return shown or [("", arm, "with", arm) for arm in (full, by_used.get(frozenset(), full))]


def draw(data: pd.DataFrame) -> Figure:
    """Small multiples, a row (or more) per place and a panel per technique, all on one scale."""
    with theme.styled():
        if data.empty:
            return theme.nothing("no run has finished an epoch yet")
        rows: list[tuple[str, list[str]]] = []
        for place, of_place in data.groupby("where", sort=False):
            panels = list(of_place["panel"].unique())
            cuts = range(0, len(panels), PANELS_PER_ROW)
            rows += [(str(place) if at == 0 else "", panels[at : at + PANELS_PER_ROW]) for at in cuts]
        columns = max(len(panels) for _, panels in rows)
        figure = theme.new_figure(theme.WIDTH, max(1.3 * len(rows) + 0.45, 2.6))  # or the title at its left is cut
        layout: list[Any] = [
            [f"{row} {column}" if column < len(panels) else "." for column in range(columns)]
            for row, (_, panels) in enumerate(rows)
        ]
        grid = figure.subplot_mosaic(layout, sharex=True, sharey=True)
        grid["0 0"].set_ylim(*_limits(data))
        grid["0 0"].set_xlim(data["epoch"].min(), max(data["epoch"].max(), data["epoch"].min() + 1))
        by_panel = dict(iter(data.groupby(["where", "panel"], sort=False)))
        shown = ""
        for row, (place, panels) in enumerate(rows):
            shown = place or shown
            label = "\n".join(textwrap.wrap(phrases.sentence_case(place), 18))
            grid[f"{row} 0"].set_ylabel(label, color=theme.INK)
            for column, panel in enumerate(panels):
                axes = grid[f"{row} {column}"]
                _panel(axes, by_panel[shown, panel])
                title = textwrap.wrap(phrases.sentence_case(panel.removeprefix("the ")), 130 // columns)
                axes.set_title("\n".join(title), fontsize=8.5, weight="normal")
                axes.tick_params(labelbottom=f"{row + 1} {column}" not in grid)
        figure.supxlabel("epoch", fontsize=9, color=theme.MUTED)
        unit = ", per cent" if data["metric"].iloc[0] == schema.VALIDATION_ACCURACY else ""
        figure.supylabel(phrases.metric_title(data["metric"].iloc[0]) + unit, fontsize=9, color=theme.MUTED)
    return figure


def _limits(data: pd.DataFrame) -> tuple[float, float]:
    """Wide enough for every mean and most bands: a band of two seeds must not press the curves flat."""
    low, high = data["mean"].min(), data["mean"].max()
    usual = ((data["high"] - data["low"]) / 2).quantile(0.75)
    edge = max(0.04 * (high - low), min(usual, high - low) if usual > 0 else 0.0) or 1.0
    if data["metric"].iloc[0] == schema.VALIDATION_ACCURACY:
        return max(low - edge, 0.0), min(high + edge, 100.0)
    return low - edge, high + edge


def _panel(axes: Axes, data: pd.DataFrame) -> None:
    from matplotlib.ticker import MaxNLocator

    for role, colour, dashes in (("without", theme.CONTROL, (0, (4, 1.5))), ("with", theme.TREATMENT, "-")):
        rows = data[data["role"] == role]
        if rows.empty:
            continue
        axes.fill_between(rows["epoch"], rows["low"], rows["high"], color=colour, alpha=0.16, lw=0)
        axes.plot(rows["epoch"], rows["mean"], color=colour, linestyle=dashes)
    theme.upright(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))


def describe(data: pd.DataFrame) -> str:
    """The figure in words: where each curve ends."""
    if data.empty:
        return "No run has finished an epoch yet."
    last = data.loc[data.groupby(["where", "panel", "role"], sort=False)["epoch"].idxmax()]
    parts = [
        f"{row['arm']} ends at {phrases.number(row['mean'])} (epoch {row['epoch']})" for row in last.to_dict("records")
    ]
    title = phrases.sentence_case(phrases.metric_title(data["metric"].iloc[0]))
    return f"{title} by epoch. " + "; ".join(dict.fromkeys(parts)) + "."
