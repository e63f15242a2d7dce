"""The e-process against numerical integration, and its interval and p-values against each other."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from cifar_ablations.reports.inference import power
from cifar_ablations.reports.inference import sequential as sq

SAMPLES = {
    3: np.array([0.4, 1.1, 0.9]),
    6: np.array([-0.2, 0.5, 1.4, 0.3, -0.7, 0.8]),
}
samples = st.lists(st.floats(-10, 10).map(lambda x: round(x, 3)), min_size=2, max_size=30).map(np.array)


def likelihood(x, mean, sd):
    """Of a normal distribution, up to a constant."""
    return math.exp(-((x - mean) ** 2).sum() / (2 * sd**2)) / sd ** len(x)


def integrated(x, prior):
    """The ratio of marginal likelihoods: effects of a normal prior in units of sd, and sd by dσ / σ, as under zero."""

    def over_log_sd(of_sd):
        return integrate.quad(lambda log_sd: of_sd(math.exp(log_sd)), -6, 6, limit=200)[0]

    def mixture(sd):
        def weighed(effect):
            return (
                likelihood(x, effect * sd, sd) * prior * math.exp(-((prior * effect) ** 2) / 2) / math.sqrt(2 * math.pi)
            )

        return integrate.quad(weighed, -12, 12, limit=200, points=[0.0])[0]

    return over_log_sd(mixture) / over_log_sd(lambda sd: likelihood(x, 0.0, sd))


@pytest.mark.parametrize(("n", "prior"), [(3, 1.0), (6, 1.0), (3, 0.5)])
def test_the_e_value_is_the_mixture_that_it_is_named_after(n, prior):
    assert sq.e_value(SAMPLES[n], prior=prior) == pytest.approx(integrated(SAMPLES[n], prior), rel=1e-4)


def test_a_null_of_its_own_is_subtracted():
    x = SAMPLES[6]
    assert sq.e_value(x, null=0.3) == pytest.approx(sq.e_value(x - 0.3))
    assert sq.zero_p(x, null=0.3) == pytest.approx(sq.zero_p(x - 0.3))


@given(samples, st.floats(1e-3, 1e3), st.sampled_from([-1.0, 1.0]))
@settings(deadline=None)
def test_neither_the_unit_nor_the_sign_matters(x, scale, sign):
    assume(np.ptp(x) > 1e-6)
    assert sq.e_value(sign * scale * x) == pytest.approx(sq.e_value(x), rel=1e-6)
    low, high = sq.interval(x)
    lower, upper = sorted(limit * sign * scale for limit in (low, high))
    assert sq.interval(sign * scale * x) == pytest.approx((lower, upper), rel=1e-6, abs=1e-9 * scale)


@given(samples, st.floats(-100, 100))
@settings(deadline=None)
def test_an_interval_moves_along_with_its_sample(x, shift):
    assume(np.ptp(x) > 1e-3)
    low, high = sq.interval(x)
    assert sq.interval(x + shift) == pytest.approx((low + shift, high + shift), rel=1e-6, abs=1e-6)


@given(samples, st.sampled_from([0.3, 0.05, 0.05 / 3, 0.001]), st.sampled_from([0.5, 1.0, 2.0]))
@settings(deadline=None)
def test_the_interval_holds_the_means_that_are_not_rejected(x, alpha, prior):
    assume(np.ptp(x) > 1e-3)
    low, high = sq.interval(x, alpha, prior)
    if math.isinf(low):
        assert (low, high) == (-math.inf, math.inf)
        assert all(sq.e_value(x, x.mean() + far, prior) <= 1 / alpha for far in (-1e4, -1.0, 1.0, 1e4))
        return
    assert low < x.mean() < high
    near = 1e-6 * (high - low)
    for inside in (low + near, high - near, x.mean()):
        assert sq.e_value(x, inside, prior) < 1 / alpha
    for outside in (low - near, high + near):
        assert sq.e_value(x, outside, prior) > 1 / alpha
        if prior == sq.PRIOR:
            assert sq.zero_p(x, outside) < alpha


@given(samples, st.floats(0.01, 5))
@settings(deadline=None)
def test_equivalence_is_an_interval_within_the_margin(x, margin):
    assume(np.ptp(x) > 1e-3)
    low, high = sq.interval(x)
    assume(min(abs(abs(low) - margin), abs(abs(high) - margin)) > 1e-6)
    p = sq.equivalence_p(x, margin)
    assert (p < 0.05) == (-margin < low and high < margin)
    assert 0 < p <= 1
    assert sq.equivalence_p(-x, margin) == pytest.approx(p)
    assert sq.equivalence_p(x, 2 * margin) <= p + 1e-12


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_few_differences_reject_no_mean_however_large(n):
    x = 100 + 1e-3 * np.arange(n)
    # The ratio of the e-value is at most (n + c²) / c², so with c = 1 three differences reach 4 at the most.
    most = math.sqrt(1 / (n + 1)) * (n + 1) ** (n / 2)
    assert sq.e_value(x) <= most * (1 + 1e-9)
    assert sq.e_value(x) == pytest.approx(most, rel=1e-3)
    assert math.isinf(sq.interval(x)[1]) == (most <= 20)
    assert (sq.zero_p(x) < 0.05) == (most > 20)


def test_a_smaller_level_and_fewer_seeds_make_a_wider_interval():
    x = 0.3 + np.random.default_rng(0).standard_normal(40)
    widths = [np.diff(sq.interval(x, alpha))[0] for alpha in (0.5, 0.1, 0.05, 0.01)]
    assert widths == sorted(widths)
    assert np.diff(sq.interval(x[:20] / x[:20].std()))[0] > np.diff(sq.interval(x / x.std()))[0]
    low, high = sq.interval(x)
    fixed = stats.ttest_1samp(x, 0).confidence_interval()
    assert low < fixed.low < fixed.high < high, "looking whenever one likes has its price"


def test_equivalence_needs_a_mean_within_the_margin():
    x = np.array([0.9, 1.1, 1.0, 1.05, 0.95] * 4)
    assert sq.equivalence_p(x, 0.5) == 1.0
    assert sq.equivalence_p(-x, 0.5) == 1.0
    assert sq.equivalence_p(x - 1, 0.5) < 1e-3
    assert sq.equivalence_p(x - 1, 0.5) == max(sq.zero_p(x - 1, -0.5), sq.zero_p(x - 1, 0.5))


@pytest.mark.parametrize("x", [[], [0.3], [0.3, 0.3], [0.1, 0.1 + 1e-13]])
def test_too_few_or_equal_differences_are_no_evidence(x):
    x = np.array(x)
    assert math.isnan(sq.e_value(x))
    assert math.isnan(sq.zero_p(x))
    assert all(math.isnan(limit) for limit in sq.interval(x))
    assert math.isnan(sq.equivalence_p(x, 0.1))


def test_overwhelming_evidence_does_not_overflow():
    x = 1 + 1e-6 * np.random.default_rng(0).standard_normal(2_000)
    assert 1e300 < sq.e_value(x) < math.inf
    assert 0 < sq.zero_p(x) < 1e-300


def test_evidence_against_the_truth_is_bounded_on_average():
    """Ville's inequality rests on an expectation of one at every number of seeds."""
    draws = np.random.default_rng(0).standard_normal((4_000, 4))
    assert np.mean([sq.e_value(x) for x in draws]) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("n", "effect"), [(5, 4.71), (10, 1.59), (15, 1.17), (25, 0.88), (50, 0.61)])
def test_what_the_e_process_can_detect_is_simulated(n, effect):
    detectable = power.standard_effect(n - 1, 0.05, "paired t e-process") / math.sqrt(n)
    assert detectable == pytest.approx(effect, rel=0.05)
    draws = detectable + np.random.default_rng(n).standard_normal((2_000, n))
    assert np.mean([sq.zero_p(row) < 0.05 for row in draws]) == pytest.approx(0.8, abs=0.03)
    assert math.isinf(power.standard_effect(2, 0.05, "paired t e-process"))
