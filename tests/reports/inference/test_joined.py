"""Two plans joined by what their arms and claims are: recipes, not names, and differences by the numbers of others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import ArmRecord
from cifar_ablations.reports.inference import joined, verdict
from cifar_ablations.reports.inference.joined import AGAIN, APART, EQUAL, OVERLAP, PART, SAME, Side
from tests.reports.conftest import HOSTILE, planted_runs, small_plan

ACCURACY = schema.TEST_ACCURACY


def side(plan=None, *, seed=0, ids="a", shift=0.0, seeds=None) -> Side:
    """A plan with all its runs; each has noise of its own by `seed`, and `shift` on the accuracy of the full recipe."""
    plan = plan or small_plan()
    plan = replace(plan, seeds=tuple(seeds) if seeds is not None else plan.seeds)
    rng = np.random.default_rng(seed)
    rows = [
        {
            "arm": arm.name,
            "seed": number,
            "run_id": f"{ids}{place}-{number}",
            "outcome": schema.FINISHED,
            "converged": True,
            ACCURACY: 0.6 + rng.normal(0, 0.01) + shift * (place == 0),
            schema.TEST_LOSS: 1 + rng.normal(0, 0.1),
            schema.GENERALISATION_GAP: 0.05 + rng.normal(0, 0.01),
        }
        for place, arm in enumerate(plan.arms)
        for number in plan.seeds
    ]
    runs = pd.DataFrame(rows)
    return Side(plan, runs, verdict.judge(plan, runs))


def renamed(plan, **names):
    """The plan with other names of some arms, by their place: `a0="baseline"`."""
    new = {plan.arms[int(place[1:])].name: name for place, name in names.items()}
    arms = tuple(replace(arm, name=new.get(arm.name, arm.name)) for arm in plan.arms)
    claims = tuple(
        replace(one, treatment=new.get(one.treatment, one.treatment), control=new.get(one.control, one.control))
        for one in plan.claims
    )
    return replace(plan, name="renamed", arms=arms, claims=claims, references=())


def values(one: Side, place: int, metric=ACCURACY):
    return one.runs.loc[one.runs["arm"] == one.plan.arms[place].name, metric].dropna().to_numpy()


@pytest.mark.slow
def test_the_difference_of_differences_is_that_of_statsmodels_and_welch_and_satterthwaite():
    one, other = side(seed=1), side(renamed(small_plan(), a0="baseline"), seed=2, ids="b", seeds=range(50, 59))
    found = joined.join(one, other)
    row = found.claims.iloc[0]  # dropout in the full recipe
    cells = [values(one, 1), values(one, 0), values(other, 1), values(other, 0)]
    contrast = np.array([1.0, -1.0, -1.0, 1.0])
    y = np.concatenate(cells)
    design = np.repeat(np.eye(4), [len(cell) for cell in cells], axis=0)
    told = OLS(y, design).fit(cov_type="HC2").t_test(contrast)  # of cell means: s² / n of each
    parts = np.array([cell.var(ddof=1) / len(cell) for cell in cells])
    df = parts.sum() ** 2 / (parts**2 / [len(cell) - 1 for cell in cells]).sum()
    assert row["runs"] == APART
    assert row["difference"] == pytest.approx(told.effect.item())
    assert row["df"] == pytest.approx(df)
    assert (row["low"], row["high"]) == pytest.approx(stats.t.interval(0.95, df, told.effect.item(), told.sd.item()))
    assert row["p"] == pytest.approx(2 * stats.t.sf(abs(told.tvalue.item()), df))
    assert found.claims["p_page"].to_list() == pytest.approx(multipletests(found.claims["p"], method="holm")[1])


def test_sides_that_compare_within_seeds_are_two_samples_of_their_differences():
    plan = replace(small_plan(), rule=replace(small_plan().rule, test="paired t", correction="holm"))
    one, other = side(plan, seed=1), side(plan, seed=2, ids="b", seeds=range(20, 28))
    row = joined.join(one, other).claims.iloc[0]
    expected = stats.ttest_ind(*(values(each, 0) - values(each, 1) for each in (other, one)), equal_var=False)
    assert (row["p"], row["df"]) == pytest.approx((expected.pvalue, expected.df))
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_seeds_that_were_trained_again_are_compared_within_seeds():
    one, other = side(seed=1), side(seed=2, ids="b")
    found = joined.join(one, other)
    assert set(found.claims["runs"]) == set(found.arms["runs"]) == {AGAIN}
    expected = stats.ttest_rel(*(values(each, 0) - values(each, 1) for each in (other, one)))
    row, arm = found.claims.iloc[0], found.arms.iloc[0]
    assert (row["p"], row["df"], row["least"]) == pytest.approx((expected.pvalue, 5, 6))
    assert (row["low"], row["high"]) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    of_arm = stats.ttest_rel(values(other, 0), values(one, 0)).confidence_interval(0.95)
    assert (arm["low"], arm["high"]) == pytest.approx(tuple(of_arm))


def test_what_differs_is_found_and_what_does_not_is_not():
    found = joined.join(side(seed=1), side(seed=2, ids="b", shift=0.1, seeds=range(50, 56))).claims
    accuracy = found["metric"] == ACCURACY
    full = found["first"].isin([0, 2])
    assert found.loc[accuracy & full, "differs"].all()
    assert not found.loc[~(accuracy & full), "differs"].any()
    two = joined.join(side(seed=1, seeds=(0, 1)), side(seed=2, ids="b", shift=0.5, seeds=range(50, 56))).claims
    assert (two["p_page"] <= 0.05).any()
    assert not two["differs"].any(), "two runs are too few"


def test_a_store_beside_itself_is_the_same_runs_and_no_comparison():
    one = side(seed=1)
    found = joined.join(one, one)
    for frame in (found.claims, found.arms):
        assert set(frame["runs"]) == {SAME}
        assert (frame["difference"] == 0).all()
        assert frame[["low", "high"]].isna().all(axis=None)
    assert found.claims["p_page"].isna().all()
    assert found.claims["agree"].all()
    assert found.only_arms == ([], [])
    assert found.only_claims == ([], [])


def test_equal_results_and_shared_runs_are_told_from_runs_of_their_own():
    one = side(seed=1)
    again = replace(one, runs=one.runs.assign(run_id="z" + one.runs["run_id"]))
    assert set(joined.join(one, again).claims["runs"]) == {EQUAL}
    few = replace(one, plan=replace(one.plan, seeds=(0, 1, 2)), runs=one.runs[one.runs["seed"] < 3])
    assert set(joined.join(one, few).claims["runs"]) == {PART}
    some = side(seed=2, ids="b", seeds=range(3, 12))
    found = joined.join(one, some)
    assert set(found.claims["runs"]) == {OVERLAP}
    assert found.claims["p"].notna().all()
    images = replace(one.plan, data=replace(one.plan.data, digest="other"))
    found = joined.join(one, replace(again, plan=images))
    assert set(found.claims["runs"]) == {APART}, "on other images they are other trainings"
    assert found.claims["exact"].all()


def test_an_arm_of_another_name_is_the_same_arm_and_a_claim_said_backwards_the_same_claim():
    plan = renamed(small_plan(), a0="baseline", a1="no dropout")
    first, *rest = plan.claims
    backwards = replace(first, statement="doing without costs", sign=-1, treatment="no dropout", control="baseline")
    plan = replace(plan, claims=(*rest, backwards))
    one, other = side(seed=1), side(plan, seed=2, ids="b", seeds=range(50, 56))
    found = joined.join(one, other)
    assert found.arms["first"].to_list()[:2] == [("full recipe",), ("without dropout",)]
    assert found.arms["second"].to_list()[:2] == [("baseline",), ("no dropout",)]
    row = found.claims.iloc[0]
    assert (row["first"], row["second"], row["turned"]) == (0, 3, -1)
    told = [values(each, 0).mean() - values(each, 1).mean() for each in (one, other)]
    assert row["difference"] == pytest.approx(told[1] - told[0])
    assert found.only_claims == ([], [])


def test_an_arm_of_the_same_name_and_another_recipe_is_not_the_same_arm():
    plan = small_plan()
    knobs = {"dropout.p": 0.5, "optimizer.rate": 0.1}
    arms = [replace(arm, knobs=knobs, levels={"dropout": "on"}) for arm in plan.arms]
    changed = [replace(arms[0], digest="ff" * 8, knobs=knobs | {"dropout.p": 0.3}), *arms[1:]]
    one = side(replace(plan, arms=tuple(arms)))
    found = joined.join(one, side(replace(plan, arms=tuple(changed)), ids="b", seeds=range(50, 56)))
    assert found.namesakes == {"full recipe": {"dropout.p": (0.5, 0.3)}}
    assert "full recipe" not in {name for names in found.arms["first"] for name in names}
    assert found.claims["first"].to_list() == [3], "the one claim that is not about it"
    assert found.only_claims == ([0, 1, 2], [0, 1, 2])
    assert found.only_arms == ([], [])


def sized(plan, digest, **sizes):
    """The plan at a size: its arms with knobs, other digests, and a technique more that is off."""
    knobs = [{"dropout.p": 0.5 * (place != 1), "optimizer.rate": 0.1 * (place + 1)} for place in range(len(plan.arms))]
    size = {f"budget.{name}": value for name, value in sizes.items()}
    arms = tuple(
        ArmRecord(arm.name, f"{digest}{place:015x}", own | size | {"noise.s": 0.0}, {"dropout": "on", "noise": "off"})
        for place, (arm, own) in enumerate(zip(plan.arms, knobs, strict=True))
    )
    return replace(plan, arms=arms)


def test_recipes_at_another_budget_are_joined_by_their_techniques():
    long, short = sized(small_plan(), "a", epochs=30, batch_size=32), sized(small_plan(), "b", epochs=3, batch_size=32)
    found = joined.join(side(long, seed=1), side(renamed(short, a0="baseline"), seed=2, ids="b"))
    assert found.sizes == {"budget.epochs": (30, 3)}
    assert not found.arms["exact"].any()
    assert not found.claims["exact"].any()
    assert len(found.claims) == 4
    assert set(found.claims["runs"]) == {APART}, "the same seeds, but no run at one budget is one at another"


def test_a_size_that_a_plan_varies_tells_its_arms_apart():
    plan = sized(small_plan(), "a", epochs=30)
    longer = replace(plan.arms[0], name="longer", digest="c" * 16, knobs=plan.arms[0].knobs | {"budget.epochs": 60})
    several = replace(plan, arms=(*plan.arms, longer))
    at_60 = sized(small_plan(), "d", epochs=60)
    pairs = joined.pairs_of(several, at_60)
    assert [(pair.sides[0][0].name, pair.sides[1][0].name) for pair in pairs] == [("longer", "full recipe")]


def test_nothing_in_common_is_told_with_all_that_each_has():
    plan = small_plan()
    others = tuple(replace(arm, name=f"{arm.name} there", digest=f"f{arm.digest[1:]}") for arm in plan.arms)
    names = {arm.name: other.name for arm, other in zip(plan.arms, others, strict=True)}
    claims = tuple(replace(c, treatment=names[c.treatment], control=names[c.control]) for c in plan.claims)
    found = joined.join(side(), side(replace(plan, arms=others, claims=claims, references=())))
    assert found.claims.empty
    assert found.arms.empty
    assert found.only_arms == ([arm.name for arm in plan.arms], [arm.name for arm in others])
    assert found.only_claims == ([0, 1, 2, 3], [0, 1, 2, 3])
    without = joined.join(side(), side(replace(plan, claims=()), ids="b"))
    assert without.claims.empty
    assert len(without.arms) == 5


def test_runs_that_diverged_or_are_missing_leave_the_numbers_of_the_others():
    plan = small_plan()
    runs = planted_runs(plan).assign(run_id=lambda frame: frame["arm"] + frame["seed"].astype(str))
    one, other = Side(plan, runs, verdict.judge(plan, runs)), side(seed=2, ids="b", seeds=range(50, 56))
    found = joined.join(one, other)
    arms = {row["first"][0]: row for row in found.arms.to_dict("records")}
    assert (arms["bare recipe"]["first_n"], arms["bare recipe"]["first_ended"]) == (5, 6)
    assert (arms["only dropout"]["first_n"], arms["only dropout"]["first_ended"]) == (5, 5)
    assert f"without {HOSTILE}" in arms
    assert found.claims["least"].to_list() == [6, 6, 6, 5]
    one_seed = side(seeds=(0,))
    assert joined.join(one_seed, other).claims["p"].isna().all()
