"""Weight decay: a pull of every weight towards zero, added to its gradient (L2 regularisation)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ablations import schema
from ablations.technique import Expectation, Technique, knob
from ablations.update_rule import UpdateRule


@dataclass(frozen=True)
class WeightDecay(Technique):
    """The gradient of strength/2 · ‖w‖² joins that of the loss, as in torch.optim's SGD and Adam."""

    strength: float = knob(
        0.0, doc="coefficient λ of the penalty λ/2 · ‖w‖²", low=0.0, high=1.0, search=(1e-5, 5e-3), log=True
    )

    name: ClassVar[str] = "weight_decay"
    title: ClassVar[str] = "weight decay"
    source: ClassVar[str] = "Krogh & Hertz 1991; notebook, 'Weight Decay'"
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {"off": {}, "on": {"strength": 1e-4}}
    notebook: ClassVar[str] = "on"
    expectations: ClassVar[tuple[Expectation, ...]] = (
        Expectation(schema.TEST_ACCURACY, +1, "Krogh & Hertz 1991"),
        Expectation(schema.GENERALISATION_GAP, -1, "Krogh & Hertz 1991"),
    )

    def update(self, rule: UpdateRule) -> UpdateRule:
        return replace(rule, coupled_decay=self.strength)
