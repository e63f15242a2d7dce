"""The learning rate as a whole: the optimizer's own, times a factor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.technique import Plain, Technique, knob


@dataclass(frozen=True)
class LearningRate(Technique):
    """Too small a rate gets nowhere within the budget; too large a one overshoots, oscillates or diverges."""

    factor: float = knob(1.0, doc="what the optimizer's rate is multiplied by", low=1e-6, high=1e6)

    name: ClassVar[str] = "learning_rate"
    title: ClassVar[str] = "another learning rate"
    source: ClassVar[str] = "notebook, 'Learning Rate'; Bengio 2012, section 3.1"
    reason: ClassVar[str] = (
        "Too small a rate gets nowhere within the budget; too large a one overshoots, oscillates or diverges."
    )
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        "×0.001": {"factor": 0.001},
        "×0.01": {"factor": 0.01},
        "×0.1": {"factor": 0.1},
        "×0.3": {"factor": 0.3},
        "×3": {"factor": 3.0},
        "×10": {"factor": 10.0},
        "×100": {"factor": 100.0},
    }
    titles: ClassVar[Mapping[str, str]] = {
        "off": "the optimizer's own rate",
        "×0.001": "a thousandth of the learning rate",
        "×0.01": "a hundredth of the learning rate",
        "×0.1": "a tenth of the learning rate",
        "×0.3": "three tenths of the learning rate",
        "×3": "three times the learning rate",
        "×10": "ten times the learning rate",
        "×100": "a hundred times the learning rate",
    }
    mechanism: ClassVar[tuple[str, ...]] = (schema.UPDATE_RATIO, schema.TRAIN_LOSS)

    def schedule(self, epochs: int, steps_per_epoch: int) -> Tensor | None:
        if self.factor == 1.0:
            return None
        return torch.full((epochs * steps_per_epoch,), self.factor, dtype=torch.float64)

    def plain(self, sized: Sized) -> Plain:
        return Plain(rate=(str(self.factor),))
