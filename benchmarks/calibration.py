"""Whether the statistics keep what they promise: false positives, coverage and power, by simulation.

`make validate`, or `python -m benchmarks.calibration`. Writes CALIBRATION.md beside itself, with the number of draws
and the seed, so that anyone can repeat it. What is simulated are differences of paired seeds; what is tested are the
functions of `reports` that a report uses.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import scipy
from scipy import stats

from reports import factorial, sequential, statistics, verdict

FILE = Path(__file__).parent / "CALIBRATION.md"

SEEDS = (3, 5, 8, 10, 15)
CORRELATIONS = (0.0, 0.5)
EFFECTS = (0.0, 0.1, 0.25, 0.5, 1.0)
"""In percentage points, with a standard deviation of the differences of 0.5 points."""
SPREAD = 0.5
CLAIMS = 6
ALPHA = 0.05
IMAGES = 200
LONGEST = 50
"""Seeds up to which an e-process is followed."""
WAYS = (("paired t", (5, 10, 15)), ("paired t e-process", tuple(range(5, LONGEST + 1, 5))))
"""Tests and looks of a plan that lets the data say how many seeds are enough."""
MARGINS = (0.5, 1.0, 3.0)
"""Of equivalence, in standard deviations of the differences."""

Noise = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

DISTRIBUTIONS: dict[str, Noise] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "t with 3 degrees of freedom": lambda rng, shape: rng.standard_t(3, shape) / math.sqrt(3),
    "skewed (exponential)": lambda rng, shape: rng.exponential(size=shape) - 1,
}


@dataclass(frozen=True)
class Null:
    """What comes out where two arms are the same."""

    noise: str
    n: int
    correlation: float
    false_positives: float
    coverage: float


@dataclass(frozen=True)
class Coverage:
    """How often an interval over n seeds holds the true value; `exact` where it promises 95 % and not at least 95 %."""

    interval: str
    case: str
    n: int
    rate: float
    exact: bool


@dataclass(frozen=True)
class Looked:
    """How often at least one of the claims about equal arms is supported or refuted at any of the looks."""

    rule: str
    level: float
    wrong: float
    kept: bool


def differences(rng: np.random.Generator, noise: Noise, draws: int, n: int, correlation: float) -> np.ndarray:
    """Differences of two equal arms [draws, n] whose runs share a part of their spread, the seed's."""
    shared, own = math.sqrt(correlation), math.sqrt(1 - correlation)
    seed, one, other = noise(rng, (draws, n)), noise(rng, (draws, n)), noise(rng, (draws, n))
    return (shared * seed + own * one) - (shared * seed + own * other)


def nulls(draws: int, seed: int) -> Iterator[Null]:
    """False positives at 5 % and coverage of 95 % intervals where there is no difference."""
    for name, noise in DISTRIBUTIONS.items():
        for n in SEEDS:
            for correlation in CORRELATIONS:
                rng = np.random.default_rng([seed, n, round(10 * correlation), len(name)])
                d = differences(rng, noise, draws, n, correlation)
                rejected = np.mean([statistics.zero_p(row) < ALPHA for row in d])
                found = (statistics.mean_interval(row) for row in d)
                covered = np.mean([interval.low <= 0 <= interval.high for interval in found])
                yield Null(name, n, correlation, float(rejected), float(covered))


def powers(draws: int, seed: int) -> Iterator[tuple[int, float, float, float]]:
    """Seeds, effect, share found, and what the non-central t distribution says, for normal differences."""
    for n in SEEDS:
        for effect in EFFECTS:
            rng = np.random.default_rng([seed, n, round(100 * effect)])
            d = effect + SPREAD * rng.standard_normal((draws, n))
            found = np.mean([statistics.zero_p(row) < ALPHA for row in d])
            yield n, effect, float(found), statistics.power_of_t_test(effect / SPREAD, n)


def family_wise(draws: int, seed: int) -> Iterator[tuple[int, float, float]]:
    """Seeds, and how often at least one of six claims about equal arms passes, with Holm's correction and without."""
    for n in SEEDS:
        p = stats.ttest_1samp(_claims(np.random.default_rng([seed, n]), draws, n), 0, axis=2).pvalue
        corrected = np.mean([min(statistics.holm(row)) < ALPHA for row in p])
        yield n, float(corrected), float(np.mean(p.min(axis=1) < ALPHA))


def of_samples(draws: int, seed: int) -> Iterator[Coverage]:
    """Intervals of one arm's mean and spread, and of its next run."""
    for n in SEEDS:
        x = 1 + 2 * np.random.default_rng([seed, 10, n]).standard_normal((draws, n + 1))
        found = [statistics.mean_interval(row[:n]) for row in x]
        yield Coverage("mean (t)", "normal", n, _share(m.low <= 1 <= m.high for m in found), True)
        ranges = (statistics.sd_interval(m.std, n) for m in found)
        yield Coverage("standard deviation (χ²)", "normal", n, _share(low <= 2 <= high for low, high in ranges), True)
        above = _share(statistics.upper_limit_of_sd(m.std, n) >= 2 for m in found)
        yield Coverage("upper limit of the standard deviation", "normal", n, above, True)
        hits = (low <= row[n] <= high for row in x for low, high in [statistics.prediction_interval(row[:n])])
        yield Coverage("one further run", "normal", n, _share(hits), True)


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
    return (score[0] > -0.9).astype(float) - (score[1] > -0.7)


def _two_way(matrices: Iterable[np.ndarray], truth: float) -> float:
    return _share(found.low <= truth <= found.high for found in map(statistics.two_way_interval, matrices))


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
            yield Coverage("probability of an improvement", f"least over all, {tied:.0%} ties", n, least, False)


def of_e_process(draws: int, seed: int) -> Iterator[Coverage]:
    """How often an e-process's intervals hold the true mean all along, from 2 seeds to LONGEST."""
    for name, noise in DISTRIBUTIONS.items():
        d = differences(np.random.default_rng([seed, 30, len(name)]), noise, draws, LONGEST, 0.0)
        held = _share(
            all(low <= 0 <= high for low, high in (sequential.interval(row[:n]) for n in range(2, LONGEST + 1)))
            for row in d
        )
        yield Coverage("mean (e-process), at every number of seeds", name, LONGEST, held, False)


FACTORS = ("a", "b", "c")
USED = [frozenset(some) for size in range(4) for some in combinations(FACTORS, size)]


def _worth(used: Iterable[str]) -> float:
    used = set(used)
    return 2.0 * ("a" in used) - ("b" in used) + 1.5 * (used >= {"a", "b"}) - 0.7 * (used >= {"a", "b", "c"})


def of_factorials(draws: int, seed: int) -> Iterator[Coverage]:
    """Intervals of one technique's effects, planted with interactions, seeds that differ and unequal spreads."""
    orders = [order[: order.index("a")] for order in permutations(FACTORS)]
    apart = {a: {b: np.mean([_worth(a + b + c) for c in ("", "c")]) for b in ("", "b")} for a in ("", "a")}
    cases = {
        "Shapley value (t)": (
            factorial.shapley("a", FACTORS, USED), np.mean([_worth({*order, "a"}) - _worth(order) for order in orders])
        ),
        "main effect (t)": (factorial.main_effect("a", USED), np.mean([apart["a"][b] - apart[""][b] for b in apart[""]])),
        "interaction (t)": (
            factorial.interaction("a", "b", USED), apart["a"]["b"] - apart[""]["b"] - apart["a"][""] + apart[""][""]
        ),
    }  # fmt: skip
    worth, spread = np.array([_worth(used) for used in USED]), np.array([2.0 if "a" in used else 1.0 for used in USED])
    for n in (3, 5, 10):
        rng = np.random.default_rng([seed, 40, n])
        values = worth + rng.standard_normal((draws, n, 1)) + spread * rng.standard_normal((draws, n, len(USED)))
        for name, (weights, truth) in cases.items():
            found = (statistics.mean_interval(row) for row in values @ weights)
            yield Coverage(name, "planted 2³ factorial", n, _share(m.low <= truth <= m.high for m in found), True)


def p_values(d: np.ndarray, test: str, looks: Sequence[int]) -> np.ndarray:
    """p of a mean of zero [looks, claims] at each look, from differences [claims, n]."""
    return np.array([[verdict.TESTS[test].zero_p(claim[:look]) for claim in d] for look in looks])


def looked(draws: int, seed: int) -> Iterator[Looked]:
    """Six claims about equal arms with a baseline in common, looked at again and again."""
    for test, looks in WAYS:
        level = verdict.level({"alpha": ALPHA, "test": test, "looks": looks})
        d = _claims(np.random.default_rng([seed, 50, len(looks)]), draws, looks[-1])
        raw = [p_values(row, test, looks) for row in d]
        least = np.array([min(min(statistics.holm(p)) for p in row) for row in raw])
        said = f"{test} at {', '.join(map(str, looks))} seeds"
        yield Looked(f"{said}, Holm", level, float(np.mean(least < level)), True)
        if level < ALPHA:
            yield Looked(f"{said}, Holm, looks not corrected for", ALPHA, float(np.mean(least < ALPHA)), False)
        alone = np.array([row.min() for row in raw])
        yield Looked(f"{said}, nothing corrected for", ALPHA, float(np.mean(alone < ALPHA)), False)


def decided(d: np.ndarray, test: str, looks: Sequence[int], margin: float) -> tuple[str, int]:
    """What becomes of one claim on its own, from differences [n]: the verdict and the look that it falls at.

    Supported stands for either sign; the margin is in the unit of the differences.
    """
    tests, level = verdict.TESTS[test], verdict.level({"alpha": ALPHA, "test": test, "looks": looks})
    for look in looks:
        if tests.zero_p(d[:look]) < level:
            return verdict.SUPPORTED, look
        if tests.equivalence_p(d[:look], margin) < level:
            return verdict.EQUIVALENT, look
    return verdict.INCONCLUSIVE, looks[-1]


def seeds_used(draws: int, seed: int) -> Iterator[tuple[str, float, list[float], float, float]]:
    """Test, true effect in sd, share decided at each look, share found equivalent within 1 sd, seeds on average.

    Of the e-process only each third draw: it has more looks.
    """
    for test, looks in WAYS:
        for effect in (0.0, 0.5, 1.0, 2.0):
            rng, repeated = np.random.default_rng([seed, 60, round(10 * effect)]), draws // (1 if len(looks) < 5 else 3)
            found = [decided(effect + rng.standard_normal(looks[-1]), test, looks, 1.0) for _ in range(repeated)]
            at = [_share(v != verdict.INCONCLUSIVE and n == look for v, n in found) for look in looks]
            equivalent = _share(v == verdict.EQUIVALENT for v, _ in found)
            yield test, effect, at, equivalent, float(np.mean([n for _, n in found]))


def equivalences(draws: int, seed: int) -> Iterator[tuple[str, str, float, float]]:
    """Test, seeds, margin in sd, and how often a true difference of exactly the margin is found equivalent."""
    for margin in MARGINS:
        for n in SEEDS:
            d = margin + np.random.default_rng([seed, 70, n]).standard_normal((draws, n))
            yield "TOST", f"{n}", margin, _share(statistics.equivalence_p(row, margin) < ALPHA for row in d)
        d = margin + np.random.default_rng([seed, 71]).standard_normal((draws, LONGEST))
        ever = _share(any(sequential.equivalence_p(x[:n], margin) < ALPHA for n in range(2, LONGEST + 1)) for x in d)
        yield "e-process", f"any from 2 to {LONGEST}", margin, ever


def unequal_spreads(draws: int, seed: int) -> tuple[float, float]:
    """False positives of the paired t test, and of a comparison within an analysis of variance of all the arms.

    One of seven equal arms, over five seeds as blocks, has 3.5 times the variance; it is compared with the first.
    """
    n, arms = 5, CLAIMS + 1
    x = np.random.default_rng([seed, 80]).standard_normal((draws, n, arms))
    x[..., 1] *= math.sqrt(3.5)
    d = x[..., 1] - x[..., 0]
    rest = x - x.mean(axis=1, keepdims=True) - x.mean(axis=2, keepdims=True) + x.mean(axis=(1, 2), keepdims=True)
    freedom = (n - 1) * (arms - 1)
    t = d.mean(axis=1) / np.sqrt(2 / n * (rest**2).sum(axis=(1, 2)) / freedom)
    pooled = np.mean(2 * stats.t.sf(np.abs(t), freedom) < ALPHA)
    return _share(statistics.zero_p(row) < ALPHA for row in d), float(pooled)


def limits(draws: int, rate: float = ALPHA) -> tuple[float, float]:
    """Between which a true rate is found with 99.9 % probability."""
    return tuple(stats.binom(draws, rate).ppf([0.0005, 0.9995]) / draws)


def _claims(rng: np.random.Generator, draws: int, n: int) -> np.ndarray:
    """Differences [draws, CLAIMS, n] of equal arms from the baseline that they share, as the arms of a plan do."""
    baseline = rng.standard_normal((draws, 1, n))
    return rng.standard_normal((draws, CLAIMS, n)) - baseline


def _share(outcomes: Iterable[bool]) -> float:
    return float(np.mean(list(outcomes)))
