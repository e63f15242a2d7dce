"""Landscapes: a local minimum, an inflection point and a saddle, and where gradient descent ends on them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from scipy.optimize import brentq
from torch import Tensor

from cifar_ablations.ablations.record import LinkRecord
from cifar_ablations.ablations.update_rule import UpdateRule
from cifar_ablations.study.foundations.demonstration import Demonstration, between, near, says
from cifar_ablations.study.foundations.paths import descend

NAME = "landscapes"
TITLE = "Local minima, inflection points and saddles"
CHAPTER = 6

F64 = torch.float64
RANGE = (-1.0, 2.0)
LOCAL, LOWEST = -0.3, 1.1
"""Where the notebook marks the local and the global minimum of x·cos(πx)."""
STARTS, STEPS, RATE = 240, 4_000, 0.005
CUBIC_START, CUBIC_STEPS, CUBIC_RATE = 1.5, 300, 0.05
SADDLE_STEPS, SADDLE_RATE = 60, 0.1
OFFSETS = (0.0, 1e-4, 1e-2, 0.3)
"""How far beside the saddle's ridge descent starts."""


def wave(x: Tensor) -> Tensor:
    """x · cos(πx)."""
    return x * torch.cos(math.pi * x)


def stationary(number: int) -> float:
    """The number-th positive point where x · cos(πx) is flat, from 1: u · tan(u) = 1 with u = πx."""
    low = (number - 1) * math.pi + (1e-9 if number == 1 else 0)
    return float(brentq(lambda u: math.cos(u) - u * math.sin(u), low, low + math.pi / 2)) / math.pi


def run(seed: int) -> Demonstration:
    """The notebook's three functions, its marks, and where descent from many starts ends."""
    top, lowest = stationary(1), stationary(2)
    local = -top  # the function is odd: a maximum on the right is a minimum on the left
    starts = torch.linspace(-1.05, RANGE[1], STARTS, dtype=F64)
    ends = descend([UpdateRule()], torch.tensor([RATE], dtype=F64), starts[None], STEPS, wave, logged=(STEPS,))[-1, 0]
    right = starts[(ends - lowest).abs() < 1e-3].min()
    reached = ((ends - lowest).abs() < 1e-3) | ((ends - local).abs() < 1e-3)
    cubic = descend(
        [UpdateRule()],
        torch.tensor([CUBIC_RATE], dtype=F64),
        torch.tensor([[CUBIC_START]], dtype=F64),
        CUBIC_STEPS,
        lambda x: x**3,
    )[:, 0, 0]
    steps = torch.arange(CUBIC_STEPS + 1)
    saddle, heights = _saddle()
    still = saddle[(saddle["offset"] == 0)].iloc[-1]
    grown = saddle[saddle["offset"] == OFFSETS[1]]
    factor = (grown["y"].iloc[-1] / grown["y"].iloc[0]) ** (1 / (len(grown) - 1))
    hessian = torch.autograd.functional.hessian(lambda p: p[0] ** 2 - p[1] ** 2, torch.zeros(2))
    eigenvalues = torch.linalg.eigvalsh(hessian)
    beyond = float(wave(torch.tensor(3.04)))
    checks = (
        near(
            "The local minimum marked at −0.3 is one: distance to the root of u · tan u = 1",
            expected=local,
            found=LOCAL,
            tolerance=0.05,
            source=says("a local minimum at −0.3"),
        ),
        near("The minimum marked at 1.1 is one", lowest, LOWEST, 0.05, says("the global minimum at 1.1")),
        between(
            "It is the global one, beyond the part that is drawn too: x·cos(πx) at 3.04 less that at 1.09",
            expected=0,
            found=beyond - float(wave(torch.tensor(lowest))),
            low=0,
            high=None,
            source=says("the global minimum at 1.1"),
        ),
        near("Descent from every start ends in one of the two: share", 1, reached.double().mean(), 0),
        near(
            "The watershed between them is the maximum in between: leftmost start that ends at 1.09",
            expected=top,
            found=right,
            tolerance=1.5 * float(starts[1] - starts[0]),
        ),
        near(
            "At x³'s inflection point first and second derivative are zero: larger of both",
            expected=0,
            found=_derivatives_of_cube(0.0),
            tolerance=0,
        ),
        near(
            "On x³ steps shrink until descent creeps: x after 300 steps is 1 / (3ηt + 1/x₀)",
            expected=1 / (3 * CUBIC_RATE * CUBIC_STEPS + 1 / CUBIC_START),
            found=cubic[-1],
            tolerance=0.005,
        ),
        near("The saddle's curvatures are 2 and −2: their product", -4, eigenvalues.prod(), 1e-6),
        near(
            "Exactly on the ridge, descent comes to rest on the saddle: distance after 60 steps",
            expected=0,
            found=math.hypot(still["x"], still["y"]),
            tolerance=1e-5,
        ),
        near("A start beside the ridge by 0.0001 leaves it, by 1 + 2η per step", 1 + 2 * SADDLE_RATE, factor, 1e-5),
    )
    grid = torch.linspace(*RANGE, 151, dtype=F64)
    beside = torch.linspace(-2, 2, 101, dtype=F64)
    curves = pd.concat(
        [
            pd.DataFrame({"function": "x·cos(πx)", "x": grid, "y": wave(grid)}),
            pd.DataFrame({"function": "x³", "x": beside, "y": beside**3}),
        ],
        ignore_index=True,
    )
    points = {"local minimum": local, "lowest here": lowest, "watershed": top}
    marks = [("x·cos(πx)", name, x, float(wave(torch.tensor(x)))) for name, x in points.items()]
    marks.append(("x³", "inflection point", 0.0, 0.0))
    return Demonstration(
        name=NAME,
        title=TITLE,
        question="Where does descent end, and where does it only seem to?",
        idea=(
            "Descent knows the slope under its feet and nothing else. It ends in whichever basin it starts in, it "
            "creeps where a slope fades without turning, and it rests on a saddle as long as nothing pushes it off the "
            "ridge. The last is the usual case in many dimensions: the smallest push grows by the same factor at every "
            "step, so the noise of minibatches gets away from saddles, and much less easily out of basins."
        ),
        frames={
            "curves": curves,
            "marks": pd.DataFrame(marks, columns=["function", "mark", "x", "y"]),
            "ends": pd.DataFrame({"start": starts, "end": ends}),
            "creeping": pd.DataFrame({"step": steps, "x": cubic, "theory": 1 / (3 * CUBIC_RATE * steps + 1 / 1.5)}),
            "saddle": saddle,
            "heights": heights,
        },
        checks=checks,
        links=(
            LinkRecord("learning-rate-sweep", "how large a step the network's own landscape bears"),
            LinkRecord("levels/batch_size", "noise that pushes off ridges"),
        ),
    )


def _derivatives_of_cube(at: float) -> float:
    """The larger of the first and second derivative's absolute values of x³."""
    x = torch.tensor(at, requires_grad=True)
    (first,) = torch.autograd.grad(x**3, x, create_graph=True)
    (second,) = torch.autograd.grad(first, x)
    return max(float(first.detach().abs()), float(second.abs()))


def _saddle() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Paths down x² − y² from beside its ridge, each until it leaves the plot, and the function's heights."""
    rates = torch.tensor([SADDLE_RATE], dtype=F64)
    start = torch.tensor([[[1.5, offset]] for offset in OFFSETS], dtype=F64)
    rows = []
    for offset, point in zip(OFFSETS, start, strict=True):
        path = descend([UpdateRule()], rates, point, SADDLE_STEPS, _height)[:, 0]
        inside = path[path[:, 1].abs() <= 2.0]
        rows += [{"offset": offset, "step": step, "x": float(x), "y": float(y)} for step, (x, y) in enumerate(inside)]
    axis = np.linspace(-2, 2, 41)
    x, y = np.meshgrid(axis, axis)
    heights = pd.DataFrame({"x": x.ravel(), "y": y.ravel(), "height": (x**2 - y**2).ravel()})
    return pd.DataFrame(rows), heights


def _height(points: Tensor) -> Tensor:
    """x² − y² of points [..., 2]."""
    return points[..., 0] ** 2 - points[..., 1] ** 2
