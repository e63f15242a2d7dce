"""What a claim compares, against sums written out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import ClaimRecord
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
