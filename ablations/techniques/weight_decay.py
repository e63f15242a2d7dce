"""Weight decay: a pull of every weight towards zero, through its gradient (L2 regularisation) or beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.technique import Expectation, Plain, Technique, knob
from cifar_ablations.ablations.update_rule import UpdateRule


@dataclass(frozen=True)
class WeightDecay(Technique):
    """The gradient of strength/2 · ‖w‖² joins that of the loss, as in torch.optim's SGD and Adam (coupled), or weights
    shrink by rate · strength at each step, whatever the optimizer does to the gradient, as in AdamW (decoupled).
    """

    strength: float = knob(
        0.0, doc="coefficient λ of the penalty λ/2 · ‖w‖²", low=0.0, high=1.0, search=(1e-5, 5e-3), log=True
    )
    form: str = knob("coupled", doc="through the gradient, or beside it", choices=("coupled", "decoupled"))

    name: ClassVar[str] = "weight_decay"
    title: ClassVar[str] = "weight decay"
    source: ClassVar[str] = "Krogh & Hertz 1991; notebook, 'Weight Decay'"
    reason: ClassVar[str] = (
        "A penalty on large weights shrinks them, which makes for a simpler function that overfits less."
    )
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        "on": {"strength": 1e-4},
        **{f"{strength:g}": {"strength": strength} for strength in (1e-5, 5e-4, 1e-3, 5e-3)},
        "decoupled": {"strength": 0.05, "form": "decoupled"},
    }
    titles: ClassVar[Mapping[str, str]] = {"decoupled": "decoupled weight decay"}
    sources: ClassVar[Mapping[str, str]] = {"decoupled": "Loshchilov & Hutter 2019"}
    notebook: ClassVar[str] = "on"
    expectations: ClassVar[tuple[Expectation, ...]] = (
        Expectation(schema.TEST_ACCURACY, +1, "Krogh & Hertz 1991"),
        Expectation(schema.GENERALISATION_GAP, -1, "Krogh & Hertz 1991"),
    )

    mechanism: ClassVar[tuple[str, ...]] = (schema.WEIGHT_NORM, schema.TRAIN_ACCURACY)

    def update(self, rule: UpdateRule) -> UpdateRule:
        if self.form == "coupled":
            return replace(rule, coupled_decay=self.strength)
        return replace(rule, decoupled_decay=self.strength)

    def plain(self, sized: Sized) -> Plain:
        return Plain()
