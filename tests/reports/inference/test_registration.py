"""What was fixed in advance and what after results, and verdicts at planned looks."""

import math
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cifar_ablations.ablations import schema
from cifar_ablations.reports.inference import contrast, registration, sequential, statistics, verdict
from cifar_ablations.reports.inference.registration import Change
from cifar_ablations.reports.reading import load
from cifar_ablations.reports.wording import answer, phrases

ACCURACY = schema.TEST_ACCURACY


def invoked(plan, started, digest=None, overrides=(), profile="quick", data="aa11"):
    plan = replace(
        plan,
        digest=digest or f"{started:016x}",
        overrides=tuple(overrides),
        profile=replace(plan.profile, name=profile),
        data=replace(plan.data, digest=data),
    )
    return load.Invocation(f"run {started}", "1", datetime.fromtimestamp(started, UTC), False, {}, plan)


def ended(*seconds):
    """Runs of which nothing matters but when they ended."""
    return pd.DataFrame({"ended": [1000.0 * s for s in seconds]})


def judged(invocation):
    claims = invocation.plan.claims
    return pd.DataFrame({"statement": [claim.statement for claim in claims], "exploratory": [False] * len(claims)})


def late(newest, found, runs):
    frame = registration.with_exploratory(judged(newest), newest, runs, found)
    assert frame["exploratory"].equals(frame["late"])
    return frame["late"].to_list()


def changed(plan, **rule):
    return replace(plan, rule=replace(plan.rule, **rule))


def seeded(plan, *seeds):
    return replace(plan, seeds=tuple(range(*seeds)))


def with_another_claim(plan):
    claim = replace(plan.claims[0], statement="dropout loses", sign=-plan.claims[0].sign)
    return replace(plan, claims=(*plan.claims, claim))


def test_a_first_plan_is_never_late(plan):
    only = invoked(plan, 100)
    for runs in (ended(), ended(150), ended(50)):
        assert late(only, [only], runs) == [False] * 4
    assert registration.deviations(only, [only]) == []
    assert registration.runs_before(only, ended(50, 99, 100, 150), [only]) == 2


def test_more_seeds_after_results_make_all_claims_late(plan):
    old, new = invoked(seeded(plan, 5), 100), invoked(seeded(plan, 12), 200)
    assert late(new, [new, old], ended(150)) == [True] * 4
    (deviation,) = registration.deviations(new, [new, old])
    assert (deviation.digest, deviation.started) == (old.digest, old.started)
    assert deviation.changes == [Change("seeds", before=old.plan.seeds, now=new.plan.seeds)]
    assert answer.of_changes(deviation.changes) == ["seeds 0 to 4, now 0 to 11"]


def test_what_was_exploratory_stays_so(plan):
    only = invoked(plan, 100)
    verdicts = judged(only).assign(exploratory=[True, False, True, False])
    found = registration.with_exploratory(verdicts, only, ended(150), [only])
    assert found["exploratory"].to_list() == [True, False, True, False]
    assert not found["late"].any()
    assert registration.with_exploratory(pd.DataFrame(), only, ended(150), [only]).empty


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"margin": 0.01}, "the margin 0.005, now 0.01"),
        ({"alpha": 0.1}, "α 0.05, now 0.1"),
        ({"looks": (3, 6)}, "the looks none, now 3 and 6"),
        ({"test": "paired t e-process"}, "the test paired t, now paired t e-process"),
        ({"confirmatory_seeds": 5}, "the seeds that confirm 10, now 5"),
    ],
)
def test_another_rule_after_results_makes_all_claims_late(plan, rule, words):
    old, new = invoked(plan, 100), invoked(changed(plan, **rule), 200)
    assert late(new, [new, old], ended(150)) == [True] * 4
    assert [answer.of_changes(d.changes) for d in registration.deviations(new, [new, old])] == [[words]]


def test_other_looks_after_results_are_a_deviation(plan):
    old, new = (invoked(changed(plan, looks=looks), at) for looks, at in (((5, 10, 15), 100), ((5, 8, 15), 200)))
    assert late(new, [new, old], ended(150)) == [True] * 4
    (change,) = registration.deviations(new, [new, old])[0].changes
    assert change == Change("rule", "looks", (5, 10, 15), (5, 8, 15))
    assert answer.of_changes([change]) == ["the looks 5, 10 and 15, now 5, 8 and 15"]


def test_only_an_added_claim_is_late(plan):
    old, new = invoked(plan, 100), invoked(with_another_claim(plan), 200)
    assert late(new, [new, old], ended(150)) == [False] * 4 + [True]
    (change,) = registration.deviations(new, [new, old])[0].changes
    assert change == Change("claim", added=("dropout loses",))
    assert answer.of_changes([change]) == ["1 claim added (dropout loses)"]
    assert late(old, [new, old], ended(150)) == [False] * 4, "what came later does not matter"


def test_a_claim_of_another_sign_metric_or_arm_is_another_claim(plan):
    old = invoked(plan, 100)
    first, *rest = plan.claims
    other_arms = (*plan.arms[:3], replace(plan.arms[3], digest="f" * 16), *plan.arms[4:])
    for at, change, expected in (
        (200, {"claims": (replace(first, sign=-1), *rest)}, [True, False, False, False]),
        (300, {"claims": (replace(first, allowed=True), *rest)}, [True, False, False, False]),
        (400, {"arms": other_arms}, [False, False, False, True]),
    ):
        new = invoked(replace(plan, **change), at)
        assert late(new, [old, new], ended(150)) == expected
    (change,) = registration.deviations(new, [old, new])[0].changes
    assert change == Change("arm", gone=("bare recipe [00000000]",), added=("bare recipe [ffffffff]",))
    assert answer.of_changes([change]) == [
        "1 arm dropped (bare recipe [00000000])",
        "1 arm added (bare recipe [ffffffff])",
    ]


def test_an_arm_that_is_only_renamed_is_the_same(plan):
    old = invoked(plan, 100)
    claims = [replace(claim, treatment=claim.treatment.replace("full recipe", "everything")) for claim in plan.claims]
    arms = (replace(plan.arms[0], name="everything"), *plan.arms[1:])
    new = invoked(replace(plan, arms=arms, claims=tuple(claims)), 200)
    assert late(new, [old, new], ended(150)) == [False] * 4


def test_fresh_seeds_owe_nothing_to_earlier_ones(plan):
    old = invoked(seeded(plan, 5), 100)
    new = invoked(seeded(with_another_claim(changed(plan, margin=0.01)), 5, 10), 200)
    assert registration.earlier(new, [new, old]) == []
    assert late(new, [new, old], ended(150)) == [False] * 5
    assert registration.deviations(new, [new, old]) == []
    overlapping = invoked(seeded(plan, 4, 7), 300)
    assert registration.earlier(overlapping, [overlapping, new, old]) == [old, new]


def test_the_same_plan_again_is_not_late(plan):
    old, new = invoked(plan, 100, "same"), invoked(plan, 200, "same")
    assert late(new, [new, old], ended(150)) == [False] * 4
    assert registration.deviations(new, [new, old]) == []


def test_a_change_before_the_first_run_ended_is_not_late(plan):
    old, new = invoked(plan, 100), invoked(with_another_claim(changed(plan, margin=0.01)), 200)
    assert late(new, [new, old], ended(200, 250)) == [False] * 5
    assert late(new, [new, old], ended(100)) == [True] * 5
    assert late(new, [new, old], ended(99, 250)) == [False] * 5, "what had ended before either shows as runs before"
    assert registration.runs_before(new, ended(99, 250), [new, old]) == 1
    assert len(registration.deviations(new, [new, old])) == 1, "said nevertheless"


def test_a_change_that_was_taken_back_is_not_late_but_said(plan):
    first, between, last = (
        invoked(p, at, digest)
        for p, at, digest in ((plan, 100, "one"), (changed(plan, margin=0.01), 200, "two"), (plan, 300, "one"))
    )
    everything = [last, between, first]
    assert late(between, everything, ended(150, 250)) == [True] * 4
    assert late(last, everything, ended(150, 250)) == [False] * 4
    assert [d.digest for d in registration.deviations(last, everything)] == ["two"]


def test_the_last_plan_before_the_first_result_is_the_one_that_was_fixed(plan):
    """Changed before any run had ended, then run, then invoked again as it was."""
    first, changed_in_time = invoked(plan, 100), invoked(changed(plan, margin=0.01), 120, "two")
    again, too_late = invoked(changed(plan, margin=0.01), 200, "two"), invoked(plan, 300)
    everything, runs = [first, changed_in_time, again, too_late], ended(150)
    assert late(changed_in_time, everything, runs) == [False] * 4
    assert late(again, everything, runs) == [False] * 4
    assert late(too_late, everything, runs) == [True] * 4, "back to what was given up before the first result"


def test_each_earlier_plan_is_said_once_oldest_first(plan):
    plans = [invoked(seeded(plan, n), at, f"{n}") for n, at in ((3, 100), (4, 200), (3, 300))]
    new = invoked(plan, 400)
    assert [d.digest for d in registration.deviations(new, [new, *plans[::-1]])] == ["3", "4"]
    assert registration.runs_before(new, ended(50, 150, 350), [new, *plans]) == 1


def test_other_questions_do_not_matter(plan):
    new = invoked(changed(plan, margin=0.01), 200)
    others = [
        invoked(replace(plan, name="optimizers"), 100),
        invoked(plan, 101, overrides=["dropout.p=0.3"]),
        invoked(plan, 102, profile="full"),
        invoked(plan, 103, data="bb22"),
    ]
    assert len({registration.question(i) for i in [new, *others]}) == 5
    assert registration.question(invoked(plan, 1, overrides=["b", "a"])) == registration.question(
        invoked(plan, 2, overrides=["a", "b"])
    )
    assert registration.earlier(new, [new, *others]) == []
    assert late(new, [new, *others], ended(150)) == [False] * 4


# Planned looks


def looking(plan, test="paired t", looks=(5, 10, 15), claims=(0, 2)):
    """A plan with looks of two claims in one family, about the full recipe and one arm each."""
    chosen = tuple(plan.claims[i] for i in claims)
    names = {name for claim in chosen for name in claim.arms}
    arms = tuple(arm for arm in plan.arms if arm.name in names)
    return replace(changed(seeded(plan, looks[-1]), test=test, looks=looks), claims=chosen, arms=arms)


def only_first(plan):
    return replace(plan, claims=plan.claims[:1])


def runs_with(plan, differences, base=0.7):
    """Runs in which the differences of each claim's treatment from its control are given, by claim."""
    treatment = plan.claims[0].treatment
    n = len(differences[0])
    by_arm = {treatment: np.full(n, base)}
    for claim, d in zip(plan.claims, differences, strict=True):
        by_arm[claim.control] = by_arm[treatment] - d
    return pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "run_id": f"{arm} {seed}", "converged": True, ACCURACY: value}
            for arm, values in by_arm.items()
            for seed, value in enumerate(values)
        ]
    )


WOBBLE = 0.001 * np.array([1, -1, 2, -2, 0, 1, -1, 2, -2, 0, 1, -1, 2, -2, 0])
UNCLEAR = 0.05 * np.array([1, -1, 1, -1, 0.5] * 3)


def test_a_claim_decided_at_the_first_look_keeps_its_numbers(plan):
    plan = looking(plan)
    first = 0.05 + WOBBLE
    first[5:] = -0.2 + 5 * WOBBLE[5:]  # later seeds would say the opposite
    runs = runs_with(plan, [first, UNCLEAR])
    found = phrases.with_sentences(plan, verdict.judge(plan, runs))
    decided, open_ = found.iloc[0], found.iloc[1]
    assert (decided["verdict"], decided["n"], decided["look"]) == ("supported", 5, 5)
    assert decided["difference"] == pytest.approx(0.05)
    assert decided["p"] == pytest.approx(stats.ttest_1samp(first[:5], 0).pvalue)
    interval = stats.ttest_1samp(first[:5], 0).confidence_interval(1 - 0.05 / 3)
    assert (decided["low"], decided["high"]) == pytest.approx((interval.low, interval.high))
    assert (open_["verdict"], open_["n"], open_["look"]) == ("inconclusive", 15, 15)
    assert open_["p"] == pytest.approx(stats.ttest_1samp(UNCLEAR, 0).pvalue)
    assert "5 paired seeds" in decided["sentence"]
    assert found["level"].to_list() == pytest.approx([0.05 / 3] * 2)
    early = phrases.with_sentences(plan, verdict.judge(plan, runs[runs["seed"] < 5]))
    pd.testing.assert_frame_equal(early.iloc[:1], found.iloc[:1], check_dtype=False)
    at_once = verdict.judge(changed(plan, looks=()), runs)
    assert at_once.iloc[0]["verdict"] != "supported"
    assert math.isnan(at_once.iloc[0]["look"])


def test_the_level_is_shared_out_over_the_looks(plan):
    rule = looking(plan).rule
    assert verdict.level(rule) == pytest.approx(0.05 / 3)
    assert verdict.level(replace(rule, looks=())) == 0.05
    assert verdict.level(replace(rule, looks=(5,))) == 0.05
    assert verdict.level(replace(rule, test="paired t e-process")) == 0.05
    assert verdict.level(replace(rule, looks=(), alpha=0.1)) == 0.1


@pytest.mark.parametrize(("p", "expected"), [(0.04, "inconclusive"), (0.018, "inconclusive"), (0.015, "supported")])
def test_a_p_value_between_the_shared_and_the_whole_level_decides_nothing(plan, p, expected):
    plan = looking(plan, claims=(0,))
    wobble = WOBBLE[:5] - WOBBLE[:5].mean()
    d = stats.t.ppf(1 - p / 2, 4) * wobble.std(ddof=1) / math.sqrt(5) + wobble
    plan = changed(plan, margin=1e-6)
    row = verdict.judge(plan, runs_with(plan, [d])).iloc[0]
    assert row["p"] == pytest.approx(p)
    assert row["verdict"] == expected


def test_equivalence_at_a_look_is_at_the_shared_level_too(plan):
    plan = looking(plan, claims=(0,))
    wobble = WOBBLE[:5] - WOBBLE[:5].mean()
    # The TOST's p is that of the distance to the nearer margin.
    for p, expected in ((0.03, "inconclusive"), (0.01, "equivalent")):
        plan = changed(plan, margin=stats.t.ppf(1 - p, 4) * wobble.std(ddof=1) / math.sqrt(5))
        row = verdict.judge(plan, runs_with(plan, [wobble])).iloc[0]
        assert row["tost_p"] == pytest.approx(p)
        assert row["verdict"] == expected


def test_the_family_is_corrected_within_each_look(plan):
    plan = looking(plan)
    runs = runs_with(plan, [0.05 + WOBBLE, UNCLEAR])
    found = verdict.judge(plan, runs)
    small = stats.ttest_1samp((0.05 + WOBBLE)[:5], 0).pvalue
    assert found.iloc[0]["p_holm"] == pytest.approx(2 * small)


def test_undecided_claims_are_those_of_the_last_look_reached(plan):
    plan = looking(plan)
    for seeds, look in ((5, 5), (9, 5), (10, 10), (12, 10), (15, 15)):
        found = verdict.judge(plan, runs_with(plan, [UNCLEAR[:seeds], UNCLEAR[:seeds] * 1.1]))
        assert found["look"].to_list() == [look] * 2
        assert found["n"].to_list() == [look] * 2
        assert found["difference"].iloc[0] == pytest.approx(UNCLEAR[:look].mean())


def test_a_claim_is_decided_at_the_first_look_that_can(plan):
    plan = looking(plan)
    later = 0.03 * np.array([1, -1, 1, -1, 0.5, *[2] * 10]) + WOBBLE
    found = verdict.judge(plan, runs_with(plan, [later, -later]))
    assert found["verdict"].to_list() == ["supported", "refuted"]
    p = [2 * stats.ttest_1samp(later[:n], 0).pvalue for n in (5, 10, 15)]
    first = next(look for look, value in zip((5, 10, 15), p, strict=True) if value < 0.05 / 3)
    assert first > 5
    assert found["look"].to_list() == [first] * 2


def test_before_the_first_look_nothing_is_decided(plan):
    plan = looking(plan)
    runs = runs_with(plan, [0.05 + WOBBLE, 0.05 - WOBBLE])
    early = runs[runs["seed"] < 4]
    found = phrases.with_sentences(plan, verdict.judge(plan, early))
    assert found["verdict"].to_list() == ["inconclusive"] * 2
    assert found["reason"].to_list() == [verdict.NOT_REACHED] * 2
    assert found["look"].isna().all()
    assert "the first look, at 5 seeds, has not been reached" in found["sentence"].iloc[0]
    assert verdict.looks_taken(plan, early) == []
    assert verdict.looks_taken(plan, runs) == [5, 10, 15]
    # One arm lags behind.
    behind = runs[(runs["arm"] != plan.claims[1].control) | (runs["seed"] != 7)]
    assert verdict.looks_taken(plan, behind) == [5]
    assert verdict.judge(plan, behind)["n"].to_list() == [5, 5]


def test_looks_are_at_the_plans_own_seeds(plan):
    plan = seeded(looking(plan), 100, 115)
    runs = runs_with(plan, [0.05 + WOBBLE, UNCLEAR])
    assert verdict.looks_taken(plan, runs) == []
    moved = runs.assign(seed=runs["seed"] + 100)
    assert verdict.judge(plan, moved)["look"].to_list() == [5, 15]


def test_looks_that_confirm_are_no_glances(plan):
    many = looking(plan)
    runs = runs_with(many, [0.05 + WOBBLE, UNCLEAR])
    assert not verdict.judge(many, runs)["exploratory"].any()
    few = looking(plan, looks=(3, 6))
    assert verdict.judge(few, runs)["exploratory"].all(), "fewer are planned than a confirmation takes"


def test_an_e_process_is_judged_at_the_whole_level_with_its_own_interval(plan):
    plan = looking(plan, "paired t e-process", (5, 10, 15))
    strong = 0.05 + WOBBLE
    found = verdict.judge(plan, runs_with(plan, [strong, UNCLEAR]))
    row = found.iloc[0]
    # Five seeds reach a p-value of 1 / 36 at the least, which is too much for one of two claims.
    assert (row["verdict"], row["look"], row["level"]) == ("supported", 10, 0.05)
    assert row["p"] == pytest.approx(sequential.zero_p(strong[:10]))
    assert row["tost_p"] == pytest.approx(sequential.equivalence_p(strong[:10], 0.005))
    assert (row["low"], row["high"]) == pytest.approx(sequential.interval(strong[:10]))
    assert row["p_holm"] == pytest.approx(2 * row["p"])
    assert found.iloc[1]["verdict"] == "inconclusive"
    alone = verdict.judge(only_first(plan), runs_with(plan, [strong, UNCLEAR]))
    assert alone.iloc[0]["look"] == 5
    same = 0.0001 + WOBBLE / 5
    none = verdict.judge(plan, runs_with(plan, [same, UNCLEAR])).iloc[0]
    assert none["verdict"] == "equivalent"
    assert none["tost_p"] == pytest.approx(sequential.equivalence_p(same[: int(none["look"])], 0.005))


def test_an_e_process_without_looks_is_of_all_the_seeds(plan):
    plan = changed(looking(plan, "paired t e-process"), looks=())
    row = verdict.judge(plan, runs_with(plan, [0.05 + WOBBLE, UNCLEAR])).iloc[0]
    assert (row["n"], row["verdict"]) == (15, "supported")
    assert row["p"] == pytest.approx(sequential.zero_p(0.05 + WOBBLE))


# Right answers, image by image


IMAGES = 40


@pytest.fixture
def answered(plan):
    """Runs whose accuracies are those of drawn answers, but for one that diverged and has none."""
    plan = seeded(plan, 4)
    rng, rows, answers = np.random.default_rng(0), [], {}
    difficulty = rng.uniform(0.2, 0.95, IMAGES)
    for k, arm in enumerate(plan.arms):
        for seed in plan.seeds:
            run_id, right = f"{k}-{seed}", rng.uniform(size=IMAGES) < difficulty + 0.03 * k
            diverged = (k, seed) == (1, 2)
            if not diverged:
                answers[run_id] = right
            accuracy = 0.1 if diverged else right.mean()
            rows.append(
                {
                    "arm": arm.name,
                    "seed": seed,
                    "run_id": run_id,
                    "converged": not diverged,
                    ACCURACY: accuracy,
                    schema.GENERALISATION_GAP: 0.1 + 0.01 * rng.standard_normal(),
                }
            )
    return plan, pd.DataFrame(rows), answers


CLAIMS = {
    "two arms": {},
    "the other way": {"treatment": "without dropout", "control": "full recipe"},
    "without a diverged run": {"treatment": "only dropout", "control": "bare recipe"},
    "beyond another difference": {"beyond": ("only dropout", "bare recipe")},
    "a mean over arms": {
        "over": (("full recipe", 0.5), ("only dropout", 0.5), ("without dropout", -0.5), ("bare recipe", -0.5))
    },
}


@pytest.mark.parametrize("change", CLAIMS.values(), ids=CLAIMS)
def test_the_mean_over_images_is_the_difference_in_accuracy(answered, change):
    plan, runs, answers = answered
    claim = replace(plan.claims[0], **change)
    sides = contrast.sides(claim, runs)
    d = statistics.differences(sides.treatment, sides.control)
    matrix = contrast.by_image(claim, runs, d.index, answers)
    assert matrix.shape == (4, IMAGES)
    np.testing.assert_allclose(matrix.mean(axis=1), d, atol=1e-6)
    weights = contrast.weights(claim)
    assert sum(weights.values()) == pytest.approx(0)
    wide = runs.pivot(index="seed", columns="arm", values=ACCURACY)
    np.testing.assert_allclose(sum(w * wide[arm] for arm, w in weights.items()), d)


def test_the_sides_of_a_claim_are_its_treatment_and_its_control(answered):
    plan, runs, _ = answered
    wide = runs.pivot(index="seed", columns="arm", values=ACCURACY)
    sides = contrast.sides(plan.claims[0], runs)
    np.testing.assert_allclose(sides.treatment, wide["full recipe"])
    np.testing.assert_allclose(sides.control, wide["without dropout"])
    over = contrast.sides(replace(plan.claims[0], **CLAIMS["a mean over arms"]), runs)
    np.testing.assert_allclose(over.treatment, (wide["full recipe"] + wide["only dropout"]) / 2)
    np.testing.assert_allclose(over.control, (wide["without dropout"] + wide["bare recipe"]) / 2)


def test_a_diverged_run_guesses_evenly_over_all_images(answered):
    plan, runs, answers = answered
    matrix = contrast.by_image(plan.claims[0], runs, pd.Index(plan.seeds), answers)
    np.testing.assert_allclose(matrix[2], answers["0-2"] - 0.1, atol=1e-6)
    np.testing.assert_array_equal(matrix[0], answers["0-0"].astype(int) - answers["1-0"].astype(int))


def test_missing_answers_and_other_metrics_have_no_images(answered):
    plan, runs, answers = answered
    claim, seeds = plan.claims[0], pd.Index(plan.seeds)
    without = {run_id: right for run_id, right in answers.items() if run_id != "0-1"}
    assert contrast.by_image(claim, runs, seeds, without) is None
    assert contrast.by_image(claim, runs, pd.Index([0, 2, 3]), without) is not None
    assert contrast.by_image(plan.claims[1], runs, seeds, answers) is None
    assert contrast.by_image(claim, runs, seeds, {}) is None
    assert contrast.by_image(claim, runs, seeds, answers | {"other": np.ones(7, bool)}) is None
    assert contrast.by_image(claim, runs, pd.Index([0, 1, 9]), answers) is None, "a seed that was not trained"


def test_a_verdict_has_the_two_way_interval_of_its_images(answered):
    plan, runs, answers = answered
    found = verdict.judge(plan, runs, answers)
    for index in (0, 2, 3):
        claim = plan.claims[index]
        expected = statistics.two_way_interval(contrast.by_image(claim, runs, pd.Index(plan.seeds), answers))
        row = found.iloc[index]
        assert (row["images_low"], row["images_high"]) == pytest.approx((expected.low, expected.high))
        assert (row["images_low"] + row["images_high"]) / 2 == pytest.approx(row["difference"], abs=1e-6)
    assert found.iloc[1][["images_low", "images_high"]].isna().all(), "a gap has no answers"
    assert verdict.judge(plan, runs)[["images_low", "images_high"]].isna().all(axis=None)


def test_the_images_of_a_look_are_those_of_its_seeds(answered):
    plan, runs, answers = answered
    plan = only_first(changed(plan, looks=(3, 4)))
    row = verdict.judge(plan, runs[runs["seed"] < 3], answers).iloc[0]
    matrix = contrast.by_image(plan.claims[0], runs, pd.Index([0, 1, 2]), answers)
    expected = statistics.two_way_interval(matrix, 1 - 0.05 / 2)
    assert row["look"] == 3
    assert (row["images_low"], row["images_high"]) == pytest.approx((expected.low, expected.high))
