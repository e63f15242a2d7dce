"""Learning-rate schedules: what the base rate is multiplied by at each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ablations import schema
from ablations.technique import Expectation, Technique, knob


def multistep(epochs: int, steps_per_epoch: int, milestones: tuple[float, ...], gamma: float) -> torch.Tensor:
    """Times gamma at each milestone, float64 [epochs * steps_per_epoch].

    Milestones are shares of the epochs, rounded to whole ones: 0.6 and 0.8 of 20 epochs are 12 and 16, as for
    torch.optim.lr_scheduler.MultiStepLR stepped once per epoch.
    """
    epoch = torch.arange(epochs).repeat_interleave(steps_per_epoch)
    passed = sum((epoch >= round(m * epochs)).to(torch.float64) for m in milestones)
    return torch.as_tensor(gamma, dtype=torch.float64) ** passed


@dataclass(frozen=True)
class Schedule(Technique):
    """The rate falls in two steps, late enough for coarse progress and early enough to settle."""

    shape: str = knob("constant", doc="how the rate changes over training", choices=("constant", "multistep"))
    gamma: float = knob(0.1, doc="factor at each milestone", low=0.0, high=1.0, search=(0.05, 0.5), log=True)
    first: float = knob(0.6, doc="first milestone, as a share of the epochs", low=0.0, high=1.0)
    second: float = knob(0.8, doc="second milestone, as a share of the epochs", low=0.0, high=1.0)

    name: ClassVar[str] = "schedule"
    title: ClassVar[str] = "the learning-rate schedule"
    source: ClassVar[str] = "Robbins & Monro 1951; notebook, 'Learning Rate'"
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {"off": {}, "on": {"shape": "multistep"}}
    notebook: ClassVar[str] = "on"
    expectations: ClassVar[tuple[Expectation, ...]] = (
        Expectation(schema.TEST_ACCURACY, +1, "He et al. 2016, section 4.2"),
    )

    def schedule(self, epochs: int, steps_per_epoch: int) -> torch.Tensor | None:
        if self.shape == "constant":
            return None
        return multistep(epochs, steps_per_epoch, (self.first, self.second), self.gamma)
