"""The best value of a search against the epochs trained so far, and the best expected of trials drawn at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cifar_ablations.reports.figures import search_history, theme
from cifar_ablations.reports.reading import searches
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ["study", "kind", "n", "epochs", "value"]
INDEPENDENT = ("random", "qmc", "grid")
"""Samplers whose trials do not depend on one another's values, so that their order means nothing."""


def expected_best(values: Sequence[float], n: int) -> float:
    """The expected best of n trials drawn from the given ones with replacement (Dodge et al. 2019).

    The sum over the distinct values v of v · (P(V ≤ v)ⁿ − P(V < v)ⁿ), with the values' empirical distribution.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    at_most = (np.arange(1, len(ordered) + 1) / len(ordered)) ** n
    return float(ordered @ np.diff(at_most, prepend=0.0))


def data(trials: pd.DataFrame, samplers: Mapping[str, str]) -> pd.DataFrame:
    """Per study the best value so far, in per cent, against the epochs that its trials trained (kind 'best so far').

    Where `samplers` names an INDEPENDENT one for the study, also the expected best of the first n trials (kind
    'expected'), each at the mean epochs of a trial; a pruned trial counts with its last value. Columns COLUMNS.
    """
    frame = searches.in_order(trials)
    parts = []
    for name, rows in frame.groupby("study", sort=False):
        complete = rows.dropna(subset=["best"])
        if complete.empty:  # all were pruned or failed
            continue
        so_far = {"n": complete["order"], "epochs": complete["spent"], "value": 100 * complete["best"]}
        parts.append(pd.DataFrame(so_far).assign(study=name, kind="best so far"))
        values = rows["last"].dropna().to_list()
        if samplers.get(str(name)) in INDEPENDENT and len(values) > 1:
            counts, each = range(1, len(values) + 1), rows["spent"].max() / len(rows)
            best = [100 * expected_best(values, n) for n in counts]
            curve = pd.DataFrame({"n": counts, "epochs": [n * each for n in counts], "value": best})
            parts.append(curve.assign(study=name, kind="expected"))
    parts = [part for part in parts if not part.empty]
    return pd.concat(parts, ignore_index=True)[COLUMNS] if parts else pd.DataFrame(columns=COLUMNS)


def draw(data: pd.DataFrame) -> Figure:
    """All studies in one panel: a step line each and, thin, what was to be expected."""
    with theme.styled():
        if data.empty:
            return theme.nothing("no trial has ended yet")
        figure = theme.new_figure(theme.WIDTH, 2.8)
        axes = figure.add_subplot()
        end = data["epochs"].max()
        names = list(data["study"].unique())
        for i, name in enumerate(names):
            colour, marker, dashes = search_history.look(i)
            rows = data[(data["study"] == name) & (data["kind"] == "best so far")]
            changed = rows[rows["value"].diff().fillna(1) > 0]
            steps = [*rows["epochs"], end], [*rows["value"], rows["value"].iloc[-1]]
            axes.step(*steps, where="post", color=colour, ls=dashes)
            axes.plot(changed["epochs"], changed["value"], marker, color=colour, ms=5.5)
            axes.plot([], [], marker=marker, color=colour, ls=dashes, ms=5.5, label=name)
            expected = data[(data["study"] == name) & (data["kind"] == "expected")]
            axes.plot(expected["epochs"], expected["value"], color=colour, lw=0.9, alpha=0.75)
        theme.upright(axes)
        axes.set_xlim(0, 1.01 * end or 1)
        # A line that soon is flat would have all but its end cut off.
        axes.set_ylim(*search_history.window(data.drop_duplicates(["study", "kind", "value"])["value"]))
        axes.set_xlabel("epochs trained, summed over the study's trials")
        axes.set_ylabel("best so far, per cent")
        if len(names) > 1:
            figure.legend(loc="outside right upper")
    return figure


def describe(data: pd.DataFrame) -> str:
    """The figure in words: where each line ends."""
    if data.empty:
        return "No trial has ended yet."
    ends = data[data["kind"] == "best so far"].groupby("study", sort=False).tail(1)
    parts = [
        f"{row['study']} reaches {phrases.number(row['value'])} after {row['epochs']:g} epochs"
        for row in ends.to_dict("records")
    ]
    return "Best validation accuracy so far in per cent by epochs trained. " + "; ".join(parts) + "."
