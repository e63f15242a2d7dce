"""Walks down a function with the engine's own update rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cifar_ablations.ablations.update_rule import UpdateRule
from cifar_ablations.study.training.optimizer import FleetOptimizer


def descend(
    rules: Sequence[UpdateRule],
    rates: Tensor,
    start: Tensor,
    steps: int,
    function: Callable[[Tensor], Tensor],
    *,
    noise: Callable[[int], Tensor] | None = None,
    logged: Sequence[int] | None = None,
) -> Tensor:
    """Where walkers are before the first step and after each one, float64 [steps + 1, K, P].

    rules: one per row of start, float64 [K, P], adaptive ones first; rates: float64 [K], or [steps, K] where they
    follow a schedule. function: of the points [K, P]; the gradient of the sum of its values is taken, so that columns
    are walkers of their own or coordinates of one as the function treats them. noise: what is added to the gradients
    [K, P] at a step. logged: the steps to keep, all by default.
    """
    assert start.dtype == rates.dtype == torch.float64
    points = start.clone()
    table = rates.expand(steps, -1) if rates.ndim == 1 else rates
    optimizer = FleetOptimizer(points, rules, table)
    kept = set(range(steps + 1) if logged is None else logged)
    path = [points.clone()] if 0 in kept else []
    for step in range(steps):
        at = points.detach().clone().requires_grad_()
        (gradients,) = torch.autograd.grad(function(at).sum(), at)
        if noise is not None:
            gradients = gradients + noise(step)
        optimizer.step(torch.tensor([step]), points, gradients)
        if step + 1 in kept:
            path.append(points.clone())
    return torch.stack(path)
