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
    """The lower triangle of all pairs: a number is an effect, and its cell has a colour where it is told from none."""
    import seaborn as sns

    with theme.styled():
        if data.empty:
            return theme.nothing("no seed has a run of every arm yet")
        columns, rows = list(data["one"].unique()), list(data["other"].unique())
        figure = theme.new_figure(theme.WIDTH, 0.36 * len(rows) + 0.6)
        axes = figure.add_subplot()
        cells = data.assign(
            text=[phrases.number(effect, signed=True) for effect in data["effect"]],
            shown=data["effect"].where(data["told"], 0.0),
        )
        effects, texts = (
            cells.pivot(index="other", columns="one", values=name).loc[rows, columns] for name in ("shown", "text")
        )
        largest = data["effect"].abs().max() or 1.0
        hues = theme.shades(theme.SECOND, theme.ACCENT)
        sns.heatmap(effects, vmin=-largest, vmax=largest, annot=texts, cmap=hues, ax=axes, **theme.CELLS)
        axes.set_xticklabels([_title(name, 16) for name in columns])
        axes.set_yticklabels([_title(name, 40) for name in rows])
        axes.set(xlabel="", ylabel="")
        axes.grid(False)
        axes.tick_params(rotation=0, length=0, labelcolor=theme.INK)
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
