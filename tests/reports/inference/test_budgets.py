"""What a small budget says of a large one, against what is known by counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cifar_ablations.reports.inference.budgets import ceiling, decision_accuracy, ordered_alike

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
    assert np.isnan(ceiling(np.ones((3, 1))))


def test_clear_differences_agree_whatever_seeds_are_drawn() -> None:
    rng = np.random.default_rng(1)
    arms = np.arange(5)[:, None] + rng.normal(0, 0.01, (5, 6))
    found = decision_accuracy(arms, 3 * arms + 7)
    assert (found.share, found.low, found.high) == (1, 1, 1)
    assert ceiling(arms) == 1


def test_noise_alone_orders_half_of_the_pairs_alike() -> None:
    rng = np.random.default_rng(2)
    shares = [decision_accuracy(rng.normal(size=(8, 6)), rng.normal(size=(8, 6))) for _ in range(12)]
    assert np.mean([found.share for found in shares]) == pytest.approx(0.5, abs=0.08)
    assert all(found.low <= found.share <= found.high for found in shares)
    assert np.mean([ceiling(rng.normal(size=(8, 7))) for _ in range(20)]) == pytest.approx(0.5, abs=0.08)


def test_halves_of_an_odd_number_leave_each_seed_out_in_turn() -> None:
    values = np.array([[0.0, 0.0, 9.0], [1.0, 1.0, 0.0]])
    # Halves of one seed each, of ordered pairs of different seeds: (0,1) and (1,0) agree, the four with seed 2 do not.
    assert ceiling(values) == pytest.approx(2 / 6)
