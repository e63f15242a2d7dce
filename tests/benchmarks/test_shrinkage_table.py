"""The table of shrunken estimates: what it finds with few draws."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks import shrinkage as benchmark


@pytest.mark.exhaustive
def test_on_average_intervals_hold_the_effect_and_the_largest_is_no_longer_too_large():
    """At six effects of the prior, five seeds each: see benchmarks/CALIBRATION.md for the other cases."""
    rng, draws = np.random.default_rng(0), 400
    for spread in (0.0, 1.0, 3.0):
        drawn = [
            benchmark._draw(rng, 6, lambda rng, k, s=spread: s * rng.standard_normal(k), 0, 1) for _ in range(draws)
        ]
        row = benchmark._row("", 6, drawn)
        assert row.average > 0.94 - 3.3 * math.sqrt(0.94 * 0.06 / (6 * draws)) * 1.5
        assert row.shrunken < row.raw
        assert abs(row.winner_shrunken) < 0.65 * row.winner_raw


def test_the_table_has_a_row_for_every_case():
    found = list(benchmark.rows(3, 0))
    assert [(row.case, row.effects) for row in found] == [(c, k) for c in benchmark.CASES for k in benchmark.CLAIMS]
    assert all(0 <= row.worst <= row.average <= 1 for row in found)
    assert found == list(benchmark.rows(3, 0))
