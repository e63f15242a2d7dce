"""What the figures of the foundations share draws what it is given, and adds nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from cifar_ablations.reports.figures import panels, theme


@pytest.fixture(autouse=True)
def styled() -> Iterator[None]:
    with theme.styled():
        yield


def test_a_grid_has_its_panels_row_by_row() -> None:
    figure, axes = panels.grid(2, 3, 1.5)
    assert [figure.axes.index(ax) for ax in axes] == list(range(6))
    figure.draw_without_rendering()
    places = [ax.get_position() for ax in axes]
    assert places[0].x0 < places[1].x0 < places[2].x0
    assert places[0].y0 > places[3].y0
    assert figure.get_size_inches().tolist() == pytest.approx([theme.WIDTH, 2 * 1.5 + 0.3])


def test_lines_bands_and_marks_are_where_the_numbers_are() -> None:
    _, (ax,) = panels.grid(1, 1, 2)
    rows = pd.DataFrame({"x": [0.0, 1.0, 2.0], "low": [1.0, 2.0, 1.0], "high": [3.0, 4.0, 2.0]})
    panels.line(ax, rows["x"], rows["high"], 0)
    panels.crosses(ax, [0.5], [1.5])
    panels.circles(ax, [1.5], [2.5])
    drawn = [np.asarray(line.get_xydata()).tolist() for line in ax.lines]
    assert drawn == [[[0, 3], [1, 4], [2, 2]], [[0.5, 1.5]], [[1.5, 2.5]]]
    panels.band(ax, rows, "x", 0)
    (filled,) = ax.collections
    (outline,) = filled.get_paths()
    corners = {tuple(point) for point in np.asarray(outline.vertices).tolist()}
    assert corners == {(0, 1), (1, 2), (2, 1), (0, 3), (1, 4), (2, 2)}


def test_a_legend_names_each_label_once_in_the_order_of_the_panels() -> None:
    figure, axes = panels.grid(1, 2, 2)
    for ax, labels in zip(axes, (["b", "a"], ["a", "c"]), strict=True):
        for index, label in enumerate(labels):
            panels.line(ax, pd.Series([0, 1]), pd.Series([0, 1]), index, label)
    panels.legend(figure, axes)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["b", "a", "c"]
