"""Contrasts of a factorial: planted effects, the axioms of Shapley values, and statsmodels' regression."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from statsmodels.stats.multitest import multipletests

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.designs import factorial, half_fraction, ladder, leave_two_out, switched_on
from cifar_ablations.ablations.record import ArmRecord, RuleRecord
from cifar_ablations.reports.inference import factorial as report
from cifar_ablations.reports.inference import verdict
from tests.reports.conftest import small_plan

FACTORS = ["a", "b", "c", "d"]
EVERY = [frozenset(s) for size in range(5) for s in combinations(FACTORS, size)]
games = hnp.arrays(np.float64, 16, elements=st.floats(-10, 10))


def plan_of(used, factors=FACTORS):
    arms = [
        ArmRecord("+".join(sorted(u)) or "bare", f"{i:016x}", levels={f: "on" if f in u else "off" for f in factors})
        for i, u in enumerate(used)
    ]
    return replace(small_plan(), arms=tuple(arms), factors=tuple(factors), claims=(), seeds=tuple(range(6)))


def runs_of(values, used):
    """values: [seeds, combinations]."""
    return pd.DataFrame(
        [
            {"arm": "+".join(sorted(u)) or "bare", "seed": seed, schema.TEST_ACCURACY: row[i], "converged": True}
            for seed, row in enumerate(values)
            for i, u in enumerate(used)
        ]
    )


def satterthwaite(weights, values, confidence=0.95):
    """The interval of a weighted sum of independent arms' means, values [seeds, arms]."""
    parts = weights**2 * np.nanvar(values, axis=0, ddof=1) / (~np.isnan(values)).sum(axis=0)
    df = parts.sum() ** 2 / (parts**2 / ((~np.isnan(values)).sum(axis=0) - 1)).sum()
    half = stats.t.ppf((1 + confidence) / 2, df) * np.sqrt(parts.sum())
    middle = weights @ np.nanmean(values, axis=0)
    return [middle - half, middle + half]


def value(game, used):
    return game[EVERY.index(frozenset(used))]


@given(games)
@settings(max_examples=50, deadline=None)
def test_shapley_is_the_mean_over_all_orders_and_adds_up(game):
    found = {f: game @ report.shapley(f, FACTORS, EVERY) for f in FACTORS}
    for factor in FACTORS:
        added = [
            value(game, order[: order.index(factor) + 1]) - value(game, order[: order.index(factor)])
            for order in permutations(FACTORS)
        ]
        assert found[factor] == pytest.approx(np.mean(added), abs=1e-9)
    assert sum(found.values()) == pytest.approx(value(game, FACTORS) - value(game, ()), abs=1e-9)


@given(games, games)
@settings(max_examples=30, deadline=None)
def test_shapley_axioms(game, other):
    weights = {f: report.shapley(f, FACTORS, EVERY) for f in FACTORS}
    dummy = np.array([value(game, used - {"d"}) for used in EVERY])
    assert dummy @ weights["d"] == pytest.approx(0, abs=1e-9)
    swapped = np.array([value(game, [{"a": "b", "b": "a"}.get(f, f) for f in used]) for used in EVERY])
    assert swapped @ weights["a"] == pytest.approx(game @ weights["b"], abs=1e-9)
    assert (game + other) @ weights["c"] == pytest.approx(game @ weights["c"] + other @ weights["c"], abs=1e-9)


def test_of_an_additive_game_shapley_main_effect_removal_and_addition_are_one():
    worth = dict(zip(FACTORS, [3.0, -1.0, 0.0, 0.5], strict=True))
    rng = np.random.default_rng(0)
    game = np.array([sum(worth[f] for f in used) for used in EVERY])
    values = game + rng.normal(size=(6, 1))  # a seed shifts all of its arms
    found = report.contributions(plan_of(EVERY), runs_of(values, EVERY), schema.TEST_ACCURACY).set_index("factor")
    for column in ("shapley", "main", "last", "first"):
        np.testing.assert_allclose(found[column], [worth[f] for f in FACTORS], atol=1e-12)
    between = report.interactions(plan_of(EVERY), runs_of(values, EVERY), schema.TEST_ACCURACY)
    np.testing.assert_allclose(between["effect"], 0, atol=1e-12)


@pytest.mark.slow
def test_planted_effects_agree_with_statsmodels_and_the_t_interval():
    rng = np.random.default_rng(1)
    signs = np.array([[1 if f in used else -1 for f in FACTORS] for used in EVERY])
    mean = 0.5 + 0.02 * signs[:, 0] - 0.01 * signs[:, 1] + 0.015 * signs[:, 0] * signs[:, 2]
    values = mean + rng.normal(0, 0.01, (6, 1)) + rng.normal(0, 0.005, (6, 16))
    runs = runs_of(values, EVERY)
    found = report.contributions(plan_of(EVERY), runs, schema.TEST_ACCURACY).set_index("factor")
    between = report.interactions(plan_of(EVERY), runs, schema.TEST_ACCURACY).set_index(["one", "other"])
    long = pd.DataFrame(
        [
            {"y": values[s, i], "seed": s, **dict(zip("PQRT", signs[i], strict=True))}
            for s in range(6)
            for i in range(16)
        ]
    )
    fit = smf.ols("y ~ C(seed) + (P + Q + R + T)**2", long).fit(cov_type="HC3")
    for factor, name in zip(FACTORS, "PQRT", strict=True):
        assert found.loc[factor, "main"] == pytest.approx(2 * fit.params[name])
    for one, other in combinations(range(4), 2):
        coefficient = fit.params[f"{'PQRT'[one]}:{'PQRT'[other]}"]
        assert between.loc[(FACTORS[one], FACTORS[other]), "effect"] == pytest.approx(4 * coefficient)
    assert between["p_holm"].idxmin() == ("a", "c")
    assert between["p_holm"].min() < 0.01
    interval = satterthwaite(signs[:, 0] / 8, values)
    assert found.loc["a", ["main_low", "main_high"]].tolist() == pytest.approx(interval)
    old = replace(plan_of(EVERY), rule=RuleRecord(0.005))  # of pairs, and what is summed is of a seed
    per_seed = values[:, signs[:, 0] > 0].mean(axis=1) - values[:, signs[:, 0] < 0].mean(axis=1)
    paired = report.contributions(old, runs, schema.TEST_ACCURACY).set_index("factor")
    expected = stats.ttest_1samp(per_seed, 0).confidence_interval()
    assert paired.loc["a", ["main_low", "main_high"]].tolist() == pytest.approx([expected.low, expected.high])
    p = report.interactions(old, runs, schema.TEST_ACCURACY)
    np.testing.assert_allclose(p["p_holm"], multipletests(p["p"], method="holm")[1])
    pair = values @ (signs[:, 0] * signs[:, 2] / 4)
    assert p.set_index(["one", "other"]).loc[("a", "c"), "p"] == pytest.approx(stats.ttest_1samp(pair, 0).pvalue)
    assert found["shapley"].sum() == pytest.approx((values[:, EVERY.index(frozenset(FACTORS))] - values[:, 0]).mean())


def test_relabelling_changes_nothing():
    values = np.random.default_rng(2).normal(size=(4, 16))
    runs = runs_of(values, EVERY)
    one = report.contributions(plan_of(EVERY), runs, schema.TEST_ACCURACY).set_index("factor")
    backwards = plan_of(EVERY[::-1], FACTORS[::-1])
    other = report.contributions(backwards, runs.sample(frac=1, random_state=0), schema.TEST_ACCURACY)
    columns = ["shapley", "shapley_low", "main", "main_high", "last", "first"]
    pd.testing.assert_frame_equal(one[columns], other.set_index("factor").loc[FACTORS, columns])


def test_the_standard_error_of_a_shapley_value_is_one_and_a_half_of_a_main_effects_for_six():
    six = [str(i) for i in range(6)]
    every = [frozenset(s) for size in range(7) for s in combinations(six, size)]
    ratio = np.linalg.norm(report.shapley("0", six, every)) / np.linalg.norm(report.main_effect("0", every))
    assert ratio == pytest.approx(1.52, abs=0.005)


def test_a_missing_run_costs_its_arm_alone_and_a_half_fraction_has_no_shapley_value():
    half = [used for used in EVERY if len(used) % 2 == 0]
    values = np.random.default_rng(3).normal(size=(5, 8))
    found = report.contributions(plan_of(half), runs_of(values, half).iloc[:-1], schema.TEST_ACCURACY)
    assert found["n"].to_list() == [4] * 4
    assert found["shapley"].isna().all()
    assert found[["shapley_low", "shapley_high"]].isna().all(axis=None)
    values[-1, -1] = np.nan
    for factor, row in found.set_index("factor").iterrows():
        weights = np.array([1 if factor in used else -1 for used in half]) / 4
        assert row["main"] == pytest.approx(weights @ np.nanmean(values, axis=0))
        assert row[["main_low", "main_high"]].tolist() == pytest.approx(satterthwaite(weights, values))


def test_intervals_hold_at_whichever_look_one_stops():
    """Statistics, 8: those of the factorial stood at the full level, whatever looks were planned."""
    values = np.random.default_rng(5).normal(size=(6, 16))
    signs = np.array([[1 if f in used else -1 for f in FACTORS] for used in EVERY])
    plan = plan_of(EVERY)
    looking = replace(plan, rule=replace(plan.rule, looks=(2, 4, 6)))
    found = report.contributions(looking, runs_of(values, EVERY), schema.TEST_ACCURACY).set_index("factor")
    expected = satterthwaite(signs[:, 0] / 8, values, 1 - 0.05 / 3)
    assert found.loc["a", ["main_low", "main_high"]].tolist() == pytest.approx(expected)
    pairs = report.interactions(looking, runs_of(values, EVERY), schema.TEST_ACCURACY).set_index(["one", "other"])
    expected = satterthwaite(signs[:, 0] * signs[:, 1] / 4, values, 1 - 0.05 / 3)
    assert pairs.loc[("a", "b"), ["low", "high"]].tolist() == pytest.approx(expected)


@pytest.mark.slow
def test_a_claim_about_a_mean_over_arms_is_the_main_effect():
    recipe = catalog.notebook_recipe()
    made = catalog.make_plan("factorial", recipe, catalog_profile(), tuple(range(6)))
    plan = made.record(catalog_profile(), small_plan().data)
    rng = np.random.default_rng(4)
    runs = pd.DataFrame(
        [
            {
                "arm": arm.name,
                "seed": seed,
                "converged": True,
                "outcome": schema.FINISHED,
                schema.TEST_ACCURACY: rng.normal(),
                schema.GENERALISATION_GAP: rng.normal(),
            }
            for arm in plan.arms
            for seed in range(6)
        ]
    )
    verdicts = verdict.judge(plan, runs)
    effects = report.contributions(plan, runs, schema.TEST_ACCURACY).set_index("factor")
    accuracy = verdicts[verdicts["metric"] == schema.TEST_ACCURACY].set_index("technique")
    for name in plan.factors:
        assert accuracy.loc[name, "difference"] == pytest.approx(effects.loc[name, "main"])
        limits = [accuracy.loc[name, limit] for limit in ("low", "high")]
        assert limits == pytest.approx(effects.loc[name, ["main_low", "main_high"]].tolist())


def catalog_profile():
    from cifar_ablations.ablations.profiles import PROFILES

    return PROFILES["quick"]


def test_designs_have_the_arms_they_promise():
    recipe = catalog.notebook_recipe()
    every = factorial(recipe)
    digests = {arm.recipe.digest(): arm.name for arm in every}
    assert len(every) == len(digests) == len(set(digests.values())) == 64
    shared = catalog.make_plan("techniques", recipe, catalog_profile(), (0,))
    assert {arm.recipe.digest(): arm.name for arm in shared.arms}.items() <= digests.items(), "trained once for both"
    half = half_fraction(recipe)
    assert len(half) == 32
    assert half[0].name == "full recipe"
    names = [t.name for t in switched_on(recipe)]
    on = np.array([[1 if n in {t.name for t in switched_on(a.recipe)} else -1 for n in names] for a in half])
    columns = [on[:, list(group)].prod(axis=1) for size in (1, 2) for group in combinations(range(6), size)]
    gram = np.array(columns) @ np.array(columns).T
    assert np.array_equal(gram, 32 * np.eye(21)), "resolution VI: mains and pairs are orthogonal"
    assert len(leave_two_out(recipe)) == 15
    rungs = ladder(recipe)
    assert [len(switched_on(arm.recipe)) for arm in rungs] == list(range(7))
    assert (rungs[0].name, rungs[-1].name) == ("bare recipe", "full recipe")
