"""Panels, lines and bands as the figures of the foundations share them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.figures.search_history import look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def grid(rows: int, columns: int, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure of so many panels, row by row, each so many inches high. Call it within `theme.styled()`."""
    figure = theme.new_figure(theme.WIDTH, rows * height + 0.3)
    axes = list(figure.subplots(rows, columns, squeeze=False, **options).ravel())
    for ax in axes:
        theme.upright(ax)
    return figure, axes


def title(axes: Axes, text: str) -> None:
    """A panel's title, in the weight of the text."""
    axes.set_title(text, fontsize=10, weight="normal")


def line(axes: Axes, x: pd.Series, y: pd.Series, index: int, label: str | None = None, **options: Any) -> None:
    """A line in the colour and dashes of the index-th of several."""
    colour, _, dashes = look(index)
    axes.plot(x, y, color=colour, ls=dashes, label=label, **{"lw": 1.6, **options})


def band(axes: Axes, rows: pd.DataFrame, x: str, index: int) -> None:
    """The columns low to high, filled, in the colour of the index-th of several."""
    axes.fill_between(rows[x], rows["low"], rows["high"], color=look(index)[0], alpha=0.18, lw=0)


def crosses(axes: Axes, x: Any, y: Any, label: str | None = None, **options: Any) -> None:
    """Crosses: values that a cited source printed."""
    options = {"color": theme.INK, "ms": 6.5, "mew": 1.6, "zorder": 5, **options}
    axes.plot(x, y, "x", ls="none", label=label, **options)


def circles(axes: Axes, x: Any, y: Any, label: str | None = None) -> None:
    """Open circles: values that theory expects."""
    axes.plot(x, y, "o", ls="none", ms=6.5, mfc="none", mec=theme.INK, mew=1.2, zorder=4, label=label)


def legend(figure: Figure, axes: Axes | Sequence[Axes], columns: int = 4) -> None:
    """One legend below all panels, of the labels that the given ones have, each once."""
    handles: dict[str, Any] = {}
    for ax in axes if isinstance(axes, Sequence) else [axes]:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=min(columns, len(handles)))
