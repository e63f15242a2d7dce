"""Noise on the inputs: every image is seen through a little Gaussian noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.technique import Draws, Expectation, Technique, knob


def gaussian(uniform: Tensor) -> Tensor:
    """Independent normal numbers from uniform draws in [0, 1), [2, …]: Box & Muller 1958, the first of each pair."""
    radius = (-2.0 * (1.0 - uniform[0]).log()).sqrt()
    return radius * (2.0 * math.pi * uniform[1]).cos()


@dataclass(frozen=True)
class InputNoise(Technique):
    """Gaussian noise is added to the normalised images of a batch, anew at every step."""

    deviation: float = knob(
        0.0,
        doc="standard deviation of the noise, in standard deviations of the images; 0 adds none",
        low=0.0,
        high=10.0,
        search=(0.01, 1.0),
        log=True,
    )

    name: ClassVar[str] = "input_noise"
    title: ClassVar[str] = "input noise"
    source: ClassVar[str] = "Bishop 1995, Training with noise is equivalent to Tikhonov regularization"
    reason: ClassVar[str] = "A small change of the input must not change the answer, which keeps the function smooth."
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        "on": {"deviation": 0.1},
        "strong": {"deviation": 0.5},
    }
    expectations: ClassVar[tuple[Expectation, ...]] = (
        Expectation(schema.TEST_ACCURACY, +1, "Bishop 1995"),
        Expectation(schema.GENERALISATION_GAP, -1, "Bishop 1995"),
    )
    mechanism: ClassVar[tuple[str, ...]] = (schema.GENERALISATION_GAP, schema.WEIGHT_NORM)

    def mix(self, images: Tensor, targets: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        if self.deviation == 0.0:
            return images, targets
        noise = gaussian(draws.uniform((2, *images.shape)))
        return images + self.deviation * noise.to(images.dtype), targets
