"""How often each kind of interval in a report holds what it is about; `benchmarks.calibration` writes it down."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np
from scipy import stats

from cifar_ablations.reports.inference import factorial, sequential, statistics

SEEDS = (3, 5, 8, 10, 15)
IMAGES = 200
LONGEST = 50
"""Seeds up to which an e-process is followed."""

Noise = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

DISTRIBUTIONS: dict[str, Noise] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "t with 3 degrees of freedom": lambda rng, shape: rng.standard_t(3, shape) / math.sqrt(3),
    "skewed (exponential)": lambda rng, shape: rng.exponential(size=shape) - 1,
}


@dataclass(frozen=True)
class Coverage:
    """How often an interval over n seeds holds the true value; `exact` where it promises 95 % and not at least 95 %."""

    interval: str
    case: str
    n: int
    rate: float
    exact: bool


def differences(rng: np.random.Generator, noise: Noise, draws: int, n: int, correlation: float) -> np.ndarray:
    """Differences of two equal arms [draws, n] whose runs share a part of their spread, the seed's."""
    shared, own = math.sqrt(correlation), math.sqrt(1 - correlation)
    seed, one, other = noise(rng, (draws, n)), noise(rng, (draws, n)), noise(rng, (draws, n))
    return (shared * seed + own * one) - (shared * seed + own * other)


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
    """The two-way interval, with seeds and images drawn anew each time.

    Answers come from a threshold on the sum of an image's difficulty, a seed's luck and chance, all normal, of which
    the arms share a half; so the true difference in accuracy is one of two normal probabilities.
    """
    for n in (3, 5, 10):
        for seeds, images in ((0.0, 0.5), (0.1, 0.5), (0.5, 0.1)):
            rng, case = np.random.default_rng([seed, 20, n]), f"normal: seeds {seeds:g}, images {images:g}, rest 1"
            yield Coverage("new seeds and images (two-way)", case, n, _two_way(
                (0.2 + seeds * rng.standard_normal((n, 1)) + images * rng.standard_normal(IMAGES)
                 + rng.standard_normal((n, IMAGES)) for _ in range(draws)), 0.2), False)  # fmt: skip
        for luck in (0.0, 0.15):
            rng, total = np.random.default_rng([seed, 21, n]), math.sqrt(1 + luck**2 + 0.5)
            truth = float(stats.norm.cdf(0.9 / total) - stats.norm.cdf(0.7 / total))
            case = f"right answers, {100 * truth:.1f} pp apart; seeds {luck:g}"
            yield Coverage("new seeds and images (two-way)", case, n, _two_way(
                (_answers(rng, n, luck) for _ in range(draws)), truth), False)  # fmt: skip


def _answers(rng: np.random.Generator, n: int, luck: float) -> np.ndarray:
    """Right by one arm less right by the other, [n, IMAGES]."""

    def both(shape: tuple[int, ...]) -> np.ndarray:
        shared, own = rng.standard_normal(shape), rng.standard_normal((2, *shape))
        return math.sqrt(0.5) * (shared + own)

    score = both((1, IMAGES)) + luck * both((n, 1)) + math.sqrt(0.5) * both((n, IMAGES))
    return np.asarray((score[0] > -0.9).astype(float) - (score[1] > -0.7))


def _two_way(matrices: Iterable[np.ndarray], truth: float) -> float:
    return share(found.low <= truth <= found.high for found in map(statistics.two_way_interval, matrices))


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
    """How often an e-process's intervals hold the true mean all along, from 2 seeds to LONGEST."""
    for name, noise in DISTRIBUTIONS.items():
        d = differences(np.random.default_rng([seed, 30, len(name)]), noise, draws, LONGEST, 0.0)
        held = share(
            all(low <= 0 <= high for low, high in (sequential.interval(row[:n]) for n in range(2, LONGEST + 1)))
            for row in d
        )
        yield Coverage("mean (e-process), at every number of seeds", name, LONGEST, held, False)


FACTORS = ("a", "b", "c")
USED = [frozenset(some) for size in range(4) for some in combinations(FACTORS, size)]


def worth(used: Iterable[str]) -> float:
    """A game in which each technique is worth more or less beside the others."""
    some = set(used)
    return 2.0 * ("a" in some) - ("b" in some) + 1.5 * (some >= {"a", "b"}) - 0.7 * (some >= {"a", "b", "c"})


def of_factorials(draws: int, seed: int) -> Iterator[Coverage]:
    """Intervals of one technique's effects, planted with interactions, seeds that differ and unequal spreads."""
    before = [order[: order.index("a")] for order in permutations(FACTORS)]
    added = {rest: worth({"a", *rest}) - worth(rest) for rest in ("", "b", "c", "bc")}
    planted: dict[str, tuple[np.ndarray, float]] = {
        "Shapley value (t)": (
            factorial.shapley("a", FACTORS, USED),
            float(np.mean([worth({*some, "a"}) - worth(some) for some in before])),
        ),
        "main effect (t)": (factorial.main_effect("a", USED), sum(added.values()) / 4),
        "interaction (t)": (
            factorial.interaction("a", "b", USED),
            (added["b"] + added["bc"] - added[""] - added["c"]) / 2,
        ),
    }
    means, spreads = np.array([worth(used) for used in USED]), np.array([1.0 + ("a" in used) for used in USED])
    for n in (3, 5, 10):
        rng = np.random.default_rng([seed, 40, n])
        values = means + rng.standard_normal((draws, n, 1)) + spreads * rng.standard_normal((draws, n, len(USED)))
        for name, (weights, truth) in planted.items():
            found = (statistics.mean_interval(row) for row in values @ weights)
            yield Coverage(name, "planted 2³ factorial", n, share(m.low <= truth <= m.high for m in found), True)


def share(outcomes: Iterable[bool]) -> float:
    """How many of the outcomes are true."""
    return float(np.mean(list(outcomes)))
