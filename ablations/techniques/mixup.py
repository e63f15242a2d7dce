"""Mixup: every training image is a blend of two, and so is its label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.beta import beta
from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.technique import Draws, Expectation, Plain, Technique, knob


def blend(images: Tensor, targets: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """share of each image and label, and 1 - share of the one before it in the batch.

    images: float [B, C, H, W]; targets: class probabilities [B, classes]; share: [B] in [0, 1]. With one share for the
    whole batch this is torchvision's MixUp, whose partner is the batch rolled by one too.
    """
    s = share[:, None, None, None]
    return (
        images * s + images.roll(1, 0) * (1 - s),
        targets * share[:, None] + targets.roll(1, 0) * (1 - share[:, None]),
    )


MIXUP = '''
def mixup(images, targets):
    """A share of each image and label, and the rest of those before it in the batch."""
    # The suite takes shares from a table of the distribution's quantiles.
    share = torch.distributions.Beta({alpha}, {alpha}).sample((len(images), 1))
    share = share.to(images.device)
    targets = share * targets + (1 - share) * targets.roll(1, 0)
    share = share[:, :, None, None]
    return share * images + (1 - share) * images.roll(1, 0), targets
'''


@dataclass(frozen=True)
class Mixup(Technique):
    """The network is asked to behave linearly between training examples; shares are drawn per image."""

    alpha: float = knob(
        0.0,
        doc="both parameters of the beta distribution of shares; 0 mixes nothing",
        low=0.0,
        high=10.0,
        search=(0.05, 1.0),
        log=True,
    )

    name: ClassVar[str] = "mixup"
    title: ClassVar[str] = "mixup"
    source: ClassVar[str] = "Zhang et al. 2018; beyond the notebook's 'Data Augmentation'"
    reason: ClassVar[str] = "Images and labels blended linearly make the decision boundaries smoother."
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {"off": {}, "on": {"alpha": 0.2}, "strong": {"alpha": 1.0}}
    expectations: ClassVar[tuple[Expectation, ...]] = (
        Expectation(schema.TEST_ACCURACY, +1, "Zhang et al. 2018"),
        Expectation(schema.GENERALISATION_GAP, -1, "Zhang et al. 2018"),
    )
    mechanism: ClassVar[tuple[str, ...]] = (schema.ENTROPY, schema.GENERALISATION_GAP)

    def mix(self, images: Tensor, targets: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        if self.alpha == 0.0:
            return images, targets
        return blend(images, targets, beta(draws.integers, self.alpha, len(images), images.device))

    def plain(self, sized: Sized) -> Plain:
        return Plain(definitions=(MIXUP.format(alpha=self.alpha),), mixing=("mixup",))
