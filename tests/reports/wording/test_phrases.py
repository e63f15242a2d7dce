"""Numbers as a person reads them; what is read back is what was written, to the digits shown."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_ablations.ablations import schema
from cifar_ablations.reports.wording import phrases

SHARES = st.floats(0, 1)


def _read(text: str) -> float:
    return float(text.replace("−", "-"))


@given(st.floats(-1e6, 1e6), st.integers(0, 6), st.booleans())
def test_a_number_is_read_back_to_its_digits(value: float, digits: int, signed: bool) -> None:
    text = phrases.number(value, digits, signed)
    assert _read(text) == pytest.approx(value, abs=0.5 * 10.0**-digits * (1 + 1e-9) + 1e-9)
    assert "-" not in text, "a hyphen is no minus sign"
    if _read(text) == 0:
        assert text[0] == "0", "nothing has no sign"
    elif signed:
        assert text[0] == ("+" if value > 0 else "−")


@given(st.floats(-1e6, 1e6).filter(lambda value: abs(value) >= 1e-3))
def test_three_digits_are_significant(value: float) -> None:
    assert _read(phrases.significant(value)) == pytest.approx(value, rel=0.005, abs=0.5 if abs(value) > 100 else 0)


@given(SHARES, SHARES)
def test_an_interval_is_cut_off_where_the_possible_ends(one: float, other: float) -> None:
    low, high = min(one, other) - 0.5, max(one, other) + 0.5
    found = [_read(limit) for limit in phrases.share_interval(low, high).strip("[]").split(", ")]
    assert found == [pytest.approx(100 * max(low, 0), abs=0.006), pytest.approx(100 * min(high, 1), abs=0.006)]


@pytest.mark.parametrize("nothing", [phrases.number, phrases.points, phrases.percent, phrases.p_value])
def test_what_is_no_number_is_a_dash(nothing) -> None:
    assert nothing(math.nan) == "–"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (phrases.points(0.0042), "+0.42"),
        (phrases.points(-0.0042), "−0.42"),
        (phrases.percent(0.7804), "78.04"),
        (phrases.mean_and_std(0.5, 0.01), "50.00 ± 1.00"),
        (phrases.mean_and_std(0.5, math.nan), "50.00"),
        (phrases.interval(math.nan, 0.5), ""),
        (phrases.p_value(0.0121), "= .012"),
        (phrases.p_value(0.0005), "< .001"),
        (phrases.p_value(0.99999), "= 1"),
        (phrases.margin(0.0025), "±0.25 pp"),
        (phrases.epochs(math.inf), "never"),
        (phrases.count(1, "seed"), "1 seed"),
        (phrases.count(2, "seed"), "2 seeds"),
        (phrases.count(2, "search", "searches"), "2 searches"),
        (phrases.listing([]), ""),
        (phrases.listing(["a"]), "a"),
        (phrases.listing(["a", "b"]), "a and b"),
        (phrases.listing(["a", "b", "c"]), "a, b and c"),
        (phrases.sentence_case("loss on CIFAR"), "Loss on CIFAR"),
        (phrases.difference(schema.TEST_ACCURACY, -0.01), "−1.00 pp"),
        (phrases.difference(schema.TEST_LOSS, 0.5), "+0.500"),
    ],
)
def test_it_is_said_so(said: str, words: str) -> None:
    assert said == words
