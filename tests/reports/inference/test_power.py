"""What a plan could find: against the non-central t of statsmodels, and against pages that are simulated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.profiles import profile
from cifar_ablations.ablations.record import DataRecord
from cifar_ablations.reports.inference import decision, power, sequential, simulation
from cifar_ablations.reports.inference.simulation import Setting, Shape
from tests.reports.inference.test_simulation import shape

SHARED = [(i, 0) for i in range(1, 7)] + [(i, 7) for i in range(8, 14)]
"""Twelve claims on two baselines."""


@pytest.mark.parametrize("n", [3, 5, 10, 40])
@pytest.mark.parametrize("alpha", [0.05, 0.035 / 9])
def test_an_effect_is_the_one_that_statsmodels_finds_four_times_out_of_five(n: int, alpha: float) -> None:
    for test in ("welch t", "paired t"):
        found = power.standard_effect(n - 1, alpha, test)
        # Of both sides statsmodels makes NaN where the lower is nothing.
        upper = TTestPower().power(found / math.sqrt(n), n, alpha / 2, alternative="larger")
        assert upper == pytest.approx(0.8, abs=1e-5)
        assert power.found(found, n - 1, alpha, test) == pytest.approx(0.8)
    assert power.standard_effect(n - 1, alpha, "paired t", 0.5) < power.standard_effect(n - 1, alpha, "paired t")


def test_degrees_of_freedom_may_be_fractions() -> None:
    found = power.standard_effect(7.3, 0.01, "welch t")
    bound = stats.t.isf(0.005, 7.3)
    assert stats.nct.sf(bound, 7.3, found) + stats.nct.cdf(-bound, 7.3, found) == pytest.approx(0.8)


def test_an_e_process_finds_nothing_with_few_seeds() -> None:
    assert power.standard_effect(2, 0.01, "paired t e-process") == math.inf
    assert power.found(100.0, 2, 0.01, "paired t e-process") == 0.0
    bound = sequential.critical_t(10, 0.05)
    shift = power.standard_effect(9, 0.05, "paired t e-process")
    assert stats.nct.sf(bound, 9, shift) == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize("df", [0.0, -1.0, math.nan])
def test_without_a_spread_nothing_is_known(df: float) -> None:
    assert math.isnan(power.standard_effect(df, 0.05, "welch t"))
    assert power.seeds_needed(0.5, 0.1, df, 5, 3, "welch t", "weighted holm") is None


@pytest.mark.parametrize(("effect", "error"), [(0.0, 0.1), (math.nan, 0.1), (0.5, math.nan), (0.5, 0.0)])
def test_no_effect_takes_no_number_of_seeds(effect: float, error: float) -> None:
    assert power.seeds_needed(effect, error, 8, 5, 3, "welch t", "weighted holm") is None


def test_an_effect_that_ten_thousand_do_not_find() -> None:
    assert power.seeds_needed(1e-6, 0.1, 8, 5, 3, "welch t", "weighted holm") is None


def test_far_from_zero_it_is_certain() -> None:
    assert power.found(500.0, 8, 0.01, "welch t") == pytest.approx(1)
    assert power.found(-500.0, 8, 0.01, "welch t") == pytest.approx(1)


@pytest.mark.parametrize("effect", [0.5, 1.0, 3.0])
def test_the_seeds_that_an_effect_needs_are_the_fewest_that_find_it(effect: float) -> None:
    """Of pairs in units of their spread: `TTestPower` at the level that half of the claims share."""
    claims, seeds = 6, 8
    needed = power.seeds_needed(effect, 1 / math.sqrt(seeds), seeds - 1, seeds, claims, "paired t", "weighted holm")
    assert needed is not None
    alpha = 0.035 / 3.5
    enough = [TTestPower().power(effect, n, alpha, df=(seeds - 1) * n / seeds) >= 0.8 for n in (needed - 1, needed)]
    assert enough == [False, True]


def test_more_claims_more_looks_and_stricter_corrections_take_more() -> None:
    def needed(claims: int, correction: str = "weighted holm", looks: int = 1) -> int:
        found = power.seeds_needed(1.0, 0.6, 8, 5, claims, "welch t", correction, looks)
        assert found is not None
        return found

    assert needed(1) < needed(6) < needed(18) < needed(18, "holm") < needed(18, "holm", 3)
    assert power.typical_alpha(1, 5, "welch t", "weighted holm") == 0.03
    assert power.typical_alpha(18, 10, "welch t", "weighted holm") == pytest.approx(0.035 / 9.5)


def found_on_pages(one: Shape, effect: float, draws: int = 1_500) -> float:
    """The share of true claims found on pages half of whose claims have that effect, in sd of an arm."""
    means = simulation.half_true(one, effect)
    decided = simulation.at_looks(one, simulation.drawn(one, Setting(means=means), draws, np.random.default_rng(2)))
    true = np.abs(one.claims.weights @ means) > 0.9 * effect
    assert true.sum() == (len(true) + 1) // 2
    right = decided.different & (np.sign(decided.direction) == np.sign(one.claims.weights @ means))
    return float(right[:, true].mean())


def estimated(one: Shape) -> tuple[float, float]:
    """The median standard error of a claim, in sd of an arm, and its degrees of freedom."""
    drawn = simulation.drawn(one, Setting(), 1_500, np.random.default_rng(1))
    decided = decision.decide(drawn, one.claims, one.test, one.correction)
    return float(np.median(decided.error)), float(np.median(decided.df))


@pytest.mark.parametrize("pairs", [SHARED, SHARED[:6]], ids=["12 claims", "6 claims"])
@pytest.mark.parametrize("n", [5, 10, 15])
def test_what_is_said_to_be_detectable_is_found_four_times_out_of_five(n: int, pairs: list[tuple[int, int]]) -> None:
    """Statistics, 7: with Holm left out of the reckoning it was 63 to 72 %."""
    one = shape(pairs, n)
    error, df = estimated(one)
    alpha = power.typical_alpha(len(pairs), n, one.test, one.correction)
    effect = power.standard_effect(df, alpha, one.test) * error
    assert found_on_pages(one, effect) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("effect", [2.0, 1.2])
def test_so_many_seeds_as_are_said_to_be_needed_are_needed(effect: float) -> None:
    """Statistics, 7: a median of 161 was printed where 34 are needed. From ten seeds, within a tenth of the truth."""
    first = shape(SHARED, 10)
    error, df = estimated(first)
    needed = power.seeds_needed(effect, error, df, 10, len(SHARED), first.test, first.correction)
    assert needed is not None
    low, high = (found_on_pages(shape(SHARED, n), effect) for n in (math.floor(0.9 * needed), math.ceil(1.1 * needed)))
    assert low < 0.8 < high + 0.02


@pytest.mark.parametrize("n", [5, 10, 15])
@pytest.mark.parametrize(("test", "pairs"), [("paired t", SHARED), ("paired t", [(0, 1)]), ("welch t", [(0, 1)])])
def test_so_it_is_where_the_spread_is_known(n: int, test: str, pairs: list[tuple[int, int]]) -> None:
    """That of few seeds is more often too small than too large, and what is said to be detectable with it."""
    one = shape(pairs, n, test, "holm" if test == "paired t" else "weighted holm")
    drawn = simulation.drawn(one, Setting(), 1_500, np.random.default_rng(1))
    decided = decision.decide(drawn, one.claims, test, one.correction)
    error, df = math.sqrt((decided.error**2).mean()), float(decided.df.mean())
    assert error == pytest.approx(math.sqrt(2 / n), rel=0.02 if test == "paired t" else 0.25)
    alpha = power.typical_alpha(len(pairs), n, test, one.correction)
    effect = power.standard_effect(df, alpha, test) * error
    assert found_on_pages(one, effect) == pytest.approx(0.8, abs=0.05)


def test_the_kinds_of_comparison_of_a_plan() -> None:
    size = profile("quick")

    def designs(name: str) -> list[tuple[power.Design, str, int]]:
        plan = catalog.make_plan(name, size.apply(catalog.notebook_recipe()), size, (0, 1))
        return power.designs(plan.record(size, DataRecord("cifar10", "aa")))

    ((of_two, words, n),) = designs("techniques")
    assert (of_two.squares, of_two.fourths, of_two.claims, words, n) == (2.0, 2.0, 19, "two arms", 19)
    ((of_means, words, n),) = designs("factorial")
    assert (of_means.squares, words, n) == (4 / 64, "means over 64 arms", 9)
    assert [(words, n) for _, words, n in designs("data-size")] == [("two differences", 6)]
    assert designs("notebook") == []
