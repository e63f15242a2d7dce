"""Shares drawn from a symmetric beta distribution, as mixing techniques need them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor

QUANTILES = 4096


@cache
def quantiles(alpha: float, device: torch.device) -> Tensor:
    """The quantiles of Beta(alpha, alpha) at (i + 1/2) / 4096, float32, on the device."""
    from scipy import stats

    at = (torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES
    return torch.from_numpy(stats.beta.ppf(at.numpy(), alpha, alpha)).to(device, torch.float32)


def beta(integers: Callable[[int, Sequence[int]], Tensor], alpha: float, count: int, device: torch.device) -> Tensor:
    """float32 [count] from Beta(alpha, alpha), on a grid of 4096 equally likely values.

    By table, since a sampler that rejects would draw differently often for each image, and could not be replayed from
    a captured graph.
    """
    return quantiles(alpha, device)[integers(QUANTILES, (count,))]
