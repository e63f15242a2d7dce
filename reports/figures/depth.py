"""A signal's variance through the layers: at the input of each activation function, before and after training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.reading import details
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ["technique", "treatment", "control", "when", "role", "layer", "middle", "low", "high", "n"]
WHEN = dict(zip(details.VARIANCES, ("before training", "after training"), strict=True))


def data(arrays: details.Arrays, runs: pd.DataFrame, plan: PlanRecord) -> pd.DataFrame:
    """Per claim of `details.deep_claims`, time, side and layer the geometric mean over seeds, and the extreme seeds.

    Variances that are not positive and finite are left out. Layers count from 1, in the order in which they act.
    """
    rows: list[dict[str, Any]] = []
    for claim in details.deep_claims(plan):
        about = {"technique": claim.technique, "treatment": claim.treatment, "control": claim.control}
        for name, when in WHEN.items():
            for role, arm in (("without", claim.control), ("with", claim.treatment)):
                ids = runs.loc[runs["arm"] == arm, "run_id"] if "run_id" in runs else ()
                variances = [arrays[run_id][name] for run_id in ids if name in arrays.get(run_id, {})]
                for layer, values in enumerate(np.array(variances).T, start=1):
                    known = values[np.isfinite(values) & (values > 0)].astype(float)
                    if len(known):
                        middle = float(np.exp(np.log(known).mean()))
                        limits = {"low": known.min(), "high": known.max(), "n": len(known)}
                        rows.append(about | {"when": when, "role": role, "layer": layer, "middle": middle} | limits)
    return pd.DataFrame(rows, columns=COLUMNS)


def draw(data: pd.DataFrame) -> Figure:
    """A row per comparison, before training and after it side by side, on one logarithmic scale."""
    with theme.styled():
        if data.empty:
            return theme.nothing("no comparison has a run of both arms yet")
        pairs = list(dict.fromkeys(zip(data["treatment"], data["control"], strict=True)))
        figure = theme.new_figure(theme.WIDTH, 1.7 * len(pairs) + 0.2)
        panels = figure.subplots(len(pairs), 2, squeeze=False, sharey="row")
        for (treatment, control), row in zip(pairs, panels, strict=True):
            of_pair = data[(data["treatment"] == treatment) & (data["control"] == control)]
            for when, axes in zip(WHEN.values(), row, strict=True):
                _panel(axes, of_pair[of_pair["when"] == when])
                title = f"{treatment} / {control}" if when == next(iter(WHEN.values())) else ""
                axes.set_title(phrases.sentence_case(title), fontsize=10)
                axes.set_xlabel(f"layer, {when}")
            row[0].set_ylabel("variance")
    return figure


def _panel(axes: Axes, data: pd.DataFrame) -> None:
    from matplotlib.ticker import MaxNLocator

    for role, colour, dashes in (("without", theme.CONTROL, (0, (4, 1.5))), ("with", theme.TREATMENT, "-")):
        rows = data[data["role"] == role]
        axes.fill_between(rows["layer"], rows["low"], rows["high"], color=colour, alpha=0.16, lw=0)
        axes.plot(rows["layer"], rows["middle"], color=colour, linestyle=dashes, marker="o", ms=4.5)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.minorticks_off()
    theme.upright(axes)


def describe(data: pd.DataFrame) -> str:
    """The figure in words: the variance at the first layer and at the last."""
    if data.empty:
        return "No comparison has a run of both arms yet."
    parts = []
    for (treatment, control, when, role), rows in data.groupby(["treatment", "control", "when", "role"], sort=False):
        arm = treatment if role == "with" else control
        ends = [phrases.significant(rows["middle"].iloc[i]) for i in (0, -1)]
        parts.append(f"'{arm}' {when}: {ends[0]} at the first, {ends[1]} at the last")
    return "Variance going into each activation function. " + "; ".join(dict.fromkeys(parts)) + "."
