"""Initialisation: from which distribution the first weights are drawn."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.technique import Expectation, Plain, Technique, knob

SCHEMES: dict[str, Callable[[Tensor], Tensor]] = {
    "normal_1": partial(nn.init.normal_, std=1.0),
    "normal_0.01": partial(nn.init.normal_, std=0.01),
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
    "kaiming_uniform": partial(nn.init.kaiming_uniform_, nonlinearity="relu"),
    "kaiming_normal": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "orthogonal": nn.init.orthogonal_,
}

INITIALISE = '''
def initialise(layer):
    """The first weights of a layer; biases start at zero."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.{}
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
'''


@dataclass(frozen=True)
class Initialisation(Technique):
    """Kaiming's scheme keeps the variance of activations from layer to layer under ReLU; biases start at zero.

    `default` is what torch's layers do by themselves: Kaiming's uniform distribution for a slope of √5.
    """

    scheme: str = knob("default", doc="distribution of the first weights", choices=("default", *SCHEMES))

    name: ClassVar[str] = "initialisation"
    title: ClassVar[str] = "initialisation"
    source: ClassVar[str] = "He et al. 2015; notebook, 'Weight Initialization'"
    reason: ClassVar[str] = (
        "First weights of a fitting variance, 2 / fan-in under ReLU, keep that of activations from layer to layer."
    )
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        "on": {"scheme": "kaiming_uniform"},
        **{scheme: {"scheme": scheme} for scheme in SCHEMES if scheme != "kaiming_uniform"},
    }
    titles: ClassVar[Mapping[str, str]] = {
        "off": "torch's default initialisation",
        "on": "Kaiming initialisation",
        "normal_1": "normal initialisation (std 1)",
        "normal_0.01": "normal initialisation (std 0.01)",
        "xavier_uniform": "Xavier uniform initialisation",
        "xavier_normal": "Xavier normal initialisation",
        "kaiming_normal": "Kaiming normal initialisation",
        "orthogonal": "orthogonal initialisation",
    }
    sources: ClassVar[Mapping[str, str]] = {
        "normal_1": "notebook, 'Weight Initialization'",
        "normal_0.01": "Krizhevsky et al. 2012",
        "xavier_uniform": "Glorot & Bengio 2010",
        "xavier_normal": "Glorot & Bengio 2010",
        "orthogonal": "Saxe et al. 2014",
    }
    notebook: ClassVar[str] = "on"
    expectations: ClassVar[tuple[Expectation, ...]] = (Expectation(schema.TEST_ACCURACY, +1, "He et al. 2015"),)
    mechanism: ClassVar[tuple[str, ...]] = (
        schema.INITIAL + schema.VARIANCE_RATIO,
        schema.INITIAL + schema.GRADIENT_RATIO,
    )

    def initialise(self, layer: nn.Module) -> None:
        if self.scheme == "default" or not isinstance(layer, nn.Conv2d | nn.Linear):
            return
        SCHEMES[self.scheme](layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)

    def plain(self, sized: Sized) -> Plain:
        drawn = SCHEMES[self.scheme]
        scheme, options = (drawn.func, drawn.keywords) if isinstance(drawn, partial) else (drawn, {})
        words = "".join(f", {name}={json.dumps(value)}" for name, value in options.items())
        written = INITIALISE.format(f"{scheme.__name__}(layer.weight{words})")
        return Plain(definitions=(written,), initialise="initialise")
