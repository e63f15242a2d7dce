"""Where the variance between runs of one recipe comes from: purposes varied one at a time, test images, equal seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.purposes import EVERYTHING, TITLES, varied
from cifar_ablations.ablations.record import ArmRecord, PlanRecord
from cifar_ablations.reports.inference import decision, statistics

TOGETHER, IMAGES = "together", "test images"
COLUMNS = ["purpose", "title", "arm", "n"]
COLUMNS += [f"{name}{limit}" for name in ("variance", "sd", "share") for limit in ("", "_low", "_high")]
PAIRED = [
    "arm",
    "other",
    "n",
    *(f"{name}{limit}" for name in ("correlation", "removed") for limit in ("", "_low", "_high")),
]

LEAST_SEEDS = 4
"""From fewer no share is given: with three its limits may lie 600 times below and above it, with four 40 times."""

Limits = tuple[float, float]
UNKNOWN: Limits = (math.nan, math.nan)


def table(plan: PlanRecord, runs: pd.DataFrame, answers: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The variance of test accuracy between runs of a plan's first arm that varies everything, and what makes it.

    One row per `purpose`: EVERYTHING; each that an arm varies alone; TOGETHER, the sum of these; IMAGES, the part that
    runs would differ by if all were equally good, since each errs on other images of a finite test set. Every other row
    has that part in it, TOGETHER once: each purpose's own is taken off the sum, and that of EVERYTHING is put back.
    Empty where no arm varies one purpose.

    `variance` is of accuracies as fractions, over the n runs that have one, `sd` its root, `share` its ratio to that of
    EVERYTHING over the seeds of both; NaN for fewer than LEAST_SEEDS. Intervals: of variances χ² (of TOGETHER by
    Satterthwaite's degrees of freedom, of IMAGES the normal one over images), of shares Pitman's, which allows for
    equal seeds; of TOGETHER's share F, at a share of 1 as exact as Satterthwaite's; of IMAGES' share, at most 1, the
    reciprocal of χ², since all but its denominator is known well.
    """
    singles = {purpose: arm for arm in plan.arms if (purpose := varied(arm.levels))}
    whole = _whole(plan)
    if not singles or whole is None:
        return pd.DataFrame(columns=COLUMNS)
    confidence, total = decision.confidence(plan.rule), _accuracies(runs, whole)
    rows, parts, images = [], [], {}
    for purpose, arm in {EVERYTHING: whole, **singles}.items():
        values = _accuracies(runs, arm)
        variance, df = _variance(values), len(values) - 1
        share, *limits = ratio_of_variances(values, total, confidence)
        if arm is whole:
            limits = list(UNKNOWN)
        title = TITLES.get(purpose, purpose)
        row = {"purpose": purpose, "title": title, "arm": arm.name, "n": len(values), "share": share}
        rows.append(row | _spread(variance, variance_limits(variance, df, confidence)) | _limits("share", limits))
        images[purpose] = _of_images(runs, arm, answers, confidence)
        if arm is not whole:
            parts.append((variance, df))
    again = sum(images[purpose][0] for purpose in singles) - images[EVERYTHING][0]
    rows.append(_together(parts, again, _variance(total), len(total) - 1, confidence))
    rows.append({"arm": whole.name} | _images(*images[EVERYTHING], _variance(total), len(total) - 1, confidence))
    return pd.DataFrame(rows)[COLUMNS]


def pairing(plan: PlanRecord, runs: pd.DataFrame) -> pd.DataFrame:
    """How alike runs of equal seeds are: a row per other arm that varies everything.

    `correlation` is Pearson's between the two arms' test accuracies, with Fisher's interval; `removed` is the share of
    the variance of their difference that equal seeds take away, 2 cov / (var + var), negative where they add to it. Its
    interval is Pitman's of the variances of sum and difference. NaN for fewer than LEAST_SEEDS, or where an arm's runs
    do not vary. Empty where no arm varies one purpose.
    """
    whole = _whole(plan)
    if whole is None or not any(varied(arm.levels) for arm in plan.arms):
        return pd.DataFrame(columns=PAIRED)
    confidence, rows = decision.confidence(plan.rule), []
    for arm in plan.arms:
        if arm is whole or varied(arm.levels):
            continue
        both = pd.concat([_accuracies(runs, arm), _accuracies(runs, whole)], axis=1, keys=["a", "b"]).dropna()
        correlation, *limits = _correlation(both["a"].to_numpy(), both["b"].to_numpy(), confidence)
        ratio = np.array(ratio_of_variances(both["a"] + both["b"], both["a"] - both["b"], confidence))
        removed, *others = (math.nan,) * 3 if math.isnan(correlation) else (ratio - 1) / (ratio + 1)
        row = {"arm": arm.name, "other": whole.name, "n": len(both), "correlation": correlation, "removed": removed}
        rows.append(row | _limits("correlation", limits) | _limits("removed", others))
    return pd.DataFrame(rows, columns=PAIRED)


def variance_limits(variance: float, df: float, confidence: float) -> Limits:
    """The χ² interval of a normal population's variance; NaN without degrees of freedom or spread."""
    if not (df > 0 and variance > 0):
        return UNKNOWN
    upper, lower = stats.chi2.ppf([(1 + confidence) / 2, (1 - confidence) / 2], df)
    return variance * df / float(upper), variance * df / float(lower)


def ratio_of_variances(one: pd.Series, other: pd.Series, confidence: float) -> tuple[float, float, float]:
    """The ratio of two variances over the seeds (the index) that both have, with Pitman's interval (1939).

    Exact for pairs from a bivariate normal population, whatever their correlation: the ratios λ for which
    one + √λ other and one - √λ other are not significantly correlated. NaN for fewer than LEAST_SEEDS, or where
    `other` has no spread, and limits also where `one` has none.
    """
    both = pd.concat([one, other], axis=1).dropna().to_numpy()
    n = len(both)
    if n < LEAST_SEEDS or np.ptp(both[:, 1]) <= statistics.ROUNDING:
        return math.nan, *UNKNOWN
    first, second = both.var(axis=0, ddof=1)
    if np.ptp(both[:, 0]) <= statistics.ROUNDING:
        return float(first / second), *UNKNOWN
    r = float(np.corrcoef(both, rowvar=False)[0, 1])
    t = float(stats.t.ppf((1 + confidence) / 2, n - 2))
    k = 1 + 2 * (1 - r**2) * t**2 / (n - 2)
    factor = k + math.sqrt(k**2 - 1)
    return float(first / second), float(first / second / factor), float(first / second * factor)


def image_variance(right: np.ndarray, confidence: float) -> tuple[float, float, float]:
    """The variance of a run's accuracy that the choice of test images alone makes, from right answers [runs, images].

    The residual mean square over images: runs and images are crossed. Its interval is the normal one over images.
    """
    runs, images = right.shape
    table = right.astype(float)
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    of_image = (rest**2).sum(axis=0) / ((runs - 1) * (images - 1))
    variance = float(of_image.mean())
    half = float(stats.norm.ppf((1 + confidence) / 2)) * float(of_image.std(ddof=1)) / math.sqrt(images)
    return variance, max(0.0, variance - half), variance + half


def _whole(plan: PlanRecord) -> ArmRecord | None:
    return next((arm for arm in plan.arms if not varied(arm.levels)), None)


def _accuracies(runs: pd.DataFrame, arm: ArmRecord) -> pd.Series:
    """By seed, of the runs that have one."""
    return runs[runs["arm"] == arm.name].set_index("seed")[schema.TEST_ACCURACY].dropna().astype(float).sort_index()


def _variance(values: pd.Series) -> float:
    if len(values) < 2:
        return math.nan
    return 0.0 if np.ptp(values) <= statistics.ROUNDING else float(values.var(ddof=1))


def _of_images(
    runs: pd.DataFrame, arm: ArmRecord, answers: Mapping[str, np.ndarray], confidence: float
) -> tuple[float, Limits, int]:
    """The `image_variance` of an arm's runs that have an accuracy, its limits and of how many; NaN for fewer than two.

    NaN also where they were tested on numbers of images that differ.
    """
    ended = runs.loc[(runs["arm"] == arm.name) & runs[schema.TEST_ACCURACY].notna(), "run_id"]
    right = [answers[run_id] for run_id in ended if run_id in answers]
    if len(right) < 2 or len({len(one) for one in right}) > 1:
        return math.nan, UNKNOWN, len(right)
    variance, low, high = image_variance(np.stack(right), confidence)
    return variance, (low, high), len(right)


def _together(
    parts: list[tuple[float, int]], again: float, total: float, total_df: int, confidence: float
) -> dict[str, object]:
    """The row of the sum of the variances that single purposes make, less what it has of the test images too often.

    Purposes that simply add up sum to total + again. How many times that the sum is has the F interval, which is then
    brought to shares of the total as measured: made for a share of 1, which is what the sum is held against.
    """
    everything = sum(part for part, _ in parts)
    row = {"purpose": TOGETHER, "title": "these together", "arm": "", "n": min(df + 1 for _, df in parts)}
    expected = total + again
    if not (everything > 0 and total > 0 and expected > 0):
        return row | _spread(math.nan, UNKNOWN) | {"share": math.nan} | _limits("share", UNKNOWN)
    df = everything**2 / sum(part**2 / df for part, df in parts)
    low, high = variance_limits(everything, df, confidence)
    variances = _spread(max(0.0, everything - again), (max(0.0, low - again), max(0.0, high - again)))
    if min(total_df, *(df for _, df in parts)) + 1 < LEAST_SEEDS:
        return row | variances | {"share": math.nan} | _limits("share", UNKNOWN)
    expected_df = total_df * (expected / total) ** 2
    lower, upper = stats.f.ppf([(1 - confidence) / 2, (1 + confidence) / 2], df, expected_df)
    share, *limits = (max(0.0, (everything / float(f) - again) / total) for f in (1.0, upper, lower))
    return row | variances | {"share": share} | _limits("share", limits)


def _images(
    variance: float, limits: Limits, n: int, total: float, total_df: int, confidence: float
) -> dict[str, object]:
    """The row of what the choice of test images makes, at most all of the variance."""
    row = {"purpose": IMAGES, "title": "the test images", "n": n} | _spread(variance, limits)
    if not (variance >= 0 and total > 0 and total_df + 1 >= LEAST_SEEDS):
        return row | {"share": math.nan} | _limits("share", UNKNOWN)
    low, high = variance_limits(total, total_df, confidence)
    inside = variance < high  # else limits would leave no doubt
    shares = (variance / high, min(1.0, variance / low)) if inside else UNKNOWN
    return row | {"share": min(1.0, variance / total)} | _limits("share", shares)


def _correlation(one: np.ndarray, other: np.ndarray, confidence: float) -> tuple[float, float, float]:
    if len(one) < 4 or min(np.ptp(one), np.ptp(other)) <= statistics.ROUNDING:
        return math.nan, *UNKNOWN
    found = stats.pearsonr(one, other)
    limits = found.confidence_interval(confidence)
    return float(found.statistic), float(limits.low), float(limits.high)


def _spread(variance: float, limits: Limits | list[float]) -> dict[str, float]:
    found = {"variance": variance, **_limits("variance", limits)}
    return found | {name.replace("variance", "sd"): math.sqrt(value) for name, value in found.items()}


def _limits(name: str, limits: Limits | list[float]) -> dict[str, float]:
    low, high = limits
    return {f"{name}_low": float(low), f"{name}_high": float(high)}
