"""Data augmentation: random crops of the padded image and random horizontal flips, drawn for every image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ablations import schema
from ablations.technique import Draws, Expectation, Technique, knob


def crop_and_flip(images: Tensor, top: Tensor, left: Tensor, mirrored: Tensor, padding: int) -> Tensor:
    """A window of each image, padded with black, mirrored left to right where asked.

    images: uint8 [B, C, H, W]; top, left: int64 [B] in 0 … 2 * padding; mirrored: bool [B].
    Equal to torchvision's `crop` of `pad(fill=0)`, then `hflip`.
    """
    batch, _, height, width = images.shape
    padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(batch, width)
    columns = left[:, None] + torch.where(mirrored[:, None], width - 1 - columns, columns)
    examples = torch.arange(batch, device=images.device)[:, None, None]
    return padded[examples, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Augmentation(Technique):
    """Crops shift the image by up to `padding` pixels either way; a flip mirrors it with probability `flip`."""

    padding: int = knob(0, doc="black pixels added on each side before the crop", low=0, high=16, search=(0, 8))
    flip: float = knob(0.0, doc="probability of a horizontal flip", low=0.0, high=1.0, search=(0.0, 0.5))

    name: ClassVar[str] = "augmentation"
    title: ClassVar[str] = "augmentation"
    source: ClassVar[str] = "Krizhevsky et al. 2012; notebook, 'Data Augmentation'"
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        "on": {"padding": 4, "flip": 0.5},
        "crop": {"padding": 4},
        "flip": {"flip": 0.5},
    }
    notebook: ClassVar[str] = "on"
    expectations: ClassVar[tuple[Expectation, ...]] = (
        Expectation(schema.TEST_ACCURACY, +1, "Krizhevsky et al. 2012"),
        Expectation(schema.GENERALISATION_GAP, -1, "Shorten & Khoshgoftaar 2019"),
    )

    def augment(self, images: Tensor, draws: Draws) -> Tensor:
        if self.is_off:
            return images
        # Three draws are taken at every setting, so that levels share those they have in common.
        batch = (images.shape[0],)
        mirrored = draws.uniform(batch) < self.flip
        top = draws.integers(2 * self.padding + 1, batch)
        left = draws.integers(2 * self.padding + 1, batch)
        return crop_and_flip(images, top, left, mirrored, self.padding)
