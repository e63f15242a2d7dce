"""Validation accuracy over the two parameters that matter most, between the trials by interpolation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cifar_ablations.reports.figures import search_history, search_slices, theme
from cifar_ablations.reports.reading import searches
from cifar_ablations.reports.reading.searches import Parameter, Study
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import BoundaryNorm, Colormap
    from matplotlib.figure import Figure

COLUMNS = ["study", "trial", "x_name", "y_name", "x", "y", "x_log", "y_log", "value", "best"]
LEAST_TRIALS = 12
LEVELS = 9
EDGE = "#111111"  # on colours that are the same on a dark page


def data(trials: pd.DataFrame, studies: Sequence[Study], importances: pd.DataFrame) -> pd.DataFrame:
    """One row per complete trial of every study with LEAST_TRIALS of them and two numeric parameters, columns COLUMNS.

    x and y are the two most important of those by the frame of `search_importance.data`; values are in per cent.
    """
    parts = []
    for study in studies:
        complete = searches.complete(trials[trials["study"] == study.name])
        pair = _pair(study, complete, importances)
        if pair is None or len(complete) < LEAST_TRIALS:
            continue
        x, y = pair  # both have an importance, and so a value in every trial
        frame = complete[["study", "trial"]].assign(
            x_name=x.name,
            y_name=y.name,
            x=complete[x.name].astype(float),
            y=complete[y.name].astype(float),
            x_log=x.log,
            y_log=y.log,
            value=100 * complete["value"],
            best=complete.index == complete["value"].idxmax(),
        )
        parts.append(frame)
    return pd.concat(parts, ignore_index=True)[COLUMNS] if parts else pd.DataFrame(columns=COLUMNS)


def _pair(study: Study, complete: pd.DataFrame, importances: pd.DataFrame) -> tuple[Parameter, Parameter] | None:
    of_study = importances[importances["study"] == study.name]
    ranked = of_study.groupby("parameter")["mean"].mean().sort_values(ascending=False, kind="stable").index
    by_name = {p.name: p for p in study.parameters if p.numeric and p.name in complete}
    numeric = [by_name[name] for name in ranked if name in by_name]
    return (numeric[0], numeric[1]) if len(numeric) >= 2 else None


def draw(data: pd.DataFrame) -> Figure:
    """A panel per study, all with one scale of colours."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm
    from matplotlib.ticker import MaxNLocator

    with theme.styled():
        if data.empty:
            return theme.nothing("no study has enough trials of two parameters")
        names = list(data["study"].unique())
        columns, rows = min(2, len(names)), math.ceil(len(names) / 2)
        figure = theme.new_figure(theme.WIDTH, 3.4 * rows)
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        levels = np.asarray(MaxNLocator(nbins=LEVELS).tick_values(*_window(data["value"])))
        colours, norm = colormaps["cividis"], BoundaryNorm(levels, colormaps["cividis"].N, extend="min")
        for ax in panels[len(names) :]:
            ax.set_axis_off()
        for ax, name in zip(panels, names, strict=False):
            _panel(ax, data[data["study"] == name], levels, colours, norm)
            ax.set_title(name, fontsize=10, weight="normal")
        bar = figure.colorbar(ScalarMappable(norm, colours), ax=list(panels), aspect=30, pad=0.02)
        bar.set_label("validation accuracy, per cent")
    return figure


def _window(values: pd.Series) -> tuple[float, float]:
    """The usual values, up to the best one."""
    low = max(search_history.window(values)[0], values.min())
    return low, max(values.max(), low + 1e-6)


def _panel(axes: Axes, rows: pd.DataFrame, levels: np.ndarray, colours: Colormap, norm: BoundaryNorm) -> None:
    from matplotlib.tri import Triangulation

    x, y = _places(rows["x"], rows["x_log"]), _places(rows["y"], rows["y_log"])
    axes.grid(False)
    triangles = _triangles(x, y)
    if triangles is not None:
        filled = rows["value"].clip(levels[0], levels[-1]).to_numpy()
        mesh = Triangulation(x, y, triangles)
        axes.tricontourf(mesh, filled, levels=levels, cmap=colours, norm=norm)
    axes.scatter(x, y, c=rows["value"], cmap=colours, norm=norm, s=34, edgecolors=EDGE, linewidths=0.9, zorder=3)
    best = rows["best"].to_numpy()
    axes.plot(x[best], y[best], "o", ms=12, mfc="none", mec=EDGE, mew=1.5, zorder=4)
    for axis, places, column in ((axes.xaxis, x, "x"), (axes.yaxis, y, "y")):
        edge = 0.08 * (places.max() - places.min()) or 0.5
        low, high = places.min() - edge, places.max() + edge
        (axes.set_xlim if column == "x" else axes.set_ylim)(low, high)
        if rows[f"{column}_log"].all():
            ticks = search_slices.log_ticks(10**low, 10**high)
            axis.set_ticks(np.log10(ticks), [f"{tick:g}" for tick in ticks])
        else:
            axes.locator_params(axis="x" if column == "x" else "y", nbins=5)
        axis.set_label_text(rows[f"{column}_name"].iloc[0])
    axes.tick_params(axis="y", labelsize=9, labelcolor=theme.MUTED)


def _places(values: pd.Series, log: pd.Series) -> np.ndarray:
    return (np.log10(values) if log.all() else values).to_numpy(dtype=float)


def _triangles(x: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """Triangles between the points, as if both axes were equally long; None where all points are on one line."""
    from matplotlib.tri import Triangulation

    points = [(v - v.min()) / (v.max() - v.min() or 1) for v in (x, y)]
    try:
        return Triangulation(*points).triangles
    except (RuntimeError, ValueError):
        return None


def describe(data: pd.DataFrame) -> str:
    """The figure in words: where each study's best trial lies."""
    if data.empty:
        return "No study has enough trials of two parameters."
    parts = [
        f"{row['study']}: best {phrases.number(row['value'])} at {row['x_name']} {row['x']:.3g} "
        f"and {row['y_name']} {row['y']:.3g}"
        for row in data[data["best"]].to_dict("records")
    ]
    return "Validation accuracy in per cent over two parameters. " + "; ".join(parts) + "."
