"""From the bare recipe to the full one: what each technique adds, as its Shapley value with an interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.inference import factorial
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ["kind", "label", "value", "low", "high", "start", "end", "n"]


def data(contributions: pd.DataFrame, plan: PlanRecord, runs: pd.DataFrame) -> pd.DataFrame:
    """A row 'bare', a row 'technique' per factor, the most valuable first, and a row 'full'; in per cent and points.

    contributions: of `factorial.contributions` to test accuracy. `value` is a Shapley value with its interval, or the
    mean accuracy of the bare and the full recipe; a technique's bar reaches from `start` to `end`, and the last `end`
    is the full recipe's mean. No rows where the design has no Shapley values or an arm has no converged run.
    """
    used = factorial.combinations_of(plan)
    bare, full = frozenset[str](), frozenset(plan.factors)
    if bare not in used or contributions["shapley"].isna().any():
        return pd.DataFrame(columns=COLUMNS)
    ends = {
        one: runs.loc[runs["arm"] == plan.arms[used.index(one)].name, schema.TEST_ACCURACY].dropna()
        for one in (bare, full)
    }
    means = {one: 100 * float(values.mean()) for one, values in ends.items()}
    parts = contributions.sort_values("shapley", ascending=False, kind="stable")
    frame = pd.DataFrame(
        {
            "kind": "technique",
            "label": [phrases.technique_title(plan, name) for name in parts["factor"]],
            "value": 100 * parts["shapley"],
            "low": 100 * parts["shapley_low"].clip(lower=-1),
            "high": 100 * parts["shapley_high"].clip(upper=1),
            "end": means[bare] + 100 * parts["shapley"].cumsum(),
            "n": parts["n"],
        }
    )
    frame["start"] = frame["end"] - frame["value"]
    bars = [
        {
            "kind": kind,
            "label": f"the {kind} recipe",
            "value": means[one],
            "start": means[one],
            "end": means[one],
            "n": len(ends[one]),
        }
        for kind, one in (("bare", bare), ("full", full))
    ]
    return pd.concat([pd.DataFrame(bars[:1]), frame, pd.DataFrame(bars[1:])], ignore_index=True)[COLUMNS]


def draw(data: pd.DataFrame) -> Figure:
    """A line per technique: a bar from where the ones above it end, with the interval of its own length."""
    with theme.styled():
        if data.empty:
            return theme.nothing("not every arm has converged runs yet")
        figure = theme.new_figure(theme.WIDTH, 0.3 * len(data) + 0.6)
        axes = figure.add_subplot()
        lines, added, ends = range(len(data)), data["kind"] == "technique", data[data["kind"] != "technique"]
        axes.vlines(data["end"].iloc[:-1], lines[:-1], lines[1:], colors=theme.MUTED, lw=0.8, zorder=1)
        # Without an interval the bar ends where its label begins.
        limits = [
            (sign * ((data["start"] + data[limit]).clip(0, 100) - data["end"])).where(added).fillna(0)
            for limit, sign in (("low", -1), ("high", 1))
        ]
        bars = axes.barh(
            lines,
            data["end"] - data["start"],
            height=0.5,
            left=data["start"],
            lw=0,
            color=[theme.MUTED if value >= 0 else theme.ACCENT for value in data["value"]],
            xerr=limits,
            error_kw={"ecolor": theme.INK, "elinewidth": 1.4},
        )
        labels = [phrases.number(row["value"], signed=row["kind"] == "technique") for row in data.to_dict("records")]
        axes.bar_label(bars, labels, padding=7, fontsize=9)
        axes.plot(ends["end"], ends.index, "D", color=theme.INK, ms=6)
        theme.listed(axes, list(data["label"]))
        axes.use_sticky_edges = False
        axes.margins(x=0.1)
        axes.set_xlabel("test accuracy, per cent")
    return figure


def describe(data: pd.DataFrame) -> str:
    """The figure in words."""
    if data.empty:
        return "No seed has a run of every arm yet."
    rows = data.to_dict("records")
    parts = [
        f"{row['label']} {phrases.number(row['value'], signed=True)} from {phrases.number(row['low'], signed=True)} "
        f"to {phrases.number(row['high'], signed=True)}"
        for row in rows[1:-1]
    ]
    return (
        f"Shapley values in percentage points of test accuracy, from {phrases.number(rows[0]['value'])} per cent in "
        f"the bare recipe to {phrases.number(rows[-1]['value'])} in the full one: {'; '.join(parts)}."
    )
