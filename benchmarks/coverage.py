"""Simulates how often each kind of interval in a report holds the true value, for `benchmarks.calibration`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np
from scipy import stats

from cifar_ablations.reports.inference import decision, factorial, statistics
from cifar_ablations.reports.inference.decision import Sample
from cifar_ablations.reports.inference.simulation import NOISES

SEEDS = (3, 5, 8, 10, 15)
IMAGES = 200
LONGEST = 50
"""Seeds up to which an e-process is followed."""


@dataclass(frozen=True)
class Coverage:
    """How often an interval over n seeds holds the true value; `exact` where it promises 95 % and not at least 95 %."""

    interval: str
    case: str
    n: int
    rate: float
    exact: bool


def of_samples(draws: int, seed: int) -> Iterator[Coverage]:
    """Intervals of one arm's mean and spread, and of its next run."""
    for n in SEEDS:
        x = 1 + 2 * np.random.default_rng([seed, 10, n]).standard_normal((draws, n + 1))
        found = [statistics.mean_interval(row[:n]) for row in x]
        yield Coverage("mean (t)", "normal", n, share(m.low <= 1 <= m.high for m in found), True)
        ranges = (statistics.sd_interval(m.std, n) for m in found)
        yield Coverage("standard deviation (χ²)", "normal", n, share(low <= 2 <= high for low, high in ranges), True)
        above = share(statistics.upper_limit_of_sd(m.std, n) >= 2 for m in found)
        yield Coverage("upper limit of the standard deviation", "normal", n, above, True)
        hits = (low <= row[n] <= high for row in x for low, high in [statistics.prediction_interval(row[:n])])
        yield Coverage("one further run", "normal", n, share(hits), True)


def of_images(draws: int, seed: int) -> Iterator[Coverage]:
    """The interval for new seeds and images, with both and images drawn anew each time.

    Answers come from a threshold on the sum of an image's difficulty, a seed's luck and chance, all normal, of which
    the arms share a half; so the true difference in accuracy is one of two normal probabilities.
    """
    for n in (3, 5, 10):
        for seeds, images in ((0.0, 0.5), (0.1, 0.5), (0.5, 0.1)):
            rng, case = np.random.default_rng([seed, 20, n]), f"normal: seeds {seeds:g}, images {images:g}, rest 1"
            covered = _for_new_images((_normal(rng, n, seeds, images, mean=0.2) for _ in range(draws)), 0.2)
            yield Coverage("new seeds and images", case, n, covered, False)
        for luck in (0.0, 0.15):
            rng, total = np.random.default_rng([seed, 21, n]), math.sqrt(1 + luck**2 + 0.5)
            truth = float(stats.norm.cdf(0.9 / total) - stats.norm.cdf(0.7 / total))
            case = f"right answers, {100 * truth:.1f} pp apart; seeds {luck:g}"
            covered = _for_new_images((_answers(rng, n, luck) for _ in range(draws)), truth)
            yield Coverage("new seeds and images", case, n, covered, False)


def _normal(rng: np.random.Generator, n: int, seeds: float, images: float, mean: float) -> np.ndarray:
    """Normal differences of two arms, [n, IMAGES]; seeds and images are standard deviations, that of the rest is 1."""
    shifts = mean + seeds * rng.standard_normal((n, 1)) + images * rng.standard_normal(IMAGES)
    return np.asarray(shifts + rng.standard_normal((n, IMAGES)))


def _answers(rng: np.random.Generator, n: int, luck: float) -> np.ndarray:
    """Differences of two arms in right answers, -1, 0 or 1, [n, IMAGES]."""

    def both(shape: tuple[int, ...]) -> np.ndarray:
        shared, own = rng.standard_normal(shape), rng.standard_normal((2, *shape))
        return math.sqrt(0.5) * (shared + own)

    score = both((1, IMAGES)) + luck * both((n, 1)) + math.sqrt(0.5) * both((n, IMAGES))
    return np.asarray((score[0] > -0.9).astype(float) - (score[1] > -0.7))


def _for_new_images(matrices: Iterable[np.ndarray], truth: float) -> float:
    def held(matrix: np.ndarray) -> bool:
        alone = statistics.mean_interval(matrix.mean(axis=1))
        low, high = statistics.for_new_images(alone.low, alone.high, matrix)
        return bool(low <= truth <= high)

    return share(map(held, matrices))


def of_shares() -> Iterator[Coverage]:
    """The least coverage over all true shares, computed from every outcome there is: nothing is drawn."""
    grid = np.linspace(0.005, 0.995, 199)
    for n in SEEDS:
        low, high = np.array([statistics.proportion_interval(k, n) for k in range(n + 1)]).T
        chances = stats.binom(n, grid[:, None]).pmf(np.arange(n + 1))
        held = (chances * ((low <= grid[:, None]) & (grid[:, None] <= high))).sum(axis=1)
        yield Coverage("share (Clopper-Pearson)", "least over all shares", n, float(held.min()), False)
        outcomes = [(above, ties, n - above - ties) for above in range(n + 1) for ties in range(n + 1 - above)]
        found = [statistics.improvement(np.repeat([1.0, 0.0, -1.0], counts)) for counts in outcomes]
        low, high = np.array([limits for _, *limits in found]).T
        for tied in (0.0, 0.1, 0.3):
            least = 1.0
            for above in grid[grid < 1 - tied]:
                chance = stats.multinomial(n, [above, tied, 1 - above - tied]).pmf(outcomes)
                truth = above + tied / 2
                least = min(least, float((chance * ((low <= truth) & (truth <= high))).sum()))
            yield Coverage("probability of an improvement", f"least over all, {100 * tied:g} % ties", n, least, False)


def of_e_process(draws: int, seed: int) -> Iterator[Coverage]:
    """How often an e-process's intervals hold the true difference all along, from 2 seeds to LONGEST."""
    test = decision.TESTS["paired t e-process"]
    for name, noise in NOISES.items():
        arms = noise(np.random.default_rng([seed, 30, len(name)]), (draws, 2, LONGEST))
        held = np.ones(draws, dtype=bool)
        for n in range(2, LONGEST + 1):
            found = test.compare(Sample(arms[..., :n], np.full((draws, 2), n)), np.array([[1.0, -1.0]]))
            low, high = test.interval(found, 0.05)
            held &= ((low <= 0) & (high >= 0))[..., 0]
        yield Coverage("difference (e-process), at every number of seeds", name, LONGEST, float(held.mean()), False)


FACTORS = ("a", "b", "c")
USED = [frozenset(some) for size in range(4) for some in combinations(FACTORS, size)]


def worth(used: Iterable[str]) -> float:
    """A game in which each technique is worth more or less beside the others."""
    some = set(used)
    return 2.0 * ("a" in some) - ("b" in some) + 1.5 * (some >= {"a", "b"}) - 0.7 * (some >= {"a", "b", "c"})


def of_factorials(draws: int, seed: int) -> Iterator[Coverage]:
    """Intervals of one technique's effects, planted with interactions and unequal spreads."""
    before = [order[: order.index("a")] for order in permutations(FACTORS)]
    added = {rest: worth({"a", *rest}) - worth(rest) for rest in ("", "b", "c", "bc")}
    planted: dict[str, tuple[np.ndarray, float]] = {
        "Shapley value": (
            factorial.shapley("a", FACTORS, USED),
            float(np.mean([worth({*some, "a"}) - worth(some) for some in before])),
        ),
        "main effect": (factorial.main_effect("a", USED), sum(added.values()) / 4),
        "interaction": (
            factorial.interaction("a", "b", USED),
            (added["b"] + added["bc"] - added[""] - added["c"]) / 2,
        ),
    }
    means, spreads = np.array([worth(used) for used in USED]), np.array([1.0 + ("a" in used) for used in USED])
    weights, truth = np.array([w for w, _ in planted.values()]), np.array([t for _, t in planted.values()])
    for n in (3, 5, 10):
        rng = np.random.default_rng([seed, 40, n])
        values = means[:, None] + spreads[:, None] * rng.standard_normal((draws, len(USED), n))
        for name in ("welch t", "paired t"):
            test = decision.TESTS[name]
            low, high = test.interval(test.compare(Sample(values, np.full(values.shape[:-1], n)), weights), 0.05)
            for effect, rate in zip(planted, ((low <= truth) & (truth <= high)).mean(axis=0), strict=True):
                # Welch's degrees of freedom are an approximation that errs on the side of wide with few seeds.
                exact = name == "paired t"
                yield Coverage(f"{effect} ({name})", "planted 2³ factorial", n, float(rate), exact)


def share(outcomes: Iterable[bool]) -> float:
    """The share of the outcomes that are true."""
    return float(np.mean(list(outcomes)))
