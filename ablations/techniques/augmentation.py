"""Data augmentation: crops, flips, rotations, colour jitter and erased squares, drawn for every image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.technique import Draws, Expectation, Plain, Technique, Visits, knob

GREY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in an image's brightness, as torchvision has them (ITU-R 601-2)."""


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


def alternate(images: Tensor, first: Tensor, epoch: Tensor) -> Tensor:
    """Mirror left to right the images of `first` in even epochs, and all others in odd ones: Jordan 2024.

    images: [B, C, H, W]; first: bool [B]; epoch: int64 [1], from 0. So any two epochs in a row show both of each image.
    """
    mirrored = first ^ (epoch % 2 == 1)
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Each image turned counter-clockwise about its middle, nearest pixel, black outside.

    images: uint8 [B, C, H, W]; degrees: float [B]. Equal to torchvision's `rotate`, but where a pixel's origin lies
    half-way between two.
    """
    batch, _, height, width = images.shape
    angle = degrees * (math.pi / 180)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    y = torch.arange(height, device=images.device)[:, None] - (height - 1) / 2
    x = torch.arange(width, device=images.device)[None, :] - (width - 1) / 2
    column = (x * cos - y * sin + (width - 1) / 2).round().to(torch.int64)
    row = (x * sin + y * cos + (height - 1) / 2).round().to(torch.int64)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    examples = torch.arange(batch, device=images.device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[examples, row.clamp(0, height - 1), column.clamp(0, width - 1)]
    return (moved * inside[..., None]).permute(0, 3, 1, 2)


def jitter(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Each image's brightness, then contrast, then saturation scaled; images: uint8 [B, 3, H, W], factors: float [B].

    Equal to torchvision's `adjust_brightness`, `adjust_contrast` and `adjust_saturation` in turn, each of which rounds
    down to whole values.
    """
    x = _blended(images, torch.zeros_like(images, dtype=torch.float32), brightness)
    x = _blended(x, _grey(x).floor().mean(dim=(1, 2, 3), keepdim=True), contrast)
    return _blended(x, _grey(x).floor(), saturation)


def _grey(images: Tensor) -> Tensor:
    red, green, blue = images.float().unbind(dim=1)
    return (red * GREY[0]).add_(green, alpha=GREY[1]).add_(blue, alpha=GREY[2])[:, None]


def _blended(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    f = factor[:, None, None, None]
    return (images.float() * f + other * (1 - f)).clamp_(0, 255).to(torch.uint8)


def erase(images: Tensor, row: Tensor, column: Tensor, side: int) -> Tensor:
    """Each image with a black square about (row, column), cut off at the borders: DeVries & Taylor's cutout.

    images: uint8 [B, C, H, W]; row, column: int64 [B], the square's middle.
    """
    height, width = images.shape[2:]

    def within(middle: Tensor, size: int) -> Tensor:
        position = torch.arange(size, device=images.device)
        first = (middle - side // 2)[:, None]
        return (position >= first) & (position < first + side)

    inside = within(row, height)[:, :, None] & within(column, width)[:, None, :]
    return images * ~inside[:, None]


CUTOUT = '''
def cutout(image):
    """A black square of {side} by {side} pixels about a random one, cut off at the borders."""
    row, column = (int(torch.randint(size, ())) for size in image.shape[1:])
    top, left = max(row - {before}, 0), max(column - {before}, 0)
    image[:, top : row + {after}, left : column + {after}] = 0
    return image
'''


@dataclass(frozen=True)
class Augmentation(Technique):
    """Crops shift the image by up to `padding` pixels either way, a flip mirrors it with probability `flip`, and so on:
    different pixels, the same label.
    """

    padding: int = knob(0, doc="black pixels added on each side before the crop", low=0, high=16, search=(0, 8))
    flip: float = knob(0.0, doc="probability of a horizontal flip", low=0.0, high=1.0, search=(0.0, 0.5))
    flipping: str = knob(
        "random",
        doc="whether each flip is drawn anew, or only an image's first, and the others alternate from epoch to epoch",
        choices=("random", "alternating"),
        later=True,
    )
    rotation: float = knob(0.0, doc="largest angle either way, in degrees", low=0.0, high=180.0, search=(0.0, 30.0))
    colour: float = knob(
        0.0, doc="largest change of brightness, contrast and saturation", low=0.0, high=0.9, search=(0.0, 0.5)
    )
    erased: int = knob(0, doc="side of the black square, in pixels", low=0, high=32, search=(0, 16))

    name: ClassVar[str] = "augmentation"
    title: ClassVar[str] = "augmentation"
    source: ClassVar[str] = "Krizhevsky et al. 2012; notebook, 'Data Augmentation'"
    reason: ClassVar[str] = (
        "Changed copies that keep their label make the data more varied, so that memorising gets harder."
    )
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        "on": {"padding": 4, "flip": 0.5},
        "crop": {"padding": 4},
        "flip": {"flip": 0.5},
        "rotation": {"padding": 4, "flip": 0.5, "rotation": 15.0},
        "colour": {"padding": 4, "flip": 0.5, "colour": 0.4},
        "cutout": {"padding": 4, "flip": 0.5, "erased": 8},
        "alternating_flip": {"padding": 4, "flip": 0.5, "flipping": "alternating"},
    }
    titles: ClassVar[Mapping[str, str]] = {
        "crop": "cropping",
        "flip": "flipping",
        "rotation": "augmentation with rotation",
        "colour": "augmentation with colour jitter",
        "cutout": "augmentation with cutout",
        "alternating_flip": "augmentation with alternating flips",
    }
    sources: ClassVar[Mapping[str, str]] = {
        "cutout": "DeVries & Taylor 2017",
        "alternating_flip": "Jordan 2024, arXiv 2404.00498",
    }
    notebook: ClassVar[str] = "on"
    expectations: ClassVar[tuple[Expectation, ...]] = (
        Expectation(schema.TEST_ACCURACY, +1, "Krizhevsky et al. 2012"),
        Expectation(schema.GENERALISATION_GAP, -1, "Shorten & Khoshgoftaar 2019"),
    )
    mechanism: ClassVar[tuple[str, ...]] = (schema.GENERALISATION_GAP, schema.TRAIN_LOSS)

    def augment(self, images: Tensor, draws: Draws) -> Tensor:
        if self.is_off:
            return images
        # The same draws are taken at every setting, so that levels share those they have in common.
        batch, (height, width) = (images.shape[0],), images.shape[2:]
        mirrored = draws.uniform(batch) < (self.flip if self.flipping == "random" else 0.0)
        top = draws.integers(2 * self.padding + 1, batch)
        left = draws.integers(2 * self.padding + 1, batch)
        turned, brightness, contrast, saturation = (2 * draws.uniform(batch) - 1 for _ in range(4))
        row, column = draws.integers(height, batch), draws.integers(width, batch)
        images = crop_and_flip(images, top, left, mirrored, self.padding)
        if self.rotation:
            images = rotate(images, self.rotation * turned)
        if self.colour:
            images = jitter(images, *(1 + self.colour * factor for factor in (brightness, contrast, saturation)))
        if self.erased:
            images = erase(images, row, column, self.erased)
        return images

    def augment_by_epoch(self, images: Tensor, visits: Visits) -> Tensor:
        if self.flipping == "random" or self.flip == 0.0:
            return images
        return alternate(images, visits.uniform() < self.flip, visits.epoch())

    @property
    def mirrors(self) -> bool:
        """Whether images may be mirrored, which changes the label of a digit or a letter."""
        return self.flip > 0

    def plain(self, sized: Sized) -> Plain:
        if self.flipping == "alternating" and self.flip:
            raise self.not_plain("a transform knows neither which image it is given nor in which epoch")
        transforms = []
        if self.padding:
            transforms.append(f"v2.RandomCrop(32, padding={self.padding})")
        if self.flip:
            transforms.append(f"v2.RandomHorizontalFlip({self.flip})")
        if self.rotation:
            transforms.append(f"v2.RandomRotation({self.rotation})")
        if self.colour:  # one after another: a ColorJitter of all three would draw their order
            transforms += [f"v2.ColorJitter({of}={self.colour})" for of in ("brightness", "contrast", "saturation")]
        if not self.erased:
            return Plain(transforms=tuple(transforms))
        before = self.erased // 2
        erasing = CUTOUT.format(side=self.erased, before=before, after=self.erased - before)
        return Plain(definitions=(erasing,), transforms=(*transforms, "cutout"))
