"""Every figure's data step in plain pandas, and what all figures keep to."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cifar_ablations.ablations import schema
from cifar_ablations.reports.figures import cost, forest, learning_curves, mechanism, paired, seeds, theme
from cifar_ablations.reports.inference import verdict


@pytest.fixture
def curves(runs):
    rows = [
        {"arm": run["arm"], "seed": run["seed"], "epoch": epoch, "metric": metric, "value": scale * run["seed"] + epoch}
        for run in runs.to_dict("records")
        for epoch in (1, 2, 3)
        for metric, scale in ((schema.VALIDATION_ACCURACY, 0.01), (schema.TRAIN_LOSS, 1.0))
    ]
    return pd.DataFrame(rows)


def test_forest_data(plan, runs):
    verdicts = verdict.judge(plan, runs)
    data = forest.data(verdicts, plan.titles)
    np.testing.assert_allclose(data[["effect", "low", "high"]], 100 * verdicts[["difference", "low", "high"]])
    assert data["label"].to_list() == ["dropout", "dropout", plan.titles["hostile"], "dropout"]
    assert data["where"].to_list() == ["in the full recipe"] * 3 + ["on its own"]
    assert set(data["margin"]) == {0.5}
    nothing = verdict.judge(plan, runs.iloc[:0])
    assert forest.data(nothing, {}).empty


def test_forest_limits_do_not_follow_one_huge_interval():
    rows = pd.DataFrame({"effect": [1.0, 2.0, 3.0], "low": [0.5, 1.5, -400], "high": [1.5, 2.5, 400], "margin": 0.5})
    left, right = forest._limits(rows)
    assert -5 < left < -0.5
    assert 3 < right < 8
    left, right = forest._limits(pd.DataFrame({"effect": [2.0], "low": [np.nan], "high": [np.nan], "margin": 0.5}))
    assert left < -0.5
    assert right > 2


def test_seeds_data(plan, runs):
    data = seeds.data(runs, plan)
    dots = data[data["kind"].isin(["seed", "diverged"])]
    np.testing.assert_allclose(dots["value"], 100 * runs[schema.TEST_ACCURACY])
    lost = data[data["kind"] == "diverged"]
    assert lost[["arm", "seed"]].to_numpy().tolist() == [["bare recipe", 2]]
    assert lost["value"].isna().all(), "what diverged has no accuracy"
    assert "bare recipe: 1 diverged" in seeds.describe(data)
    assert "Bare recipe (1 diverged)" in theme.svg(seeds.draw(data), "name")
    mean = data[(data["kind"] == "mean") & (data["arm"] == "full recipe")].iloc[0]
    values = 100 * runs.loc[runs["arm"] == "full recipe", schema.TEST_ACCURACY]
    assert mean["value"] == pytest.approx(values.mean())
    assert mean["low"] == pytest.approx(values.mean() - stats.t.ppf(0.975, 5) * values.sem())
    assert data.loc[data["kind"] == "reference", "value"].to_list() == [71.0]


def test_mechanism_data(plan, runs):
    claims = tuple(replace(claim, mechanism=(schema.TRAIN_ACCURACY, schema.SECONDS)) for claim in plan.claims)
    data = mechanism.data(runs, replace(plan, claims=claims))
    rows = data[(data["metric"] == schema.TRAIN_ACCURACY) & (data["treatment"] == "full recipe")]
    rows = rows[rows["control"] == "without dropout"]
    assert tuple(rows["seed"]) == plan.seeds, "once, though two claims compare these arms"
    for column, arm in (("treatment_value", "full recipe"), ("control_value", "without dropout")):
        expected = 100 * runs.loc[(runs["arm"] == arm) & runs["converged"], schema.TRAIN_ACCURACY]
        np.testing.assert_allclose(rows[column], expected)
    assert len(data[(data["metric"] == schema.SECONDS) & (data["control"] == "bare recipe")]) == 4, "pairs with both"
    assert mechanism.data(runs, plan).empty


def test_paired_data(plan, runs):
    data = paired.data(runs, plan)
    accuracy = runs.pivot(index="seed", columns="arm", values=schema.TEST_ACCURACY) * 100
    assert data.groupby(["where", "label"], sort=False).size().to_dict() == {
        ("in the full recipe", "dropout"): 6,
        ("in the full recipe", plan.titles["hostile"]): 6,
        ("on its own", "dropout"): 4,  # one was not trained, and of another pair one diverged
    }
    rows = data[(data["label"] == "dropout") & (data["where"] == "in the full recipe")].set_index("seed")
    np.testing.assert_allclose(rows["treatment_value"], accuracy["full recipe"])
    np.testing.assert_allclose(rows["control_value"], accuracy["without dropout"])
    assert "dropout in the full recipe: higher in 6 of 6 seeds" in paired.describe(data)
    over = tuple(replace(claim, over=(("full recipe", 1.0), ("bare recipe", -1.0))) for claim in plan.claims)
    assert paired.data(runs, replace(plan, claims=over)).empty
    ledger = paired.data(runs, replace(plan, layout="ledger"))
    assert set(ledger["where"]) == {""}
    assert ledger["label"].iloc[0] == "without dropout → full recipe"


def test_cost_data(plan, runs):
    runs[schema.SECONDS] = np.arange(len(runs), dtype=float)
    data = cost.data(runs, plan)
    by_arm = runs[runs["converged"]].groupby("arm", sort=False)
    np.testing.assert_allclose(data["cost"], by_arm[schema.SECONDS].mean())
    np.testing.assert_allclose(data["value"], 100 * by_arm[schema.TEST_ACCURACY].mean())
    assert set(data["unit"]) == {"seconds"}
    assert data["named"].all()
    values = 100 * runs.loc[runs["arm"] == "full recipe", schema.TEST_ACCURACY]
    assert data["low"].iloc[0] == pytest.approx(values.mean() - stats.t.ppf(0.975, 5) * values.sem())


def test_cost_counts_images_where_an_arm_has_no_time(plan, runs):
    runs.loc[runs["arm"] == "bare recipe", schema.SECONDS] = np.nan
    assert cost.data(runs, plan)["arm"].to_list() == [a.name for a in plan.arms if a.name != "bare recipe"]
    knobs = {"budget.train_images": 4_000, "data_size.share": 0.5}
    data = cost.data(runs, replace(plan, arms=tuple(replace(arm, knobs=knobs) for arm in plan.arms)))
    assert set(data["unit"]) == {"images"}
    assert data["cost"].to_list() == [6.0] * 5, "three epochs of two thousand"
    assert "full recipe: 70" in cost.describe(data)
    assert "thousand images" in cost.describe(data)


def test_of_many_arms_the_unbeaten_bear_names(plan, runs, monkeypatch):
    monkeypatch.setattr(cost, "MOST_NAMES", 4)
    frame = pd.DataFrame({"cost": [5.0, 1, 2, 2, 3], "value": [50.0, 40, 45, 44, 52]})
    assert cost._named(frame).tolist() == [True, True, True, False, True]


def test_names_are_spread_until_none_overlaps():
    for places in ([0.5] * 6, [0.0, 0.1, 0.11, 0.12, 1.0, 1.0], [0.9, 0.95, 0.99, 1.0]):
        spread = cost.spread(places, 0.15)
        assert np.diff(spread).min() >= 0.15 - 1e-9
        assert spread[0] >= -1e-9
        assert spread[-1] <= 1
    assert cost.spread([0.1, 0.5], 0.15) == [0.1, 0.5]


def test_learning_curves_data(plan, curves):
    data = learning_curves.data(curves, plan)
    row = data[(data["panel"] == "dropout") & (data["where"] == "on its own") & (data["role"] == "with")]
    of_arm = curves[(curves["arm"] == "only dropout") & (curves["metric"] == schema.VALIDATION_ACCURACY)]
    for epoch, values in of_arm.groupby("epoch")["value"]:
        point = row.set_index("epoch").loc[epoch]
        assert point["mean"] == pytest.approx(100 * values.mean())
        limits = stats.ttest_1samp(100 * values, 0).confidence_interval(0.95)
        np.testing.assert_allclose([point["low"], point["high"]], limits)
    assert row["n"].to_list() == [5, 5, 5]
    # A technique with two claims in one place has one panel.
    assert data.groupby(["where", "panel", "role"]).size().to_list() == [3] * 6


def test_learning_curves_without_validation_or_claims(plan, curves):
    alone = replace(plan, claims=(), arms=plan.arms[:1])
    data = learning_curves.data(curves[curves["metric"] == schema.TRAIN_LOSS], alone)
    assert set(data["metric"]) == {schema.TRAIN_LOSS}
    assert data["mean"].to_list() == pytest.approx([3.5, 4.5, 5.5])


def drawn(plan, runs, curves):
    explained = replace(plan, claims=tuple(replace(c, mechanism=(schema.TRAIN_ACCURACY,)) for c in plan.claims))
    return [
        (forest, forest.data(verdict.judge(plan, runs), plan.titles)),
        (seeds, seeds.data(runs, plan)),
        (paired, paired.data(runs, plan)),
        (cost, cost.data(runs, plan)),
        (learning_curves, learning_curves.data(curves, plan)),
        (mechanism, mechanism.data(runs, explained)),
    ]


def test_figures_are_the_same_twice_and_safe_to_inline(plan, runs, curves):
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    before = dict(mpl.rcParams)
    for figure, data in drawn(plan, runs, curves):
        kept = data.copy()
        first, second = (theme.svg(figure.draw(data), "name") for _ in range(2))
        assert first == second
        pd.testing.assert_frame_equal(data, kept)
        ET.fromstring(first)
        assert "<text" in first
        assert "<script" not in first.lower()
        assert not re.search(r"<(metadata|style|image)|<dc:", first)
        assert all(name.startswith("name-") for name in re.findall(r'\bid="([^"]*)"', first))
        assert "var(--figure-ink, #1c2128)" in first
        assert figure.describe(data).count("dropout") >= 1
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []


def test_figures_with_nothing_to_show(plan, runs, curves):
    for figure, data in drawn(plan, runs.iloc[:0], curves.iloc[:0]):
        assert "<svg" in theme.svg(figure.draw(data), "empty")
        assert figure.describe(data).startswith("No ")


def test_figures_where_an_arm_or_every_run_diverged(plan, runs, curves):
    for lost in (runs["arm"] == "full recipe", runs["seed"] >= 0):
        some = runs.assign(converged=runs["converged"] & ~lost, outcome=runs["outcome"].where(~lost, schema.DIVERGED))
        some.loc[lost, [*schema.ENDINGS]] = np.nan
        for figure, data in drawn(plan, some, curves):
            assert "<svg" in theme.svg(figure.draw(data), "lost")
            assert "nan" not in figure.describe(data)


def test_figures_of_one_seed(plan, runs, curves):
    for figure, data in drawn(plan, runs[runs["seed"] == 0], curves[curves["seed"] == 0]):
        assert "<svg" in theme.svg(figure.draw(data), "one")
