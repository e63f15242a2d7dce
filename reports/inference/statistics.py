"""Estimates, intervals and tests, each a pure function of numbers.

Nothing here knows of arms, claims or stores. Inputs too small or too uniform for a test give NaN, never a warning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from scipy import optimize, stats

# Differences of accuracies (multiples of 1 / test images) that are equal in exact arithmetic differ by less than this.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Mean:
    """A sample's mean and spread, in the unit of the sample; low and high bound the t interval of the mean."""

    n: int
    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """Differences treatment - control over the seeds both have, in the unit of the metric.

    `p` is of the two-sided paired t test, `sign_flip_p` of the exact sign-flip test, `correlation` Pearson's between
    the two arms over seeds: how much the pairing bought.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float
    p: float
    sign_flip_p: float
    correlation: float


def mean_interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Mean:
    """Mean, std (n - 1) and t interval of a sample [n].

    The limits are NaN where n is too small or nothing varies: an interval of no width would look certain.
    """
    x = np.asarray(values, dtype=float)
    n = len(x)
    if n == 0:
        return Mean(0, math.nan, math.nan, math.nan, math.nan)
    if n == 1:
        return Mean(1, float(x[0]), math.nan, math.nan, math.nan)
    if np.ptp(x) <= ROUNDING:
        return Mean(n, float(x.mean()), 0.0, math.nan, math.nan)
    mean, std = float(x.mean()), float(x.std(ddof=1))
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * std / math.sqrt(n)
    return Mean(n, mean, std, mean - half, mean + half)


def differences(treatment: pd.Series, control: pd.Series) -> pd.Series:
    """treatment - control per seed, for the seeds (the index) that both have a number for."""
    return (treatment - control).dropna().sort_index()


def paired(treatment: pd.Series, control: pd.Series, confidence: float = 0.95) -> Paired:
    """The paired comparison of two series indexed by seed.

    With fewer than two shared seeds, or differences that do not vary at all, no test applies and the p-values are NaN
    (the t test would divide by a spread of zero and look certain).
    """
    d = differences(treatment, control)
    summary = mean_interval(d.to_numpy(), confidence)
    if summary.n < 2 or summary.std == 0:
        return Paired(summary.n, summary.mean, summary.std, summary.low, summary.high, math.nan, math.nan, math.nan)
    a, b = treatment[d.index].to_numpy(dtype=float), control[d.index].to_numpy(dtype=float)
    test = stats.ttest_rel(a, b)
    interval = test.confidence_interval(confidence)
    return Paired(
        n=summary.n,
        mean=summary.mean,
        sd=summary.std,
        low=float(interval.low),
        high=float(interval.high),
        p=float(test.pvalue),
        sign_flip_p=sign_flip_p(d.to_numpy()),
        correlation=_correlation(a, b),
    )


def welch(one: np.ndarray, other: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """The difference of two means of unpaired samples with unequal spreads, with its interval. Welch 1947.

    NaN limits where either has fewer than two values, or nothing varies.
    """
    difference = float(np.mean(one) - np.mean(other)) if len(one) and len(other) else math.nan
    if min(len(one), len(other)) < 2 or max(np.ptp(one), np.ptp(other)) <= ROUNDING:
        return difference, math.nan, math.nan
    interval = stats.ttest_ind(one, other, equal_var=False).confidence_interval(confidence)
    return difference, float(interval.low), float(interval.high)


def zero_p(values: np.ndarray) -> float:
    """p of the two-sided t test of a mean of zero; NaN for fewer than two values, or where nothing varies."""
    if len(values) < 2 or np.ptp(values) <= ROUNDING:
        return math.nan
    return float(stats.ttest_1samp(values, 0.0).pvalue)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if min(np.ptp(a), np.ptp(b)) <= ROUNDING:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def sign_flip_p(differences: np.ndarray) -> float:
    """Two-sided p of the sign-flip test of a mean of zero, from differences [n]; its floor is 2 / 2ⁿ.

    Exact (all 2ⁿ sign patterns) up to n = 20; above that from 9,999 patterns drawn with a fixed seed.
    """
    n = len(differences)
    if n < 2:
        return math.nan
    if n > 20:
        test = stats.permutation_test(
            (differences,),
            lambda x, axis: x.mean(axis=axis),
            permutation_type="samples",
            n_resamples=9_999,
            rng=np.random.default_rng(0),
        )
        return float(test.pvalue)
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    observed = abs(float(np.sum(differences)))
    # A sum that ties with the observed one counts, however it was rounded.
    return float(np.mean(np.abs(sums) >= observed * (1 - 1e-9)))


def two_way_interval(differences: np.ndarray, confidence: float = 0.95) -> Mean:
    """The mean of differences [seeds, examples] with an interval for new seeds and new examples alike.

    differences: right by the treatment less right by the control, -1, 0 or 1, for one seed and one test image. Seeds
    and images are crossed random effects: the variance of the mean is (MS_seed + MS_example - MS_residual) / (seeds ·
    examples), at least MS_example / (seeds · examples), with Satterthwaite's degrees of freedom, at least seeds - 1.
    It is never narrower than the t interval for new seeds alone, of which it promises more. `std` is the standard
    error. NaN limits for fewer than two seeds or examples, or where nothing varies.
    """
    d = np.asarray(differences, dtype=float)
    seeds, examples = d.shape
    if seeds < 2 or examples < 2:
        return Mean(seeds, float(d.mean()) if d.size else math.nan, math.nan, math.nan, math.nan)
    mean = float(d.mean())
    by_seed, by_example = d.mean(axis=1), d.mean(axis=0)
    of_seed = examples * float(((by_seed - mean) ** 2).sum()) / (seeds - 1)
    of_example = seeds * float(((by_example - mean) ** 2).sum()) / (examples - 1)
    rest = d - by_seed[:, None] - by_example[None, :] + mean
    of_rest = float((rest**2).sum()) / ((seeds - 1) * (examples - 1))
    total = of_seed + of_example - of_rest
    variance = max(total, of_example) / (seeds * examples)
    if variance <= 0:
        return Mean(seeds, mean, 0.0, math.nan, math.nan)
    spread = of_seed**2 / (seeds - 1) + of_example**2 / (examples - 1) + of_rest**2 / ((seeds - 1) * (examples - 1))
    freedom = max(total**2 / spread if spread else 0.0, seeds - 1)
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(variance)
    alone = mean_interval(by_seed, confidence)
    if alone.high - alone.mean > half:
        half = alone.high - alone.mean
    return Mean(seeds, mean, math.sqrt(variance), mean - half, mean + half)


def equivalence_p(differences: np.ndarray, margin: float) -> float:
    """p of the paired two one-sided t tests (TOST) of |mean| < margin, from differences [n]. Schuirmann 1987.

    NaN under the same conditions as `zero_p`.
    """
    if len(differences) < 2 or np.ptp(differences) <= ROUNDING:
        return math.nan
    from statsmodels.stats.weightstats import ttost_paired

    return float(ttost_paired(differences, np.zeros(len(differences)), -margin, margin)[0])


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values of one family. Holm 1979.

    A NaN (a planned test that cannot be made yet) keeps its place in the family, so that the others are corrected
    for all that was planned; it stays NaN.
    """
    # Equal to statsmodels' multipletests(method="holm"), whose every call collects garbage for 0.3 s.
    p = np.asarray(p_values, dtype=float)
    planned = np.where(np.isnan(p), 1.0, p)
    order = np.argsort(planned)
    stepped = np.maximum.accumulate(planned[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in np.where(np.isnan(p), math.nan, adjusted)]


def proportion_interval(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Clopper-Pearson interval of a proportion, such as diverged runs; (NaN, NaN) for n = 0."""
    if n == 0:
        return math.nan, math.nan
    interval = stats.binomtest(k, n).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def prediction_interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Where one further draw from the same normal population falls: mean ± t·s·√(1 + 1/n); NaN as above."""
    summary = mean_interval(values, confidence)
    if math.isnan(summary.low):
        return math.nan, math.nan
    half = float(stats.t.ppf((1 + confidence) / 2, summary.n - 1)) * summary.std * math.sqrt(1 + 1 / summary.n)
    return summary.mean - half, summary.mean + half


def sd_interval(sd: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The χ² interval of a normal population's standard deviation, from one estimated on n values (n - 1).

    (NaN, NaN) for n < 2 or sd = 0.
    """
    if n < 2 or not sd > 0:
        return math.nan, math.nan
    lower, upper = stats.chi2.ppf([(1 - confidence) / 2, (1 + confidence) / 2], n - 1)
    return sd * math.sqrt((n - 1) / float(upper)), sd * math.sqrt((n - 1) / float(lower))


def improvement(differences: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """The probability that a new seed's difference is above zero, a tie counting half, with an exact interval.

    Clopper-Pearson on the share of seeds above zero; where some tie, from the lower limit without them to the upper
    limit with all of them. NaN without seeds.
    """
    n = len(differences)
    if n == 0:
        return math.nan, math.nan, math.nan
    above = int((differences > ROUNDING).sum())
    ties = int((np.abs(differences) <= ROUNDING).sum())
    low, high = proportion_interval(above, n, confidence)[0], proportion_interval(above + ties, n, confidence)[1]
    return (above + ties / 2) / n, low, high


@dataclass(frozen=True)
class Friedman:
    """Friedman's χ² of mean ranks, and the F of Iman and Davenport with its p."""

    chi2: float
    f: float
    p: float


def friedman(mean_ranks: Sequence[float] | np.ndarray, n: int) -> Friedman:
    """Whether k treatments rank alike over n blocks, from their mean ranks [k]. Demšar 2006, section 3.2.2.

    F has k - 1 and (k - 1)(n - 1) degrees of freedom; it is infinite, and p zero, where every block ranks alike. NaN
    for fewer than two treatments or blocks. Ties within a block make it err on the safe side.
    """
    ranks = np.asarray(mean_ranks, dtype=float)
    k = len(ranks)
    if k < 2 or n < 2 or np.isnan(ranks).any():
        return Friedman(math.nan, math.nan, math.nan)
    chi2 = 12 * n / (k * (k + 1)) * (float((ranks**2).sum()) - k * (k + 1) ** 2 / 4)
    rest = n * (k - 1) - chi2
    f = (n - 1) * chi2 / rest if rest > ROUNDING else math.inf
    return Friedman(chi2, f, float(stats.f.sf(f, k - 1, (k - 1) * (n - 1))))


def upper_limit_of_sd(sd: float, n: int, confidence: float = 0.95) -> float:
    """The one-sided upper χ² limit of a standard deviation estimated from n values; NaN for n < 2 or sd = 0."""
    if n < 2 or not sd > 0:
        return math.nan
    return sd * math.sqrt((n - 1) / float(stats.chi2.ppf(1 - confidence, n - 1)))


def critical_t(n: int, alpha: float) -> float:
    """The |t| above which a two-sided paired t test over n seeds rejects."""
    return float(stats.t.ppf(1 - alpha / 2, n - 1))


@cache
def minimum_detectable_effect(
    n: int, alpha: float = 0.05, power: float = 0.8, critical: Callable[[int, float], float] = critical_t
) -> float:
    """The smallest true effect that a two-sided test of n paired seeds finds with the given probability.

    In units of the standard deviation of the differences, from the non-central t distribution; NaN for n < 2. The test
    rejects where |t| is above `critical` (n, α); infinite where that is never.
    """
    if n < 2:
        return math.nan
    if math.isinf(critical(n, alpha)):
        return math.inf
    high = 1 / math.sqrt(n)
    while power_of_t_test(high, n, alpha, critical) < power:
        high *= 1.5
    return float(optimize.brentq(lambda effect: power_of_t_test(effect, n, alpha, critical) - power, 0.0, high))


def power_of_t_test(
    effect: float, n: int, alpha: float = 0.05, critical: Callable[[int, float], float] = critical_t
) -> float:
    """The probability that a two-sided test of n paired seeds rejects, for a true effect in units of sd."""
    bound, shift = critical(n, alpha), effect * math.sqrt(n)
    above, below = stats.nct.sf(bound, n - 1, shift), stats.nct.cdf(-bound, n - 1, shift)
    # Far from zero the lower tail is nothing, and scipy's series for it gives NaN.
    return float(above) + (0.0 if math.isnan(below) else float(below))


def seeds_needed(
    effect: float,
    alpha: float = 0.05,
    power: float = 0.8,
    critical: Callable[[int, float], float] = critical_t,
    at_most: int = 10_000,
) -> int | None:
    """The fewest seeds whose minimum detectable effect is no larger than `effect` (in sd of the differences).

    None where even `at_most` do not suffice, or the effect is not a positive number.
    """
    if not effect > 0 or minimum_detectable_effect(at_most, alpha, power, critical) > effect:
        return None
    low, high = 1, at_most  # `low` is too few, `high` is enough
    while high - low > 1:
        middle = (low + high) // 2
        if minimum_detectable_effect(middle, alpha, power, critical) <= effect:
            high = middle
        else:
            low = middle
    return high
