"""One error rate for all that a page calls: its claims are tested together, on arms that share seeds or on pairs.

A claim is a weighted sum of arms' means. Its p-value comes from a t test, all claims of a page share the error by
weights that their own mean squares give, and runs that diverged can only count against their arm. Every function
takes leading axes for as many pages as one likes, so that a simulation tests the very code that a report uses.

Welch 1947 and Satterthwaite 1946 for the test; Läuter, Glimm & Kropf 1998 (Ann. Stat. 26:1972) for weights from mean
squares, which do not depend on the direction of an effect where there is none; Holm 1979, weighted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from scipy import special, stats

from cifar_ablations.ablations.record import RuleRecord
from cifar_ablations.reports.inference import sequential, statistics
from cifar_ablations.reports.inference.statistics import ROUNDING

FEW_SEEDS = 8
"""Below this many, an error of .03 in place of .035 is shared by what is called a difference."""
FEW_ARMS = 4
"""A claim about no more arms than this is about these arms; one about more, about what many have in common."""
DIFFERENT, DIFFERENT_OF_FEW, EQUIVALENT, DIVERGENT = 0.035, 0.03, 0.01, 0.01
"""The levels at which a page calls a difference, an equivalence, and unequal divergence, each shared by all its claims.
Chosen so that, by simulation, at most 5 % of pages say something false: `benchmarks/CALIBRATION.md`. They are nominal:
the procedure errs less often than they add up to."""
ALPHA = 0.05

Numbers = np.ndarray | float


@dataclass(frozen=True)
class Sample:
    """A metric in all arms of a page.

    values: float [..., arms, seeds], NaN where a run has no number. ended: int [..., arms], the runs with a result.
    floor: float [..., arms], the variance that the choice of test images alone explains, 0 where that is not known.
    better: +1 where more of the metric is better, -1 where less is, 0 where neither; lost: whether a run that diverged
    has lost the metric so that, with no number left in an arm, it is worse than any.
    """

    values: np.ndarray
    ended: np.ndarray
    floor: np.ndarray | float = 0.0
    better: int = 0
    lost: bool = False

    @cached_property
    def count(self) -> np.ndarray:
        """How many runs have a number, int [..., arms]."""
        return np.asarray(np.count_nonzero(~np.isnan(self.values), axis=-1))

    @cached_property
    def lacking(self) -> np.ndarray:
        """How many runs with a result have no number, int [..., arms]."""
        return np.asarray(self.ended - self.count)

    def sides(self, weights: np.ndarray) -> tuple[np.ndarray, ...]:
        """Runs that lack the metric and runs with a result, each [..., claims], with weights above zero, then below."""
        above, below = (weights > 0).T.astype(float), (weights < 0).T.astype(float)
        return self.lacking @ above, self.ended @ above, self.lacking @ below, self.ended @ below

    def lacks_more(self, weights: np.ndarray) -> np.ndarray:
        """Whose arms lack the metric in a larger share of runs, int [..., claims].

        +1: those with weights above zero; -1: those with weights below; 0: neither.
        """
        a, n, b, m = self.sides(weights)
        return np.asarray(np.sign(a * m - b * n))


@dataclass(frozen=True)
class Compared:
    """Claims on one metric, each array [..., claims]; NaN where an arm has fewer than two numbers or nothing varies.

    estimate: the weighted sum of means. error, df: its standard error and degrees of freedom for a test. own_error,
    own_df: the same from the arms' own spreads alone, for an interval. spread, count: the mean square that gives a
    claim its share of the error is (count · estimate² + spread) / unit.
    """

    estimate: np.ndarray
    error: np.ndarray
    df: np.ndarray
    own_error: np.ndarray
    own_df: np.ndarray
    spread: np.ndarray
    count: np.ndarray | float
    unit: np.ndarray


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count, mean and variance (n - 1) over the last axis, leaving out NaN; NaN where there are too few."""
    known = ~np.isnan(values)
    n = known.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, values, 0.0).sum(axis=-1) / n
        squares = np.where(known, (values - mean[..., None]) ** 2, 0.0).sum(axis=-1)
        variance = np.where(n > 1, squares / (n - 1), np.nan)
    return n, mean, np.where(variance <= ROUNDING**2, 0.0, variance)


@cache
def _median_of_chi2(freedom: int) -> float:
    return float(stats.chi2.median(freedom)) / freedom


def typical_variance(variance: np.ndarray, seeds: int) -> np.ndarray:
    """The median over a page's arms [..., arms] of what their variances estimate [..., 1]; NaN where none is known.

    The median of a sample variance lies below the true one, by the median of χ² with n - 1 degrees over n - 1.
    """
    # Sorting puts NaN last; numpy's own median of what is left takes ten times as long.
    known = (~np.isnan(variance)).sum(axis=-1, keepdims=True)
    ordered = np.sort(variance, axis=-1)
    middle = [
        np.take_along_axis(ordered, np.maximum(place, 0), -1)
        for place in ((known - 1) // 2, np.minimum(known // 2, variance.shape[-1] - 1))
    ]
    median = np.where(known > 0, (middle[0] + middle[1]) / 2, np.nan)
    return np.asarray(median / _median_of_chi2(max(seeds - 1, 1)))


def by_arms(sample: Sample, weights: np.ndarray) -> Compared:
    """Claims on arms whose runs count as independent, weights [claims, arms].

    Each arm's variance is raised towards the page's typical one, V, by one pseudo-seed where it is smaller:
    r² = max(s², (V + (k - 1) s²) / k), with k degrees of freedom. A spread that is small by luck calls nothing then.
    """
    k, mean, measured = _moments(sample.values)
    variance = np.maximum(measured, sample.floor)
    seeds = sample.values.shape[-1]
    typical = typical_variance(measured, seeds)
    used, squared = weights != 0, weights**2
    total = _weighted(mean, weights)

    def spread_of(of_arm: np.ndarray, freedom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        part = of_arm / np.maximum(k, 1)
        whole = _weighted(part, squared)
        with np.errstate(invalid="ignore", divide="ignore"):
            df = whole**2 / _weighted(part**2 / np.maximum(freedom, 1), squared**2)
            return np.where(whole > 0, np.sqrt(whole), np.nan), df

    def raised(of_arm: np.ndarray) -> np.ndarray:
        usual = np.maximum(typical_variance(of_arm, seeds), typical)
        return np.asarray(np.maximum(of_arm, (usual + (k - 1) * of_arm) / np.maximum(k, 1)))

    # What the images explain makes a spread wider, and never the degrees of freedom more or a claim's share larger.
    error, df = spread_of(raised(variance), k)
    own_error, own_df = spread_of(variance, k - 1)
    df, own_df = np.fmin(df, spread_of(raised(measured), k)[1]), np.fmin(own_df, spread_of(measured, k - 1)[1])
    alike = np.isnan(own_error) & ~np.isnan(error)  # a claim's own runs do not vary, but others of the page do
    own_error, own_df = np.where(alike, error, own_error), np.where(alike, df, own_df)
    spread = used.sum(axis=-1) * (seeds - 1) * _weighted(measured / np.maximum(k, 1), squared)
    unit = _or_mean(typical, measured)
    return Compared(total, error, df, own_error, own_df, spread, 1.0, np.broadcast_to(unit, total.shape))


def by_pairs(sample: Sample, weights: np.ndarray) -> Compared:
    """Claims on differences within seeds, weights [claims, arms]: of the seeds that all arms of a claim have.

    Mean squares are over their median among the claims, so that metrics of other units have weights alike; that keeps
    the test exact, as it depends on the claims' mean squares alone.
    """
    within = np.stack([_weighted(np.swapaxes(sample.values, -1, -2), row[None])[..., 0] for row in weights], axis=-2)
    n, mean, variance = _moments(within)
    variance = np.maximum(variance, np.broadcast_to(sample.floor, sample.count.shape) @ (weights**2).T)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(variance > 0, np.sqrt(variance / n), np.nan)
        squares = n * mean**2 + (n - 1) * variance
    known = ~np.isnan(squares).all(axis=-1, keepdims=True)
    median = np.where(known, np.nanmedian(np.where(known, squares, 1.0), axis=-1, keepdims=True), np.nan)
    unit = _or_mean(median, squares)
    df = np.where(n > 1, n - 1, np.nan)
    return Compared(mean, error, df, error, df, (n - 1) * variance, n, np.broadcast_to(unit, mean.shape))


def _or_mean(typical: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A typical value [..., 1], or the mean of the values [..., n] where most are zero and so is the typical one."""
    known = ~np.isnan(values)
    mean = np.where(known, values, 0.0).sum(axis=-1, keepdims=True) / np.maximum(known.sum(axis=-1, keepdims=True), 1)
    return np.where(typical == 0, mean, typical)


def _weighted(of_arms: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted sums [..., claims] over arms [..., arms], weights [claims, arms]; NaN where one with a weight is."""
    known = np.where(np.isnan(of_arms), 0.0, of_arms) @ weights.T
    return np.where(np.isnan(of_arms) @ (weights != 0).T.astype(float) > 0, np.nan, known)


@dataclass(frozen=True)
class Test:
    """How claims are tested: what is compared, the two-sided p of |t| with df, and the |t| where p is α.

    looks_share: whether planned looks share the error, as each is a test of its own.
    """

    compare: Callable[[Sample, np.ndarray], Compared]
    p: Callable[[Numbers, Numbers], np.ndarray]
    critical: Callable[[Numbers, float], np.ndarray]
    looks_share: bool

    def one_sided(self, t: np.ndarray, df: np.ndarray) -> np.ndarray:
        """p of t against zero or less."""
        p = self.p(t, df) / (2 if self.looks_share else 1)
        return np.where(np.isnan(t), np.nan, np.where(t > 0, p, 1.0))

    def interval(self, compared: Compared, alpha: float) -> tuple[np.ndarray, np.ndarray]:
        """The limits of 1 - α around the estimates, each claim by itself; NaN where nothing varies."""
        half = self.critical(compared.own_df, alpha) * compared.own_error
        return compared.estimate - half, compared.estimate + half


def _t_p(t: Numbers, df: Numbers) -> np.ndarray:
    return np.asarray(2 * special.stdtr(df, -np.abs(t)))


def _t_critical(df: Numbers, alpha: float) -> np.ndarray:
    return np.asarray(-special.stdtrit(df, alpha / 2))


TESTS = {
    "welch t": Test(by_arms, _t_p, _t_critical, True),
    "paired t": Test(by_pairs, _t_p, _t_critical, True),
    "paired t e-process": Test(by_pairs, sequential.p_of_t, sequential.t_at, False),
}
"""By the names that a plan's rule uses."""
CORRECTIONS = ("weighted holm", "holm")


@dataclass(frozen=True)
class Claims:
    """Claims of a page: weights float [claims, arms], and for each its metric.

    allowed: what is added to the estimate before it is tested, in the metric's unit. margin: of equivalence, NaN where
    there is none.
    """

    metric: Sequence[str]
    weights: np.ndarray
    allowed: np.ndarray
    margin: np.ndarray


@dataclass(frozen=True)
class Decided:
    """What becomes of a page's claims, each array [..., claims].

    error, df, own_error, own_df: as in `Compared`. low, high: of the 1 - α interval. p, tost_p: by itself; p_page,
    tost_p_page: sharing the page's error, on a scale on which ALPHA is the line. direction: the sign of what is tested.
    different, equivalent: bool. forbidden: whether p is 1 because of lost runs, whatever the others show. counted:
    whether p compares how many runs diverged, by Fisher's exact test.
    """

    estimate: np.ndarray
    error: np.ndarray
    df: np.ndarray
    own_error: np.ndarray
    own_df: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    tost_p: np.ndarray
    p_page: np.ndarray
    tost_p_page: np.ndarray
    direction: np.ndarray
    different: np.ndarray
    equivalent: np.ndarray
    forbidden: np.ndarray
    counted: np.ndarray


def decide(samples: Mapping[str, Sample], claims: Claims, test: str, correction: str, looks: int = 1) -> Decided:
    """Test all claims of a page together.

    samples: by metric. looks: how many are planned, among which a t test shares the error evenly (Bonferroni). Raises
    KeyError for a test that is not one of TESTS.
    """
    made, first = TESTS[test], next(iter(samples.values())).values
    share = _of_looks(test, looks)
    shape = (*first.shape[:-2], len(claims.metric))
    estimate, error, df, own_error, own_df, low, high, p, tost_p, key, direction = (
        np.full(shape, np.nan) for _ in range(11)
    )
    forbidden, counted = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for metric, sample in samples.items():
        mine = np.array([name == metric for name in claims.metric])
        if not mine.any():
            continue
        weights, margin = claims.weights[mine], claims.margin[mine]
        one = made.compare(sample, weights)
        shifted = one.estimate + claims.allowed[mine]
        estimate[..., mine], error[..., mine], df[..., mine] = one.estimate, one.error, one.df
        own_error[..., mine], own_df[..., mine] = one.own_error, one.own_df
        low[..., mine], high[..., mine] = made.interval(one, ALPHA * share)
        with np.errstate(invalid="ignore", divide="ignore"):
            zero = made.p(shifted / one.error, one.df)
            key[..., mine] = (one.count * shifted**2 + one.spread) / one.unit
            inside = np.minimum(margin - one.estimate, margin + one.estimate) / one.error
        tost_p[..., mine] = np.where(_lost_some(sample, weights), np.nan, made.one_sided(inside, one.df))
        p[..., mine], direction[..., mine], forbidden[..., mine], counted[..., mine] = _with_divergence(
            sample, weights, shifted, zero
        )
    of_different = error_of_differences(test, first.shape[-1], looks)
    shares = _shares(p, key, counted) if correction == "weighted holm" else np.ones(shape)
    p_page = np.minimum(1, weighted_holm(p, shares) * (ALPHA / of_different))
    tost_p_page = np.minimum(1, tost_p * (len(claims.metric) * ALPHA / (EQUIVALENT * share)))
    above, below = low + claims.allowed > 0, high + claims.allowed < 0
    different = (p_page <= ALPHA) & (counted | above | below)
    equivalent = ~different & (tost_p_page <= ALPHA) & (low > -claims.margin) & (high < claims.margin)
    return Decided(
        estimate,
        error,
        df,
        own_error,
        own_df,
        low,
        high,
        p,
        tost_p,
        p_page,
        tost_p_page,
        direction,
        different,
        equivalent,
        forbidden,
        counted,
    )


def error_of_page(test: str, seeds: int, looks: int = 1) -> float:
    """The error that all differences called on a page share, at all of its looks together."""
    few = TESTS[test].compare is by_arms and (seeds < FEW_SEEDS or looks > 1)
    return DIFFERENT_OF_FEW if few else DIFFERENT


def error_of_differences(test: str, seeds: int, looks: int = 1) -> float:
    """The error that all differences called on a page share, at one of its looks."""
    return error_of_page(test, seeds, looks) * _of_looks(test, looks)


def _of_looks(test: str, looks: int) -> float:
    return 1 / max(1, looks) if TESTS[test].looks_share else 1.0


def confidence(rule: RuleRecord) -> float:
    """Of the intervals of a page, each by itself: they hold whichever look one stops at."""
    return 1 - rule.alpha * _of_looks(rule.test, len(rule.looks))


def _shares(p: np.ndarray, key: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Weights [..., claims]: mean squares; none for a claim that has no p, and the page's largest for one counted."""
    known = np.where(np.isnan(p) | np.isnan(key), 0.0, key)
    largest = known.max(axis=-1, keepdims=True)
    return np.where(counted, np.where(largest > 0, largest, 1.0), known)


def weighted_holm(p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Adjusted p-values [..., claims] of Holm's step-down test in the order of p / weight. Holm 1979, section 4.

    With equal weights it is Holm's own. A NaN stays one; a weight of zero gives the adjusted p of 1.
    """
    planned = np.where(np.isnan(p), 1.0, p)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(weights > 0, planned / weights, np.inf)
    order = np.argsort(ratio, axis=-1, kind="stable")
    ordered, sorted_weights = np.take_along_axis(ratio, order, -1), np.take_along_axis(weights, order, -1)
    left = np.cumsum(sorted_weights[..., ::-1], axis=-1)[..., ::-1]
    with np.errstate(invalid="ignore"):
        stepped = np.maximum.accumulate(np.where(np.isinf(ordered), 1.0, ordered * left), axis=-1)
    adjusted = np.empty_like(stepped)
    np.put_along_axis(adjusted, order, np.minimum(stepped, 1.0), -1)
    return np.where(np.isnan(p), np.nan, adjusted)


def _lost_some(sample: Sample, weights: np.ndarray) -> np.ndarray:
    """Whether lost runs keep a claim from equivalence: any, of one or two arms a side, or unequally many."""
    a, _, b, _ = sample.sides(weights)
    return np.asarray(np.where(_of_few_arms(weights), a + b > 0, sample.lacks_more(weights) != 0))


def _of_few_arms(weights: np.ndarray) -> np.ndarray:
    return np.asarray((weights != 0).sum(axis=-1) <= FEW_ARMS)


def _with_divergence(
    sample: Sample, weights: np.ndarray, shifted: np.ndarray, p: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """p once lost runs have counted against their arms; the direction; where lost runs forbid it; where p counts them.

    If two sides are alike, which of them lacks more is a fair coin, whatever the other runs show. So where one side
    alone has lost runs, all of the error may be spent against it, and none for it. A claim about one or two arms a
    side is not decided for a side that has lost any run at all: to lose a bad run would make it look better. Where an
    arm has too few runs left for a mean, how many diverged is compared by Fisher's exact test, if that is worse than
    any number.
    """
    a, _, b, _ = sample.sides(weights)
    more, few_arms = sample.lacks_more(weights), _of_few_arms(weights)
    for_above, for_below = ((own >= 0) & ~(few_arms & (lost > 0)) for own, lost in ((-more, a), (more, b)))
    wanted = np.where(np.sign(shifted) * sample.better > 0, for_above, for_below)
    one_sided = p / 2 if sample.lost else p
    allowed = np.where(for_above & for_below, p, one_sided)
    forbidden = ~wanted if sample.better else more != 0
    against = -more * sample.better
    too_few = ((sample.count < 2).astype(float) @ (weights != 0).T.astype(float)) > 0
    counted = too_few & (more != 0) & sample.lost
    p = np.where(np.isnan(p), p, np.where(forbidden, 1.0, allowed if sample.better else p))
    if counted.any():
        cases, which = np.unique(
            np.stack([side[counted] for side in sample.sides(weights)]), axis=1, return_inverse=True
        )
        p[counted] = np.array([statistics.fisher_p(*map(int, case)) for case in cases.T])[np.ravel(which)]
    return p, np.where(counted, against, np.sign(shifted)), forbidden & ~np.isnan(p) & ~counted, counted
