"""CutMix: a rectangle of every training image is cut out of another one, whose label counts by its share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.beta import beta
from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.technique import Draws, Expectation, Plain, Technique, knob


def paste(images: Tensor, targets: Tensor, share: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """A rectangle around (row, column), of about 1 - share of the area, from the image before it in the batch.

    images: float [B, C, H, W]; targets: class probabilities [B, classes]; share [B] in [0, 1]; row, column: int64 [B],
    the rectangle's middle. It is cut off at the borders, and labels weigh by what is left of it, as in torchvision's
    CutMix, which this equals for one share and middle for the whole batch.
    """
    height, width = images.shape[2:]
    half = 0.5 * torch.sqrt(1 - share)
    half_height, half_width = (half * height).to(torch.int64), (half * width).to(torch.int64)

    def within(middle: Tensor, reach: Tensor, size: int) -> Tensor:
        position = torch.arange(size, device=images.device)
        return (position >= (middle - reach)[:, None]) & (position < (middle + reach)[:, None])

    inside = within(row, half_height, height)[:, :, None] & within(column, half_width, width)[:, None, :]
    kept = 1 - inside.flatten(1).sum(dim=1).to(targets.dtype)[:, None] / (height * width)
    mixed = torch.where(inside[:, None], images.roll(1, 0), images)
    return mixed, targets * kept + targets.roll(1, 0) * (1 - kept)


CUTMIX = '''
def cutmix(images, targets):
    """A rectangle of each image, and its label, from the one before it in the batch."""
    # The suite takes shares from a table of the distribution's quantiles.
    share = torch.distributions.Beta({alpha}, {alpha}).sample((len(images), 1))

    def within(size):
        middle, reach = torch.randint(size, share.shape), 0.5 * torch.sqrt(1 - share)
        reach, position = (reach * size).int(), torch.arange(size)
        return (middle - reach <= position) & (position < middle + reach)

    height, width = images.shape[2:]
    inside = (within(height)[:, :, None] & within(width)[:, None, :]).to(images.device)
    kept = 1 - inside.float().mean(dim=(1, 2))[:, None]
    images = torch.where(inside[:, None], images.roll(1, 0), images)
    return images, kept * targets + (1 - kept) * targets.roll(1, 0)
'''


@dataclass(frozen=True)
class Cutmix(Technique):
    """Parts of two images in one: the network cannot rely on a single feature. Rectangles are drawn per image."""

    alpha: float = knob(
        0.0,
        doc="both parameters of the beta distribution of shares; 0 mixes nothing",
        low=0.0,
        high=10.0,
        search=(0.1, 2.0),
        log=True,
    )

    name: ClassVar[str] = "cutmix"
    title: ClassVar[str] = "CutMix"
    source: ClassVar[str] = "Yun et al. 2019; beyond the notebook's 'Data Augmentation'"
    reason: ClassVar[str] = (
        "A patch of one image in another, with labels in proportion, makes the network look at more than one region."
    )
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {"off": {}, "on": {"alpha": 1.0}}
    expectations: ClassVar[tuple[Expectation, ...]] = (
        Expectation(schema.TEST_ACCURACY, +1, "Yun et al. 2019"),
        Expectation(schema.GENERALISATION_GAP, -1, "Yun et al. 2019"),
    )
    mechanism: ClassVar[tuple[str, ...]] = (schema.ENTROPY, schema.GENERALISATION_GAP)

    def mix(self, images: Tensor, targets: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        if self.alpha == 0.0:
            return images, targets
        batch, (height, width) = len(images), images.shape[2:]
        share = beta(draws.integers, self.alpha, batch, images.device)
        return paste(images, targets, share, draws.integers(height, (batch,)), draws.integers(width, (batch,)))

    def plain(self, sized: Sized) -> Plain:
        return Plain(definitions=(CUTMIX.format(alpha=self.alpha),), mixing=("cutmix",))
