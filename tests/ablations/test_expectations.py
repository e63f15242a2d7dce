"""Expectations: what a file may say, which claim is meant, and when it holds."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_ablations.ablations import expectations, schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.expectations import (
    EFFECTS,
    EQUIVALENT,
    FAILS,
    HIGHER,
    HOLDS,
    INCONCLUSIVE,
    LOWER,
    OPEN,
    REFUTED,
    SAME,
    SUPPORTED,
    UNDECIDED,
    VERDICTS,
    Expectation,
    Found,
)
from tests.reports.conftest import small_plan

PLAN = small_plan()
FULL, WITHOUT = "full recipe", "without dropout"


def read(folder: Path, text: str) -> expectations.Expectations:
    path = folder / "expectations.toml"
    path.write_text(text, encoding="utf-8")
    return expectations.read(path)


def test_a_file_is_read(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        plan = "techniques"
        profile = "quick"
        [[expect]]
        arm = "without dropout"
        effect = "lower"
        at_least = -8
        at_most = 0.5
        [[expect]]
        claim = "dropout moves test accuracy on its own"
        verdict = "opposite found"
        [[expect]]
        arm = "without dropout"
        metric = "generalisation_gap"
        effect = "not lower"
        """,
    )
    assert (found.plan, found.profile, found.data) == ("techniques", "quick", None)
    first, second, third = found.expected
    assert (first.arm, first.metric, first.effect) == (WITHOUT, schema.TEST_ACCURACY, "lower")
    assert (first.at_least, first.at_most, first.verdict) == (-8.0, 0.5, None)
    assert (second.claim, second.verdict) == ("dropout moves test accuracy on its own", "opposite found")
    assert third.metric == schema.GENERALISATION_GAP
    assert first.where.endswith("expectations.toml, expectation 1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expects nothing: it has no table [[expect]]"),
        ("[[expect", "is not TOML"),
        ("\x00", "is not TOML"),
        ('plna = "techniques"', "no key 'plna'; did you mean plan?"),
        ("plan = 3", "plan must be text in quotation marks, not 3"),
        ("[expect]\narm = 'a'", "an expectation begins with [[expect]], in double brackets"),
        ("expect = [1]", "an expectation begins with [[expect]], in double brackets"),
        ("[[expect]]\neffect = 'lower'", "expectation 1: it names an arm, or a claim by its number or statement"),
        ("[[expect]]\narm = 'a'\nclaim = 1\neffect = 'lower'", "and not both"),
        ("[[expect]]\narm = 'a'", "expectation 1 expects nothing: give effect, verdict, at_least or at_most"),
        ("[[expect]]\narm = 'a'\nefect = 'lower'", "no key 'efect'; did you mean effect"),
        ("[[expect]]\narm = 1\neffect = 'lower'", "arm must be text in quotation marks, not 1"),
        ("[[expect]]\narm = 'a'\neffect = 'lowr'", "no effect 'lowr'; did you mean lower"),
        ("[[expect]]\nclaim = 1\nverdict = 'suported'", "no verdict 'suported'; did you mean supported"),
        ("[[expect]]\nclaim = true\nverdict = 'supported'", "claim is a claim's number or its statement, not True"),
        ("[[expect]]\narm = 'a'\nverdict = 'supported'", "verdict goes with claim; of an arm, expect an effect"),
        ("[[expect]]\nclaim = 1\nmetric = 'test_loss'\neffect = 'lower'", "metric goes with arm; a claim has its own"),
        ("[[expect]]\narm = 'a'\nmetric = 'test_acuracy'\neffect = 'lower'", "no metric 'test_acuracy'; did you mean"),
        ("[[expect]]\narm = 'a'\nat_least = '1'", "at_least must be a number, not '1'"),
        ("[[expect]]\narm = 'a'\nat_least = nan", "at_least must be a number, not nan"),
        ("[[expect]]\narm = 'a'\nat_most = true", "at_most must be a number, not True"),
        ("[[expect]]\narm = 'a'\nat_least = 2\nat_most = 1", "at_least is above at_most"),
    ],
)
def test_what_is_wrong_with_a_file_is_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(AblateError) as error:
        read(tmp_path, text)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert "expectations.toml" in str(error.value)


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none.toml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(AblateError, match=why):
            expectations.read(path)
    (tmp_path / "latin.toml").write_bytes(b"plan = '\xe9'")
    with pytest.raises(AblateError, match="is not TOML"):
        expectations.read(tmp_path / "latin.toml")


def test_an_arm_is_found_on_either_side_of_a_claim() -> None:
    one = expectations.placed(Expectation("1", arm=WITHOUT, effect="lower"), PLAN)
    assert (one.number, one.turned, one.arm, one.against) == (1, True, WITHOUT, FULL)
    same = expectations.placed(Expectation("1", arm=FULL, against=WITHOUT, effect="higher"), PLAN)
    assert (same.number, same.turned, same.arm, same.against) == (1, False, FULL, WITHOUT)
    gap = expectations.placed(Expectation("1", arm=WITHOUT, metric=schema.GENERALISATION_GAP, effect="lower"), PLAN)
    assert (gap.number, gap.turned) == (2, True)
    numbered = expectations.placed(Expectation("1", claim=4, verdict="supported"), PLAN)
    assert numbered.claim is PLAN.claims[3]
    stated = expectations.placed(Expectation("1", claim=PLAN.claims[2].statement, verdict="supported"), PLAN)
    assert stated.number == 3


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"arm": "witout dropout"}, "no arm 'witout dropout'; did you mean without dropout"),
        ({"arm": FULL}, "2 claims compare 'full recipe' in test accuracy; name the other arm with against"),
        (
            {"arm": FULL, "against": "bare recipe"},
            "no claim compares 'full recipe' with 'bare recipe' in test",
        ),
        ({"arm": FULL, "against": FULL}, "no claim compares 'full recipe' with 'full recipe'"),
        ({"arm": FULL, "against": "bear recipe"}, "no arm 'bear recipe'; did you mean bare recipe"),
        (
            {"arm": FULL, "metric": schema.TEST_LOSS},
            "claims nothing about test loss; it claims about test/accuracy",
        ),
        ({"claim": 5}, "no claim 5; plan 'techniques' has claims 1 to 4"),
        ({"claim": 0}, "no claim 0; plan 'techniques' has claims 1 to 4"),
        (
            {"claim": "dropout moves test accuracy"},
            "no claim 'dropout moves test accuracy'; did you mean dropout",
        ),
    ],
)
def test_what_no_claim_of_the_plan_is_about_is_a_sentence(asked: dict, said: str) -> None:
    with pytest.raises(AblateError) as error:
        expectations.placed(Expectation("1", effect="lower", **asked), PLAN)
    assert said in str(error.value)


def test_a_claim_that_allows_a_loss_has_no_direction() -> None:
    plan = replace(PLAN, claims=(replace(PLAN.claims[0], allowed=True), *PLAN.claims[1:]))
    with pytest.raises(AblateError, match="its effect has no direction; expect a verdict"):
        expectations.placed(Expectation("1", claim=1, effect="lower"), plan)
    assert expectations.placed(Expectation("1", claim=1, verdict="supported"), plan).number == 1
    with pytest.raises(AblateError, match="no claim compares"):
        expectations.placed(Expectation("1", arm=WITHOUT, effect="lower"), plan)


WAYS = {HIGHER: 1, LOWER: -1, SAME: 0}
DECIDED = [SUPPORTED, REFUTED, EQUIVALENT]


def found(verdict: str = INCONCLUSIVE, way: str = OPEN, low: float = math.nan, high: float = math.nan) -> Found:
    return Found(verdict, way, low, high)


@pytest.mark.parametrize("effect", EFFECTS)
def test_an_effect_holds_or_not_as_its_words_say(effect: str) -> None:
    negated, word = effect.startswith("not "), effect.removeprefix("not ")
    for way in WAYS:
        holds = (way == word) != negated
        outcome = expectations.judged(Expectation("1", effect=effect), found(way=way))
        assert outcome == (HOLDS if holds else FAILS)
    assert expectations.judged(Expectation("1", effect=effect), found(way=OPEN)) == UNDECIDED


def test_a_verdict_holds_or_not_as_its_words_say() -> None:
    named = {"supported": {SUPPORTED}, "refuted": {REFUTED}, "opposite found": {REFUTED}, "equivalent": {EQUIVALENT}}
    named["not refuted"] = {SUPPORTED, EQUIVALENT}
    assert set(VERDICTS) == set(named)
    for word, legal in named.items():
        for verdict in DECIDED:
            outcome = expectations.judged(Expectation("1", verdict=word), found(verdict))
            assert outcome == (HOLDS if verdict in legal else FAILS)
        assert expectations.judged(Expectation("1", verdict=word), found()) == UNDECIDED


numbers = st.floats(-100, 100)


@given(st.tuples(numbers, numbers).map(sorted), numbers)
def test_a_bound_is_about_the_whole_interval(interval: list[float], bound: float) -> None:
    """It holds where no point of the interval breaks it, fails where all do, and is undecided between."""
    low, high = interval
    for name, breaks in (("at_least", lambda point: point < bound), ("at_most", lambda point: point > bound)):
        outcome = expectations.judged(Expectation("1", **{name: bound}), found(low=low, high=high))
        broken = [breaks(low), breaks(high)]
        expected = FAILS if all(broken) else HOLDS if not any(broken) else UNDECIDED
        assert outcome == expected, (low, high, bound)


@given(st.sampled_from(list(EFFECTS)), st.sampled_from([*WAYS, OPEN]), st.tuples(numbers, numbers).map(sorted), numbers)
def test_parts_of_an_expectation_must_hold_together(effect: str, way: str, interval: list[float], bound: float) -> None:
    there = found(way=way, low=interval[0], high=interval[1])
    parts = [
        expectations.judged(Expectation("1", effect=effect), there),
        expectations.judged(Expectation("1", at_least=bound), there),
    ]
    both = expectations.judged(Expectation("1", effect=effect, at_least=bound), there)
    assert both == expectations.together(parts)
    assert both == (FAILS if FAILS in parts else UNDECIDED if UNDECIDED in parts else HOLDS)


def test_nothing_is_decided_while_runs_are_missing_or_there_is_no_interval() -> None:
    missing = replace(found(SUPPORTED, HIGHER, 1.0, 2.0), held_back=True)
    asked = Expectation("1", verdict="supported", effect="higher", at_least=0.0)
    assert expectations.judged(asked, missing) == UNDECIDED
    assert expectations.judged(asked, replace(missing, held_back=False)) == HOLDS
    assert expectations.judged(Expectation("1", at_most=0.0), found()) == UNDECIDED


def test_without_a_file_every_claim_is_expected_to_be_supported() -> None:
    own = expectations.of_claims(PLAN)
    assert [expectations.placed(one, PLAN).number for one in own.expected] == [1, 2, 3, 4]
    assert {one.verdict for one in own.expected} == {"supported"}
