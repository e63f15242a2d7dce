"""Training length: for how many epochs the network is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Budget, Network, Sized
from cifar_ablations.ablations.technique import Plain, Technique, knob


@dataclass(frozen=True)
class TrainingLength(Technique):
    """More epochs, with the learning-rate schedule stretched over them: more of the same, at so many times the cost.
    They are rounded to whole ones, which at few epochs is far from the factor.

    What a technique gains is worth its cost where it gains more than this does for as much.
    """

    factor: float = knob(1.0, doc="what the budget's epochs are multiplied by", low=1 / 256, high=256.0, later=True)

    name: ClassVar[str] = "training_length"
    title: ClassVar[str] = "another training length"
    source: ClassVar[str] = "Hoffer et al. 2017, arXiv 1705.08741; notebook, 'Early Stopping'"
    reason: ClassVar[str] = "The longer a network trains, the better it fits, and past some point only its own images."
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        "÷4": {"factor": 0.25},
        "÷2": {"factor": 0.5},
        "×2": {"factor": 2.0},
        "×4": {"factor": 4.0},
    }
    titles: ClassVar[Mapping[str, str]] = {
        "off": "the budget's epochs",
        "÷4": "a quarter of the epochs",
        "÷2": "half the epochs",
        "×2": "twice the epochs",
        "×4": "four times the epochs",
    }
    mechanism: ClassVar[tuple[str, ...]] = (schema.TRAIN_LOSS, schema.GENERALISATION_GAP)

    def resize(self, network: Network, budget: Budget) -> tuple[Network, Budget]:
        return network, replace(budget, epochs=max(1, round(budget.epochs * self.factor)))

    def plain(self, sized: Sized) -> Plain:
        return Plain()
