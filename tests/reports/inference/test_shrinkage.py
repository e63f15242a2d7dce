"""Shrinkage and exaggeration against closed forms, published figures and what they promise on average."""

import math
from functools import partial

import numpy as np
import pytest
from scipy import integrate, stats

from cifar_ablations.reports.inference import power as powers
from cifar_ablations.reports.inference import shrinkage
from cifar_ablations.reports.inference.shrinkage import shrink

# The eight schools of Rubin 1981: effects and their known standard errors.
SCHOOLS = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
ERRORS = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])


def test_a_known_variance_gives_the_normal_posterior():
    found = shrink(SCHOOLS, ERRORS, np.full(8, np.inf), variance=100.0)
    kept = 100 / (100 + ERRORS**2)
    assert found.shrunken == pytest.approx(kept * SCHOOLS, rel=1e-6)
    half = stats.norm.ppf(0.975) * np.sqrt(kept) * ERRORS
    assert found.high - found.shrunken == pytest.approx(half, rel=1e-6)
    assert found.shrunken - found.low == pytest.approx(half, rel=1e-6)
    narrower = shrink(SCHOOLS, ERRORS, np.full(8, np.inf), confidence=0.5, variance=100.0)
    assert narrower.high - narrower.low == pytest.approx(
        2 * half * stats.norm.ppf(0.75) / stats.norm.ppf(0.975), rel=1e-6
    )
    assert shrink(SCHOOLS, ERRORS, np.full(8, np.inf), variance=0.0).shrunken == pytest.approx(np.zeros(8))


@pytest.mark.parametrize("claims", [4, 6, 18])
@pytest.mark.parametrize("size", [0.01, 1, 3, 300])
def test_equal_errors_give_the_closed_form(claims, size):
    """With a flat prior of τ², B has the density of Γ(k / 2 - 1, S / 2) up to 1, where S = Σ (estimate / error)²."""
    m = size * np.random.default_rng(claims).standard_normal(claims)
    found = shrink(m, np.ones(claims), np.full(claims, np.inf))
    shape, scale = claims / 2 - 1, 2 / (m**2).sum()
    moments = [
        scale**j
        * math.gamma(shape + j)
        / math.gamma(shape)
        * stats.gamma.cdf(1, shape + j, scale=scale)
        / stats.gamma.cdf(1, shape, scale=scale)
        for j in (1, 2)
    ]
    assert found.shrunken == pytest.approx((1 - moments[0]) * m, rel=1e-4)
    sd = np.sqrt(1 - moments[0] + m**2 * (moments[1] - moments[0] ** 2))
    assert found.high - found.shrunken == pytest.approx(stats.norm.ppf(0.975) * sd, rel=1e-4)
    if size > 1:
        james_stein = 1 - (claims - 2) / (m**2).sum()
        assert found.shrunken / m == pytest.approx(np.full(claims, james_stein), abs=0.05 if size == 3 else 1e-6)


def test_unequal_errors_give_the_integral():
    m, v = SCHOOLS, ERRORS**2

    def posterior(variance, i=0, power=0):
        density = math.prod(stats.norm.pdf(m, 0, np.sqrt(variance + v)) * 100)
        return density * (variance / (variance + v[i])) ** power

    total = integrate.quad(posterior, 0, np.inf)[0]
    found = shrink(SCHOOLS, ERRORS, np.full(8, np.inf))
    for i in range(8):
        kept, squared = (integrate.quad(partial(posterior, i=i, power=p), 0, np.inf)[0] / total for p in (1, 2))
        assert found.shrunken[i] == pytest.approx(kept * m[i], rel=1e-4)
        sd = math.sqrt(kept * v[i] + m[i] ** 2 * (squared - kept**2))
        assert found.high[i] - found.shrunken[i] == pytest.approx(stats.norm.ppf(0.975) * sd, rel=1e-4)


def test_units_signs_and_order_do_not_matter():
    rng = np.random.default_rng(5)
    m, se, df = rng.standard_normal(7), rng.uniform(0.5, 2, 7), rng.integers(3, 9, 7)
    found = shrink(m, se, df)
    scaled, turned, mirrored = shrink(1e-3 * m, 1e-3 * se, df), shrink(m[::-1], se[::-1], df[::-1]), shrink(-m, se, df)
    assert scaled.low == pytest.approx(1e-3 * found.low)
    assert turned.high[::-1] == pytest.approx(found.high)
    assert mirrored.high == pytest.approx(-found.low)
    for other in (scaled, mirrored):
        assert other.exaggeration == pytest.approx(found.exaggeration)
        assert other.power == pytest.approx(found.power)
    assert np.all(np.abs(found.shrunken) < np.abs(m))
    assert np.all(np.sign(found.shrunken) == np.sign(m))


def test_what_cannot_be_used_stays_out():
    m, se, df = np.array([1.0, -2, 0.5, 3, 1, 1]), np.ones(6), np.full(6, 4.0)
    m[4], se[5] = math.nan, 0.0
    found, without = shrink(m, se, df), shrink(m[:4], se[:4], df[:4])
    for name in ("shrunken", "low", "high", "power", "exaggeration"):
        assert getattr(found, name) == pytest.approx([*getattr(without, name), math.nan, math.nan], nan_ok=True)
    for few in (m[:2], np.array([1.0, 2, math.nan]), np.array([])):
        found = shrink(few, np.ones(len(few)), np.full(len(few), 4))
        assert found.shrunken.shape == few.shape
        assert np.isnan([found.shrunken, found.low, found.high, found.power, found.exaggeration]).all()


@pytest.mark.slow
def test_alike_variances_are_pooled_and_unlike_ones_kept():
    rng, df = np.random.default_rng(1), np.full(12, 4)
    v, freedom = shrinkage.moderated(np.ones(12), df)
    assert (v, freedom) == (pytest.approx(np.ones(12)), pytest.approx(np.full(12, 48)))
    spread = np.exp(4 * rng.standard_normal(12))
    v, freedom = shrinkage.moderated(spread, df)
    assert np.corrcoef(np.log(v), np.log(spread))[0, 1] > 0.95
    assert np.all(freedom < 6)
    # A large population comes out as it was: variances around 2, with 6 degrees of freedom in addition to 4.
    true = 2 * 6 / rng.chisquare(6, 40_000)
    estimated = true * rng.chisquare(4, 40_000) / 4
    v, freedom = shrinkage.moderated(estimated, np.full(40_000, 4))
    assert freedom[0] == pytest.approx(10, abs=0.5)
    assert v == pytest.approx((6 * 2 + 4 * estimated) / 10, rel=0.05)


@pytest.mark.parametrize(("effect", "error", "power", "factor"), [(0.1, 3.28, 0.05, 77), (2, 8.1, 0.06, 9.6)])
def test_exaggeration_published(effect, error, power, factor):
    """The two examples of Gelman and Carlin 2014, who drew it; they give 9.7 for the second."""
    found = shrinkage.exaggerated(effect, error, np.inf)
    assert float(found[0]) == pytest.approx(power, abs=0.005)
    assert float(found[1]) == pytest.approx(factor, rel=0.015)


@pytest.mark.parametrize("n", [2, 3, 5, 15, 1_001])
@pytest.mark.parametrize("effect", [0.01, 0.3, 1.0, 4.0])
def test_power_is_that_of_the_non_central_t(effect, n):
    power, factor = shrinkage.exaggerated(-effect, 1 / math.sqrt(n), n - 1, 0.02)
    assert float(power) == pytest.approx(powers.found(effect * math.sqrt(n), n - 1, 0.02, "paired t"), rel=1e-6)
    assert float(factor) >= 1 - 1e-9


def test_exaggeration_by_simulation():
    x = np.random.default_rng(2).standard_normal((200_000, 5)) + 0.5
    t = x.mean(axis=1) / x.std(axis=1, ddof=1) * math.sqrt(5)
    found = np.abs(x.mean(axis=1)[np.abs(t) > stats.t.isf(0.025, 4)]) / 0.5
    power, factor = shrinkage.exaggerated(0.5, 1 / math.sqrt(5), 4)
    assert float(factor) == pytest.approx(found.mean(), abs=3.3 * found.std() / math.sqrt(len(found)))
    assert float(power) == pytest.approx(len(found) / 200_000, abs=0.003)


def test_exaggeration_at_its_ends_and_falls_with_power():
    power, factor = shrinkage.exaggerated(np.array([0.0, math.nan, 1]), np.array([1.0, 1, math.nan]), 4)
    assert power == pytest.approx([0.05, math.nan, math.nan], nan_ok=True)
    assert factor == pytest.approx([math.inf, math.nan, math.nan], nan_ok=True)
    power, factor = shrinkage.exaggerated(np.linspace(0.1, 8, 40), 1.0, 4)
    assert np.all(np.diff(power) > 0)
    assert np.all(np.diff(factor) < 0)
    assert factor[-1] == pytest.approx(1, abs=0.01)
