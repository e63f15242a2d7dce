"""Label smoothing: a little of the probability goes to every class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.technique import Draws, Expectation, Plain, Technique, knob


def smooth(targets: Tensor, epsilon: float) -> Tensor:
    """1 - epsilon of the class probabilities [B, classes] and epsilon of the uniform ones.

    Equal to the label_smoothing of torch's cross entropy.
    """
    return targets * (1 - epsilon) + epsilon / targets.shape[1]


@dataclass(frozen=True)
class LabelSmoothing(Technique):
    """The network is not asked to be certain, so that its last layer need not grow without bound."""

    epsilon: float = knob(
        0.0, doc="probability spread over all classes", low=0.0, high=0.9, search=(0.01, 0.3), log=True
    )

    name: ClassVar[str] = "label_smoothing"
    title: ClassVar[str] = "label smoothing"
    source: ClassVar[str] = "Szegedy et al. 2016, section 7; beyond the notebook's regularisers"
    reason: ClassVar[str] = "Targets short of certainty keep the last layer from growing without bound."
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {"off": {}, "on": {"epsilon": 0.1}}
    expectations: ClassVar[tuple[Expectation, ...]] = (
        Expectation(schema.TEST_ACCURACY, +1, "Szegedy et al. 2016, section 7"),
    )
    mechanism: ClassVar[tuple[str, ...]] = (schema.ENTROPY, schema.CALIBRATION_ERROR)

    def mix(self, images: Tensor, targets: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        return images, targets if self.epsilon == 0.0 else smooth(targets, self.epsilon)

    def plain(self, sized: Sized) -> Plain:
        return Plain(loss=(f"label_smoothing={self.epsilon}",))
