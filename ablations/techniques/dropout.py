"""Dropout before the classifier: zero a share of the activations, scale up the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.technique import Draws, Expectation, Plain, Technique, knob


def inverted_mask(uniform: Tensor, p: float) -> Tensor:
    """0 with probability p, else 1 / (1 - p), so that the expectation is 1; uniform in [0, 1), of any shape."""
    return (uniform >= p).to(uniform.dtype) / (1.0 - p)


@dataclass(frozen=True)
class Dropout(Technique):
    """Every hidden unit before the last layer is dropped with probability p, anew for each image and step."""

    p: float = knob(0.0, doc="probability that an activation is zeroed", low=0.0, high=0.95, search=(0.0, 0.7))

    name: ClassVar[str] = "dropout"
    title: ClassVar[str] = "dropout"
    source: ClassVar[str] = "Srivastava et al. 2014; notebook, 'Dropout'"
    reason: ClassVar[str] = (
        "Noise in training keeps units from relying on one another, and what is learned despite it generalises better."
    )
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        "on": {"p": 0.5},
        **{f"{p:g}": {"p": p} for p in (0.1, 0.3, 0.7)},
    }
    notebook: ClassVar[str] = "on"
    expectations: ClassVar[tuple[Expectation, ...]] = (
        Expectation(schema.TEST_ACCURACY, +1, "Srivastava et al. 2014"),
        Expectation(schema.GENERALISATION_GAP, -1, "Srivastava et al. 2014"),
    )

    mechanism: ClassVar[tuple[str, ...]] = (schema.TRAIN_ACCURACY, schema.ENTROPY)

    def mask(self, shape: Sequence[int], draws: Draws) -> Tensor | None:
        if self.p == 0.0:
            return None
        return inverted_mask(draws.uniform(shape), self.p)

    def plain(self, sized: Sized) -> Plain:
        return Plain(dropout=f"nn.Dropout({self.p})")
