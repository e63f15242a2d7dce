"""Variances by purpose: planted ones are found, and intervals are those of scipy and closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.purposes import EVERYTHING, PURPOSES
from cifar_ablations.ablations.record import ArmRecord
from cifar_ablations.reports.inference import statistics, variance

PLANTED = dict(zip(PURPOSES, (0.004, 0.003, 0.002, 0.006, 0.001), strict=True))
WHOLE = math.sqrt(sum(sd**2 for sd in PLANTED.values()))
OTHER = "without dropout"


@pytest.fixture
def split_up(plan):
    """A plan with each purpose varied alone, for 40 seeds."""
    names = ["full recipe", *(f"only {name}" for name in PURPOSES), OTHER]
    levels = [{}, *({"seeding": name} for name in PURPOSES), {"seeding": "off"}]
    arms = tuple(ArmRecord(n, f"{i:016x}", levels=at) for i, (n, at) in enumerate(zip(names, levels, strict=True)))
    return replace(plan, name="variance", arms=arms, claims=(), references=(), seeds=tuple(range(40)))


def alike(runs):
    """Right answers of runs that all err on the same images: these make nothing of the variance."""
    return dict.fromkeys(runs["run_id"], np.array([True, False, True]))


def planted(plan, seeds=40, at=0, images=0.0):
    """Accuracies that add up over purposes; an arm's effect of a purpose's draw is that of the whole.

    images: the standard deviation that the choice of test images makes, in every run.
    """
    rng = np.random.default_rng(at)
    effects = {name: rng.normal(0, sd, seeds) for name, sd in PLANTED.items()}
    whole = sum(effects.values())
    by_arm = {"full recipe": whole, **{f"only {name}": effect for name, effect in effects.items()}}
    by_arm[OTHER] = 0.6 * whole + 0.8 * rng.normal(0, WHOLE, seeds)
    by_arm = {name: values + rng.normal(0, images, seeds) for name, values in by_arm.items()}
    rows = [
        {"arm": arm.name, "seed": seed, "run_id": f"{arm.name} {seed}", schema.TEST_ACCURACY: 0.7 + value}
        for arm in plan.arms
        for seed, value in enumerate(by_arm[arm.name])
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def test_planted_variances_lie_within_their_intervals(split_up):
    runs = planted(split_up)
    found = variance.table(split_up, runs, alike(runs)).set_index("purpose")
    for purpose, sd in {EVERYTHING: WHOLE, **PLANTED}.items():
        row = found.loc[purpose]
        assert row["sd_low"] < sd < row["sd_high"], purpose
        assert row["sd"] ** 2 == pytest.approx(row["variance"])
        assert row["n"] == 40
    for purpose, sd in PLANTED.items():
        assert found.loc[purpose, "share_low"] < (sd / WHOLE) ** 2 < found.loc[purpose, "share_high"], purpose
    together = found.loc[variance.TOGETHER]
    assert together["variance"] == pytest.approx(found.loc[list(PURPOSES), "variance"].sum())
    assert together["share_low"] < 1 < together["share_high"]
    assert together["variance_low"] < WHOLE**2 < together["variance_high"]
    assert found.loc[EVERYTHING, "share"] == pytest.approx(1)
    assert found.loc[variance.IMAGES, ["n", "variance", "share"]].to_list() == [40, 0, 0]
    unknown = variance.table(split_up, runs, {}).set_index("purpose")
    assert unknown.loc[variance.IMAGES, "n"] == 0
    assert unknown.loc[[variance.IMAGES, variance.TOGETHER], variance.COLUMNS[4:]].isna().all(axis=None)
    pd.testing.assert_frame_equal(unknown.loc[[EVERYTHING, *PURPOSES]], found.loc[[EVERYTHING, *PURPOSES]])


def test_intervals_of_spread_are_those_of_the_arm_table(split_up):
    row = variance.table(split_up, planted(split_up), {}).iloc[0]
    assert (row["sd_low"], row["sd_high"]) == pytest.approx(statistics.sd_interval(row["sd"], 40))


def test_equal_seeds_remove_what_they_share(split_up):
    runs = planted(split_up)
    (row,) = variance.pairing(split_up, runs).to_dict("records")
    table = runs.pivot(index="seed", columns="arm", values=schema.TEST_ACCURACY)
    covariance = np.cov(table[OTHER], table["full recipe"])
    assert row["correlation"] == pytest.approx(np.corrcoef(table[OTHER], table["full recipe"])[0, 1])
    assert row["removed"] == pytest.approx(2 * covariance[0, 1] / np.trace(covariance))
    difference = (table[OTHER] - table["full recipe"]).var(ddof=1)
    assert row["removed"] == pytest.approx(1 - difference / np.trace(covariance))
    assert row["removed_low"] < 0.6 < row["removed_high"]
    assert row["correlation_low"] < 0.6 < row["correlation_high"]
    assert (row["arm"], row["other"], row["n"]) == (OTHER, "full recipe", 40)


def test_pitmans_limits_are_where_his_test_turns():
    rng = np.random.default_rng(1)
    one = pd.Series(rng.normal(0, 2, 12))
    other = 0.5 * one + pd.Series(rng.normal(0, 1, 12))
    ratio, low, high = variance.ratio_of_variances(one, other, 0.9)
    assert ratio == pytest.approx(one.var() / other.var())
    for limit in (low, high):
        scaled = math.sqrt(limit) * other
        assert stats.pearsonr(one + scaled, one - scaled).pvalue == pytest.approx(0.1)
    assert variance.ratio_of_variances(other, one, 0.9) == pytest.approx((1 / ratio, 1 / high, 1 / low))


@pytest.mark.exhaustive
def test_intervals_cover_as_often_as_they_say(split_up):
    """400 plans of ten seeds; two standard errors are 2.2 points."""
    small = replace(split_up, seeds=tuple(range(10)))
    hits = []
    for at in range(400):
        runs = planted(small, 10, at)
        table = variance.table(small, runs, alike(runs)).set_index("purpose")
        pair = variance.pairing(small, runs).iloc[0]
        row, together = table.loc["weights"], table.loc[variance.TOGETHER]
        hits.append(
            (
                row["variance_low"] < PLANTED["weights"] ** 2 < row["variance_high"],
                row["share_low"] < (PLANTED["weights"] / WHOLE) ** 2 < row["share_high"],
                pair["removed_low"] < 0.6 < pair["removed_high"],
                together["variance_low"] < WHOLE**2 < together["variance_high"],
                together["share_low"] < 1 < together["share_high"],
            )
        )
    *exact, of_sum, share_of_sum = np.mean(hits, axis=0)
    assert exact == pytest.approx([0.95] * 3, abs=0.033)
    assert of_sum > 0.92
    assert share_of_sum > 0.95, "seeds that are shared make it too wide"


@pytest.mark.exhaustive
def test_the_test_images_part_in_every_purpose_is_no_substitution(split_up):
    """Purposes that add up, each with the test images' part: the plain sum is 300 % of the whole."""
    small, images = replace(split_up, seeds=tuple(range(10))), 0.008
    rng = np.random.default_rng(0)
    p = 0.5 + math.sqrt(0.25 - 400 * images**2)
    answers = {run_id: rng.random(400) < p for run_id in planted(small, 10)["run_id"]}
    plain, together, inside = [], [], []
    for at in range(300):
        table = variance.table(small, planted(small, 10, at, images), answers).set_index("purpose")
        whole, row = table.loc[EVERYTHING, "variance"], table.loc[variance.TOGETHER]
        plain.append(table.loc[list(PURPOSES), "variance"].sum() / whole)
        together.append(row["share"])
        inside.append(row["share_low"] < 1 < row["share_high"])
        assert row["variance_low"] <= row["variance"] <= row["variance_high"]
    truth = (WHOLE**2 + 5 * images**2) / (WHOLE**2 + images**2)
    assert np.median(plain) == pytest.approx(truth, rel=0.15)
    assert truth > 2.9
    assert np.median(together) == pytest.approx(1, abs=0.2)
    assert np.mean(inside) > 0.95 - 3.3 * math.sqrt(0.95 * 0.05 / 300)
    once = table.loc[variance.TOGETHER, "variance"]
    own = [
        variance.image_variance(np.stack([answers[f"{arm.name} {i}"] for i in range(10)]), 0.95)[0]
        for arm in small.arms
    ]
    assert once == pytest.approx(table.loc[list(PURPOSES), "variance"].sum() - sum(own[1:6]) + own[0])
    assert row["share"] == pytest.approx(once / whole)


def test_purposes_that_stand_in_for_each_other_add_up_to_more(split_up):
    runs = planted(split_up)
    whole = runs[runs["arm"] == "full recipe"].set_index("seed")[schema.TEST_ACCURACY]
    only = runs["arm"].str.startswith("only")
    runs.loc[only, schema.TEST_ACCURACY] = runs.loc[only, "seed"].map(whole)
    assert variance.table(split_up, runs, alike(runs)).set_index("purpose").loc[variance.TOGETHER, "share_low"] > 1


def test_what_the_choice_of_test_images_makes():
    """Runs that are all equally good, each right on an image with the image's probability: no other variance."""
    rng = np.random.default_rng(0)
    right = rng.random((30, 4_000)) < rng.beta(2, 1, 4_000)
    found, low, high = variance.image_variance(right, 0.95)
    assert found == pytest.approx(statistics.residual_mean_square(right.astype(float)) / 4_000)
    expected = 2 * 1 / ((2 + 1) * (2 + 1 + 1)) / 4_000  # E p (1 - p) of a beta, over images
    assert low < expected < high
    assert right.mean(axis=1).var(ddof=1) == pytest.approx(found, rel=0.5)


def test_the_test_images_share_is_of_the_first_arm(split_up):
    runs = planted(split_up)
    rng = np.random.default_rng(2)
    answers = {run_id: rng.random(10_000) < 0.7 for run_id in runs["run_id"]}
    found = variance.table(split_up, runs, answers).set_index("purpose")
    row, whole = found.loc[variance.IMAGES], found.loc[EVERYTHING]
    assert row["variance"] == pytest.approx(0.7 * 0.3 / 10_000, rel=0.1)
    assert (row["n"], row["arm"]) == (40, "full recipe")
    assert row["share"] == pytest.approx(row["variance"] / whole["variance"])
    assert row["share_low"] == pytest.approx(row["variance"] / whole["variance_high"])
    for times, inside in ((1.3, True), (4, False)):  # as much as there is
        images = round(0.7 * 0.3 / (times * whole["variance"]))
        few = {run_id: right[:images] for run_id, right in answers.items()}
        row = variance.table(split_up, runs, few).set_index("purpose").loc[variance.IMAGES]
        assert row["variance"] > whole["variance"]
        assert row["share"] == 1
        assert (row["share_low"] < 1 == row["share_high"]) == inside
        assert math.isnan(row["share_low"]) == (not inside)


@pytest.mark.parametrize("seeds", [0, 1, 2, 3, 4])
def test_few_seeds_give_nan_and_no_warning(split_up, seeds):
    runs = planted(split_up)
    few = runs[runs["seed"] < seeds]
    table = variance.table(split_up, few, alike(few))
    pairs = variance.pairing(split_up, few)
    assert len(table) == len(PURPOSES) + 3
    shares = table.loc[table["purpose"] != EVERYTHING, ["share", "share_low", "share_high"]]
    assert shares.notna().all(axis=None) if seeds == 4 else shares.isna().all(axis=None)
    assert math.isnan(table["share"].iloc[0]) == (seeds < 4)
    assert table["variance_low"].iloc[0] > 0 or seeds < 2
    assert pairs[["correlation", "removed", "removed_low"]].isna().all(axis=None) == (seeds < 4)
    same = few.assign(**{schema.TEST_ACCURACY: 0.7})
    assert variance.table(split_up, same, {})["share_low"].isna().all()


def test_runs_that_diverged_are_left_out(split_up):
    runs = planted(split_up)
    runs.loc[runs["seed"] == 5, schema.TEST_ACCURACY] = np.nan
    expected = variance.table(split_up, runs[runs["seed"] != 5], alike(runs))
    pd.testing.assert_frame_equal(variance.table(split_up, runs, alike(runs)), expected)
    assert variance.pairing(split_up, runs)["n"].to_list() == [39]


@pytest.mark.parametrize("arm", ["full recipe", "only weights", OTHER])
def test_an_arm_of_which_all_runs_diverged_has_no_numbers(split_up, arm):
    runs = planted(split_up)
    runs.loc[runs["arm"] == arm, schema.TEST_ACCURACY] = np.nan
    table = variance.table(split_up, runs, alike(runs)).set_index("purpose")
    unknown = {"full recipe": list(table.index), "only weights": ["weights", variance.TOGETHER]}.get(arm, [])
    assert table.index[table["share"].isna()].to_list() == unknown
    assert variance.pairing(split_up, runs)["removed"].isna().all() == (arm != "only weights")


def test_an_arm_without_spread_pairs_with_nothing(split_up):
    runs = planted(split_up)
    runs.loc[runs["arm"] == OTHER, schema.TEST_ACCURACY] = 0.7
    assert variance.pairing(split_up, runs)[["correlation", "removed", "removed_low"]].isna().all(axis=None)


def test_other_plans_have_no_such_table(plan, runs):
    assert variance.table(plan, runs, {}).empty
    assert variance.pairing(plan, runs).empty
