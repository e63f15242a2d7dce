"""The interaction of each pair of techniques: their effect together less the sum of their separate effects."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pandas as pd

from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ["one", "other", "effect", "low", "high", "p_holm", "told", "n"]
STRONGEST = 0.5
"""Opacity of the largest effect: more would take the contrast from the number in the cell."""


def data(pairs: pd.DataFrame, plan: PlanRecord) -> pd.DataFrame:
    """One row per pair with a number, from `factorial.interactions`: titles, and effects in percentage points.

    `told` is whether Holm's p is below the plan's α, so that the effect is told from none.
    """
    frame = pairs.dropna(subset=["effect"])
    return pd.DataFrame(
        {
            **{side: [phrases.technique_title(plan, name) for name in frame[side]] for side in ("one", "other")},
            **{name: 100 * frame[name].astype(float) for name in ("effect", "low", "high")},
            "p_holm": frame["p_holm"],
            "told": frame["p_holm"] < plan.rule.alpha,
            "n": frame["n"],
        },
        columns=COLUMNS,
    ).reset_index(drop=True)


def draw(data: pd.DataFrame) -> Figure:
    """The lower triangle of all pairs: a cell's colour and number are its effect, and grey is told from nothing."""
    from matplotlib.patches import Rectangle

    with theme.styled():
        if data.empty:
            return theme.nothing("no seed has a run of every arm yet")
        columns, rows = list(data["one"].unique()), list(data["other"].unique())
        figure = theme.new_figure(8.2, 0.46 * len(rows) + 0.7)
        axes = figure.add_subplot()
        largest = data["effect"].abs().max() or 1.0
        for cell in data.to_dict("records"):
            x, y = columns.index(cell["one"]), rows.index(cell["other"])
            colour = theme.TREATMENT if cell["effect"] > 0 else theme.CONTROL
            shade = STRONGEST * (0.2 + 0.8 * abs(cell["effect"]) / largest)
            face, opacity = (colour, shade) if cell["told"] else (theme.GRID, 1.0)
            axes.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=face, alpha=opacity, lw=0))
            text = phrases.number(cell["effect"], signed=True)
            ink, weight = (theme.INK, "bold") if cell["told"] else (theme.MUTED, "normal")
            axes.text(x, y, text, ha="center", va="center", fontsize=9.5, color=ink, weight=weight, in_layout=False)
        axes.set_xticks(range(len(columns)), [_title(name, 16) for name in columns])
        axes.set_yticks(range(len(rows)), [_title(name, 40) for name in rows])
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(False)
        axes.tick_params(axis="x", length=0, labelsize=9.5, labelcolor=theme.INK)
        for spine in axes.spines.values():
            spine.set_visible(False)
    return figure


def _title(name: str, width: int) -> str:
    return "\n".join(textwrap.wrap(phrases.sentence_case(name.removeprefix("the ")), width))


def describe(data: pd.DataFrame) -> str:
    """The figure in words: what is told from no interaction, the largest first."""
    if data.empty:
        return "No seed has a run of every arm yet."
    told = data[data["told"]].sort_values("effect", key=abs, ascending=False)
    parts = [
        f"{row['one']} and {row['other']} {phrases.number(row['effect'], signed=True)}"
        for row in told.to_dict("records")
    ]
    summary = "; ".join(parts) or "none is told from zero"
    return f"Interactions of {len(data)} pairs in percentage points of test accuracy: {summary}."
