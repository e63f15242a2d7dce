"""Learning-rate schedules: what the base rate is multiplied by at each step.

The factors of every shape peak at 1 (those of `one_cycle` at most half a step beside it), so that a base rate is the
highest rate whatever the shape, and rates can be compared across shapes.
"""

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


def trapezoid(steps: int, warmup: float, decay: float) -> Tensor:
    """Rises in a line from 0 over the first share of the steps, stays, and falls in a line over the last share, to 0 at
    the step after the last; float64 [steps].

    The rise is rounded down to whole steps, the fall up, and it begins no earlier than the rise ends. The warmup-
    stable-decay of Hu et al. 2024, with the linear fall of Hägele et al. 2024; of a decay of 1, the linear schedule of
    Li et al. 2020, which without warm-up is torch's LinearLR from 1 to 0 stepped once per step.
    """
    rising = int(warmup * steps)
    falling = max(1, min(math.ceil(decay * steps), steps - rising))
    step = torch.arange(steps, dtype=torch.float64)
    return torch.where(step < rising, step / max(1, rising), ((steps - step) / falling).clamp(max=1.0))


WARMUP_COSINE = '''
def warmup_cosine(step):
    """The learning rate's factor: a line up from 0, then half a cosine down to 0."""
    rising = int({share} * STEPS)
    if step < rising:
        return step / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / (STEPS - rising)))
'''

TRAPEZOID = '''
def trapezoid(step):
    """The learning rate's factor: a line up from 0, then 1, then a line down to 0."""
    rising = int({warmup} * STEPS)
    falling = max(1, min(math.ceil({decay} * STEPS), STEPS - rising))
    if step < rising:
        return step / rising
    return min(1.0, (STEPS - step) / falling)
'''

SHAPES = (
    "constant",
    "step",
    "multistep",
    "exponential",
    "cosine",
    "warmup_cosine",
    "one_cycle",
    "linear",
    "warmup_stable_decay",
)
RISING = ("warmup_cosine", "one_cycle", "linear", "warmup_stable_decay")
"""Those of them that may begin with a warm-up."""


@dataclass(frozen=True)
class Schedule(Technique):
    """The rate falls, late enough for coarse progress and early enough to settle; some shapes let it rise first.

    The highest rate is `optimizer.rate` whatever the shape.
    """

    shape: str = knob("constant", doc="how the rate changes over training", choices=SHAPES)
    gamma: float = knob(
        0.1,
        doc="factor at each milestone; step, multistep",
        low=0.0,
        high=1.0,
        search=(0.05, 0.5),
        log=True,
        when=("shape", ("step", "multistep")),
    )
    first: float = knob(0.6, doc="first milestone, as a share of the epochs; multistep", low=0.0, high=1.0)
    second: float = knob(0.8, doc="second milestone, as a share of the epochs; multistep", low=0.0, high=1.0)
    every: float = knob(0.3, doc="share of the epochs between two falls; step", low=0.0, high=1.0)
    final: float = knob(0.01, doc="factor reached at the end; exponential", low=1e-6, high=1.0)
    warmup: float = knob(
        0.2,
        doc=f"share of the steps that rise; {', '.join(RISING)}",
        low=0.0,
        high=0.9,
        search=(0.0, 0.4),
        when=("shape", RISING),
    )
    decay: float = knob(
        0.2,
        doc="share of the steps that fall at the end; warmup_stable_decay",
        low=0.0,
        high=1.0,
        search=(0.1, 0.6),
        when=("shape", ("warmup_stable_decay",)),
        later=True,
    )

    name: ClassVar[str] = "schedule"
    title: ClassVar[str] = "the learning-rate schedule"
    source: ClassVar[str] = "Robbins & Monro 1951; notebook, 'Learning Rate'"
    reason: ClassVar[str] = (
        "Large steps get near a minimum quickly; small ones then settle in it instead of oscillating around it."
    )
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        "on": {"shape": "multistep"},
        **{shape: {"shape": shape} for shape in ("step", "exponential", "cosine", "warmup_cosine")},
        "one_cycle": {"shape": "one_cycle", "warmup": 0.3},
        "linear": {"shape": "linear", "warmup": 0.0},
        "warmup_stable_decay": {"shape": "warmup_stable_decay", "warmup": 0.05},
    }
    titles: ClassVar[Mapping[str, str]] = {
        "off": "a constant learning rate",
        "step": "the step schedule",
        "exponential": "the exponential schedule",
        "cosine": "the cosine schedule",
        "warmup_cosine": "the cosine schedule with warm-up",
        "one_cycle": "the one-cycle schedule",
        "linear": "the linear schedule",
        "warmup_stable_decay": "the warmup-stable-decay schedule",
    }
    sources: ClassVar[Mapping[str, str]] = {
        "cosine": "Loshchilov & Hutter 2017",
        "warmup_cosine": "Goyal et al. 2017; Loshchilov & Hutter 2017",
        "one_cycle": "Smith & Topin 2018",
        "linear": "Li et al. 2020, arXiv 1905.04753",
        "warmup_stable_decay": "Hu et al. 2024, arXiv 2404.06395; Hägele et al. 2024, arXiv 2405.18392",
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
            case "linear":
                return trapezoid(steps, self.warmup, 1.0)
            case "warmup_stable_decay":
                return trapezoid(steps, self.warmup, self.decay)
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
            case "linear" | "warmup_stable_decay":
                decay = 1.0 if self.shape == "linear" else self.decay
                return Plain(
                    definitions=(TRAPEZOID.format(warmup=self.warmup, decay=decay),),
                    scheduler="lr_scheduler.LambdaLR(optimizer, trapezoid)",
                    per_batch=True,
                )
        return Plain()

    def _plain_one_cycle(self, steps: int) -> Plain:
        if self.warmup * steps <= 1:
            raise self.not_plain("torch's OneCycleLR is another where the rate rises in a single step")
        options = f'max_lr=optimizer.defaults["lr"], total_steps=STEPS, pct_start={self.warmup}, cycle_momentum=False'
        return Plain(scheduler=f"lr_scheduler.OneCycleLR(optimizer, {options})", per_batch=True)
