"""What a mistyped name is answered with."""

from __future__ import annotations

import pytest

from cifar_ablations.ablations import naming
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import did_you_mean


def test_a_near_name_is_offered_before_all_of_them() -> None:
    assert did_you_mean("dropuot", ["mixup", "dropout"]) == "; did you mean dropout? Known: mixup, dropout."


def test_without_a_near_name_all_are_listed() -> None:
    assert did_you_mean("zzz", iter(["mixup", "dropout"])) == ". Known: mixup, dropout."


def test_at_most_three_are_offered_the_nearest_first() -> None:
    said = did_you_mean("aaaa", ["aabb", "aaab", "aaaac", "aaba", "aaaa"])
    offered = said.partition("did you mean ")[2].partition("?")[0].split(" or ")
    assert len(offered) == 3
    assert offered[:2] == ["aaaa", "aaaac"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "x must be at least 1, not 0"),
        (-(10**20), "x must be at least 1, not -1.000e+20"),
        (11, "x must be at most 10, not 11"),
        (10**400, "x must be at most 10, not a number of over 300 digits"),
    ],
)
def test_a_number_out_of_range_is_named_with_what_is_allowed(value: int, said: str) -> None:
    naming.check_range("x", 1, 1, 10)
    naming.check_range("x", 10, 1, 10)
    with pytest.raises(AblateError) as error:
        naming.check_range("x", value, 1, 10)
    assert str(error.value) == said


def test_a_long_value_is_cut() -> None:
    assert naming.shown("abc") == "'abc'"
    assert naming.shown("9" * 5_000) == "'" + "9" * 59 + "… (5002 signs)"
