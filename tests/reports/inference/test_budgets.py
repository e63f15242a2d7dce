"""What a small budget says of a large one, against what is known by counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cifar_ablations.reports.inference.budgets import by_halves, decision_accuracy, ordered_alike

VALUES = st.lists(st.integers(-5, 5), min_size=2, max_size=9)


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=9))
def test_pairs_ordered_alike_are_those_of_kendall(both: list[tuple[int, int]]) -> None:
    one, other = (np.array(values, float) for values in zip(*both, strict=True))
    concordant = sum(
        0.5 if (one[a] - one[b]) * (other[a] - other[b]) == 0 else float((one[a] > one[b]) == (other[a] > other[b]))
        for a in range(len(one))
        for b in range(a)
    )
    assert ordered_alike(one, other) == pytest.approx(concordant / (len(one) * (len(one) - 1) / 2))
    if len(set(one)) == len(one) and len(set(other)) == len(other):
        assert ordered_alike(one, other) == pytest.approx((1 + stats.kendalltau(one, other).statistic) / 2)


@given(VALUES)
def test_an_order_agrees_with_itself_and_not_with_its_reverse(values: list[int]) -> None:
    one = np.array(values, float)
    if len(set(values)) == len(values):
        assert ordered_alike(one, one) == 1
        assert ordered_alike(one, -one) == 0
    assert ordered_alike(one, np.zeros_like(one)) == 0.5


def test_one_arm_orders_nothing() -> None:
    assert np.isnan(ordered_alike(np.array([1.0]), np.array([2.0])))
    assert np.isnan(by_halves(np.ones((3, 1)), np.ones((3, 1))))


def test_one_seed_has_no_interval() -> None:
    arms = np.arange(12.0)[:, None]
    found = decision_accuracy(arms, arms)
    assert found.share == 1
    assert np.isnan([found.low, found.high]).all()


def test_few_arms_have_no_interval() -> None:
    """Leaving a seed out changes no order of three arms, and the share would pass for certain."""
    arms = np.arange(12.0)[:, None] + np.random.default_rng(0).normal(0, 1, (12, 6))
    for here in (arms[:3], np.where(np.arange(12)[:, None] < 3, np.nan, arms)):
        found = decision_accuracy(here, here)
        assert found.share == 1
        assert np.isnan([found.low, found.high]).all()
    assert np.isnan(decision_accuracy(arms * np.nan, arms).low)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=6))
def test_runs_that_diverged_are_in_no_mean_and_arms_without_any_in_no_pair(diverged: list[tuple[int, int]]) -> None:
    """One diverged run made every pair of its arm count as ordered otherwise."""
    whole = np.arange(4)[:, None] + np.linspace(0, 0.1, 6)
    small, large = whole.copy(), whole + 1
    for arm, seed in diverged:
        small[arm, seed] = np.nan
    small[3], large[2] = np.nan, np.nan
    found = decision_accuracy(small, large)
    left = [arm for arm in (0, 1) if not np.isnan(small[arm]).all()]
    assert found.share == 1 if len(left) == 2 else np.isnan(found.share)
    assert by_halves(large, large) == 1


def test_clear_differences_agree_whatever_seeds_are_drawn() -> None:
    rng = np.random.default_rng(1)
    arms = np.arange(10)[:, None] + rng.normal(0, 0.01, (10, 6))
    found = decision_accuracy(arms, 3 * arms + 7)
    assert (found.share, found.low, found.high) == (1, 1, 1)
    assert by_halves(arms, arms) == by_halves(arms, 3 * arms + 7) == 1


def test_noise_alone_orders_half_of_the_pairs_alike() -> None:
    rng = np.random.default_rng(2)
    shares = [decision_accuracy(rng.normal(size=(10, 6)), rng.normal(size=(10, 6))) for _ in range(12)]
    assert np.mean([found.share for found in shares]) == pytest.approx(0.5, abs=0.08)
    assert np.mean([found.low < 0.5 < found.high for found in shares]) > 0.8
    halves = [by_halves(*rng.normal(size=(2, 8, 7))) for _ in range(20)]
    assert np.mean(halves) == pytest.approx(0.5, abs=0.08)


def test_the_interval_holds_what_as_many_seeds_are_expected_to_give() -> None:
    rng, seeds, held = np.random.default_rng(3), 6, 0
    for _ in range(40):
        large = rng.normal(0, 4, 10)
        true = np.stack([0.9 * large + rng.normal(0, 1.5, 10), large])
        seen = true[:, None, :, None] + rng.normal(0, 1.3, (2, 60, 10, seeds))
        expected = np.mean([ordered_alike(*pair) for pair in seen.mean(-1).transpose(1, 0, 2)])
        found = decision_accuracy(seen[0, 0], seen[1, 0])
        held += found.low - 0.02 <= expected <= found.high + 0.02
    assert held >= 36, "95 % of 40, less two standard deviations"


def test_what_one_half_says_of_the_other_is_asked_of_as_many_seeds() -> None:
    """Means of all seeds stood beside means of half of them: budgets that are alike exceeded their ceiling."""
    rng = np.random.default_rng(4)
    apart = []
    for _ in range(40):
        true = rng.normal(0, 1, 10)[:, None]
        small, large = (true + rng.normal(0, 0.8, (10, 6)) for _ in range(2))
        apart.append(by_halves(small, large) - by_halves(large, large))
    assert abs(np.mean(apart)) < 2.5 * np.std(apart) / np.sqrt(40)


def test_halves_of_an_odd_number_leave_each_seed_out_in_turn() -> None:
    values = np.array([[0.0, 0.0, 9.0], [1.0, 1.0, 0.0]])
    # Halves of one seed each, of ordered pairs of different seeds: (0,1) and (1,0) agree, the four with seed 2 do not.
    assert by_halves(values, values) == pytest.approx(2 / 6)
