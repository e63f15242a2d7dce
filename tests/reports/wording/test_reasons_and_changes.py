"""Why a claim has no answer, what changed between two plans, and where runs come from: codes and numbers in words."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import ArmRecord, RuleRecord
from cifar_ablations.reports.inference import registration, statistics, verdict
from cifar_ablations.reports.wording import answer, phrases


def full_and_without(runs):
    return runs["arm"].isin(["full recipe", "without dropout"])


def diverged(runs, arms=("full recipe", "without dropout")):
    lost = runs["arm"].isin(arms)
    found = runs.assign(converged=runs["converged"] & ~lost)
    found.loc[lost, [schema.TEST_ACCURACY, schema.GENERALISATION_GAP]] = math.nan
    return found


def alike(runs):
    """The two arms without spread, and no others, whose typical spread would stand in for theirs."""
    runs = runs[full_and_without(runs)]
    accuracy = runs[schema.TEST_ACCURACY].where(~full_and_without(runs), 0.5 + 0.1 * (runs["arm"] == "full recipe"))
    return runs.assign(**{schema.TEST_ACCURACY: accuracy})


def first_seeds(many):
    return lambda runs: runs[runs["seed"] < many]


@pytest.mark.parametrize(
    ("changes", "shape", "reason", "words"),
    [
        (
            {},
            first_seeds(1),
            verdict.UNFINISHED,
            "runs are missing (1 against 1 have ended)",
        ),
        ({"seeds": (0, 1)}, first_seeds(2), verdict.TOO_FEW, "too few seeds for verdicts (2)"),
        ({}, diverged, verdict.NOTHING_LEFT, "no runs to compare: 6 of 6 runs diverged, against 6 of 6"),
        (
            {},
            alike,
            verdict.NO_SPREAD,
            "the difference is +10.00 pp and nothing varies over 6 against 6 runs, so no test applies",
        ),
        ({"looks": (5, 6)}, first_seeds(3), verdict.NOT_REACHED, "the first look, at 5 seeds, has not been reached"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_reason_is_worded(plan, runs, changes, shape, reason, words):
    rule = replace(plan.rule, looks=changes.get("looks", ()))
    asked = replace(plan, rule=rule, seeds=changes.get("seeds", plan.seeds))
    judged = verdict.judge(asked, shape(runs))
    assert judged["reason"].iloc[0] == reason
    assert not {"sentence", "scope", "obstacle"} & set(judged), "inference words nothing"
    row = phrases.with_sentences(asked, judged).iloc[0].to_dict()
    assert row["sentence"] == f"Open: {words}."


def test_a_reason_of_unequal_divergence_is_worded(plan, runs):
    claim = replace(plan.claims[0], metric=schema.ENTROPY)
    lost = runs["arm"].eq("full recipe") & runs["seed"].eq(0)
    some = runs.assign(converged=runs["converged"] & ~lost)
    some[schema.ENTROPY] = np.random.default_rng(0).normal(1, 0.1, len(runs))
    some.loc[lost, schema.ENTROPY] = math.nan
    asked = replace(plan, claims=(claim,))
    row = phrases.with_sentences(asked, verdict.judge(asked, some)).iloc[0].to_dict()
    assert row["reason"] == verdict.LOST
    lost_one = "1 of 6 runs diverged, against 0 of 6, and a side that lost runs is not called better"
    assert row["obstacle"] == f"{lost_one}, whatever the others show"


def test_runs_that_lack_a_metric_are_named_also_where_none_diverged(plan, runs):
    claim = replace(plan.claims[0], metric=schema.GENERALISATION_GAP, sign=-1)
    some, full = runs.copy(), runs["arm"].eq("full recipe")
    some[schema.GENERALISATION_GAP] = 0.2 - 0.1 * full + 0.001 * runs["seed"]
    some.loc[full & runs["seed"].lt(3), schema.GENERALISATION_GAP] = math.nan
    asked = replace(plan, claims=(claim,))
    row = phrases.with_sentences(asked, verdict.judge(asked, some)).iloc[0].to_dict()
    assert row["reason"] == verdict.LOST
    assert row["obstacle"].startswith("3 of 6 against 6 of 6 runs have the metric, and a side that lost runs")


def test_too_few_runs_are_not_said_to_be_without_spread(plan, runs):
    few = runs.copy()
    lost = runs["arm"].isin(["full recipe", "without dropout"]) & runs["seed"].gt(0)
    few.loc[lost, "converged"] = False
    few.loc[lost, [schema.TEST_ACCURACY, schema.GENERALISATION_GAP]] = math.nan
    row = phrases.with_sentences(plan, verdict.judge(plan, few)).iloc[0].to_dict()
    assert row["reason"] == verdict.FEW_LEFT
    assert row["obstacle"] == "too few runs to compare: 5 of 6 runs diverged, against 5 of 6"


def test_an_answer_has_no_obstacle(plan, runs):
    rows = phrases.with_sentences(plan, verdict.judge(plan, runs))
    missing = "runs are missing (5 against 6 have ended)"
    assert rows["obstacle"].to_list() == ["", "", "", missing]
    assert set(rows["scope"]) == {"in 3 epochs on 5,000 images"}
    assert rows["sentence"].str.startswith("Supported: ").iloc[0]
    assert phrases.with_sentences(replace(plan, claims=()), rows.iloc[:0]).empty


def test_a_scope_is_of_the_claims_own_arms(plan, runs):
    knobs = {"budget.epochs": 2, "budget.train_images": 100}
    arms = tuple(replace(arm, knobs=knobs | {"budget.epochs": 3 if "on" in arm.name else 2}) for arm in plan.arms)
    rows = phrases.with_sentences(replace(plan, arms=arms), verdict.judge(plan, runs))
    assert rows["scope"].iloc[0] == "in 2 epochs on 100 images"
    assert rows["scope"].iloc[3] == "in 2 to 3 epochs on 100 images"


def test_a_scope_has_the_epochs_that_were_trained(plan, runs):
    knobs = {"budget.epochs": 30, "budget.train_images": 2_000}
    factor = {plan.claims[0].treatment: 2.0}
    arms = tuple(replace(arm, knobs=knobs | {"training_length.factor": factor.get(arm.name, 1.0)}) for arm in plan.arms)
    rows = phrases.with_sentences(replace(plan, arms=arms), verdict.judge(plan, runs))
    assert rows["scope"].iloc[0] == "in 30 to 60 epochs on 2,000 images"
    assert rows["scope"].iloc[3] == "in 30 epochs on 2,000 images"


def test_changes_are_worded(plan):
    rule = replace(plan.rule, margin=0.01, looks=(5, 10, 20))
    arms = (*plan.arms[:-1], ArmRecord("another", "abcdefabcdefabcd"))
    new = replace(plan, seeds=(7,), rule=rule, arms=arms, claims=plan.claims[2:])
    assert answer.of_changes(registration.changes(plan, new)) == [
        "seeds 0 to 5, now 7",
        "the margin 0.005, now 0.01",
        "the looks none, now 5, 10 and 20",
        "1 arm dropped (only dropout [00000000])",
        "1 arm added (another [abcdefab])",
        "2 claims dropped (dropout moves test accuracy in the full recipe and dropout moves the generalisation gap in "
        "the full recipe)",
    ]
    assert answer.of_changes([]) == []


def test_of_many_names_five_are_listed(plan):
    many = tuple(ArmRecord(f"arm {i}", f"{i + 16:016x}") for i in range(9))
    (_, added) = answer.of_changes(registration.changes(plan, replace(plan, arms=many)))
    assert added.startswith("9 arms added (arm 0 [00000000], arm 1")
    assert "arm 5" not in added


def test_every_part_of_a_rule_has_a_name():
    assert set(answer.RULE) == {field.name for field in fields(RuleRecord)}


def test_sources_are_named_where_they_differ():
    sources = {"commit": Counter({"a" * 50: 2, "b": 1}), "device": Counter({"cpu": 3}), "torch": Counter(["1", "2"])}
    rounding = "rounding differs between them, which can move a run as far as another seed does"
    assert answer.of_sources(sources) == [
        f"The runs come from 2 commits: {'a' * 40} (2 runs) and b (1 run); what changed between them may be part of a "
        "difference.",
        f"The runs come from 2 versions of torch: 1 (1 run) and 2 (1 run); {rounding}.",
    ]
    mixed = {"threads": Counter({"1": 3, "2": 1}), "instructions": Counter({"AVX2": 2, "AVX512": 2})}
    assert answer.of_sources(mixed) == [
        f"The runs come from 2 numbers of threads: 1 (3 runs) and 2 (1 run); {rounding}.",
        f"The runs come from 2 sets of instructions: AVX2 (2 runs) and AVX512 (2 runs); {rounding}.",
    ]


def test_an_effect_that_is_found_is_said_to_look_too_large(plan, runs):
    rows = phrases.with_sentences(plan, verdict.judge(plan, runs))
    row = rows.iloc[0].to_dict() | {"verdict": "supported", "shrunken": 0.042, "exaggeration": 1.44}
    said = "shrunken +4.20 pp, as such an effect looks 1.4 times too large where it is found"
    assert said in phrases.verdict_sentence(row)
    assert "more than 10 times too large" in phrases.verdict_sentence(row | {"exaggeration": 30.0})
    for little in (1.01, math.nan):
        assert "too large" not in phrases.verdict_sentence(row | {"exaggeration": little})


def test_what_pairs_are_worth_is_said(plan):
    said = answer.of_correlation(plan, 0.6, 91, statistics.seeds_worth(0.6, 6))
    worth = statistics.seeds_worth(0.6, 6)
    assert said == (
        "Runs of equal seeds are compared as independent: the accuracies of two arms correlate ρ = 0.60 on average "
        f"over 91 pairs, so that pairs are worth {worth:+.1f} seeds."
    )
    assert answer.of_correlation(plan, math.nan, 0, math.nan) == ""


@pytest.mark.parametrize("count", [1, 3, 7])
def test_of_many_odd_runs_the_furthest_are_named(count):
    """The page of a large store named all 37 of them."""
    others = [0.5 + i / 100 for i in range(count)]
    odd = pd.DataFrame({"arm": "a", "seed": range(count), "accuracy": 0.4, "others": others})
    said = answer.of_odd_runs(odd)
    assert said.count("seed ") == min(count, 3)
    assert f"seed {count - 1} of 'a'" in said
    assert ("and 4 more runs." in said) == (count == 7)
    assert answer.of_odd_runs(odd.head(0)) == ""
