"""What few seeds find looks too large: estimates drawn towards zero, and how much too large to expect it.

Of several estimates the largest was, more likely than not, also lucky. Where it must be significant to be looked at,
it is too large on average even alone. Pure functions of numbers, without arms, claims or stores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import optimize, special, stats

FEWEST = 3
"""Estimates below which nothing is borrowed: the posterior of their variance would not have an integral."""

NODES = 100
"""Of the integral over an estimated standard error; more change nothing in the tenth digit."""


@dataclass(frozen=True)
class Shrunken:
    """Per estimate, [claims], in its unit: its mean and interval given all of them.

    `power` is the probability that an effect of the shrunken size is found, and `exaggeration` by which factor what is
    found of it is too large on average.
    """

    shrunken: np.ndarray
    low: np.ndarray
    high: np.ndarray
    power: np.ndarray
    exaggeration: np.ndarray


def shrink(
    estimates: np.ndarray,
    standard_errors: np.ndarray,
    freedoms: np.ndarray,
    confidence: float = 0.95,
    alpha: float = 0.05,
    variance: float | None = None,
) -> Shrunken:
    """Estimates [claims] of one metric's effects, shrunken towards zero by what all of them say of their sizes.

    Effects are taken to come from N(0, τ²), and an estimate from N(effect, v). v is the squared standard error,
    moderated by those of the others (Smyth 2004), which keeps its own value where they differ more than their
    degrees of freedom explain. τ² has a flat prior and is integrated out (Stein's harmonic prior; Morris and Tang
    2011), so that with equal v the shrinkage is nearly James and Stein's, 1 - (claims - 2) v / Σ estimate². Given
    B = v / (v + τ²) the posterior has mean (1 - B) estimate and variance (1 - B) v; `shrunken` is its mean, and the
    interval that ± t of its standard deviation over B too, where t has the degrees of freedom of v.

    The interval holds the effect with the given confidence on average over effects of such a population, not for
    each: an only large one among many of none is drawn too far. `variance` is τ² where it is known. `power` and
    `exaggeration` are those of a two-sided t test at level `alpha`. All is NaN for an estimate without a positive
    standard error or degrees of freedom, and for all where fewer than three are left.
    """
    m, se, df = (np.asarray(x, dtype=float) for x in (estimates, standard_errors, freedoms))
    nothing = np.full(m.shape, math.nan)
    shrunken, low, high, power, exaggeration = (nothing.copy() for _ in range(5))
    usable = np.isfinite(m) & np.isfinite(se) & (se > 0) & (df > 0)
    if usable.sum() >= FEWEST:
        m, df = m[usable], df[usable]
        v, freedom = moderated(se[usable] ** 2, df)
        kept, doubt = _kept(m, v) if variance is None else (variance / (variance + v), np.zeros(len(m)))
        mean = kept * m
        half = stats.t.ppf((1 + confidence) / 2, freedom) * np.sqrt(kept * v + m**2 * doubt)
        shrunken[usable], low[usable], high[usable] = mean, mean - half, mean + half
        power[usable], exaggeration[usable] = exaggerated(mean, np.sqrt(v), df, alpha)
    return Shrunken(shrunken, low, high, power, exaggeration)


def moderated(variances: np.ndarray, freedoms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Estimated variances [claims] drawn to each other, and their degrees of freedom: Smyth 2004, section 6.2.

    The true ones are taken to be a scaled inverse χ²; how many degrees of freedom that adds to each comes from the
    spread of the logarithms, beyond what estimation explains. Where nothing is beyond, all are the pooled one. None
    has more degrees of freedom than all together.
    """
    df = np.minimum(freedoms, 1e9)  # as good as infinite, and may be added and subtracted
    pooled, together, half = float(np.average(variances, weights=df)), float(df.sum()), df / 2
    logs = np.log(variances) - special.digamma(half) + np.log(half)
    beyond = float(logs.var(ddof=1) - special.polygamma(1, half).mean())
    if beyond <= 1e-6:
        return np.full(len(variances), pooled), np.full(len(variances), together)
    # 1 / y < trigamma(y) < 1 / y + 1 / y²
    ends = 1 / beyond, (1 + math.sqrt(1 + 4 * beyond)) / (2 * beyond)
    prior = 2 * float(optimize.brentq(lambda y: float(special.polygamma(1, y)) - beyond, *ends))
    centre = math.exp(float(logs.mean()) + float(special.digamma(prior / 2)) - math.log(prior / 2))
    weight = prior / (prior + df)
    return weight * centre + (1 - weight) * variances, np.minimum(prior + df, together)


def _kept(m: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and variance of τ² / (τ² + v) given estimates [claims] of variances v, under a flat prior of τ².

    On a grid of log τ², [grid, 1], far beyond where anything is: for three estimates the posterior of τ² falls
    slowly, as τ to the power of -3.
    """
    largest = float((m**2).max() + v.max())
    grid = np.linspace(math.log(1e-6 * float(v.min())), math.log(1e10 * largest), 1_000)[:, None]
    between = np.exp(grid)
    total = between + v
    log_posterior = grid[:, 0] - (np.log(total) + m**2 / total).sum(axis=1) / 2
    posterior = np.exp(log_posterior - log_posterior.max())
    posterior /= posterior.sum()
    kept = between / total
    mean = posterior @ kept
    return mean, posterior @ (kept - mean) ** 2


def exaggerated(
    effects: np.ndarray, standard_errors: np.ndarray, freedoms: np.ndarray, alpha: float = 0.05
) -> tuple[np.ndarray, np.ndarray]:
    """Power, and by which factor what is found is too large, for true effects [claims].

    The factor is E[|estimate| / |effect|] given that it is found: the type M error of Gelman and Carlin 2014.
    The estimate is normal around the effect with the true standard error, the estimated one independent of it, as χ of
    so many degrees of freedom (∞: known); found is |t| above the two-sided critical value. Given the estimated
    standard error both are closed forms of the normal distribution; over it they are integrated by Gauss and Legendre.
    Infinite for an effect of zero, whose power is α; NaN where an input is.
    """
    inputs = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (effects, standard_errors, freedoms)))
    effect, se, df = (x[..., None] for x in inputs)
    critical, df = stats.t.isf(alpha / 2, df), np.minimum(df, 1e7)
    shift = np.abs(effect) / se
    nodes, weights = _nodes()
    ends = np.sqrt(stats.chi2.ppf(1e-15, df) / df), np.sqrt(stats.chi2.isf(1e-15, df) / df)
    ratio = ends[0] + (ends[1] - ends[0]) * (nodes + 1) / 2  # of the estimated standard error to the true one
    density = weights * stats.chi.pdf(ratio * np.sqrt(df), df)
    density /= density.sum(axis=-1, keepdims=True)
    bound = critical * ratio
    above, below = stats.norm.sf(bound - shift), stats.norm.sf(bound + shift)
    size = shift * (above - below) + stats.norm.pdf(bound - shift) + stats.norm.pdf(bound + shift)
    power = (density * (above + below)).sum(axis=-1)
    found = (density * size).sum(axis=-1) / power
    with np.errstate(divide="ignore"):
        return power, found / shift[..., 0]


@cache
def _nodes() -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return nodes, weights
