"""How far a smaller budget says what a larger one does: which arms are better, with what chance makes of it.

The share of pairs of arms that both budgets order alike is DataDecide's decision accuracy (Magnusson et al. 2025, arXiv
2504.11393), there of data recipes. What two halves of the seeds of one budget agree in is how well it could do at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

RESAMPLES = 2_000


@dataclass(frozen=True)
class Agreement:
    """A share, and an interval of it over seeds."""

    share: float
    low: float
    high: float


def ordered_alike(one: np.ndarray, other: np.ndarray) -> float:
    """The share of pairs of arms of which both have the same better; one that is even in either counts half.

    one, other: [arms], what each arm reaches. NaN with fewer than two arms.
    """
    pairs = list(combinations(range(len(one)), 2))
    if not pairs:
        return float("nan")
    first, second = (np.sign([values[a] - values[b] for a, b in pairs]) for values in (one, other))
    alike = np.where((first == 0) | (second == 0), 0.5, first == second)
    return float(alike.mean())


def decision_accuracy(small: np.ndarray, large: np.ndarray, confidence: float = 0.95, seed: int = 0) -> Agreement:
    """How many pairs of arms the means of a small budget order as those of a large one, with a bootstrap's interval.

    small, large: [arms, seeds], of the same arms and seeds; seeds are drawn anew for both at once, since arms of a seed
    share their draws. The interval is of the percentiles; with few seeds it is too short.
    """
    rng, seeds = np.random.default_rng(seed), small.shape[1]
    drawn = rng.integers(0, seeds, (RESAMPLES, seeds))
    found = [ordered_alike(small[:, chosen].mean(1), large[:, chosen].mean(1)) for chosen in drawn]
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Agreement(ordered_alike(small.mean(1), large.mean(1)), float(low), float(high))


def ceiling(values: np.ndarray) -> float:
    """What half of the seeds of a budget and the other half agree in, over all ways to halve them (or 500 of them).

    values: [arms, seeds]. Of an odd number one seed is left out in turn. NaN with fewer than two seeds.
    """
    seeds = values.shape[1]
    if seeds < 2:
        return float("nan")
    halves = list(combinations(range(seeds), seeds // 2))
    if len(halves) > 500:
        chosen = np.random.default_rng(0).choice(len(halves), 500, replace=False)
        halves = [halves[i] for i in chosen]
    found = []
    for half in halves:
        rest = [seed for seed in range(seeds) if seed not in half]
        for left_out in [[]] if len(rest) == len(half) else [[seed] for seed in rest]:
            other = [seed for seed in rest if seed not in left_out]
            found.append(ordered_alike(values[:, list(half)].mean(1), values[:, other].mean(1)))
    return float(np.mean(found))
