"""Estimates, intervals and tests, each a pure function of numbers.

Nothing here knows of arms, claims or stores. Inputs too small or too uniform for a test give NaN, never a warning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations

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

    `p` is of the two-sided paired t test, `correlation` Pearson's between the two arms over seeds: how much the
    pairing bought.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float
    p: float
    correlation: float


def mean_interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Mean:
    """Mean, std (n - 1) and t interval of a sample [n].

    The limits are NaN where n is too small or nothing varies: an interval of no width would look certain.

    Examples:
        >>> found = mean_interval([1, 2, 3, 4])
        >>> found.n, found.mean, round(found.low, 2), round(found.high, 2)
        (4, 2.5, 0.45, 4.55)
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
    """treatment - control per seed, for the seeds (the index) that both have a number for.

    Examples:
        >>> differences(pd.Series({0: 5, 1: 7}), pd.Series({1: 4, 2: 9})).to_dict()
        {1: 3.0}
    """
    return (treatment - control).dropna().sort_index()


def paired(treatment: pd.Series, control: pd.Series, confidence: float = 0.95) -> Paired:
    """The paired comparison of two series indexed by seed.

    With fewer than two shared seeds, or differences that do not vary at all, no test applies and the p-value is NaN
    (the t test would divide by a spread of zero and look certain).
    """
    d = differences(treatment, control)
    summary = mean_interval(d.to_numpy(), confidence)
    if summary.n < 2 or summary.std == 0:
        return Paired(summary.n, summary.mean, summary.std, summary.low, summary.high, math.nan, math.nan)
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
        correlation=_correlation(a, b),
    )


def welch(one: np.ndarray, other: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """The difference of two means of unpaired samples with unequal spreads, with its interval. Welch 1947.

    NaN limits where either has fewer than two values, or nothing varies.

    Examples:
        >>> [round(value, 2) for value in welch(np.array([3, 5, 4]), np.array([1, 2, 3]))]
        [2.0, -0.27, 4.27]
    """
    difference = float(np.mean(one) - np.mean(other)) if len(one) and len(other) else math.nan
    if min(len(one), len(other)) < 2 or max(np.ptp(one), np.ptp(other)) <= ROUNDING:
        return difference, math.nan, math.nan
    interval = stats.ttest_ind(one, other, equal_var=False).confidence_interval(confidence)
    return difference, float(interval.low), float(interval.high)


def independent(
    difference: float, errors: Sequence[float], dfs: Sequence[float], confidence: float = 0.95
) -> tuple[float, float, float, float]:
    """The interval of a difference of independent estimates, its degrees of freedom, and its two-sided p.

    errors, dfs: the estimates' standard errors with their degrees of freedom, which are put together as Satterthwaite
    does: of contrasts of arms that is the same as over all arms at once. NaN where an error is.
    """
    squares, freedom = np.square(np.asarray(errors, dtype=float)), np.asarray(dfs, dtype=float)
    total = float(squares.sum())
    if not total > 0:
        return math.nan, math.nan, math.nan, math.nan
    df = total**2 / float((squares**2 / freedom).sum())
    half = float(stats.t.ppf((1 + confidence) / 2, df)) * math.sqrt(total)
    return difference - half, difference + half, df, float(2 * stats.t.sf(abs(difference) / math.sqrt(total), df))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if min(np.ptp(a), np.ptp(b)) <= ROUNDING:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def residual_mean_square(values: np.ndarray) -> float:
    """Of a table [rows, columns], at least two of each: what rows and columns do not explain, per degree of freedom."""
    rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0, keepdims=True) + values.mean()
    return float((rest**2).sum() / ((values.shape[0] - 1) * (values.shape[1] - 1)))


def for_new_images(low: float, high: float, differences: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """An interval for new seeds [low, high], widened so that it holds for new test images too.

    differences: right by the treatment less right by the control, -1, 0 or 1, [seeds, images]. Seeds and images are
    crossed random effects: new images add (MS_image - MS_residual) / (seeds · images), if that is above zero, to the
    variance of the mean, and its normal quantile to the half width, by the root of the sum of squares. NaN limits for
    fewer than two seeds or images.
    """
    d = np.asarray(differences, dtype=float)
    seeds, images = d.shape
    if seeds < 2 or images < 2:
        return math.nan, math.nan
    of_image = seeds * float(d.mean(axis=0).var(ddof=1))
    added = max(0.0, of_image - residual_mean_square(d)) / (seeds * images)
    half = math.hypot((high - low) / 2, float(stats.norm.ppf((1 + confidence) / 2)) * math.sqrt(added))
    return (low + high) / 2 - half, (low + high) / 2 + half


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values of one family. Holm 1979.

    A NaN (a planned test that cannot be made yet) keeps its place in the family, so that the others are corrected
    for all that was planned; it stays NaN.

    Examples:
        >>> [round(p, 2) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    # Equal to statsmodels' multipletests(method="holm"), whose every call collects garbage for 0.3 s.
    p = np.asarray(p_values, dtype=float)
    planned = np.where(np.isnan(p), 1.0, p)
    order = np.argsort(planned)
    stepped = np.maximum.accumulate(planned[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in np.where(np.isnan(p), math.nan, adjusted)]


@cache
def proportion_interval(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Clopper-Pearson interval of a proportion, such as diverged runs; (NaN, NaN) for n = 0.

    Examples:
        >>> [round(limit, 2) for limit in proportion_interval(0, 6)]  # none of 6 is far from never
        [0.0, 0.46]
    """
    if n == 0:
        return math.nan, math.nan
    interval = stats.binomtest(k, n).proportion_ci(confidence, method="exact")
    return float(interval.low), float(interval.high)


def fisher_p(a: int, n: int, b: int, m: int) -> float:
    """Two-sided p of Fisher's exact test that two shares, a of n and b of m, are equal; NaN where n or m is 0."""
    if min(n, m) == 0:
        return math.nan
    return float(stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue)


def fisher_least_p(a: int, n: int, b: int, m: int) -> float:
    """The least p that Fisher's test could have given, had the a + b fallen on n and m otherwise; NaN as there."""
    total = a + b
    ends = (max(0, total - m), min(n, total))  # chances rise and then fall between these, so the rarest is an end
    return min(fisher_p(end, n, total - end, m) for end in ends)


def tarone_holm(p_values: Sequence[float], least_p: Sequence[float]) -> list[float]:
    """Step-down adjusted p-values of one family of discrete tests, each of which cannot give less than its `least_p`.

    A p-value is multiplied by the number of hypotheses, of those not yet rejected, that could have given so small a
    one. The rest cannot be wrongly rejected at that level. That is Holm's procedure with Tarone's count, in the form
    whose rejections only grow with α: Tarone 1990; Hommel and Krummenauer 1998. Equal to `holm` where every least p
    is 0, and never above it. NaN as in `holm`; a least p of NaN counts as 0, since nothing is known of it.
    """
    p, least = np.asarray(p_values, dtype=float), np.asarray(least_p, dtype=float)
    planned, least = np.where(np.isnan(p), 1.0, p), np.where(np.isnan(least), 0.0, least)
    order = np.argsort(planned, kind="stable")
    adjusted, so_far = np.empty_like(p), 0.0
    for i, which in enumerate(order):
        # Its own least p may exceed p by rounding.
        able = int((least[order[i + 1 :]] <= planned[which] * (1 + 1e-9)).sum()) + 1
        so_far = max(so_far, min(able * planned[which], 1.0))
        adjusted[which] = so_far
    return [float(value) for value in np.where(np.isnan(p), math.nan, adjusted)]


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
    """Friedman's χ² of ranks, the F of Iman and Davenport, and p with what it is `by`.

    `by` is `exact` (every permutation within the blocks), `permutation` (20,000 drawn ones) or `F`; empty without a p.
    """

    chi2: float
    f: float
    p: float
    by: str


EXACT = {2: 30, 3: 30, 4: 15, 5: 6, 6: 3, 7: 2}
"""By number of treatments, the most blocks of which all permutations are counted: within about 40 ms."""

F_FROM = 20
"""From so many blocks on F rejects between 4.6 and 5.5 % of what is alike at 5 %, for 3 to 14 treatments.

With fewer it rejects up to 19 % (three treatments, 3 blocks), 7.5 (four, 3), 6.8 (seven, 2) and 5.8 (three, 12).
"""


def friedman(ranks: np.ndarray | pd.DataFrame) -> Friedman:
    """Whether k treatments rank alike over n blocks, from the ranks [n, k] within each block, ties sharing their mean.

    χ² is corrected for ties, as scipy's. F of Iman and Davenport (Demšar 2006, section 3.2.2) has k - 1 and
    (k - 1)(n - 1) degrees of freedom and is infinite where every block ranks alike. p is the share of permutations
    within blocks, each block's own ranks and ties kept, whose rank sums differ at least as much: Friedman 1937. Where
    those are too many to count, of 20,000 drawn with a fixed seed, the observed one with them; only from `F_FROM`
    blocks on is p that of F. NaN for fewer than two treatments or blocks, a missing rank, or where all is tied.
    """
    r = np.asarray(ranks, dtype=float)
    n, k = r.shape
    if k < 2 or n < 2 or np.isnan(r).any():
        return Friedman(math.nan, math.nan, math.nan, "")
    # Shared ranks are halves: twice of them are whole numbers, whose sums tie exactly or not at all.
    twice = np.rint(2 * r).astype(np.int64)
    between = int(((twice.sum(axis=0) - n * (k + 1)) ** 2).sum())
    within = int(((twice - (k + 1)) ** 2).sum())
    if within == 0:
        return Friedman(math.nan, math.nan, math.nan, "")
    chi2, rest = (k - 1) * between / within, n * within - between
    f = (n - 1) * between / rest if rest else math.inf
    if n <= EXACT.get(k, 0):
        return Friedman(chi2, f, _counted(twice), "exact")
    if n < F_FROM:
        return Friedman(chi2, f, _drawn(twice), "permutation")
    return Friedman(chi2, f, float(stats.f.sf(f, k - 1, (k - 1) * (n - 1))), "F")


def _counted(twice: np.ndarray) -> float:
    """The share of all permutations within blocks whose sums of twice the ranks [n, k] have at least such squares.

    Block by block, from every set of sums and its probability to those with one block more. Treatments are
    exchangeable, so that sums in another order are the same set; without that there would be up to k! times as many.
    """
    n, k = twice.shape
    observed = (twice.sum(axis=0) ** 2).sum()
    digits = (2 * n * k + 1) ** np.arange(k)
    sums: np.ndarray = np.sort(twice[:1], axis=1)
    share: np.ndarray = np.ones(1)
    for i in range(1, n):
        orders = np.array(sorted(set(permutations(twice[i].tolist()))))  # all have the same share, ties or not
        sums = (sums[:, None, :] + orders).reshape(-1, k)
        share = np.repeat(share / len(orders), len(orders))
        if i < n - 1:
            sums.sort(axis=1)
            keys = sums @ digits
            _, first, which = np.unique(keys, return_index=True, return_inverse=True)
            sums, share = sums[first], np.bincount(which, weights=share)
    return min(float(share[(sums**2).sum(axis=1) >= observed].sum()), 1.0)


def _drawn(twice: np.ndarray, draws: int = 20_000) -> float:
    """The same of permutations drawn with a fixed seed, (1 + as extreme) / (1 + drawn): Phipson and Smyth 2010."""
    rng = np.random.default_rng(0)
    sums = np.tile(twice[0], (draws, 1))  # the others are permuted against the first
    for block in twice[1:]:
        sums += rng.permuted(np.tile(block, (draws, 1)), axis=1)
    extreme = int(((sums**2).sum(axis=1) >= (twice.sum(axis=0) ** 2).sum()).sum())
    return (1 + extreme) / (1 + draws)


def upper_limit_of_sd(sd: float, n: int, confidence: float = 0.95) -> float:
    """The one-sided upper χ² limit of a standard deviation estimated from n values; NaN for n < 2 or sd = 0."""
    if n < 2 or not sd > 0:
        return math.nan
    return sd * math.sqrt((n - 1) / float(stats.chi2.ppf(1 - confidence, n - 1)))


def seeds_worth(correlation: float, n: int, confidence: float = 0.95) -> float:
    """How many more seeds each arm would have needed, had n seeds not been shared by the two arms.

    `correlation` is between the arms over shared seeds, both of one spread. Unpaired arms of m seeds each are taken to
    be as good where the t interval of their difference has the same expected length: t(2m - 2) c(2m - 2) √(2 / m) =
    t(n - 1) c(n - 1) √(2 (1 - correlation) / n), with c(ν) = √(2 / ν) Γ((ν + 1) / 2) / Γ(ν / 2) the mean of s / σ.
    Their variances alone give n / (1 - correlation) - n; the degrees of freedom, of which pairing has half, take some
    of it, so that the number is negative for a low correlation. A fraction; infinite at a correlation of 1; NaN for
    n < 2 or a correlation of NaN. As uncertain as the correlation, which few seeds hardly tell.
    """
    if n < 2 or math.isnan(correlation):
        return math.nan
    if correlation >= 1:
        return math.inf

    def log_length(seeds: float, freedom: float) -> float:
        t = float(stats.t.isf((1 - confidence) / 2, freedom))
        mean_s = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom / 2) / 2
        return math.log(t) + mean_s - math.log(seeds) / 2

    paired_length = log_length(n / (1 - correlation), n - 1)
    enough = n / (1 - correlation) + 1  # no more variance, and no fewer degrees of freedom
    return float(optimize.brentq(lambda m: log_length(m, 2 * m - 2) - paired_length, 1.02, enough)) - n
