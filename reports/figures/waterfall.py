"""From the bare recipe to the full one: what each technique adds, as its Shapley value with an interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
        figure = theme.new_figure(8.2, 0.36 * len(data) + 0.8)
        axes = figure.add_subplot()
        for y, row in enumerate(data.to_dict("records")):
            if y + 1 < len(data):
                axes.plot([row["end"]] * 2, [y, y + 1], color=theme.MUTED, lw=0.8, zorder=1)
            if row["kind"] != "technique":
                axes.plot(row["end"], y, "D", color=theme.INK, ms=6, zorder=3)
                _write(axes, row["end"], y, phrases.number(row["value"]), weight="bold")
                continue
            colour = theme.TREATMENT if row["value"] >= 0 else theme.CONTROL
            axes.barh(y, row["value"], 0.5, row["start"], color=colour, lw=0, zorder=2)
            limits = [min(max(row["start"] + row[limit], 0.0), 100.0) for limit in ("low", "high")]
            if limits[0] < limits[1]:
                axes.plot(limits, [y, y], color=theme.INK, lw=1.4, solid_capstyle="butt", zorder=3)
            right = max(row["start"], row["end"], *(x for x in limits if x == x))
            _write(axes, right, y, phrases.number(row["value"], signed=True))
        axes.set_yticks(range(len(data)), [phrases.sentence_case(x.removeprefix("the ")) for x in data["label"]])
        axes.set_ylim(len(data) - 0.5, -0.5)
        axes.margins(x=0.1)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("test accuracy, per cent")
    return figure


def _write(axes: Any, x: float, y: float, text: str, weight: str = "normal") -> None:
    axes.annotate(text, (x, y), xytext=(7, 0), textcoords="offset points", va="center", fontsize=9, weight=weight)


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
