"""Verdicts of planted effects, their corrections, and how they are worded."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from cifar_ablations.ablations import schema
from cifar_ablations.reports.inference import mechanisms, verdict
from cifar_ablations.reports.inference.arms import arm_table, placements
from cifar_ablations.reports.wording import answer, headlines, phrases


def frame(plan, values):
    """Runs from {arm: accuracies by seed}; None is a run that is missing."""
    rows = [
        {
            "arm": arm,
            "seed": seed,
            "run_id": f"{arm} {seed}",
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


def pairwise(plan):
    """The plan as one before runs of equal seeds counted as independent, and each family had an error of its own."""
    return replace(plan, rule=replace(plan.rule, test="paired t", correction="holm"))


def rule_p(weights, arms, allowed=0.0):
    """The two-sided p of a weighted sum of arms' means, each spread raised by one pseudo-seed of the typical one."""
    n = len(arms[0])
    spreads = np.array([np.var(x, ddof=1) for x in arms])
    typical = np.median(spreads) * (n - 1) / stats.chi2.median(n - 1)
    parts = np.square(weights) * np.maximum(spreads, (typical + (n - 1) * spreads) / n) / n
    t = abs(np.dot(weights, np.mean(arms, axis=1)) + allowed) / math.sqrt(parts.sum())
    return 2 * stats.t.sf(t, parts.sum() ** 2 / (parts**2 / n).sum())


def welch_p(treatment, control, allowed=0.0):
    return rule_p([1, -1], [treatment, control], allowed)


WOBBLE = 0.001 * np.array([1, -1, 2, -2, 0, 1, -1, 2, -2, 0, 1, -1])


def arms_of(effect, spread=1.0, n=12):
    return 0.7 + effect + spread * WOBBLE[:n], 0.7 + spread * WOBBLE[:n][::-1]


def judged(plan, effect, spread=1.0, sign=1, n=12):
    treatment, control = arms_of(effect, spread, n)
    return worded(one_claim(plan, n, sign), frame(plan, {"full recipe": treatment, "without dropout": control})).iloc[0]


@pytest.mark.parametrize(
    ("effect", "spread", "sign", "expected"),
    [
        (0.05, 1, 1, "supported"),
        (0.05, 1, -1, "refuted"),
        (-0.05, 1, -1, "supported"),
        (0.0001, 1, 1, "equivalent"),
        (0.002, 0.5, 1, "supported"),
        (0.002, 0.5, -1, "refuted"),
        (0.01, 20, 1, "inconclusive"),
    ],
)
def test_verdicts(plan, effect, spread, sign, expected):
    row = judged(plan, effect, spread, sign)
    assert (row["verdict"], row["n"], row["exploratory"]) == (expected, 12, False)
    assert row["sentence"].startswith(phrases.sentence_case(phrases.LABELS[expected]))
    assert "negligible" not in row["sentence"]
    treatment, control = arms_of(effect, spread)
    assert row["p"] == pytest.approx(welch_p(treatment, control))
    assert row["p_page"] == pytest.approx(min(1, welch_p(treatment, control) * 0.05 / 0.035))
    interval = stats.ttest_ind(treatment, control, equal_var=False).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx(tuple(interval))


def test_wording(plan):
    row = judged(plan, 0.05)
    assert row["sentence"] == (
        f"Supported: +5.00 pp [{100 * row['low']:.2f}, {100 * row['high']:.2f}], 12 against 12 runs, page p < .001; "
        "in 3 epochs on 5,000 images."
    )
    same = judged(plan, 0.0001)
    numbers = f"+0.01 pp [−{-100 * same['low']:.2f}, {100 * same['high']:.2f}], 12 against 12 runs, page p < .001"
    assert f"Equivalent within ±0.5 pp (not 'no effect'): {numbers}; in 3 epochs" in same["sentence"]
    unclear = judged(plan, 0.01, 20)
    assert f"detectable at this n: {100 * unclear['detectable']:.2f} pp" in unclear["sentence"]
    assert f"about {int(unclear['seeds_needed'])} seeds needed for 0.5 pp" in unclear["sentence"]
    assert "(the claim says −)" in judged(plan, 0.05, sign=-1)["sentence"]


def test_a_verdict_has_no_columns_of_what_was_given_up(plan, runs):
    for asked in (plan, pairwise(plan)):
        assert not {"negligible", "sd", "sign_flip_p", "p_holm", "level"} & set(verdict.judge(asked, runs))


def test_what_an_old_plan_could_find_is_of_its_pairs(plan):
    treatment, control = arms_of(0.01, 20, 6)
    runs = frame(plan, {"full recipe": treatment, "without dropout": control})
    row = verdict.judge(pairwise(one_claim(plan, 6)), runs).iloc[0]
    found = row["detectable"] / (treatment - control).std(ddof=1)
    assert TTestPower().power(found, 6, 0.035) == pytest.approx(0.8, abs=1e-6)
    assert row["exploratory"]


def test_what_a_plan_could_find_is_of_independent_arms(plan):
    row = judged(plan, 0.01, 20)
    n, spread = 12, (20 * WOBBLE).var(ddof=1)  # both arms have the same, so it is raised by the bias of a median
    raised = spread * (1 / stats.chi2.median(n - 1) * (n - 1) + n - 1) / n
    shift, bound = row["detectable"] / math.sqrt(2 * raised / n), stats.t.isf(0.035 / 2, 2 * n)
    assert stats.nct.sf(bound, 2 * n, shift) == pytest.approx(0.8, abs=1e-3)


@pytest.mark.exhaustive
def test_all_claims_of_a_page_share_one_error(plan, runs):
    """Statistics, 2: Holm corrected within families, of which many had one claim. All claims count, whatever theirs."""
    whole = runs[runs["arm"] != "bare recipe"]
    claims = (*plan.claims[:3], replace(plan.claims[1], control=plan.arms[2].name, family="a family of its own"))
    asked = replace(plan, claims=claims, seeds=tuple(range(5)))
    table = verdict.judge(pairwise(asked), whole)
    wide = {name: whole.pivot(index="seed", columns="arm", values=name).iloc[:5] for name in {c.metric for c in claims}}
    p = [stats.ttest_rel(wide[c.metric][c.treatment], wide[c.metric][c.control]).pvalue for c in claims]
    np.testing.assert_allclose(table["p"], p)
    holm = multipletests(p, method="holm")[1]
    np.testing.assert_allclose(table["p_page"], np.minimum(1, holm * 0.05 / 0.035))
    new = verdict.judge(asked, whole)
    assert (new["p_page"] >= np.minimum(1, new["p"] * 0.05 / 0.03) - 1e-12).all()


def test_the_correction_decides(plan):
    """A p-value between α / 2 and α: no verdict beside another claim, one by itself."""
    control = 0.7 + 0.01 * np.cos(np.arange(12))
    effect = stats.t.ppf(1 - 0.03 / 2, 11) * WOBBLE.std(ddof=1) / math.sqrt(12)
    nearly = control + effect + WOBBLE - WOBBLE.mean()
    runs = frame(plan, {"full recipe": nearly, "without dropout": control, plan.arms[2].name: control})
    tight = pairwise(replace(one_claim(plan), rule=replace(plan.rule, margin=1e-6)))
    assert verdict.judge(tight, runs)["verdict"].to_list() == ["supported"]
    both = replace(tight, claims=(plan.claims[0], replace(plan.claims[2], sign=-1)))
    assert verdict.judge(both, runs)["p"].to_list() == pytest.approx([0.03, 0.03])
    assert verdict.judge(both, runs)["verdict"].to_list() == ["inconclusive", "inconclusive"]


def test_planted_effect_from_the_frame(plan, runs):
    wide = runs.pivot(index="seed", columns="arm", values=schema.TEST_ACCURACY)
    for asked in (plan, pairwise(plan)):
        first = verdict.judge(asked, runs).iloc[0]
        if asked is plan:
            test = stats.ttest_ind(wide["full recipe"], wide["without dropout"], equal_var=False)
        else:
            test = stats.ttest_rel(wide["full recipe"], wide["without dropout"])
            assert first["p"] == pytest.approx(test.pvalue)
        assert (first["low"], first["high"]) == pytest.approx(tuple(test.confidence_interval(0.95)))
        assert first["low"] < 0.06 < first["high"]
        assert first["correlation"] == pytest.approx(wide["full recipe"].corr(wide["without dropout"]))
        assert first["verdict"] == "supported"


def test_a_missing_run_holds_its_claim_back_and_a_diverged_one_does_not(plan, runs):
    last = worded(plan, runs).iloc[3]
    assert (last["reason"], last["exploratory"]) == (verdict.UNFINISHED, True)
    assert (last["treatment_ended"], last["control_ended"], last["planned"]) == (5, 6, 6)
    assert last["sentence"] == "Open: runs are missing (5 against 6 have ended)."
    whole = verdict.judge(replace(plan, seeds=tuple(range(5))), runs).iloc[3]
    assert (whole["n"], whole["planned"], whole["reason"]) == (4, 5, "")
    assert (whole["treatment_diverged"], whole["control_diverged"]) == (0, 1)
    assert (whole["treatment_n"], whole["control_n"]) == (5, 4)
    values = runs[runs["seed"] < 5].groupby("arm")[schema.TEST_ACCURACY]
    means, stds = values.mean(), values.std()
    for side, arm in (("treatment", "only dropout"), ("control", "bare recipe")):
        assert (whole[f"{side}_mean"], whole[f"{side}_std"]) == pytest.approx((means[arm], stds[arm]))
    assert whole["difference"] == pytest.approx(means["only dropout"] - means["bare recipe"])


@pytest.mark.parametrize("n", [0, 1])
def test_before_all_runs_have_ended_there_is_no_verdict(plan, n):
    runs = frame(plan, {"full recipe": [0.7, 0.8], "without dropout": [0.6] * n + [None]})
    if n == 0:
        runs = runs.iloc[:0]
    found = worded(one_claim(plan), runs)
    assert found.iloc[0]["reason"] == verdict.UNFINISHED
    ended = "2 against 1" if n else "0 against 0"
    assert found.iloc[0]["sentence"] == f"Open: runs are missing ({ended} have ended)."
    assert headlines.sentences(plan, found) == ["Open: 1 of 1 claim waits for runs."]


def test_a_large_effect_is_not_called_before_its_runs_have_ended(plan):
    treatment, control = arms_of(0.2)
    runs = frame(plan, {"full recipe": treatment[:11], "without dropout": control})
    row = verdict.judge(one_claim(plan), runs).iloc[0]
    assert (row["verdict"], row["reason"], row["exploratory"]) == ("inconclusive", verdict.UNFINISHED, True)
    assert row["p_page"] < 1e-6


def test_few_seeds_are_too_few_for_verdicts(plan):
    """A page of so many claims would be wrong too often; the intervals stand."""
    arms = {arm.name: 0.7 + 0.1 * i + WOBBLE[:2] for i, arm in enumerate(plan.arms)}
    runs = frame(plan, arms)
    asked = replace(plan, seeds=(0, 1))
    assert verdict.error_rate(verdict.shape_of(asked)) > 0.05 >= verdict.error_rate(verdict.shape_of(plan))
    row = worded(asked, runs).iloc[0]
    assert (row["verdict"], row["reason"]) == ("inconclusive", verdict.TOO_FEW)
    assert row["sentence"] == "Open: too few seeds for verdicts (2)."
    interval = stats.ttest_ind(arms["full recipe"], arms["without dropout"], equal_var=False).confidence_interval(0.95)
    assert (row["low"], row["high"]) == pytest.approx(tuple(interval))


def test_no_spread_is_no_verdict(plan):
    runs = frame(plan, {"full recipe": [0.7] * 6, "without dropout": [0.6] * 6})
    row = worded(one_claim(plan, 6), runs).iloc[0]
    assert row["reason"] == verdict.NO_SPREAD
    assert row["sentence"] == (
        "Open: the difference is +10.00 pp and nothing varies over 6 against 6 runs, so no test applies."
    )
    assert row[["low", "high", "p", "detectable", "seeds_needed"]].isna().all()
    shifted = frame(plan, {"full recipe": 0.1 + WOBBLE[:6], "without dropout": WOBBLE[:6]})
    pairs = verdict.judge(pairwise(one_claim(plan, 6)), shifted).iloc[0]
    assert (pairs["verdict"], pairs["reason"]) == ("inconclusive", verdict.NO_SPREAD), "every pair differs alike"


def diverge(runs, *which):
    """The runs, of which those of the given (arm, seeds) diverged and have no numbers."""
    lost = pd.Series(False, index=runs.index)
    for arm, seeds in which:
        lost |= (runs["arm"] == arm) & runs["seed"].isin(seeds)
    numbers = [schema.TEST_ACCURACY, schema.GENERALISATION_GAP]
    found = runs.assign(converged=~lost, outcome=runs["outcome"].where(~lost, schema.DIVERGED))
    found.loc[lost, numbers] = math.nan
    return found


def test_where_all_runs_diverged_there_is_nothing_to_compare(plan):
    runs = frame(plan, {"full recipe": [0.5] * 6, "without dropout": [0.5] * 6})
    runs = diverge(runs, ("full recipe", range(6)), ("without dropout", range(6)))
    row = worded(one_claim(plan, 6), runs).iloc[0]
    assert (row["verdict"], row["reason"]) == ("inconclusive", verdict.NOTHING_LEFT)
    assert row["sentence"] == "Open: no runs to compare: 6 of 6 runs diverged, against 6 of 6."


def test_an_arm_that_never_converged_is_refuted_by_its_runs(plan):
    """Statistics, from the command line: 6 of 6 against 0 of 6 was inconclusive."""
    treatment, control = arms_of(0.0, n=6)
    runs = diverge(frame(plan, {"full recipe": treatment, "without dropout": control}), ("full recipe", range(6)))
    row = worded(one_claim(plan, 6), runs).iloc[0]
    assert (row["verdict"], row["reason"], row["counted"]) == ("refuted", "", True)
    assert row["p"] == pytest.approx(stats.fisher_exact([[6, 0], [0, 6]]).pvalue)
    assert row["sentence"] == (
        "Opposite found (the claim says +): 6 of 6 runs diverged, against 0 of 6, page p = .004; in 3 epochs on 5,000 "
        "images."
    )
    assert phrases.outcome(row) == "more diverge"


def test_a_gap_that_nobody_saw_is_not_lowered(plan):
    """Statistics, 1: with 10 of 10 dropout runs diverged, 'SUPPORTED: dropout lowers the gap, −19.40 pp'."""
    values = {"full recipe": [0.5] * 10, "without dropout": 0.7 + WOBBLE[:10]}
    runs = frame(plan, values).assign(**{schema.GENERALISATION_GAP: 0.2 + np.tile(WOBBLE[:10], 2)})
    gap = replace(plan.claims[1])
    row = worded(of_claims(plan, gap, seeds=10), diverge(runs, ("full recipe", range(10)))).iloc[0]
    assert (row["verdict"], row["reason"]) == ("inconclusive", verdict.NOTHING_LEFT)
    assert row[["difference", "low", "high", "p"]].isna().all()
    assert "no runs to compare: 10 of 10 runs diverged, against 0 of 10" in row["sentence"]
    lower = runs.assign(**{schema.GENERALISATION_GAP: np.r_[0.05 + WOBBLE[:10], 0.2 + WOBBLE[:10]]})
    some = worded(of_claims(plan, gap, seeds=10), diverge(lower, ("full recipe", range(3)))).iloc[0]
    assert (some["verdict"], some["p"]) == ("inconclusive", 1.0), "lower in the seven that are left"


def test_a_number_without_a_better_side_is_not_compared_where_divergence_is_unequal(plan):
    claim = replace(plan.claims[0], metric=schema.WEIGHT_NORM)
    treatment, control = arms_of(0.2, n=6)
    runs = frame(plan, {"full recipe": treatment, "without dropout": control})
    runs = runs.assign(**{schema.WEIGHT_NORM: 10 * runs[schema.TEST_ACCURACY]})
    lost = diverge(runs, ("full recipe", [2]))
    lost.loc[~lost["converged"], schema.WEIGHT_NORM] = math.nan
    row = worded(of_claims(plan, claim, seeds=6), lost).iloc[0]
    assert (row["verdict"], row["reason"]) == ("inconclusive", verdict.LOST)
    assert "1 of 6 runs diverged, against 0 of 6, and a side that lost runs is not called better" in row["sentence"]


def test_a_worse_outcome_strengthens_the_evidence(plan):
    """Statistics, 1: four pairs gave −5.17 pp [−9.64, −0.70], and with the diverged one at chance the page said
    −11.53 [−29.45, 6.38], inconclusive."""
    control = np.array([0.600, 0.606, 0.594, 0.603, 0.597])
    treatment = control[::-1] - 0.05 + np.array([0.004, -0.004, 0.002, -0.002, 0.0])
    runs = diverge(frame(plan, {"full recipe": treatment, "without dropout": control}), ("full recipe", [4]))
    row = worded(one_claim(plan, 5), runs).iloc[0]
    expected = stats.ttest_ind(treatment[:4], control, equal_var=False).confidence_interval(0.95)
    assert row["difference"] == pytest.approx(treatment[:4].mean() - control.mean())
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected))
    assert row["verdict"] == "refuted"
    assert "4 of 5 against 5 of 5 runs; 1 of 5 runs diverged, against 0 of 5" in row["sentence"]
    better = diverge(frame(plan, {"full recipe": treatment + 0.2, "without dropout": control}), ("full recipe", [4]))
    assert verdict.judge(one_claim(plan, 5), better).iloc[0]["verdict"] == "inconclusive"


def test_luck_with_the_seeds_does_not_outdo_the_images(plan):
    """Statistics, 4: 'Adam lowers accuracy' was called on a spread of 0.24 pp, where the images alone imply 0.55."""
    rng, images, seeds = np.random.default_rng(0), 400, 6
    rows, answers = [], {}
    for arm, share in (("full recipe", 0.62), ("without dropout", 0.60)):
        for seed in range(seeds):
            right = np.zeros(images, bool)  # always as many, of other images each time
            right[rng.permutation(images)[: round(share * images) + seed % 2]] = True
            run_id = f"{arm} {seed}"
            answers[run_id] = right
            rows.append(
                {"arm": arm, "seed": seed, "run_id": run_id, "converged": True, schema.TEST_ACCURACY: right.mean()}
            )
    runs, asked = pd.DataFrame(rows), one_claim(plan, seeds)
    unseen, seen = (verdict.judge(asked, runs, known).iloc[0] for known in (None, answers))
    assert unseen["verdict"] == "supported"
    assert (seen["verdict"], seen["difference"]) == ("inconclusive", unseen["difference"])
    floors = []
    for arm in ("full recipe", "without dropout"):
        table = pd.DataFrame({s: answers[f"{arm} {s}"].astype(float) for s in range(seeds)})
        long = table.reset_index().melt("index", var_name="seed", value_name="right")
        fit = smf.ols("right ~ C(seed) + C(index)", long).fit()
        floors.append(fit.mse_resid / images)
    half = stats.t.ppf(0.975, sum(floors) ** 2 / sum(f**2 / (seeds - 1) for f in floors)) * math.sqrt(sum(floors) / 6)
    assert (seen["low"], seen["high"]) == pytest.approx((seen["difference"] - half, seen["difference"] + half))
    assert seen["low"] < 0 < seen["high"]


def test_what_is_called_equivalent_has_an_interval_within_the_margin(plan):
    """Statistics, 9: EQUIVALENT stood beside a 95 % interval that left the margin."""
    treatment, control = arms_of(0.0)
    runs = frame(plan, {"full recipe": treatment, "without dropout": control})
    limits = {c: stats.ttest_ind(treatment, control, equal_var=False).confidence_interval(c).high for c in (0.9, 0.95)}
    for margin, expected in (((limits[0.9] + limits[0.95]) / 2, "inconclusive"), (2 * limits[0.95], "equivalent")):
        for asked in (one_claim(plan), pairwise(one_claim(plan))):
            tight = replace(asked, rule=replace(plan.rule, margin=float(margin)))
            row = verdict.judge(tight, runs).iloc[0]
            assert row["verdict"] in ("inconclusive", expected)
            assert row["verdict"] != "equivalent" or -margin < row["low"] <= row["high"] < margin
            if asked.rule.test == "welch t":
                assert row["verdict"] == expected


def test_unknown_rule_is_refused(plan, runs):
    with pytest.raises(ValueError, match=r"'techniques' asks for test 'Welch'"):
        verdict.judge(replace(plan, rule=replace(plan.rule, test="Welch")), runs)


def test_arm_table_in_plain_pandas(plan, runs):
    table = arm_table(plan, runs).set_index("arm")
    grouped = runs.groupby("arm")[schema.TEST_ACCURACY].agg(["mean", "std", "count"]).loc[table.index]
    np.testing.assert_allclose(table[["accuracy", "accuracy_std", "converged"]], grouped)
    half = stats.t.ppf(0.975, grouped["count"] - 1) * grouped["std"] / np.sqrt(grouped["count"])
    np.testing.assert_allclose(table["high"] - table["accuracy"], half)
    bare = table.loc["bare recipe"]
    assert (bare["diverged"], bare["n"]) == (1, 6)
    assert (bare["diverged_low"], bare["diverged_high"]) == pytest.approx(
        (stats.beta.ppf(0.025, 1, 6), stats.beta.ppf(0.975, 2, 5))
    )
    converged = runs[(runs["arm"] == "bare recipe") & runs["converged"]]
    assert (bare["converged"], bare["accuracy"]) == (5, pytest.approx(converged[schema.TEST_ACCURACY].mean()))
    assert arm_table(plan, runs.iloc[:0])["n"].to_list() == [0] * 5


def test_standing_and_strength(plan, runs):
    verdicts = worded(plan, runs)
    assert answer.standing(plan, verdicts) == "Preliminary: 1 of 4 claims wait for runs; 6 seeds are planned."
    strength = answer.strength(plan, verdicts, 0.03)
    assert strength[0] == (
        "The chance that any of these verdicts is wrong is at most 5 %, by simulation of such pages (3.0 % at worst, "
        "for normal and heavy-tailed noise and spreads up to fourfold apart; skewed noise errs more often); all 4 "
        "claims share it."
    )
    assert answer.standing(plan, verdicts.assign(reason="")).startswith(
        "Exploratory: 6 seeds, fewer than the 10 that this plan asks for"
    )
    enough = replace(plan, rule=replace(plan.rule, confirmatory_seeds=6))
    confirmed = answer.standing(enough, verdicts.assign(reason="", exploratory=False))
    assert confirmed == "6 seeds, at least the 6 that this plan asks for."
    few = answer.strength(plan, verdicts.assign(reason=""), 0.084)
    assert few == [
        "No verdicts: by simulation, 8.4 % of pages like this one would say something false with so few seeds. The "
        "intervals stand."
    ]
    assert answer.strength(plan, verdicts.iloc[:0], 0.0) == []
    assert answer.standing(plan, verdicts.iloc[:0]) == ""
    assert answer.in_brief(verdicts, "dropout") == "helps in the full recipe, open on its own"
    assert answer.in_brief(verdicts.iloc[:0], "dropout") == ""


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
    treatment, control = 40 - 3 + 100 * WOBBLE, 40 + 100 * WOBBLE[::-1]
    runs = frame(plan, {"full recipe": [0.5] * 12, "without dropout": [0.5] * 12})
    runs = runs.assign(**{schema.WEIGHT_NORM: np.r_[treatment, control]})
    row = worded(of_claims(plan, claim), runs).iloc[0]
    assert row["verdict"] == "supported"
    assert math.isnan(row["margin"])
    assert math.isnan(row["tost_p"])
    assert row["p"] == pytest.approx(welch_p(treatment, control))
    interval = stats.ttest_ind(treatment, control, equal_var=False).confidence_interval()
    assert f"−3.00 [−{-interval.low:.2f}, −{-interval.high:.2f}], 12 against 12 runs" in row["sentence"]
    assert " pp" not in row["sentence"]


def test_a_difference_of_differences(plan):
    claim = replace(plan.claims[0], beyond=("only dropout", "bare recipe"))
    base = 0.5 + WOBBLE[::-1]
    values = {
        "full recipe": base + 0.08 + WOBBLE,
        "without dropout": base,
        "only dropout": base[::-1] + 0.03 - WOBBLE,
        "bare recipe": 0.5 + 2 * WOBBLE,
    }
    row = verdict.judge(of_claims(plan, claim), frame(plan, values)).iloc[0]
    assert row["difference"] == pytest.approx(0.05)
    assert row["p"] == pytest.approx(rule_p([1, -1, -1, 1], list(values.values())))
    assert row["verdict"] == "supported"
    old = verdict.judge(pairwise(of_claims(plan, claim)), frame(plan, values)).iloc[0]
    full, without, only, bare = values.values()
    assert old["p"] == pytest.approx(stats.ttest_1samp(full - without - only + bare, 0).pvalue)


@pytest.mark.parametrize(
    ("loss", "expected"), [(0.0, "supported"), (0.002, "supported"), (0.02, "refuted"), (0.005, "inconclusive")]
)
def test_a_claim_that_nothing_is_lost_allows_the_margin(plan, loss, expected):
    """Statistics, 5: 'SUPPORTED, real but negligible' was said of it, where 'real' had not been tested."""
    claim = replace(plan.claims[0], allowed=True)
    treatment, control = arms_of(-loss)
    runs = frame(plan, {"full recipe": treatment, "without dropout": control})
    row = worded(of_claims(plan, claim), runs).iloc[0]
    assert row["p"] == pytest.approx(welch_p(treatment, control, allowed=0.005))
    assert row["verdict"] == expected
    assert "negligible" not in row["sentence"] + phrases.outcome(row)
    if expected == "supported":
        assert "no loss of more than 0.5 pp" in row["sentence"]


def test_mechanisms_stand_beside_in_their_units(plan):
    runs = frame(plan, {"full recipe": [0.6, 0.7], "without dropout": [0.5, 0.5]})
    runs = runs.assign(**{schema.WEIGHT_NORM: [10.0, 20.0, 30.0, 50.0]})
    row = {"mechanism": (schema.WEIGHT_NORM, schema.TEST_ACCURACY, "unknown"), "treatment": "full recipe"}
    clauses = answer.mechanism(mechanisms.means(row | {"control": "without dropout"}, runs))
    assert clauses == ["the weight norm 40.0 → 15.0", "test accuracy 50.00 → 65.00"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1234.5, "1234"), (12.345, "12.3"), (-0.012345, "−0.0123"), (1e-9, "0.000000"), (math.nan, "–")],
)
def test_three_significant_digits(value, text):
    assert phrases.significant(value) == text
