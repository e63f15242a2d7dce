"""Ranks of a plan's arms, and the test that they are alike."""

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cifar_ablations.ablations import schema
from cifar_ablations.reports.inference import arms


def trained(plan, accuracy):
    """Runs of which nothing matters but their accuracy [seeds, arms]."""
    rows = [
        (arm.name, seed, f"{k}-{seed}", accuracy[seed][k])
        for seed in range(len(accuracy))
        for k, arm in enumerate(plan.arms)
        if not math.isnan(accuracy[seed][k])
    ]
    return pd.DataFrame(rows, columns=["arm", "seed", "run_id", schema.TEST_ACCURACY]).sample(frac=1, random_state=0)


def test_arms_rank_alike_or_not_over_the_seeds_that_have_all(plan):
    k = len(plan.arms)
    accuracy = np.random.default_rng(0).normal(0.7, 0.01, (5, k)).round(2)
    accuracy[0, 0] = math.nan
    whole = accuracy[1:]
    expected = stats.friedmanchisquare(*whole.T)
    found = arms.alike(plan, trained(plan, accuracy))
    assert (found["arms"], found["seeds"], found["by"]) == (k, 4, "exact" if k < 6 else "permutation")
    assert found["chi2"] == pytest.approx(expected.statistic)
    ranks = arms.mean_ranks(plan, trained(plan, accuracy))
    assert ranks.index.to_list() == [arm.name for arm in plan.arms]
    assert ranks.to_numpy() == pytest.approx(stats.rankdata(-whole, axis=1).mean(axis=0))


def test_two_seeds_that_agree_are_no_evidence(plan):
    """Iman and Davenport's F would be infinite, and its p zero."""
    k = len(plan.arms)
    found = arms.alike(plan, trained(plan, np.tile(np.linspace(0.6, 0.7, k), (2, 1))))
    assert found["f"] == math.inf
    assert found["p"] == pytest.approx(1 / math.factorial(k), abs=1e-3)
    assert found["p"] > 0


@pytest.mark.parametrize("seeds", [0, 1])
def test_without_two_whole_seeds_nothing_is_said(plan, seeds):
    accuracy = np.full((3, len(plan.arms)), math.nan)
    accuracy[:, 0] = 0.5
    accuracy[:seeds] = np.linspace(0.5, 0.6, len(plan.arms))
    found = arms.alike(plan, trained(plan, accuracy))
    assert (found["seeds"], found["by"]) == (seeds, "")
    assert math.isnan(found["p"])


def test_a_run_that_diverged_ranks_last(plan):
    k = len(plan.arms)
    accuracy = np.tile(np.linspace(0.7, 0.6, k), (3, 1))
    runs = trained(plan, accuracy)
    first = runs["arm"] == plan.arms[0].name
    lost = runs.assign(**{schema.TEST_ACCURACY: runs[schema.TEST_ACCURACY].mask(first & (runs["seed"] < 2))})
    ranks = arms.mean_ranks(plan, lost)
    assert ranks.to_list() == pytest.approx([(2 * k + 1) / 3, *((2 * i + i + 1) / 3 for i in range(1, k))])
    assert arms.alike(plan, lost)["seeds"] == 3
    all_lost = runs.assign(**{schema.TEST_ACCURACY: math.nan})
    assert arms.mean_ranks(plan, all_lost).to_list() == [(k + 1) / 2] * k
    assert math.isnan(arms.alike(plan, all_lost)["p"])


def test_seeds_correlate_by_the_mean_over_pairs_of_arms(plan):
    rng = np.random.default_rng(0)
    accuracy = 0.6 + 0.01 * (rng.normal(size=(7, 1)) + rng.normal(size=(7, len(plan.arms))))
    accuracy[2, 1] = math.nan
    pairs = []
    for one, other in combinations(range(len(plan.arms)), 2):
        both = ~np.isnan(accuracy[:, one] + accuracy[:, other])
        pairs.append(stats.pearsonr(accuracy[both, one], accuracy[both, other]).statistic)
    assert arms.seed_correlation(plan, trained(plan, accuracy)) == (pytest.approx(np.mean(pairs)), len(pairs))
    accuracy[:, 0] = 0.5
    k = len(plan.arms) - 1
    assert arms.seed_correlation(plan, trained(plan, accuracy))[1] == k * (k - 1) // 2, "one does not vary"
    for few in (accuracy[:2], accuracy[:0]):
        found, count = arms.seed_correlation(plan, trained(plan, few))
        assert (math.isnan(found), count) == (True, 0)


@pytest.mark.parametrize(("low", "odd"), [(0.3, True), (0.69, False)])
def test_a_run_far_below_its_arms_others_is_named(plan, low, odd):
    accuracy = 0.7 + 0.01 * np.random.default_rng(0).normal(size=(6, len(plan.arms)))
    accuracy[4, 2] = low
    found = arms.odd_runs(plan, trained(plan, accuracy))
    assert found.columns.to_list() == ["arm", "seed", "accuracy", "others"]
    expected = [(plan.arms[2].name, 4, low, pytest.approx(np.delete(accuracy[:, 2], 4).mean()))] if odd else []
    assert list(found.itertuples(index=False, name=None)) == expected


def test_a_quiet_arm_has_no_odd_run_by_the_plans_spread_and_few_runs_have_none(plan):
    accuracy = 0.7 + 0.01 * np.random.default_rng(0).normal(size=(6, len(plan.arms)))
    accuracy[:, 0] = 0.7 + 1e-5 * np.arange(6)
    accuracy[3, 0] = 0.69  # a thousand of its own standard deviations, one of a typical arm's
    accuracy[3:, 1] = math.nan
    accuracy[0, 1] = 0.1
    assert arms.odd_runs(plan, trained(plan, accuracy)).empty
    assert arms.odd_runs(plan, trained(plan, accuracy[:0])).empty


def worth(plan, runs):
    return arms.surroundings(plan, runs).set_index("technique").loc["dropout"]


def test_the_worth_in_two_places_is_a_contrast_of_four_arms_at_the_level_of_the_looks(plan, runs):
    """Statistics, 8: it stood at the full level, whatever looks were planned."""
    names = ["full recipe", "without dropout", "only dropout", "bare recipe"]
    values = [runs.loc[(runs["arm"] == name), schema.TEST_ACCURACY].dropna().to_numpy() for name in names]
    parts = [np.var(v, ddof=1) / len(v) for v in values]
    df = sum(parts) ** 2 / sum(p**2 / (len(v) - 1) for p, v in zip(parts, values, strict=True))
    middle = float(np.dot([1, -1, -1, 1], [v.mean() for v in values]))
    for looks, alpha in (((), 0.05), ((3, 6), 0.025)):
        found = worth(replace(plan, rule=replace(plan.rule, looks=looks)), runs)
        half = stats.t.isf(alpha / 2, df) * math.sqrt(sum(parts))
        assert found[["difference", "low", "high"]].to_list() == pytest.approx([middle, middle - half, middle + half])
        assert (found["n"], found["places"]) == (5, ("in the full recipe", "on its own"))
        assert found["within"] - found["alone"] == pytest.approx(middle)
