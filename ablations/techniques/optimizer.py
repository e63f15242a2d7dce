"""The optimizer: how gradients become steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ablations import schema
from ablations.technique import Expectation, Technique, knob
from ablations.update_rule import UpdateRule


@dataclass(frozen=True)
class Optimizer(Technique):
    """Plain SGD or Adam, each at a rate of its own: a rate that suits one is wrong for the other."""

    kind: str = knob("sgd", doc="which update rule", choices=("sgd", "adam"))
    rate: float = knob(0.1, doc="learning rate before the schedule", low=1e-8, high=100.0, search=(1e-4, 1.0), log=True)

    name: ClassVar[str] = "optimizer"
    title: ClassVar[str] = "Adam"
    source: ClassVar[str] = "Kingma & Ba 2015; notebook, 'Adam'"
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {"off": {}, "on": {"kind": "adam", "rate": 3e-3}}
    notebook: ClassVar[str] = "on"
    expectations: ClassVar[tuple[Expectation, ...]] = (Expectation(schema.TEST_ACCURACY, +1, "Kingma & Ba 2015"),)

    def update(self, rule: UpdateRule) -> UpdateRule:
        if self.kind == "sgd":
            return replace(rule, rate=self.rate)
        return replace(rule, rate=self.rate, adaptive=True, first_decay=0.9, first_gain=1 - 0.9, second_decay=0.999)
