"""Parallel coordinates of a search's trials: a line per trial across all parameters, up to its value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from cifar_ablations.reports.figures import search_history, theme
from cifar_ablations.reports.reading import searches
from cifar_ablations.reports.reading.searches import Parameter, Study
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ["study", "trial", "axis", "order", "place", "low", "high", "value", "group"]
LEAST_PARAMETERS, LEAST_TRIALS = 3, 3
VALUE = "validation accuracy"
MOST_PARAMETERS = 7
UNDRAWN = -0.18
"""Where a parameter stands that a trial had no use for, such as the strength of what is left out."""


def data(trials: pd.DataFrame, studies: Sequence[Study], importances: pd.DataFrame) -> pd.DataFrame:
    """Per complete trial of studies with LEAST_PARAMETERS a row per parameter and one for its value, columns COLUMNS.

    `place` is where it lies in the range, from 0 to 1 on the scale that was searched, or UNDRAWN; `low` and `high` name
    the ends, of choices all of them. `group` is best, upper (quarter) or rest. Values are in per cent. Of more than
    MOST_PARAMETERS the most important by the frame of `search_importance.data` are there, then the first.
    """
    parts = []
    for study in studies:
        complete = searches.complete(trials[trials["study"] == study.name])
        parameters = _chosen([p for p in study.parameters if p.name in complete], study.name, importances)
        if len(parameters) < LEAST_PARAMETERS or len(complete) < LEAST_TRIALS:
            continue
        ranks = complete["value"].rank(ascending=False, method="first")
        groups = [_group(rank, len(ranks)) for rank in ranks]
        about = complete[["study", "trial"]].assign(value=100 * complete["value"], group=groups)
        for order, parameter in enumerate(parameters):
            parts.append(about.assign(order=order, axis=parameter.name, **_axis(parameter, complete[parameter.name])))
        # Colours and markers show a trial that failed to learn; the axis is for the others.
        ends = max(search_history.window(about["value"])[0], about["value"].min()), about["value"].max()
        places = ((about["value"] - ends[0]) / (ends[1] - ends[0] or 1)).clip(lower=0)
        low, high = (phrases.number(end) for end in ends)
        parts.append(about.assign(order=len(parameters), axis=VALUE, place=places, low=low, high=high))
    return pd.concat(parts, ignore_index=True)[COLUMNS] if parts else pd.DataFrame(columns=COLUMNS)


def _chosen(parameters: list[Parameter], study: str, importances: pd.DataFrame) -> list[Parameter]:
    of_study = importances[importances["study"] == study].groupby("parameter")["mean"].mean()
    ranked = sorted(parameters, key=lambda p: -of_study.get(p.name, 0.0))[:MOST_PARAMETERS]
    return [p for p in parameters if p in ranked]


def _group(rank: float, count: int) -> str:
    return "best" if rank == 1 else "upper" if rank <= math.ceil(count / 4) else "rest"


def _axis(parameter: Parameter, values: pd.Series) -> dict[str, Any]:
    places = pd.Series([math.nan if pd.isna(v) else parameter.place(v) for v in values], values.index)
    if not parameter.numeric:
        last = max(len(parameter.choices) - 1, 1)
        labels = "\n".join(reversed(parameter.choices))
        return {"place": (places / last).fillna(UNDRAWN), "low": labels, "high": ""}
    low, high = parameter.place(parameter.low), parameter.place(parameter.high)
    place = (places - low) / (high - low or 1)
    return {"place": place.fillna(UNDRAWN), "low": f"{parameter.low:g}", "high": f"{parameter.high:g}"}


def draw(data: pd.DataFrame) -> Figure:
    """A panel per study, an axis per parameter and one for the value at the right."""
    with theme.styled():
        if data.empty:
            return theme.nothing("no study has three parameters")
        names = list(data["study"].unique())
        figure = theme.new_figure(theme.WIDTH, 2.9 * len(names))
        for axes, name in zip(figure.subplots(len(names), 1, squeeze=False)[:, 0], names, strict=True):
            _panel(axes, data[data["study"] == name])
            axes.set_title(name, fontsize=10, weight="normal", pad=16)
    return figure


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    looks = {
        "rest": (theme.MUTED, 0.9, 0.4, 1),
        "upper": (theme.SECOND, 1.6, 0.9, 2),
        "best": (theme.ACCENT, 2.6, 1, 3),
    }
    for group, (colour, width, alpha, height) in looks.items():
        lines = rows[rows["group"] == group].pivot(index="order", columns="trial", values="place")
        axes.plot(lines.index, lines, color=colour, lw=width, alpha=alpha, zorder=height)
    ends = rows.drop_duplicates("order").sort_values("order")
    axes.vlines(ends["order"], 0, 1, colors=theme.MUTED, lw=0.9, zorder=0.8)
    for row in ends.to_dict("records"):
        for place, label, aligned in _labels(row["low"], row["high"]):
            axes.annotate(
                label,
                (row["order"], place),
                textcoords="offset points",
                fontsize=8.5,
                color=theme.MUTED,
                annotation_clip=False,
                zorder=4,
                **aligned,
            )
    undrawn = (rows["place"] < 0).any()
    if undrawn:
        axes.annotate("not drawn", (-0.06, UNDRAWN), ha="right", va="center", fontsize=8.5, color=theme.MUTED)
    axes.set_ylim(UNDRAWN - 0.04 if undrawn else -0.02, 1.02)
    axes.set_xlim(-0.3, len(ends) - 0.7)
    axes.set_xticks(ends["order"], [_broken(name, len(ends)) for name in ends["axis"]])
    axes.tick_params(axis="x", length=0, pad=16, labelcolor=theme.INK)
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _broken(name: str, count: int) -> str:
    """The name in lines that fit between that many axes."""
    for separator in (".", " ", "_") if count > 5 else (".", " "):
        name = name.replace(separator, f"{separator}\n")
    return name


def _labels(low: str, high: str) -> list[tuple[float, str, dict[str, Any]]]:
    """Where an axis says what: the ends of a range or the outer choices below and above it, other choices beside it."""
    names = [high, low] if high else low.split("\n")
    last = max(len(names) - 1, 1)
    ends: dict[float, dict[str, Any]] = {
        0.0: {"xytext": (0, -5), "va": "top", "ha": "center"},
        1.0: {"xytext": (0, 5), "va": "bottom", "ha": "center"},
    }
    beside: dict[str, Any] = {
        "xytext": (5, 0),
        "va": "center",
        "ha": "left",
        "bbox": {"facecolor": theme.PAPER, "lw": 0, "pad": 1},
    }
    places = [(len(names) - 1 - i) / last for i in range(len(names))]
    return [(place, name, ends.get(place, beside)) for place, name in zip(places, names, strict=True)]


def describe(data: pd.DataFrame) -> str:
    """The figure in words: what the best trial of each study is made of."""
    if data.empty:
        return "No study has three parameters."
    parts = []
    for name, rows in data.groupby("study", sort=False):
        best = rows[rows["group"] == "best"].sort_values("order")
        drawn = [row for row in best.to_dict("records")[:-1] if row["place"] >= 0]
        places = [f"{row['axis']} at {100 * row['place']:.0f} %" for row in drawn]
        parts.append(
            f"{name}: best {phrases.number(best['value'].iloc[0])} with {phrases.listing(places)} of the range"
        )
    return "A line per trial across all parameters. " + "; ".join(parts) + "."
