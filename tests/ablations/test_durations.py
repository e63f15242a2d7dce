"""Durations as text: the unit and the digits at each of the limits between them."""

from __future__ import annotations

import math

import pytest

from cifar_ablations.ablations.durations import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (8.2, "8.2 s"),
        (10, "10 s"),
        (119, "119 s"),
        (120, "2.0 min"),
        (150, "2.5 min"),
        (7199, "120.0 min"),
        (7200, "2.0 h"),
        (9000, "2.5 h"),
        (math.nan, "–"),
    ],
)
def test_seconds_are_given_in_the_unit_that_suits_their_size(seconds: float, text: str) -> None:
    assert duration(seconds) == text
