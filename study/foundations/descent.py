"""Descent: plain, with momentum, RMSProp and Adam on the notebook's functions, walked by the engine's update rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from scipy.optimize import brentq
from torch import Tensor

from cifar_ablations.ablations.record import CheckRecord, LinkRecord
from cifar_ablations.ablations.techniques.optimizer import Optimizer
from cifar_ablations.ablations.update_rule import UpdateRule
from cifar_ablations.study.foundations.demonstration import Demonstration, between, farthest, near, says
from cifar_ablations.study.foundations.paths import descend

NAME = "descent"
TITLE = "Descent, momentum, RMSProp and Adam"
CHAPTER = 7

C = 0.15 * math.pi
F64 = torch.float64


def square(x: Tensor) -> Tensor:
    """x²."""
    return x**2


def wave(x: Tensor) -> Tensor:
    """x · cos(0.15πx)."""
    return x * torch.cos(C * x)


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"x²": square, "x·cos(0.15πx)": wave}


@dataclass(frozen=True)
class Walk:
    """One panel of one of the notebook's figures."""

    figure: str
    label: str
    function: str
    optimizer: Optimizer
    start: float
    steps: int
    drawn: tuple[float, float]

    def path(self) -> np.ndarray:
        """Where the walker is before the first step and after each one, float64 [steps + 1]."""
        rule = self.optimizer.update(UpdateRule())
        start, rates = torch.tensor([[self.start]], dtype=F64), torch.tensor([rule.rate], dtype=F64)
        return descend([rule], rates, start, self.steps, FUNCTIONS[self.function])[:, 0, 0].numpy()


WAVE, WIDE, WIDER = "x·cos(0.15πx)", (-13.0, 13.0), (-15.0, 25.0)
RATES = (0.1, 0.3, 0.9, 1.0)
BETAS = (0.0, 0.6, 0.9)
WALKS: tuple[Walk, ...] = (
    *(Walk("square", f"rate {r:g}", "x²", Optimizer(kind="sgd", rate=r), 1.5, 10, (-2.0, 2.0)) for r in RATES),
    *(
        Walk("rates", f"from 10, rate {r:g}", WAVE, Optimizer(kind="sgd", rate=r), 10.0, 10, WIDE)
        for r in (0.3, 1.3, 2.0)
    ),
    *(
        Walk("rates", f"from −7, rate {r:g}", WAVE, Optimizer(kind="sgd", rate=r), -7.0, 5, WIDE)
        for r in (0.5, 2.7, 3.5)
    ),
    *(
        Walk("momentum", f"β = {b:g}", WAVE, Optimizer(kind="averaged", rate=1.1, momentum=b), -7.0, 35, WIDE)
        for b in BETAS
    ),
    *(
        Walk("rmsprop", f"γ = {g:g}", WAVE, Optimizer(kind="rmsprop", rate=0.5, second=g), 12.0, 10, WIDE)
        for g in (0.0, 0.7, 0.9)
    ),
    *(
        Walk(
            figure=figure,
            label=f"β₁ = {b1:g}, β₂ = {b2:g}",
            function=WAVE,
            optimizer=Optimizer(kind=kind, rate=0.7, momentum=b1, second=b2),
            start=15.0,
            steps=20,
            drawn=WIDER,
        )
        for figure, kind in (("adam", "adam_uncorrected"), ("adam_corrected", "adam"))
        for b1 in BETAS
        for b2 in BETAS
    ),
)
"""Functions, starts, rates and numbers of steps as in the notebook, which draws Adam without its correction."""


def minimum(number: int) -> float:
    """The number-th positive point where x · cos(0.15πx) is flat: the odd ones are maxima, the even ones minima.

    The function is odd, so that their mirror images are the other way round.
    """
    low = (number - 1) * math.pi + (1e-9 if number == 1 else 0)
    return float(brentq(lambda u: math.cos(u) - u * math.sin(u), low, low + math.pi / 2)) / C


def curvature(x: float) -> float:
    """The second derivative of x · cos(0.15πx)."""
    return -2 * C * math.sin(C * x) - C**2 * x * math.cos(C * x)


def run(seed: int) -> Demonstration:
    """Every panel of the notebook's figures of descent. Nothing in it is random: the seed makes no difference."""
    paths = {(walk.figure, walk.label): walk.path() for walk in WALKS}
    rows = [_drawn(walk, paths[walk.figure, walk.label]) for walk in WALKS]
    return Demonstration(
        name=NAME,
        title=TITLE,
        question="What does each optimizer add to a step down the slope, and what does it change about where one ends?",
        idea=(
            "A step goes against the gradient, by a rate that must stay below two over the curvature, or the walker is "
            "thrown out of the very minimum it is in. Momentum averages gradients and carries a walker over a small "
            "rise; RMSProp divides by their usual size, so that steps have about the length of the rate wherever it is "
            "steep or flat; Adam does both. All of it is one update rule with different coefficients, and it is the "
            "engine's that walks here."
        ),
        frames={"paths": pd.concat(rows, ignore_index=True), "curves": _curves()},
        checks=(*_plain(paths), *_averaged(paths), *_adaptive(paths)),
        links=(
            LinkRecord("claims", "momentum against plain SGD, epochs to a target", "SGD with momentum"),
            LinkRecord("claims", "Adam without its bias correction", "Adam without bias correction"),
            LinkRecord("levels/optimizer", "every optimizer of the engine"),
            LinkRecord("learning-rate-sweep", "how large a rate the network bears"),
        ),
    )


def _drawn(walk: Walk, path: np.ndarray) -> pd.DataFrame:
    heights = FUNCTIONS[walk.function](torch.tensor(path))
    columns = {"figure": walk.figure, "panel": walk.label, "step": range(walk.steps + 1), "x": path, "y": heights}
    return pd.DataFrame(columns)


Paths = dict[tuple[str, str], np.ndarray]


def _plain(paths: Paths) -> list[CheckRecord]:
    deviation = max(
        np.abs(paths["square", f"rate {rate:g}"] - 1.5 * (1 - 2 * rate) ** np.arange(11)).max() for rate in RATES
    )
    deep, shallow = minimum(2), -minimum(1)
    right = paths["rates", "from 10, rate 0.3"]
    left = replace(next(walk for walk in WALKS if walk.label == "from −7, rate 0.5"), steps=50).path()
    wild = {
        label: path for (figure, label), path in paths.items() if figure == "rates" and label[-3:] in ("1.3", "2.0")
    }
    return [
        near("On x² plain descent is at 1.5 · (1 − 2η)ᵗ: largest deviation over four rates", 0, deviation, 1e-12),
        near(
            "At a rate of 1 it jumps from side to side for ever: |x| after 10 steps",
            expected=1.5,
            found=abs(paths["square", "rate 1"][-1]),
            tolerance=1e-12,
        ),
        near("From 10 a rate of 0.3 ends in the minimum at 7.27", deep, right[-1], 0.01),
        near(
            "From −7 a rate of 0.5 is on its way to the shallow minimum at −1.83, and there after 50 steps",
            expected=shallow,
            found=left[-1],
            tolerance=0.01,
        ),
        near(
            "A minimum holds rates below 2 / f″ and no others: the largest at 7.27",
            expected=2 / curvature(deep),
            found=largest_stable(deep),
            tolerance=0.005,
        ),
        between(
            "Rates of 1.3 and 2 cannot settle there: distance from it after 10 steps, the smaller of both",
            expected=0,
            found=min(abs(path[-1] - deep) for path in wild.values()),
            low=0.1,
            high=None,
        ),
    ]


def largest_stable(at: float, precision: float = 0.001) -> float:
    """The largest rate at which plain descent stays in a minimum of the wave, by walking at 400 rates at once."""
    middle = 2 / curvature(at)
    rates = torch.arange(-200, 200, dtype=F64) * precision + middle
    start = torch.full((len(rates), 1), at + 1e-3, dtype=F64)
    ends = descend([UpdateRule()] * len(rates), rates, start, 500, wave, logged=(500,))[0, :, 0]
    return float(rates[(ends - at).abs() < 1e-3].max())


def _averaged(paths: Paths) -> list[CheckRecord]:
    summed = max(
        np.abs(
            paths["momentum", f"β = {b:g}"]
            - Walk("", "", WAVE, Optimizer(kind="momentum", rate=1.1 * (1 - b), momentum=b), -7, 35, WIDE).path()
        ).max()
        for b in BETAS
    )
    plain = Walk("", "", WAVE, Optimizer(kind="sgd", rate=1.1), -7, 35, WIDE).path()
    return [
        near(
            "The (1 − β) form is the summing form at (1 − β) times the rate: largest deviation of the paths",
            expected=0,
            found=summed,
            tolerance=1e-9,
        ),
        near(
            "With β = 0 momentum is plain descent: largest deviation",
            expected=0,
            found=np.abs(paths["momentum", "β = 0"] - plain).max(),
            tolerance=0,
            source=says("β = 0 is gradient descent"),
        ),
        between(
            "β = 0.9 carries the walker over the rise at 1.83 that holds back β = 0: farthest point to the right",
            expected=minimum(2),
            found=paths["momentum", "β = 0.9"].max(),
            low=minimum(1),
            high=None,
            source=says("it keeps moving"),
        ),
        between(
            "Farthest point to the right with β = 0",
            expected=-minimum(1),
            found=paths["momentum", "β = 0"].max(),
            low=None,
            high=minimum(1),
            source=says("it keeps moving"),
        ),
    ]


def _adaptive(paths: Paths) -> list[CheckRecord]:
    first = {figure: paths[figure, "β₁ = 0.9, β₂ = 0.9"] for figure in ("adam", "adam_corrected")}
    steps = np.abs(np.diff(paths["rmsprop", "γ = 0"]))
    deviation = max(np.abs(paths[walk.figure, walk.label] - written_out(walk)).max() for walk in WALKS)
    return [
        near(
            "RMSProp with γ = 0 takes steps of the length of the rate: the one farthest from 0.5",
            expected=0.5,
            found=farthest(steps, 0.5),
            tolerance=1e-6,
        ),
        near(
            "Adam's first step has the length of the rate, whatever the gradient",
            expected=0.7,
            found=abs(np.diff(first["adam_corrected"])[0]),
            tolerance=1e-6,
        ),
        near(
            "Without the correction it is (1 − β₁) / √(1 − β₂) of it: 0.32 for 0.9 and 0.9",
            expected=0.7 * 0.1 / math.sqrt(0.1),
            found=abs(np.diff(first["adam"])[0]),
            tolerance=1e-6,
        ),
        near(
            f"All {len(WALKS)} paths are those of the formulas, worked out a number at a time: largest deviation",
            expected=0,
            found=deviation,
            tolerance=1e-9,
            source=says("the formulas of each optimizer"),
        ),
    ]


def written_out(walk: Walk) -> list[float]:
    """A walk by the formulas of SGD, averaged momentum, RMSProp and Adam (Kingma & Ba 2015), a number at a time."""
    o, x, v, s = walk.optimizer, walk.start, 0.0, 0.0
    path = [x]
    for t in range(1, walk.steps + 1):
        g = 2 * x if walk.function == "x²" else math.cos(C * x) - C * x * math.sin(C * x)
        v = o.momentum * v + (1 - o.momentum) * g
        s = o.second * s + (1 - o.second) * g * g
        first, second = v, s
        if o.kind == "adam":
            first, second = v / (1 - o.momentum**t), s / (1 - o.second**t)
        if o.kind in ("sgd", "averaged"):
            x -= o.rate * (g if o.kind == "sgd" else v)
        else:
            x -= o.rate * (g if o.kind == "rmsprop" else first) / (math.sqrt(second) + 1e-8)
        path.append(x)
    return path


def _curves() -> pd.DataFrame:
    """The function under every figure, over the range that the notebook draws."""
    parts = []
    for figure in dict.fromkeys(walk.figure for walk in WALKS):
        walk = next(walk for walk in WALKS if walk.figure == figure)
        x = torch.linspace(*walk.drawn, 161, dtype=F64)
        parts.append(pd.DataFrame({"figure": figure, "x": x, "y": FUNCTIONS[walk.function](x)}))
    return pd.concat(parts, ignore_index=True)
