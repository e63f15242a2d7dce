"""Normalisation: what a convolution gives is brought to mean 0 and variance 1, then scaled and shifted as learned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Network, Sized
from cifar_ablations.ablations.technique import Expectation, Plain, Technique, knob


def groups_for(channels: int, groups: int) -> int:
    """Into how many groups of equal size so many channels are parted: as many of those asked for as divide them."""
    return math.gcd(channels, groups)


@dataclass(frozen=True)
class Normalisation(Technique):
    """y = (x - mean) / √(variance + ε) · weight + bias behind each convolution, before its activation function.

    `batch` takes mean and variance of each channel over the images and places of a batch; in evaluation it takes
    running averages of them, and each training keeps its own. `group` takes them of each image over a group of its
    channels, `layer` over all of them (torch's `GroupNorm(1, channels)`): both do the same in evaluation. Weights
    start at 1 and biases at 0, whatever `initialisation` says. The convolution has no bias, since the normalisation
    brings its own (Ioffe & Szegedy 2015, section 3.2); other layers start as they do without it.

    Weight decay acts on its weights and biases as on all others. On a convolution before it, it acts as a schedule of
    the rate: to scale those weights up changes nothing but the relative size of steps (van Laarhoven 2017).

    In bf16 it is computed in fp32, by torch's autocast. It is for networks without normalisation of their own.
    """

    kind: str = knob(
        "none", doc="over what mean and variance are taken", choices=("none", "batch", "group", "layer"), later=True
    )
    groups: int = knob(
        32, doc="groups of channels, as many of them as divide these; group", low=1, high=512, later=True
    )
    momentum: float = knob(
        0.1,
        doc="weight of the newest batch in the running averages; batch",
        low=0.0,
        high=1.0,
        search=(0.01, 0.5),
        log=True,
        later=True,
    )
    epsilon: float = knob(
        1e-5, doc="what is added to the variance", low=1e-12, high=1.0, search=(1e-6, 1e-1), log=True, later=True
    )

    name: ClassVar[str] = "normalisation"
    title: ClassVar[str] = "batch normalisation"
    source: ClassVar[str] = "Ioffe & Szegedy 2015; the notebook has none"
    sources: ClassVar[Mapping[str, str]] = {"group": "Wu & He 2018", "layer": "Ba et al. 2016"}
    reason: ClassVar[str] = (
        "Activations of mean 0 and variance 1 at every depth, whatever the weights before them, let larger rates train "
        "and gradients reach the first layer."
    )
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        "on": {"kind": "batch"},
        "group": {"kind": "group"},
        "layer": {"kind": "layer"},
    }
    titles: ClassVar[Mapping[str, str]] = {
        "off": "no normalisation",
        "group": "group normalisation",
        "layer": "layer normalisation",
    }
    expectations: ClassVar[tuple[Expectation, ...]] = (
        Expectation(schema.TEST_ACCURACY, +1, "Ioffe & Szegedy 2015"),
        Expectation(schema.FIRST_EPOCH_LOSS, -1, "Ioffe & Szegedy 2015"),
    )
    mechanism: ClassVar[tuple[str, ...]] = (
        schema.FINAL + schema.VARIANCE_DRIFT,
        schema.FINAL + schema.GRADIENT_RATIO,
        schema.FINAL + schema.DEAD_UNITS,
        schema.UPDATE_RATIO,
    )

    def normalise(self, channels: int) -> nn.Module | None:
        match self.kind:
            case "batch":
                return nn.BatchNorm2d(channels, self.epsilon, self.momentum)
            case "group":
                return nn.GroupNorm(groups_for(channels, self.groups), channels, self.epsilon)
            case "layer":
                return nn.GroupNorm(1, channels, self.epsilon)
        return None

    def plain(self, sized: Sized) -> Plain:
        if sized.model.name != Network.name:
            raise self.not_plain(f"the network {sized.model.name} has normalisation of its own")
        return Plain(normalise=self._written if self.kind != "none" else None)

    def _written(self, channels: int) -> str:
        """`normalise` as source; what is as in torch is left out."""
        if self.kind == "batch":
            more = f", {self.epsilon}, {self.momentum}" if (self.epsilon, self.momentum) != (1e-5, 0.1) else ""
            return f"nn.BatchNorm2d({channels}{more})"
        groups = groups_for(channels, self.groups) if self.kind == "group" else 1
        return f"nn.GroupNorm({groups}, {channels}{f', {self.epsilon}' if self.epsilon != 1e-5 else ''})"
