"""What shrinking the effects of a plan buys, by simulation: where its prior is right, and where it is not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from cifar_ablations.reports.inference import shrinkage

SEEDS = 5
CLAIMS = (6, 12, 18)

Effects = Callable[[np.random.Generator, int], np.ndarray]


class Row(NamedTuple):
    """One case. Coverage is of 95 % intervals, a share; errors are in true standard errors of an estimate."""

    case: str
    effects: int
    average: float
    """Coverage, over all effects."""
    worst: float
    """The least coverage by place in the order of true sizes; equal effects share a place."""
    raw: float
    """Mean |estimate - effect|."""
    shrunken: float
    """The same of the shrunken estimates."""
    winner: float
    """Coverage of the interval of the largest estimate."""
    winner_raw: float
    """By how much the largest estimate is beyond its effect on average."""
    winner_shrunken: float
    """The same of it shrunken."""


def _normal(spread: float) -> Effects:
    return lambda rng, k: spread * rng.standard_normal(k)


def _some(share: float, size: float) -> Effects:
    """So large a share of them of that size, at least one; the others none."""
    return lambda rng, k: size * (np.arange(k) < max(1, share * k)).astype(float)


CASES: dict[str, tuple[Effects, float, float]] = {
    "no effects": (_normal(0), 0, 1),
    "normal, half a standard error": (_normal(0.5), 0, 1),
    "normal, one standard error": (_normal(1), 0, 1),
    "normal, two standard errors": (_normal(2), 0, 1),
    "normal, four standard errors": (_normal(4), 0, 1),
    "normal, one, a baseline in common": (_normal(1), 0.5, 1),
    "normal, one, spreads of 1 and 4": (_normal(1), 0, 4),
    "half none, half one standard error": (_some(0.5, 1), 0, 1),
    "half none, half two standard errors": (_some(0.5, 2), 0, 1),
    "half none, half four standard errors": (_some(0.5, 4), 0, 1),
    "all but one none, that eight standard errors": (_some(0, 8), 0, 1),
}
"""Effects in standard errors; the correlation of the claims' differences; every other claim's spread by the others'.

Where the spreads differ, a standard error is the geometric mean of the two.
"""


def rows(draws: int, seed: int) -> Iterator[Row]:
    """By case and number of effects, for five paired seeds; about 2 ms a draw, 33 times."""
    for i, (case, (effects, correlation, uneven)) in enumerate(CASES.items()):
        for k in CLAIMS:
            rng = np.random.default_rng([seed, 90, i, k])
            yield _row(case, k, [_draw(rng, k, effects, correlation, uneven) for _ in range(draws)])


def _draw(
    rng: np.random.Generator, k: int, effects: Effects, correlation: float, uneven: float
) -> tuple[np.ndarray, np.ndarray, shrinkage.Shrunken]:
    """True effects, estimates and what they shrink to, in standard errors."""
    noise = math.sqrt(1 - correlation) * rng.standard_normal((k, SEEDS))
    noise += math.sqrt(correlation) * rng.standard_normal(SEEDS)
    noise *= np.where(np.arange(k) % 2, math.sqrt(uneven), 1 / math.sqrt(uneven))[:, None]
    truth = effects(rng, k)
    d = truth[:, None] + math.sqrt(SEEDS) * noise
    estimates, errors = d.mean(axis=1), d.std(axis=1, ddof=1) / math.sqrt(SEEDS)
    return truth, estimates, shrinkage.shrink(estimates, errors, np.full(k, SEEDS - 1))


def _row(case: str, k: int, drawn: list[tuple[np.ndarray, np.ndarray, shrinkage.Shrunken]]) -> Row:
    truth, raw = np.array([t for t, _, _ in drawn]), np.array([m for _, m, _ in drawn])
    low, mean, high = (np.array([getattr(s, name) for *_, s in drawn]) for name in ("low", "shrunken", "high"))
    covered = (low <= truth) & (truth <= high)
    sizes = np.sort(np.abs(truth), axis=1)
    by_place = np.take_along_axis(covered, np.argsort(np.abs(truth), axis=1), axis=1).mean(axis=0)
    _, shared = np.unique(sizes.mean(axis=0).round(9), return_inverse=True)
    places = np.bincount(shared, weights=by_place) / np.bincount(shared)
    winner = np.arange(len(drawn)), np.abs(raw).argmax(axis=1)
    errors = [x - truth for x in (raw, mean)]
    size, beyond = [np.abs(e).mean() for e in errors], [(e * np.sign(raw))[winner].mean() for e in errors]
    numbers = (covered.mean(), places.min(), *size, covered[winner].mean(), *beyond)
    return Row(case, k, *map(float, numbers))
