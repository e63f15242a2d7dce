"""Mirrored testing: a trained network looks at each image and its mirror image, and the mean of its logits counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.technique import Expectation, Plain, Technique, knob

MIRRORED = '''
class Mirrored(nn.Module):
    """The mean of a network's logits for an image and its mirror image."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return (self.network(images) + self.network(images.flip(3))) / 2
'''


@dataclass(frozen=True)
class MirroredTesting(Technique):
    """No training changes: once it is over, the network's logits for an image and for its mirror image are averaged, of
    test images and, so that the gap compares like with like, of those training images that are measured again.

    Validation images are looked at as ever, after each epoch and by whatever stops early or searches.
    """

    views: str = knob("plain", doc="what is looked at", choices=("plain", "mirrored"), later=True)

    name: ClassVar[str] = "mirrored_testing"
    title: ClassVar[str] = "test-time mirroring"
    source: ClassVar[str] = "Krizhevsky et al. 2012; Jordan 2024, arXiv 2404.00498; beyond the notebook's evaluation"
    reason: ClassVar[str] = "Two looks at one image err in different ways, and their mean errs less."
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {"off": {}, "on": {"views": "mirrored"}}
    expectations: ClassVar[tuple[Expectation, ...]] = (Expectation(schema.TEST_ACCURACY, +1, "Krizhevsky et al. 2012"),)
    mechanism: ClassVar[tuple[str, ...]] = (schema.TEST_LOSS, schema.ENTROPY)
    measuring: ClassVar[bool] = True

    @property
    def mirrors(self) -> bool:
        """Whether images may be mirrored, which changes the label of a digit or a letter."""
        return self.views == "mirrored"

    def views_of(self, images: Tensor) -> tuple[Tensor, ...]:
        return () if self.views == "plain" else (images.flip(3),)

    def plain(self, sized: Sized) -> Plain:
        return Plain(definitions=(MIRRORED,), after=("model = Mirrored(model)",))
