"""What a mistyped name is answered with."""

from __future__ import annotations

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
