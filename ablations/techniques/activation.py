"""Activation functions: what a unit passes on of what it sums up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.technique import Plain, Technique, knob

MODULES: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
}


@dataclass(frozen=True)
class Activation(Technique):
    """Another function in place of every ReLU of the network. Where its slope is far below one, gradients vanish."""

    function: str = knob("relu", doc="what replaces every ReLU", choices=tuple(MODULES))
    slope: float = knob(0.01, doc="slope below zero; leaky_relu", low=0.0, high=1.0)

    name: ClassVar[str] = "activation"
    title: ClassVar[str] = "another activation function"
    source: ClassVar[str] = "Glorot & Bengio 2010; notebook, 'Exploding & Vanishing Gradients'"
    reason: ClassVar[str] = (
        "A sigmoid's slope is at most a quarter and almost zero at both ends: multiplied layer by layer, gradients "
        "vanish."
    )
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        "leaky_relu": {"function": "leaky_relu"},
        "sigmoid": {"function": "sigmoid"},
        "tanh": {"function": "tanh"},
        "gelu": {"function": "gelu"},
    }
    titles: ClassVar[Mapping[str, str]] = {
        "off": "ReLU",
        "leaky_relu": "leaky ReLU",
        "sigmoid": "sigmoid activation",
        "tanh": "tanh activation",
        "gelu": "GELU",
    }
    mechanism: ClassVar[tuple[str, ...]] = (schema.INITIAL + schema.GRADIENT_RATIO, schema.FINAL + schema.DEAD_UNITS)

    def activation(self) -> nn.Module | None:
        if self.function == "relu":
            return None
        if self.function == "leaky_relu":
            return nn.LeakyReLU(self.slope)
        return MODULES[self.function]()

    def plain(self, sized: Sized) -> Plain:
        if self.function == "leaky_relu":
            return Plain(activation=f"nn.LeakyReLU({self.slope})")
        return Plain(activation=f"nn.{MODULES[self.function].__name__}()")
