"""Initialisation: from which distribution the first weights are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from ablations import schema
from ablations.technique import Expectation, Technique, knob


@dataclass(frozen=True)
class Initialisation(Technique):
    """Kaiming's scheme keeps the variance of activations from layer to layer under ReLU; biases start at zero."""

    scheme: str = knob("default", doc="distribution of the first weights", choices=("default", "kaiming_uniform"))

    name: ClassVar[str] = "initialisation"
    title: ClassVar[str] = "Kaiming initialisation"
    source: ClassVar[str] = "He et al. 2015; notebook, 'Initialization'"
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {"off": {}, "on": {"scheme": "kaiming_uniform"}}
    notebook: ClassVar[str] = "on"
    expectations: ClassVar[tuple[Expectation, ...]] = (Expectation(schema.TEST_ACCURACY, +1, "He et al. 2015"),)

    def initialise(self, layer: nn.Module) -> None:
        if self.scheme == "default" or not isinstance(layer, nn.Conv2d | nn.Linear):
            return
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
