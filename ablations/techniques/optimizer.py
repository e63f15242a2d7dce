"""The optimizer: how gradients become steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.technique import Expectation, Plain, Technique, knob
from cifar_ablations.ablations.update_rule import UpdateRule

KINDS = ("sgd", "momentum", "averaged", "nesterov", "rmsprop", "adam", "adam_uncorrected", "muon")


def coefficients(rule: UpdateRule, kind: str, momentum: float, second: float) -> UpdateRule:
    """The rule with the moments of a kind of optimizer; its rate and its decay are left alone."""
    if kind == "sgd":
        return rule
    if kind in ("momentum", "nesterov"):
        return replace(rule, first_decay=momentum, first_gain=1.0, nesterov=kind == "nesterov")
    if kind == "averaged":
        return replace(rule, first_decay=momentum, first_gain=1 - momentum)
    if kind == "rmsprop":
        return replace(rule, second_decay=second, adaptive=True, correct_bias=False)
    corrected = kind != "adam_uncorrected"
    return replace(
        rule,
        first_decay=momentum,
        first_gain=1 - momentum,
        second_decay=second,
        adaptive=True,
        correct_bias=corrected,
        orthogonalised=kind == "muon",
    )


@dataclass(frozen=True)
class Optimizer(Technique):
    """Plain SGD and what adds a memory to it, each at a rate of its own: a rate that suits one is wrong for another.

    `momentum` adds up gradients as torch.optim.SGD does, `averaged` is the notebook's second form, whose gradients
    weigh 1 - β. AdamW is `adam` with the weight decay technique decoupled. `muon` makes the step of every matrix
    orthogonal, a convolution's kernels flattened to one row for each output; biases and the last layer step by Adam.
    """

    kind: str = knob("sgd", doc="which update rule", choices=KINDS)
    rate: float = knob(0.1, doc="learning rate before the schedule", low=1e-8, high=100.0, search=(1e-4, 1.0), log=True)
    momentum: float = knob(0.9, doc="share of the first moment kept; not sgd, rmsprop", low=0.0, high=0.9999)
    second: float = knob(0.999, doc="share of the second moment kept; rmsprop, adam", low=0.0, high=0.99999)
    rest_rate: float = knob(
        3e-3,
        doc="Adam's rate for biases and the last layer; muon",
        low=1e-8,
        high=100.0,
        search=(1e-4, 1e-1),
        log=True,
        when=("kind", ("muon",)),
        later=True,
    )

    name: ClassVar[str] = "optimizer"
    title: ClassVar[str] = "optimizer"
    source: ClassVar[str] = "Kingma & Ba 2015; notebook, 'Adam'"
    reason: ClassVar[str] = (
        "A memory of past gradients keeps a consistent direction, scales each weight's step, or does both."
    )
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        "on": {"kind": "adam", "rate": 3e-3},
        "momentum": {"kind": "momentum", "rate": 0.01},
        "averaged": {"kind": "averaged", "rate": 0.1},
        "nesterov": {"kind": "nesterov", "rate": 0.01},
        "rmsprop": {"kind": "rmsprop", "rate": 1e-3, "second": 0.99},
        "adam_uncorrected": {"kind": "adam_uncorrected", "rate": 1e-3},
        "muon": {"kind": "muon", "rate": 0.02, "momentum": 0.95},
    }
    titles: ClassVar[Mapping[str, str]] = {
        "off": "plain SGD",
        "on": "Adam",
        "momentum": "SGD with momentum",
        "averaged": "SGD with averaged momentum",
        "nesterov": "SGD with Nesterov momentum",
        "rmsprop": "RMSProp",
        "adam_uncorrected": "uncorrected Adam",
        "muon": "Muon",
    }
    sources: ClassVar[Mapping[str, str]] = {
        "off": "Robbins & Monro 1951",
        "momentum": "Sutskever et al. 2013",
        "averaged": "notebook, 'Momentum'",
        "nesterov": "Sutskever et al. 2013",
        "rmsprop": "Tieleman & Hinton 2012",
        "muon": "Jordan et al. 2024",
    }
    notebook: ClassVar[str] = "on"
    expectations: ClassVar[tuple[Expectation, ...]] = (Expectation(schema.TEST_ACCURACY, +1, "Kingma & Ba 2015"),)

    mechanism: ClassVar[tuple[str, ...]] = (schema.UPDATE_RATIO, schema.FIRST_EPOCH_LOSS)

    def update(self, rule: UpdateRule) -> UpdateRule:
        rule = coefficients(replace(rule, rate=self.rate), self.kind, self.momentum, self.second)
        return replace(rule, rest=self.rest_rate / self.rate) if rule.orthogonalised else rule

    def plain(self, sized: Sized) -> Plain:
        if self.kind == "adam_uncorrected":
            raise self.not_plain("torch.optim has no Adam without the correction of its bias")
        if self.kind == "muon":
            raise self.not_plain("torch.optim.Muon takes matrices alone, and no convolution's kernels")
        return Plain()
