"""Gradient clipping: a gradient that is too long is shortened before the step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.technique import Plain, Technique, knob
from cifar_ablations.ablations.update_rule import UpdateRule


@dataclass(frozen=True)
class GradientClipping(Technique):
    """One wild batch cannot throw the weights far: gradients keep their direction, and at most this norm."""

    max_norm: float = knob(
        0.0,
        doc="largest norm of a member's whole gradient; 0 clips nothing",
        low=0.0,
        high=1e6,
        search=(0.1, 10.0),
        log=True,
    )

    name: ClassVar[str] = "gradient_clipping"
    title: ClassVar[str] = "gradient clipping"
    source: ClassVar[str] = "Pascanu et al. 2013; notebook, 'Exploding & Vanishing Gradients'"
    reason: ClassVar[str] = (
        "Many large factors multiply into a gradient that explodes; a bound on its norm keeps the step in reach."
    )
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {"off": {}, "on": {"max_norm": 1.0}, "tight": {"max_norm": 0.1}}
    mechanism: ClassVar[tuple[str, ...]] = (schema.GRADIENT_NORM, schema.FIRST_EPOCH_LOSS)

    def update(self, rule: UpdateRule) -> UpdateRule:
        return replace(rule, max_norm=self.max_norm)

    def plain(self, sized: Sized) -> Plain:
        return Plain()
