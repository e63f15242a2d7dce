"""The update rule of a whole fleet in one pass: what `optimizer.FleetOptimizer.step` does by torch."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from cifar_ablations.study.training.optimizer import FleetOptimizer

BLOCK = 2_048


class FleetUpdate:
    """Takes an optimizer's steps; made anew when its rows change."""

    def __init__(self, optimizer: FleetOptimizer):
        self.optimizer = optimizer
        rules = optimizer.rules
        like = optimizer.first
        self._adaptive = sum(rule.adaptive for rule in rules)
        self._rules = torch.tensor(
            [
                [
                    rule.coupled_decay,
                    rule.first_decay,
                    rule.first_gain,
                    rule.first_decay if rule.nesterov else 1.0,
                    rule.first_gain if rule.nesterov else 0.0,
                    rule.second_decay,
                    1 - rule.second_decay,
                    rule.epsilon,
                ]
                for rule in rules
            ],
            dtype=torch.float64,
        ).to(like)
        self._clipped = any(rule.max_norm for rule in rules)
        self._max_norm = torch.tensor([rule.max_norm or math.inf for rule in rules]).to(like)

    def step(self, number: Tensor, weights: Tensor, gradients: Tensor, norms: Tensor) -> None:
        """As `FleetOptimizer.step`, given the norms of the gradients, [K]."""
        optimizer = self.optimizer
        factors = (self._max_norm / (norms + 1e-6)).clamp_(max=1.0) if self._clipped else norms
        rows, size = weights.shape
        tables = (optimizer.step_sizes, optimizer.root_corrections, optimizer.shrinkage)
        _step[(triton.cdiv(size, BLOCK), rows)](
            *(weights, gradients, optimizer.first, optimizer.second),
            *(number, self._rules, *tables, factors),
            *(rows, size, self._adaptive, self._clipped, BLOCK),
        )


@triton.jit
def _step(
    weights,
    gradients,
    first,
    second,
    number,
    rules,
    step_sizes,
    root_corrections,
    shrinkage,
    factors,
    rows,
    size,
    adaptive,
    CLIPPED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(1)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = column < size
    at = row.to(tl.int64) * size + column
    now = tl.load(number) * rows + row
    rule = rules + row * 8
    w = tl.load(weights + at, inside)
    g = tl.load(gradients + at, inside)
    m = tl.load(first + at, inside)
    if CLIPPED:
        g = g * tl.load(factors + row)
    g = g + w * tl.load(rule)
    w = w * tl.load(shrinkage + now)
    m = m * tl.load(rule + 1) + g * tl.load(rule + 2)
    tl.store(first + at, m, inside)
    d = m * tl.load(rule + 3) + g * tl.load(rule + 4)
    rate = tl.load(step_sizes + now)
    if row < adaptive:
        s = tl.load(second + at, inside)
        s = s * tl.load(rule + 5) + g * g * tl.load(rule + 6)
        tl.store(second + at, s, inside)
        d = d / (tl.sqrt_rn(s) / tl.load(root_corrections + now) + tl.load(rule + 7))
    tl.store(weights + at, w + d * rate, inside)
