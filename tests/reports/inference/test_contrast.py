"""What a claim compares, against sums written out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.metrics import EPOCHS_TO_TARGET
from cifar_ablations.ablations.record import ArmRecord, ClaimRecord, PlanRecord
from cifar_ablations.reports.inference import contrast

ACCURACY = schema.TEST_ACCURACY
TWO = ClaimRecord("?", "dropout", ACCURACY, 1, "with", "without", "test accuracy in the full recipe", "the tests")
BEYOND = replace(TWO, treatment="both", control="one", beyond=("other", "neither"), family="test accuracy")
HALVES = (("both", 0.5), ("one", 0.5), ("other", -0.5), ("neither", -0.5))
OVER = replace(TWO, over=HALVES, family="test accuracy")
VALUES = {"both": [0.9, 0.8], "one": [0.7, 0.7], "other": [0.6, 0.5], "neither": [0.5, 0.3]}
RUNS = pd.DataFrame(
    [
        {"arm": arm, "seed": seed, ACCURACY: value, "run_id": f"{arm} {seed}", "converged": True}
        for arm, values in VALUES.items()
        for seed, value in enumerate(values)
    ]
)


def _differences(claim: ClaimRecord) -> list[float]:
    sides = contrast.sides(claim, RUNS)
    return (sides.treatment - sides.control).tolist()


def test_the_surroundings_are_the_family_without_its_metric() -> None:
    assert contrast.where(TWO) == "in the full recipe"
    assert contrast.where(OVER) == ""


def test_an_interaction_is_a_difference_of_differences() -> None:
    assert _differences(BEYOND) == pytest.approx([(0.9 - 0.7) - (0.6 - 0.5), (0.8 - 0.7) - (0.5 - 0.3)])
    assert contrast.weights(BEYOND) == {"both": 1, "one": -1, "other": -1, "neither": 1}
    assert contrast.arms(BEYOND) == (["both"], ["one"])


def test_a_main_effect_is_the_mean_of_one_half_less_that_of_the_other() -> None:
    assert _differences(OVER) == pytest.approx([(0.9 + 0.7 - 0.6 - 0.5) / 2, (0.8 + 0.7 - 0.5 - 0.3) / 2])
    assert contrast.arms(OVER) == (["both", "one"], ["other", "neither"])


def test_a_seed_that_an_arm_lacks_has_no_difference() -> None:
    runs = RUNS[RUNS["run_id"] != "other 1"]
    for claim in (BEYOND, OVER):
        sides = contrast.sides(claim, runs)
        assert (sides.treatment - sides.control).isna().tolist() == [False, True]


@pytest.mark.parametrize(("claim", "most"), [(TWO, 1.0), (BEYOND, 2.0), (OVER, 1.0)])
def test_the_largest_difference_is_reached_by_shares_of_nought_and_one(claim: ClaimRecord, most: float) -> None:
    weights = contrast.weights(claim)
    assert sum(weights.values()) == pytest.approx(0), "what all arms share is no effect"
    assert contrast.reach(claim) == sum(weight * (weight > 0) for weight in weights.values()) == most


def test_what_is_possible_depends_on_where_the_control_stands() -> None:
    assert contrast.possible(TWO, 0.9) == pytest.approx(0.9)
    assert contrast.possible(TWO, 0.3) == pytest.approx(0.7)
    assert contrast.possible(TWO, math.nan) == 1.0
    assert contrast.possible(BEYOND, -0.2) == pytest.approx(1.2)


def test_by_image_its_mean_is_the_difference_in_accuracy() -> None:
    rng = np.random.default_rng(0)
    runs = RUNS.copy()
    answers = {run_id: rng.random(200) < 0.6 for run_id in runs["run_id"]}
    runs[ACCURACY] = [answers[run_id].mean() for run_id in runs["run_id"]]
    for claim in (BEYOND, OVER):
        sides = contrast.sides(claim, runs)
        found = contrast.by_image(claim, runs, pd.Index([0, 1]), answers)
        assert found is not None
        assert found.shape == (2, 200)
        np.testing.assert_allclose(found.mean(axis=1), sides.treatment - sides.control, atol=1e-6)
    del answers["one 0"]
    assert contrast.by_image(BEYOND, runs, pd.Index([0, 1]), answers) is None, "an answer is missing"


@pytest.mark.parametrize(
    "weights", [(0.5, 0.5, -0.5, -0.5), (1, -1, -1, 1), (1 / 3, 0.2, -1 / 3, -0.2), (1e-9, 1, -1, -1e-9)]
)
def test_by_image_arms_that_are_counted_together_give_the_bits_of_a_sum_arm_by_arm(weights) -> None:
    rng = np.random.default_rng(1)
    answers = {run_id: rng.random(300) < 0.6 for run_id in RUNS["run_id"]}
    claim = replace(TWO, over=tuple(zip(VALUES, weights, strict=True)))
    found = contrast.by_image(claim, RUNS, pd.Index([1, 0]), answers)
    expected = np.zeros((2, 300), dtype=np.float32)
    for row, seed in enumerate([1, 0]):
        for arm, weight in zip(VALUES, weights, strict=True):
            expected[row] += weight * answers[f"{arm} {seed}"]
    assert found.tobytes() == expected.tobytes()


def test_a_side_counts_its_runs_and_those_that_have_the_metric() -> None:
    lost = RUNS["run_id"] == "one 1"
    runs = RUNS.assign(converged=~lost, **{ACCURACY: RUNS[ACCURACY].mask(lost)})
    treatment, control = contrast.tally(OVER, runs)
    assert (treatment.ended, treatment.diverged, treatment.n) == (4, 1, 3)
    assert (control.ended, control.diverged, control.n) == (4, 0, 4)
    assert treatment.mean == pytest.approx(((0.9 + 0.8) / 2 + 0.7) / 2)
    assert control.mean == pytest.approx((0.6 + 0.5 + 0.5 + 0.3) / 4)
    assert control.std == pytest.approx(np.std([(0.6 + 0.5) / 2, (0.5 + 0.3) / 2], ddof=1))
    assert contrast.tally(BEYOND, runs)[0].mean == pytest.approx(0.85 - 0.7)
    none = contrast.tally(BEYOND, runs[runs["arm"] != "both"])[0]
    assert (none.ended, math.isnan(none.mean)) == (2, True)


def planned(plan: PlanRecord, *claims: ClaimRecord) -> PlanRecord:
    arms = tuple(ArmRecord(name, f"{i:016x}") for i, name in enumerate(VALUES))
    return replace(plan, arms=arms, claims=claims, seeds=(0, 1))


def test_claims_are_weights_of_the_plans_arms(plan: PlanRecord) -> None:
    allowed = replace(TWO, treatment="one", control="neither", allowed=True, sign=-1)
    norm = replace(TWO, treatment="one", control="neither", metric=schema.WEIGHT_NORM)
    found = contrast.claims_of(planned(plan, BEYOND, OVER, allowed, norm))
    assert found.weights.tolist() == [[1, -1, -1, 1], [0.5, 0.5, -0.5, -0.5], [0, 1, 0, -1], [0, 1, 0, -1]]
    assert found.metric == (ACCURACY, ACCURACY, ACCURACY, schema.WEIGHT_NORM)
    assert found.allowed.tolist() == [0, 0, -plan.rule.margin, 0]
    np.testing.assert_array_equal(found.margin, [plan.rule.margin] * 3 + [math.nan])


def test_samples_are_in_the_order_of_the_plan_and_of_its_first_seeds(plan: PlanRecord) -> None:
    two = planned(plan, BEYOND)
    runs = RUNS[RUNS["run_id"] != "one 1"].sample(frac=1, random_state=0)
    sample = contrast.samples_of(two, runs, [ACCURACY], 2, {"other": 0.25})[ACCURACY]
    np.testing.assert_array_equal(sample.values, [[0.9, 0.8], [0.7, math.nan], [0.6, 0.5], [0.5, 0.3]])
    assert np.broadcast_to(sample.ended, 4).tolist() == [2, 1, 2, 2]
    assert np.broadcast_to(sample.floor, 4).tolist() == [0, 0, 0.25, 0]
    assert (sample.better, sample.lost) == (1, True)
    first = contrast.samples_of(two, runs, [ACCURACY, schema.WEIGHT_NORM], 1, {"other": 0.25})
    assert first[ACCURACY].values.tolist() == [[0.9], [0.7], [0.6], [0.5]]
    assert np.isnan(first[schema.WEIGHT_NORM].values).all(), "no run knows it"
    assert first[schema.WEIGHT_NORM].floor == 0.0, "images have nothing to do with it"


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        (ACCURACY, True),
        (schema.GENERALISATION_GAP, False),
        (EPOCHS_TO_TARGET, False),
        (schema.WEIGHT_NORM, False),
        (schema.TEST_LOSS, False),
    ],
)
def test_what_is_lost_with_a_run_that_diverged(name: str, lost: bool) -> None:
    assert contrast.is_lost(name) is lost


def test_estimates_are_welchs_or_of_pairs_as_the_rule_compares(plan: PlanRecord) -> None:
    two, rows = planned(plan, BEYOND), np.array([[1.0, 0.0, 0.0, -1.0], [0.0] * 4])
    found = contrast.estimates(two, RUNS, ACCURACY, rows)
    test = stats.ttest_ind(VALUES["both"], VALUES["neither"], equal_var=False)
    assert found["estimate"].iloc[0] == pytest.approx(0.45)
    assert found.loc[0, ["low", "high"]].to_list() == pytest.approx(list(test.confidence_interval()))
    assert found["n"].to_list() == [2, 0]
    pairs = replace(two, rule=replace(plan.rule, test="paired t"))
    paired = contrast.estimates(pairs, RUNS, ACCURACY, rows).iloc[0]
    related = stats.ttest_rel(VALUES["both"], VALUES["neither"])
    assert paired["p"] == pytest.approx(related.pvalue)
    assert paired[["low", "high"]].to_list() == pytest.approx(list(related.confidence_interval()))
