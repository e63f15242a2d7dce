"""Capacity: how wide the network is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Budget, Network, Sized
from cifar_ablations.ablations.technique import Plain, Technique, knob


@dataclass(frozen=True)
class Capacity(Technique):
    """A wider network can fit more: it helps one that underfits, and lets one that overfits memorise."""

    factor: float = knob(1.0, doc="what the network's width is multiplied by", low=1 / 16, high=16.0)

    name: ClassVar[str] = "capacity"
    title: ClassVar[str] = "another capacity"
    source: ClassVar[str] = "Zagoruyko & Komodakis 2016; notebook, 'Regularization and Optimization' (complexity)"
    reason: ClassVar[str] = "The more complicated the network, the more chance it has to overfit."
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        "÷4": {"factor": 0.25},
        "÷2": {"factor": 0.5},
        "×2": {"factor": 2.0},
    }
    titles: ClassVar[Mapping[str, str]] = {
        "off": "the profile's width",
        "÷4": "a quarter of the width",
        "÷2": "half the width",
        "×2": "twice the width",
    }
    mechanism: ClassVar[tuple[str, ...]] = (schema.TRAIN_ACCURACY, schema.GENERALISATION_GAP)

    def resize(self, network: Network, budget: Budget) -> tuple[Network, Budget]:
        return replace(network, width=network.width * self.factor), budget

    def plain(self, sized: Sized) -> Plain:
        return Plain()
