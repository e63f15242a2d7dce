"""Batch size: over how many images a gradient is averaged before a step is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Budget, Network, Sized
from cifar_ablations.ablations.technique import Plain, Technique, knob


@dataclass(frozen=True)
class BatchSize(Technique):
    """Larger batches have less noisy gradients and, for the same number of images, fewer steps. The rate stays."""

    factor: float = knob(1.0, doc="what the budget's batch size is multiplied by", low=1 / 256, high=256.0)

    name: ClassVar[str] = "batch_size"
    title: ClassVar[str] = "another batch size"
    source: ClassVar[str] = "Keskar et al. 2017; notebook, 'Stochastic Gradient Descent'"
    reason: ClassVar[str] = (
        "A small batch's gradient is noisy, which keeps the search moving through saddle points and shallow minima."
    )
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        "÷4": {"factor": 0.25},
        "×4": {"factor": 4.0},
        "×16": {"factor": 16.0},
    }
    titles: ClassVar[Mapping[str, str]] = {
        "off": "the budget's batch size",
        "÷4": "a quarter of the batch size",
        "×4": "four times the batch size",
        "×16": "sixteen times the batch size",
    }
    mechanism: ClassVar[tuple[str, ...]] = (schema.GRADIENT_NORM, schema.TRAIN_LOSS)

    def resize(self, network: Network, budget: Budget) -> tuple[Network, Budget]:
        size = min(budget.train_images, max(1, round(budget.batch_size * self.factor)))
        return network, replace(budget, batch_size=size)

    def plain(self, sized: Sized) -> Plain:
        return Plain()
