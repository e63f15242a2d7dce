"""Tests that may be looked at as often as one likes: the Gaussian-mixture t e-process of paired differences.

Wang & Ramdas 2023, arXiv 2310.03722, after Lai 1976. Under a normal distribution with the hypothesised mean and any
standard deviation, the e-value exceeds 1 / α at any time ever with a probability of at most α. So its inverse is a
p-value, and the means that it does not reject form an interval, whenever and for whatever reason one stops.
"""

from __future__ import annotations

import math

import numpy as np

from cifar_ablations.reports.inference.statistics import ROUNDING

PRIOR = 1.0
"""c: the e-process bets on standardised effects drawn from a normal distribution of standard deviation 1 / c."""


def e_value(differences: np.ndarray, null: float = 0.0, prior: float = PRIOR) -> float:
    """The evidence in differences [n] against a mean of `null`; NaN for fewer than two, or where nothing varies.

    √(c² / (n + c²)) · ((n + c²) V / ((n + c²) V - S²))^(n / 2), with S and V the sums of x - null and of its square.
    """
    x = np.asarray(differences, dtype=float) - null
    n = len(x)
    if n < 2 or np.ptp(x) <= ROUNDING:
        return math.nan
    c2, s, v = prior**2, float(x.sum()), float((x**2).sum())
    log_ratio = math.log((n + c2) * v) - math.log((n + c2) * v - s**2)
    return math.sqrt(c2 / (n + c2)) * math.exp(min(n / 2 * log_ratio, 700))


def zero_p(differences: np.ndarray, null: float = 0.0) -> float:
    """p-value of a mean of `null` that holds at any time; NaN where `e_value` is."""
    e = e_value(differences, null)
    return e if math.isnan(e) else min(1.0, 1 / e)


def critical_t(n: int, alpha: float, prior: float = PRIOR) -> float:
    """The |t| of n differences above which the e-value is over 1 / α; infinite where it never is."""
    c2 = prior**2
    bound = (math.sqrt((n + c2) / c2) / alpha) ** (2 / n)
    share = bound * c2 / (n + c2)
    return math.inf if share >= 1 else math.sqrt((n - 1) * (bound - 1) / (1 - share))


def interval(differences: np.ndarray, alpha: float = 0.05, prior: float = PRIOR) -> tuple[float, float]:
    """The means whose e-value is below 1 / α: with a probability of 1 - α, the true one at all times together.

    NaN where `e_value` is; infinite while there are too few differences to reject any mean.
    """
    x = np.asarray(differences, dtype=float)
    n = len(x)
    if n < 2 or np.ptp(x) <= ROUNDING:
        return math.nan, math.nan
    half = critical_t(n, alpha, prior) * float(x.std(ddof=1)) / math.sqrt(n)
    return float(x.mean()) - half, float(x.mean()) + half


def equivalence_p(differences: np.ndarray, margin: float) -> float:
    """p-value, at any time, of |mean| >= margin; 1 where the sample's own mean is that large.

    NaN where `e_value` is.
    """
    x = np.asarray(differences, dtype=float)
    below, above = zero_p(x, -margin), zero_p(x, margin)
    if math.isnan(below) or abs(float(x.mean())) < margin:
        return max(below, above)
    return 1.0


def p_of_t(t: np.ndarray | float, df: np.ndarray | float, prior: float = PRIOR) -> np.ndarray:
    """`zero_p` of df + 1 differences whose t statistic is t, element by element."""
    n, c2 = df + 1, prior**2
    with np.errstate(divide="ignore", invalid="ignore"):
        share = n * t**2 / (df + t**2) / (n + c2)  # S² / ((n + c²) V)
        log_e = 0.5 * np.log(c2 / (n + c2)) - n / 2 * np.log1p(-share)
        return np.asarray(np.minimum(1.0, np.exp(-np.minimum(log_e, 700))))


def t_at(df: np.ndarray | float, alpha: float) -> np.ndarray:
    """`critical_t` of df + 1 differences, element by element; NaN for NaN."""
    flat = [math.nan if math.isnan(f) else critical_t(round(float(f)) + 1, alpha) for f in np.ravel(df)]
    return np.array(flat).reshape(np.shape(df))
