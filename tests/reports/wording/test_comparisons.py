"""What is said of two plans side by side: first what both have, and never more than the runs allow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cifar_ablations.reports.inference import joined
from cifar_ablations.reports.wording import comparisons
from tests.reports.conftest import small_plan
from tests.reports.inference.test_joined import renamed, side, sized


def said(one, other):
    return comparisons.sentences(one, other, joined.join(one, other))


def test_the_first_sentence_counts_claims_and_verdicts_and_the_second_names_what_differs():
    one, other = side(seed=1), side(seed=2, ids="b", shift=0.1, seeds=range(50, 56))
    first, second = said(one, other)
    assert first == "Both have 4 claims: 2 have the same verdict, open on both sides; 2 have another."
    assert second.startswith("2 of 4 effects differ beyond chance: ")
    assert "dropout moves test accuracy in the full recipe (B − A +9." in second
    assert ", p < .001)" in second
    fewer = side(replace(small_plan(), claims=small_plan().claims[:1]), seed=1)
    assert said(fewer, other)[0] == "Both have 1 claim (of 1 and 4): none have the same verdict."
    assert said(fewer, other)[1].startswith("1 of 1 effect differs beyond chance: dropout moves test accuracy")


def test_no_difference_found_is_not_called_none():
    first, second = said(side(seed=1), side(seed=2, ids="b", seeds=range(50, 56)))
    assert first == "Both have 4 claims: all have the same verdict, open on both sides."
    assert second.startswith(
        "No effect differs beyond chance, which does not mean that they are the same: in test accuracy the intervals "
        "of B − A typically reach 1."
    )


def test_one_result_shown_or_made_twice_is_not_called_agreement():
    one = side(seed=1)
    assert said(one, one)[1] == "They rest on the same runs: this is one result shown twice, not two that agree."
    again = replace(one, runs=one.runs.assign(run_id="z" + one.runs["run_id"]))
    assert said(one, again)[1].startswith("All runs were trained again with equal results: this is one result made")
    few = side(seed=1, seeds=(0, 1, 2))
    shared = replace(few, runs=one.runs[one.runs["seed"] < 3])
    assert said(one, shared)[1:] == [
        "4 claims are not compared, for some of the runs are in both, or were trained again with equal results.",
    ]


@pytest.mark.exhaustive
def test_too_few_runs_other_images_budgets_and_looks_are_said():
    one = side(seed=1, seeds=(0, 1))
    assert said(one, side(seed=2, ids="b", seeds=range(50, 56)))[-1] == (
        "No effects are called different where an arm has fewer than 3 runs: so for all of them."
    )
    drawn = replace(small_plan(), data=replace(small_plan().data, name="digits", digest="ee"))
    assert said(side(), side(drawn))[-1] == "The images are others: cifar10 (aa11bb22cc33dd44) and digits (ee)."
    long, short = sized(small_plan(), "a", train_images=45_000), sized(small_plan(), "b", train_images=2_000)
    assert said(side(long), side(short))[-1] == (
        "The budgets are others, and recipes are joined by the settings of their techniques: training images "
        "45,000 and 2,000."
    )
    looking = replace(small_plan(), rule=replace(small_plan().rule, looks=(3, 6)))
    one_seed = said(side(seeds=(0,)), side(seed=2, ids="b", seeds=range(50, 56)))
    assert one_seed[1] == "No difference of effects can be tested: an arm has a single run, or nothing varies."
    assert any("Looks decided how many seeds" in sentence for sentence in said(side(looking), side(ids="b")))


def test_nothing_in_common_is_said_plainly():
    plan = small_plan()
    arms = tuple(replace(arm, digest=f"f{arm.digest[1:]}") for arm in plan.arms)
    assert said(side(), side(replace(plan, arms=arms))) == [
        "The two have nothing in common: no recipe is in both, and no claim. What each has stands below."
    ]
    few = replace(plan, claims=(), arms=plan.arms[:1])
    assert said(side(), side(few))[0] == "The two have no claim in common; 1 arm is in both."


@pytest.mark.parametrize("relation", [*joined.TESTED, joined.PART, joined.EQUAL, joined.SAME])
def test_every_relation_of_runs_has_words(relation):
    assert comparisons.HOW[relation]


def test_knobs_are_called_by_their_own_name_with_both_values():
    told = comparisons.knobs({"dropout.p": (0.5, 0.3), "model.width": (1.0, 0.25), "noise.s": (None, "x")})
    assert told == "dropout.p 0.5 and 0.3, network width 1 and 0.25, noise.s not said and x"


def test_names_do_not_matter():
    plan = renamed(small_plan(), a0="baseline")
    assert said(side(seed=1), side(plan, ids="b", seeds=range(50, 56)))[0].startswith("Both have 4 claims: ")
