"""A few training images as they are, and as networks got them in the first epochs under each input pipeline."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cifar_ablations.ablations.record import GalleryRecord
from cifar_ablations.reports.figures import images, theme
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ["pipeline", "arms", "subject", "label", "epoch", "png"]
GAP, LEAD = 2, 8
"""Pixels between two images, and between an image as it is and its visits."""
ROW = 0.84
"""Height of a row of images, in inches."""


def data(gallery: GalleryRecord) -> pd.DataFrame:
    """One row per picture, from `load.gallery_of`; epoch 0 is the image as it is, and `arms` are words.

    Arms that leave every image as it is are left out: a sentence says as much.
    """
    frame = pd.DataFrame(list(gallery.images), columns=COLUMNS)
    frame = frame[frame["pipeline"] != ""].reset_index(drop=True)
    return frame.assign(arms=[_named(names) for names in frame["arms"]])


def _named(names: Sequence[str]) -> str:
    if len(names) <= 2:
        return phrases.listing([f"“{name}”" for name in names])
    return f"“{names[0]}” and {len(names) - 1} arms with the same"


def draw(data: pd.DataFrame) -> Figure:
    """A block per pipeline, a row per image, a column per epoch."""
    with theme.styled():
        if data.empty:
            return theme.nothing("no pictures were kept")
        blocks = [rows for _, rows in data.groupby("pipeline", sort=False)]
        heights = [ROW * rows["subject"].nunique() + 0.34 + 0.16 * len(_heading(rows)) for rows in blocks]
        figure = theme.new_figure(theme.WIDTH, sum(heights))
        panels = figure.subplots(len(blocks), 1, squeeze=False, height_ratios=heights)[:, 0]
        columns = int(data["epoch"].max()) + 1
        for axes, rows in zip(panels, blocks, strict=True):
            _block(axes, rows, columns)
    return figure


def _heading(rows: pd.DataFrame) -> list[str]:
    """The name of a pipeline and the arms that use it, wrapped to the column's width."""
    first = rows.iloc[0]
    return textwrap.wrap(f"{phrases.sentence_case(first['pipeline'])}: {first['arms']}", 100)


def _block(axes: Axes, rows: pd.DataFrame, columns: int) -> None:
    strips = []
    for _, of_subject in rows.groupby("subject", sort=True):
        by_epoch = dict(zip(of_subject["epoch"], of_subject["png"], strict=True))
        strips.append(images.strip([by_epoch.get(epoch) for epoch in range(columns)], GAP, columns))
    width = strips[0].shape[1]
    side = (width + GAP) // columns - GAP
    between = np.zeros((GAP, width, 4), np.uint8)
    canvas = np.concatenate([part for strip in strips for part in (strip, between)][:-1])
    canvas = np.insert(canvas, [side] * LEAD, 0, axis=1)
    images.show(axes, canvas, "")
    axes.set_anchor("W")
    axes.set_title("\n".join(_heading(rows)), fontsize=9.5, weight="normal", pad=18)
    for epoch in sorted(rows["epoch"].unique()):
        middle = epoch * (side + GAP) + (side - 1) / 2 + (LEAD if epoch else 0)
        name = "as it is" if epoch == 0 else f"epoch {epoch}" if epoch == 1 else f"{epoch}"
        axes.text(middle, -2.5, name, ha="center", va="bottom", fontsize=8, color=theme.MUTED)


def describe(data: pd.DataFrame) -> str:
    """The figure in words."""
    if data.empty:
        return "No pictures were kept."
    labels = data.drop_duplicates(["pipeline", "subject"]).groupby("pipeline", sort=False)["label"].agg(list)
    kinds = [f"{pipeline}: {phrases.listing(kept)}" for pipeline, kept in labels.items()]
    return f"Training images as the networks saw them in their first {data['epoch'].max()} epochs. {'; '.join(kinds)}."
