"""Learning-rate schedules: what the base rate is multiplied by at each step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.technique import Expectation, Plain, Technique, knob


def multistep(epochs: int, steps_per_epoch: int, milestones: tuple[float, ...], gamma: float) -> Tensor:
    """Times gamma at each milestone, float64 [epochs * steps_per_epoch].

    Milestones are shares of the epochs, rounded to whole ones: 0.6 and 0.8 of 20 epochs are 12 and 16, as for
    torch.optim.lr_scheduler.MultiStepLR stepped once per epoch.
    """
    epoch = torch.arange(epochs).repeat_interleave(steps_per_epoch)
    passed = sum((epoch >= round(m * epochs)).to(torch.float64) for m in milestones)
    return torch.as_tensor(gamma, dtype=torch.float64) ** passed


def step(epochs: int, steps_per_epoch: int, every: float, gamma: float) -> Tensor:
    """Times gamma after each `every` of the epochs (a share, at least one epoch): StepLR stepped once per epoch."""
    epoch = torch.arange(epochs).repeat_interleave(steps_per_epoch)
    times = epoch // max(1, round(every * epochs))
    return torch.as_tensor(gamma, dtype=torch.float64) ** times


def exponential(epochs: int, steps_per_epoch: int, final: float) -> Tensor:
    """Falls by one factor per epoch, to reach `final` after the last: ExponentialLR with gamma = final^(1/epochs)."""
    epoch = torch.arange(epochs, dtype=torch.float64).repeat_interleave(steps_per_epoch)
    return torch.as_tensor(final, dtype=torch.float64) ** (epoch / epochs)


def warmup_cosine(steps: int, warmup: float) -> Tensor:
    """Rises in a line from 0 over the first share of the steps, then half a cosine down to 0; float64 [steps].

    From the notebook's `lr_schedule`; without warm-up it is torch's CosineAnnealingLR stepped once per step.
    """
    rising = int(warmup * steps)
    step = torch.arange(steps, dtype=torch.float64)
    progress = (step - rising) / (steps - rising)
    return torch.where(step < rising, step / max(1, rising), 0.5 * (1 + torch.cos(math.pi * progress)))


def one_cycle(steps: int, rising_share: float, start: float = 1 / 25, end: float = 1e-4 / 25) -> Tensor:
    """Half a cosine up from `start` to 1 over a share of the steps, and another down to `end`; float64 [steps].

    Smith & Topin 2018 as torch.optim.lr_scheduler.OneCycleLR has it with its default factors.
    """
    step = torch.arange(steps, dtype=torch.float64)
    peak = max(rising_share * steps - 1, 0.0)
    rising = step / peak if peak > 0 else torch.ones_like(step)
    falling = (step - peak) / (steps - 1 - peak)
    up = start + (1 - start) * (1 - torch.cos(math.pi * rising)) / 2
    down = end + (1 - end) * (1 + torch.cos(math.pi * falling)) / 2
    return torch.where(step <= peak, up, down)


WARMUP_COSINE = '''
def warmup_cosine(step):
    """The learning rate's factor: a line up from 0, then half a cosine down to 0."""
    rising = int({share} * STEPS)
    if step < rising:
        return step / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / (STEPS - rising)))
'''

SHAPES = ("constant", "step", "multistep", "exponential", "cosine", "warmup_cosine", "one_cycle")


@dataclass(frozen=True)
class Schedule(Technique):
    """The rate falls, late enough for coarse progress and early enough to settle; some shapes let it rise first."""

    shape: str = knob("constant", doc="how the rate changes over training", choices=SHAPES)
    gamma: float = knob(
        0.1, doc="factor at each milestone; step, multistep", low=0.0, high=1.0, search=(0.05, 0.5), log=True
    )
    first: float = knob(0.6, doc="first milestone, as a share of the epochs; multistep", low=0.0, high=1.0)
    second: float = knob(0.8, doc="second milestone, as a share of the epochs; multistep", low=0.0, high=1.0)
    every: float = knob(0.3, doc="share of the epochs between two falls; step", low=0.0, high=1.0)
    final: float = knob(0.01, doc="factor reached at the end; exponential", low=1e-6, high=1.0)
    warmup: float = knob(0.2, doc="share of the steps that rise; warmup_cosine, one_cycle", low=0.0, high=0.9)

    name: ClassVar[str] = "schedule"
    title: ClassVar[str] = "the learning-rate schedule"
    source: ClassVar[str] = "Robbins & Monro 1951; notebook, 'Learning Rate'"
    reason: ClassVar[str] = (
        "Large steps get near a minimum quickly; small ones then settle in it instead of oscillating around it."
    )
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        "on": {"shape": "multistep"},
        **{shape: {"shape": shape} for shape in SHAPES if shape not in ("constant", "multistep", "one_cycle")},
        "one_cycle": {"shape": "one_cycle", "warmup": 0.3},
    }
    titles: ClassVar[Mapping[str, str]] = {
        "off": "a constant learning rate",
        "step": "the step schedule",
        "exponential": "the exponential schedule",
        "cosine": "the cosine schedule",
        "warmup_cosine": "the cosine schedule with warm-up",
        "one_cycle": "the one-cycle schedule",
    }
    sources: ClassVar[Mapping[str, str]] = {
        "cosine": "Loshchilov & Hutter 2017",
        "warmup_cosine": "Goyal et al. 2017; Loshchilov & Hutter 2017",
        "one_cycle": "Smith & Topin 2018",
    }
    notebook: ClassVar[str] = "on"
    expectations: ClassVar[tuple[Expectation, ...]] = (
        Expectation(schema.TEST_ACCURACY, +1, "He et al. 2016, section 4.2"),
    )

    mechanism: ClassVar[tuple[str, ...]] = (schema.UPDATE_RATIO, schema.TRAIN_LOSS)

    def schedule(self, epochs: int, steps_per_epoch: int) -> Tensor | None:
        steps = epochs * steps_per_epoch
        match self.shape:
            case "step":
                return step(epochs, steps_per_epoch, self.every, self.gamma)
            case "multistep":
                return multistep(epochs, steps_per_epoch, (self.first, self.second), self.gamma)
            case "exponential":
                return exponential(epochs, steps_per_epoch, self.final)
            case "cosine":
                return warmup_cosine(steps, 0.0)
            case "warmup_cosine":
                return warmup_cosine(steps, self.warmup)
            case "one_cycle":
                return one_cycle(steps, self.warmup)
        return None

    def plain(self, sized: Sized) -> Plain:
        epochs = sized.budget.epochs
        match self.shape:
            case "step":
                every = max(1, round(self.every * epochs))
                return Plain(scheduler=f"lr_scheduler.StepLR(optimizer, step_size={every}, gamma={self.gamma})")
            case "multistep":
                milestones = [round(share * epochs) for share in (self.first, self.second)]
                written = f"lr_scheduler.MultiStepLR(optimizer, milestones={milestones}, gamma={self.gamma})"
                return Plain(scheduler=written)
            case "exponential":
                return Plain(scheduler=f"lr_scheduler.ExponentialLR(optimizer, gamma={self.final} ** (1 / EPOCHS))")
            case "cosine":
                return Plain(scheduler="lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)", per_batch=True)
            case "warmup_cosine":
                return Plain(
                    definitions=(WARMUP_COSINE.format(share=self.warmup),),
                    scheduler="lr_scheduler.LambdaLR(optimizer, warmup_cosine)",
                    per_batch=True,
                )
            case "one_cycle":
                return self._plain_one_cycle(epochs * sized.budget.steps_per_epoch)
        return Plain()

    def _plain_one_cycle(self, steps: int) -> Plain:
        if self.warmup * steps <= 1:
            raise self.not_plain("torch's OneCycleLR is another where the rate rises in a single step")
        options = f'max_lr=optimizer.defaults["lr"], total_steps=STEPS, pct_start={self.warmup}, cycle_momentum=False'
        return Plain(scheduler=f"lr_scheduler.OneCycleLR(optimizer, {options})", per_batch=True)
