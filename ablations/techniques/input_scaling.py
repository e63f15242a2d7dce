"""Input normalisation: in which units the network sees its images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.technique import Plain, Technique, knob

KINDS = ("standardised", "unit", "pixels")


@dataclass(frozen=True)
class InputScaling(Technique):
    """Inputs of mean 0 and spread 1 suit first weights that are drawn for such; others push all gradients one way."""

    kind: str = knob("standardised", doc="mean 0 and spread 1 per channel, 0 to 1, or 0 to 255", choices=KINDS)

    name: ClassVar[str] = "input_scaling"
    title: ClassVar[str] = "not normalising the inputs"
    source: ClassVar[str] = "LeCun et al. 1998, 'Efficient BackProp', section 4.3; notebook, 'Training Efficient Model'"
    reason: ClassVar[str] = (
        "Inputs centred at zero and of one scale keep the optimisation stable, and it converges sooner."
    )
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        "unit": {"kind": "unit"},
        "pixels": {"kind": "pixels"},
    }
    titles: ClassVar[Mapping[str, str]] = {
        "off": "input normalisation",
        "unit": "input scaling from 0 to 1",
        "pixels": "input scaling from 0 to 255",
    }
    mechanism: ClassVar[tuple[str, ...]] = (schema.INITIAL + schema.VARIANCE_RATIO, schema.GRADIENT_NORM)

    def standardise(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        match self.kind:
            case "unit":
                return torch.zeros_like(mean), torch.ones_like(std)
            case "pixels":
                return torch.zeros_like(mean), torch.full_like(std, 1 / 255)
        return mean, std

    def plain(self, sized: Sized) -> Plain:
        match self.kind:
            case "unit":
                return Plain(scaling=("v2.ToDtype(torch.float32, scale=True)",))
            case "pixels":
                return Plain(scaling=("v2.ToDtype(torch.float32)",))
        return Plain()
