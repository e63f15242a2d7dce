"""Validation accuracy against one parameter at a time, whatever the others were."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from cifar_ablations.reports.figures import search_history, theme
from cifar_ablations.reports.reading import searches
from cifar_ablations.reports.reading.searches import Study
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ["parameter", "study", "trial", "place", "choice", "value", "best", "log", "low", "high"]


def data(trials: pd.DataFrame, studies: Sequence[Study]) -> pd.DataFrame:
    """One row per complete trial and parameter that its study searched, columns COLUMNS; values in per cent.

    `place` is the parameter's value, or of choices the number of the `choice` among all that were tried; `low` and
    `high` are the study's range. `best` marks each study's best trial.
    """
    complete = searches.complete(trials)
    rows = []
    for study in studies:
        of_study = complete[complete["study"] == study.name]
        top = of_study["value"].idxmax() if len(of_study) else None
        for parameter in study.parameters:
            if parameter.name not in of_study:
                continue
            for index, row in of_study.dropna(subset=[parameter.name]).iterrows():
                value = row[parameter.name]
                rows.append(
                    {
                        "parameter": parameter.name,
                        "study": study.name,
                        "trial": row["trial"],
                        "place": float(value) if parameter.numeric else math.nan,
                        "choice": "" if parameter.numeric else str(value),
                        "value": 100 * row["value"],
                        "best": index == top,
                        "log": parameter.log,
                        "low": parameter.low,
                        "high": parameter.high,
                    }
                )
    frame = pd.DataFrame(rows, columns=COLUMNS)
    for _, part in frame[frame["choice"] != ""].groupby("parameter"):
        codes = {choice: float(i) for i, choice in enumerate(sorted(part["choice"].unique()))}
        frame.loc[part.index, "place"] = part["choice"].map(codes)
    return frame.sort_values("parameter", key=_order, kind="stable", ignore_index=True)


def _order(names: pd.Series) -> pd.Series:
    """Parameters in the order in which studies name them first."""
    return names.map({name: i for i, name in enumerate(names.unique())})


def draw(data: pd.DataFrame) -> Figure:
    """A panel per parameter, all on one scale of values."""
    with theme.styled():
        if data.empty:
            return theme.nothing("no trial has ended yet")
        names, studies = list(data["parameter"].unique()), list(data["study"].unique())
        figure, panels = search_history.grid(len(names), 2.1 if len(names) > 1 else 2.8)
        low, high = search_history.window(data["value"])
        for ax, name in zip(panels, names, strict=True):
            rows = data[data["parameter"] == name]
            _axis(ax, rows, studies)
            for study, of_study in rows.groupby("study", sort=False):
                alone = (data["study"] == study).sum() == len(of_study)  # else other parameters move between the dots
                _points(ax, of_study, studies.index(study), len(studies), low, alone)
            ax.set_xlabel(name)
            ax.set_ylim(low, high)
        if len(studies) > 1:
            for i, study in enumerate(studies):
                colour, marker, _ = search_history.look(i)
                panels[0].plot([], [], marker, color=colour, ms=5.5, label=study)
            figure.legend(loc="outside upper left", ncols=min(len(studies), 5))
    return figure


def _axis(axes: Axes, rows: pd.DataFrame, studies: Sequence[str]) -> None:
    if (rows["choice"] != "").any():
        choices = rows.drop_duplicates("choice").sort_values("place")
        axes.set_xticks(choices["place"], list(choices["choice"]))
        axes.set_xlim(-0.6, choices["place"].max() + 0.6)
        return
    low, high = min(rows["low"].min(), rows["place"].min()), max(rows["high"].max(), rows["place"].max())
    ranges = rows.drop_duplicates(["study", "low", "high"])
    differ = len(ranges.drop_duplicates(["low", "high"])) > 1
    for row in ranges.to_dict("records"):
        colour = search_history.look(studies.index(row["study"]))[0] if differ else theme.MUTED
        for edge in (row["low"], row["high"]):
            # Of many ranges, whole lines would be a fence.
            axes.axvline(
                edge, 0, 0.08 if differ else 1, color=colour, lw=1.1, ls="-" if differ else (0, (1, 2)), zorder=0.8
            )
    if rows["log"].all() and low > 0:
        axes.set_xscale("log")
        ticks = log_ticks(low, high)
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        edge = (high / low) ** 0.06 if high > low else 2.0
        axes.set_xlim(low / edge, high * edge)
    else:
        axes.locator_params(axis="x", nbins=5)
        edge = 0.06 * (high - low) or 1.0
        axes.set_xlim(low - edge, high + edge)


def log_ticks(low: float, high: float) -> list[float]:
    """A few round numbers within the range: powers of ten, or closer ones where those are too few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for steps in ((1,), (1, 3), (1, 2, 5)):
        # As text, for 3e-05 is not 3 · 10⁻⁵ in floating point.
        ticks = [tick for power in powers for step in steps if low <= (tick := float(f"{step}e{power}")) <= high]
        if len(ticks) >= 3:
            return ticks
    return ticks or [low, high]


def _points(axes: Axes, rows: pd.DataFrame, index: int, count: int, low: float, alone: bool) -> None:
    colour, marker, _ = search_history.look(index)
    strips = (rows["choice"] != "").any()
    places = rows["place"] + (0.3 * (index - (count - 1) / 2) / max(count - 1, 1) if strips else 0.0)
    below = rows["value"] < low
    if alone and not strips:
        line = rows.sort_values("place")
        axes.plot(line["place"], line["value"], color=colour, lw=0.9, alpha=0.5, zorder=1)
    axes.plot(places[~below], rows.loc[~below, "value"], marker, color=colour, ms=5, alpha=0.75, mew=0)
    if below.any():  # an empty line that is not clipped would count as one at the figure's corner
        axes.plot(places[below], [low] * int(below.sum()), "v", color=colour, ms=5, clip_on=False, mew=0)
    best = rows["best"]
    axes.plot(places[best], rows.loc[best, "value"], "o", ms=11, mfc="none", mec=theme.INK, mew=1.3)


def describe(data: pd.DataFrame) -> str:
    """The figure in words: where each study's best trial lies."""
    if data.empty:
        return "No trial has ended yet."
    parts = []
    for row in data[data["best"]].to_dict("records"):
        where = row["choice"] or f"{row['place']:.3g}"
        ends = "" if row["choice"] else f" (searched from {row['low']:.3g} to {row['high']:.3g})"
        parts.append(f"{row['study']}: {row['parameter']} {where}{ends}, {phrases.number(row['value'])}")
    return "Validation accuracy in per cent by parameter; each study's best trial. " + "; ".join(parts) + "."
