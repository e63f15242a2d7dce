"""The statistics hold what they promise, by simulation: few draws by default, all of them with the slow tests."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmarks import calibration
from reports import statistics

DRAWS = pytest.mark.parametrize("draws", [400, pytest.param(10_000, marks=pytest.mark.slow)])


@DRAWS
def test_equal_arms_are_found_different_as_rarely_as_said(draws):
    low, high = calibration.limits(draws)
    for row in calibration.nulls(draws, seed=1):
        if row.noise == "normal":
            assert low <= row.false_positives <= high, row
        # Without normal noise the t test of symmetric differences errs on the safe side.
        assert row.false_positives <= high, row
        assert row.coverage == pytest.approx(1 - row.false_positives, abs=1e-9)


@DRAWS
def test_holm_keeps_the_family_and_without_it_the_family_is_lost(draws):
    _, high = calibration.limits(draws)
    for n, corrected, uncorrected in calibration.family_wise(draws, seed=1):
        assert corrected <= high, n
        assert uncorrected > high, "leaving the correction out must show"


@DRAWS
def test_power_is_the_non_central_ts(draws):
    for n, effect, found, theory in calibration.powers(draws, seed=1):
        low, high = stats.binom(draws, theory).ppf([0.0005, 0.9995]) / draws
        assert low <= found <= high, (n, effect)


@pytest.mark.parametrize("mutation", ["ddof", "unpaired", "normal quantile"])
def test_what_would_be_wrong_is_seen_by_the_simulation(mutation):
    rng, draws, n = np.random.default_rng(0), 4_000, 5
    shared = rng.standard_normal((draws, n))
    one, other = (0.9**0.5 * shared + 0.1**0.5 * rng.standard_normal((draws, n)) for _ in range(2))
    d = one - other
    if mutation == "ddof":
        t = d.mean(axis=1) / (d.std(axis=1, ddof=0) / n**0.5)
        p = 2 * stats.t.sf(abs(t), n - 1)
    elif mutation == "unpaired":
        p = stats.ttest_ind(one, other, axis=1).pvalue
    else:
        p = 2 * stats.norm.sf(abs(d.mean(axis=1) / (d.std(axis=1, ddof=1) / n**0.5)))
    low, high = calibration.limits(draws)
    rate = float((p < 0.05).mean())
    assert not low <= rate <= high
    right = float(np.mean([statistics.zero_p(row) < 0.05 for row in d]))
    assert low <= right <= high
