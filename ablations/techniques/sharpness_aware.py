"""Sharpness-aware minimisation: each step takes the gradient at the worst point near the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.technique import Expectation, Plain, Technique, knob

ETA = 0.01
"""What Kwon et al. 2021 add to the size of a weight, so that small ones move too."""


def climb(weights: Tensor, gradients: Tensor, rho: float, *, adaptive: bool) -> Tensor:
    """What leads from the weights [P] to where the loss is about highest within rho of them, [P].

    rho · g / ‖g‖ (Foret et al. 2021, equation 2), or with T = |w| + η, where distances are relative to the size of
    each weight, rho · T² g / ‖T g‖ (Kwon et al. 2021, equation 7). No gradient, no climb.
    """
    scale = weights.abs() + ETA if adaptive else torch.ones_like(weights)
    scaled = scale * gradients
    found: Tensor = scale * scaled * (rho / (torch.linalg.vector_norm(scaled) + 1e-12))
    return found


@dataclass(frozen=True)
class SharpnessAware(Technique):
    """Every step costs two: the gradient at the weights leads to a point near them where the loss is higher, and that
    from there, on the same batch with the same units dropped, updates the weights.

    `adaptive` counts distances relative to the size of each weight. The loss that is reported is of the first pass,
    which alone updates the running statistics of batch normalisation; the gradient norm is of the second, whose
    gradient is what clipping, weight decay and the optimizer get. A training with it takes twice as long as one
    without, which in a fleet takes no more for having it beside itself.
    """

    rho: float = knob(
        0.0, doc="how far the worst point is looked for", low=0.0, high=10.0, search=(0.01, 1.0), log=True, later=True
    )
    distance: str = knob("euclidean", doc="how far is measured", choices=("euclidean", "adaptive"), later=True)

    name: ClassVar[str] = "sharpness_aware"
    title: ClassVar[str] = "sharpness-aware minimisation"
    source: ClassVar[str] = "Foret et al. 2021; the notebook has none"
    sources: ClassVar[Mapping[str, str]] = {"adaptive": "Kwon et al. 2021"}
    reason: ClassVar[str] = (
        "Where the loss is low all around, it is low on new images too; each step takes two gradients to look for it."
    )
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        "on": {"rho": 0.05},
        "adaptive": {"rho": 0.5, "distance": "adaptive"},
    }
    titles: ClassVar[Mapping[str, str]] = {"adaptive": "adaptive sharpness-aware minimisation"}
    expectations: ClassVar[tuple[Expectation, ...]] = (
        Expectation(schema.TEST_ACCURACY, +1, "Foret et al. 2021"),
        Expectation(schema.GENERALISATION_GAP, -1, "Foret et al. 2021"),
    )
    mechanism: ClassVar[tuple[str, ...]] = (schema.GENERALISATION_GAP, schema.GRADIENT_NORM, schema.TRAIN_ACCURACY)

    def ascend(self, weights: Tensor, gradients: Tensor) -> Tensor | None:
        if not self.rho:
            return None
        return climb(weights, gradients, self.rho, adaptive=self.distance == "adaptive")

    def plain(self, sized: Sized) -> Plain:
        raise self.not_plain("its second pass drops the same units as the first, which torch's dropout does not")
