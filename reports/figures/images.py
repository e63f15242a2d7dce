"""Small images side by side within a figure."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def pixels(png: str) -> np.ndarray:
    """The image in base64 text of a PNG file, uint8 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"))


def bare(axes: Axes) -> None:
    """Take away an axes' frame and ticks."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def strip(pngs: Sequence[str | None], gap: int, columns: int) -> np.ndarray:
    """Images side by side, uint8 [H, columns * (W + gap) - gap, 4], transparent between them and where there is none.

    One image per row, not one per picture: matplotlib names an image by its content, and no two may have one name.
    """
    images = {i: pixels(png) for i, png in enumerate(pngs) if png is not None}
    height, width = next(iter(images.values())).shape[:2]
    canvas = np.zeros((height, columns * (width + gap) - gap, 4), np.uint8)
    for i, image in images.items():
        left = i * (width + gap)
        canvas[:, left : left + width, :3] = image
        canvas[:, left : left + width, 3] = 255
    return canvas


def show(axes: Axes, canvas: np.ndarray, heading: str) -> None:
    """A canvas of `strip`, pixel by pixel, under a heading."""
    axes.imshow(canvas, interpolation="none", aspect="equal")
    axes.grid(False)
    bare(axes)
    axes.set_title(heading, fontsize=9, weight="normal")
