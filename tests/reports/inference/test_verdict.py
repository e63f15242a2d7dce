"""Verdicts of planted effects, their corrections, and how they are worded."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cifar_ablations.ablations import schema
from cifar_ablations.reports.inference import mechanisms, verdict
from cifar_ablations.reports.inference.arms import arm_table, placements
from cifar_ablations.reports.wording import answer, phrases


def frame(plan, values):
    """Runs from {arm: accuracies by seed}; None is a run that is missing."""
    rows = [
        {
            "arm": arm,
            "seed": seed,
            "outcome": schema.FINISHED,
            "converged": True,
            schema.TEST_ACCURACY: value,
            schema.GENERALISATION_GAP: 0.1,
            schema.SECONDS: 1.0,
        }
        for arm, accuracies in values.items()
        for seed, value in enumerate(accuracies)
        if value is not None
    ]
    return pd.DataFrame(rows)


def one_claim(plan, seeds=12, sign=1):
    return of_claims(plan, replace(plan.claims[0], sign=sign), seeds=seeds)


def of_claims(plan, *claims, seeds=12):
    return replace(plan, claims=claims, seeds=tuple(range(seeds)))


def worded(plan, runs):
    return phrases.with_sentences(plan, verdict.judge(plan, runs))


WOBBLE = 0.001 * np.array([1, -1, 2, -2, 0, 1, -1, 2, -2, 0, 1, -1])


def judged(plan, effect, spread=1.0, sign=1, n=12):
    control = 0.7 + 0.02 * np.sin(np.arange(n))
    runs = frame(plan, {"full recipe": control + effect + spread * WOBBLE[:n], "without dropout": control})
    return worded(one_claim(plan, sign=sign), runs).iloc[0]


@pytest.mark.parametrize(
    ("effect", "spread", "sign", "expected", "negligible"),
    [
        (0.05, 1, 1, "supported", False),
        (0.05, 1, -1, "refuted", False),
        (-0.05, 1, -1, "supported", False),
        (0.0001, 1, 1, "equivalent", False),
        (0.002, 0.5, 1, "supported", True),
        (0.002, 0.5, -1, "refuted", True),
        (0.01, 20, 1, "inconclusive", False),
    ],
)
def test_verdicts(plan, effect, spread, sign, expected, negligible):
    row = judged(plan, effect, spread, sign)
    assert (row["verdict"], row["negligible"], row["n"], row["exploratory"]) == (expected, negligible, 12, False)
    assert row["sentence"].startswith(expected.upper())
    assert ("real but negligible" in row["sentence"]) == negligible


def test_wording(plan):
    row = judged(plan, 0.05)
    assert row["sentence"] == (
        f"SUPPORTED: +5.00 pp [{100 * row['low']:.2f}, {100 * row['high']:.2f}], 12 paired seeds, Holm p < .001; "
        "in 3 epochs on 5,000 images."
    )
    assert "EQUIVALENT within ±0.5 pp (not 'no effect'): +0.01 pp [−0.08, 0.10]" in judged(plan, 0.0001)["sentence"]
    unclear = judged(plan, 0.01, 20)
    assert f"detectable at this n: {100 * unclear['detectable']:.2f} pp" in unclear["sentence"]
    assert f"about {int(unclear['seeds_needed'])} seeds needed for 0.5 pp" in unclear["sentence"]
    assert "(the claim says −)" in judged(plan, 0.05, sign=-1)["sentence"]


def test_detectable_is_at_the_upper_limit_of_the_spread(plan):
    row = judged(plan, 0.01, 20, n=5)
    sd = (20 * WOBBLE[:5]).std(ddof=1)
    assert row["sd"] == pytest.approx(sd)
    assert row["detectable"] == pytest.approx(1.682 * sd * math.sqrt(4 / stats.chi2.ppf(0.05, 4)), rel=1e-3)
    assert row["exploratory"]


def test_holm_is_within_families(plan, runs):
    table = verdict.judge(plan, runs).set_index(["family", "technique"])
    family = table.loc["test accuracy in the full recipe"]
    small, large = sorted(family["p"])
    assert sorted(family["p_holm"]) == pytest.approx([2 * small, max(2 * small, large)])
    assert family["p_holm"].max() > family["p"].min()
    alone = table.loc[("the generalisation gap in the full recipe", "dropout")]
    assert alone["p_holm"] == pytest.approx(alone["p"])


def test_holm_decides(plan):
    """A p-value between alpha / 2 and alpha: no verdict in a family of two, one in a family of its own."""
    control = 0.7 + 0.01 * np.cos(np.arange(12))
    effect = stats.t.ppf(1 - 0.035 / 2, 11) * WOBBLE.std(ddof=1) / math.sqrt(12)
    nearly = control + effect + WOBBLE - WOBBLE.mean()
    runs = frame(plan, {"full recipe": nearly, "without dropout": control, plan.arms[2].name: control})
    tight = replace(one_claim(plan), rule=replace(plan.rule, margin=1e-6))
    assert verdict.judge(tight, runs)["verdict"].to_list() == ["supported"]
    both = replace(tight, claims=(plan.claims[0], replace(plan.claims[2], sign=-1)))
    assert verdict.judge(both, runs)["p"].to_list() == pytest.approx([0.035, 0.035])
    assert verdict.judge(both, runs)["verdict"].to_list() == ["inconclusive", "inconclusive"]


def test_planted_effect_from_the_frame(plan, runs):
    table = verdict.judge(plan, runs)
    first = table.iloc[0]
    wide = runs.pivot(index="seed", columns="arm", values=schema.TEST_ACCURACY)
    expected = stats.ttest_rel(wide["full recipe"], wide["without dropout"])
    assert first["p"] == pytest.approx(expected.pvalue)
    assert (first["low"], first["high"]) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert first["verdict"] == "supported"
    assert first["low"] < 0.06 < first["high"]


def test_incomplete_and_diverged_seeds(plan, runs):
    last = verdict.judge(plan, runs).iloc[3]
    assert (last["n"], last["planned"]) == (5, 6)  # one arm lacks a seed
    assert (last["treatment_diverged"], last["control_diverged"]) == (0, 1)
    wide = runs.pivot(index="seed", columns="arm", values=schema.TEST_ACCURACY).dropna()
    assert wide.loc[2, "bare recipe"] == 0.1
    assert last["difference"] == pytest.approx((wide["only dropout"] - wide["bare recipe"]).mean())


@pytest.mark.parametrize("n", [0, 1])
def test_not_enough_seeds(plan, n):
    runs = frame(plan, {"full recipe": [0.7, 0.8], "without dropout": [0.6] * n + [None]})
    if n == 0:
        runs = runs.iloc[:0]
    found = worded(one_claim(plan), runs)
    assert found.iloc[0]["reason"] == verdict.TOO_FEW
    assert found.iloc[0]["sentence"] == f"INCONCLUSIVE: not enough seeds yet ({n} of 12 paired)."
    assert answer.headlines(plan, found) == [
        "In the full recipe, no technique has a resolved effect on test accuracy yet (1 claim)."
    ]


def test_no_spread_is_no_verdict(plan):
    runs = frame(plan, {"full recipe": [0.7, 0.72], "without dropout": [0.6, 0.62]})
    row = worded(one_claim(plan, 2), runs).iloc[0]
    assert row["reason"] == verdict.NO_SPREAD
    assert row["sentence"] == "INCONCLUSIVE: the difference is +10.00 pp on each of 2 seeds, so no test applies."
    assert row[["low", "high", "p", "detectable", "seeds_needed"]].isna().all()


def test_all_diverged_is_no_verdict(plan):
    runs = frame(plan, {"full recipe": [0.1] * 3, "without dropout": [0.1] * 3}).assign(converged=False)
    row = worded(one_claim(plan, 3), runs).iloc[0]
    assert (row["verdict"], row["reason"]) == ("inconclusive", verdict.ALL_DIVERGED)
    assert row["sentence"] == "INCONCLUSIVE: every run of both arms diverged (3 seeds)."


def test_unknown_rule_is_refused(plan, runs):
    with pytest.raises(ValueError, match=r"'techniques' asks for test 'Welch'"):
        verdict.judge(replace(plan, rule=replace(plan.rule, test="Welch")), runs)


def test_arm_table_in_plain_pandas(plan, runs):
    table = arm_table(plan, runs).set_index("arm")
    grouped = runs.groupby("arm")[schema.TEST_ACCURACY].agg(["mean", "std", "count"]).loc[table.index]
    np.testing.assert_allclose(table[["accuracy", "accuracy_std", "n"]], grouped)
    half = stats.t.ppf(0.975, grouped["count"] - 1) * grouped["std"] / np.sqrt(grouped["count"])
    np.testing.assert_allclose(table["high"] - table["accuracy"], half)
    bare = table.loc["bare recipe"]
    assert (bare["diverged"], bare["n"]) == (1, 6)
    assert (bare["diverged_low"], bare["diverged_high"]) == pytest.approx(
        (stats.beta.ppf(0.025, 1, 6), stats.beta.ppf(0.975, 2, 5))
    )
    converged = runs[(runs["arm"] == "bare recipe") & runs["converged"]]
    assert bare["converged_accuracy"] == pytest.approx(converged[schema.TEST_ACCURACY].mean())
    assert arm_table(plan, runs.iloc[:0])["n"].to_list() == [0] * 5


def test_headline_and_strength(plan, runs):
    verdicts = worded(plan, runs)
    headlines = answer.headlines(plan, verdicts)
    assert headlines[0].startswith("In the full recipe, dropout raises test accuracy; ")
    assert headlines[1] == "On its own, no technique has a resolved effect on test accuracy yet (1 claim)."
    strength = answer.strength(plan, verdicts)
    assert strength.startswith("Preliminary: 5 to 6 of 6 paired seeds so far.")
    complete = answer.strength(plan, verdicts.assign(n=6))
    assert complete.startswith("Exploratory: 6 paired seeds, fewer than the 10 that this plan asks for")
    found = answer.by_technique(plan, verdicts)[0]
    assert found["title"] == "Dropout"
    first = verdicts.iloc[0]
    assert found["findings"][0]["clause"] == f"In the full recipe it raises test accuracy: {phrases.effect(first)}"


def test_reference_falls_inside_or_outside(plan, runs):
    values = runs.loc[runs["arm"] == "full recipe", schema.TEST_ACCURACY]
    half = stats.t.ppf(0.975, 5) * values.std() * math.sqrt(1 + 1 / 6)
    for value, word in ((values.mean() + 0.9 * half, "inside"), (values.mean() - 1.1 * half, "outside")):
        reference = replace(plan.references[0], value=value)
        placed = placements(replace(plan, references=(reference,)), runs)
        (sentence,) = answer.of_references(plan, placed)
        assert f"falls {word} the range {phrases.interval(values.mean() - half, values.mean() + half)}" in sentence
        assert f"{(values > value).sum()} of 6 seeds lie above it" in sentence
    (sentence,) = answer.of_references(plan, placements(plan, runs[runs["seed"] == 0]))
    assert "cannot be placed yet: 1 of 6 runs" in sentence


def test_numbers_in_words():
    assert [phrases.p_value(p) for p in (0.0004, 0.0371, 1.0, math.nan)] == ["< .001", "= .037", "= 1", "–"]
    assert [phrases.points(x) for x in (0.0042, -0.0042, -0.00001, math.nan)] == ["+0.42", "−0.42", "0.00", "–"]
    assert phrases.interval(-0.0007, 0.0027) == "[−0.07, 0.27]"
    assert [phrases.listing(x) for x in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
    assert [phrases.duration(x) for x in (8.2, 70, 600, 9000, math.nan)] == ["8.2 s", "70 s", "10.0 min", "2.5 h", "–"]
    assert phrases.margin(0.0025) == "±0.25 pp"


def test_a_claim_about_a_norm_is_judged_in_its_own_unit_and_has_no_margin(plan):
    claim = replace(plan.claims[0], metric=schema.WEIGHT_NORM, sign=-1)
    control = 40 + np.arange(12.0)
    runs = pd.concat(
        [
            frame(plan, {"full recipe": [0.5] * 12}).assign(**{schema.WEIGHT_NORM: control - 3 + 100 * WOBBLE}),
            frame(plan, {"without dropout": [0.5] * 12}).assign(**{schema.WEIGHT_NORM: control}),
        ]
    )
    row = worded(of_claims(plan, claim), runs).iloc[0]
    assert row["verdict"] == "supported"
    assert math.isnan(row["margin"])
    assert math.isnan(row["tost_p"])
    test = stats.ttest_1samp(-3 + 100 * WOBBLE, 0)
    assert row["p"] == pytest.approx(test.pvalue)
    interval = test.confidence_interval()
    assert f"−3.00 [−{-interval.low:.2f}, −{-interval.high:.2f}], 12 paired seeds" in row["sentence"]
    assert "pp" not in row["sentence"]


def test_a_difference_of_differences(plan):
    claim = replace(plan.claims[0], beyond=("only dropout", "bare recipe"))
    base = 0.5 + 0.01 * np.arange(12)
    values = {
        "full recipe": base + 0.08 + WOBBLE,
        "without dropout": base,
        "only dropout": base + 0.03 - WOBBLE,
        "bare recipe": base,
    }
    row = verdict.judge(of_claims(plan, claim), frame(plan, values)).iloc[0]
    assert row["difference"] == pytest.approx(0.05)
    assert row["p"] == pytest.approx(stats.ttest_1samp(0.05 + 2 * WOBBLE, 0).pvalue)
    assert row["verdict"] == "supported"


@pytest.mark.parametrize(
    ("loss", "expected"), [(0.0, "supported"), (0.002, "supported"), (0.02, "refuted"), (0.005, "inconclusive")]
)
def test_a_claim_that_nothing_is_lost_allows_the_margin(plan, loss, expected):
    claim = replace(plan.claims[0], allowed=True)
    control = 0.7 + 0.02 * np.sin(np.arange(12))
    runs = frame(plan, {"full recipe": control - loss + WOBBLE, "without dropout": control})
    row = worded(of_claims(plan, claim), runs).iloc[0]
    assert row["p"] == pytest.approx(stats.ttest_1samp(0.005 - loss + WOBBLE, 0).pvalue)
    assert row["verdict"] == expected
    if expected == "supported":
        assert "no loss of more than 0.5 pp" in row["sentence"]


def test_mechanisms_stand_beside_in_their_units(plan):
    runs = frame(plan, {"full recipe": [0.6, 0.7], "without dropout": [0.5, 0.5]})
    runs = runs.assign(**{schema.WEIGHT_NORM: [10.0, 20.0, 30.0, 50.0]})
    row = {"mechanism": (schema.WEIGHT_NORM, schema.TEST_ACCURACY, "unknown"), "treatment": "full recipe"}
    clauses = answer.mechanism(mechanisms.means(row | {"control": "without dropout"}, runs))
    assert clauses == ["the weight norm 40.0 → 15.0", "test accuracy 50.00 → 65.00"]


def test_a_ledger_is_counted_and_names_what_went_the_other_way(plan):
    verdicts = verdict.judge(plan, frame(plan, {"full recipe": [0.6, 0.7], "without dropout": [0.5, 0.5]}))
    verdicts["verdict"] = ["supported", "refuted", "supported", "inconclusive"]
    said = answer.of_ledger(plan, verdicts)
    assert said[0].startswith("Of the notebook's 4 statements, in 3 epochs on 5,000 images, 2 are supported")
    assert "2 are supported, 1 is refuted, none is equivalent and 1 is inconclusive" in said[0]
    assert verdicts["statement"][1] in said[1]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1234.5, "1234"), (12.345, "12.3"), (-0.012345, "−0.0123"), (1e-9, "0.000000"), (math.nan, "–")],
)
def test_three_significant_digits(value, text):
    assert phrases.significant(value) == text
