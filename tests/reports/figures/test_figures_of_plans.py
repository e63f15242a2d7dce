"""Every figure's data step in plain pandas, and what all figures keep to."""

import itertools
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from scipy import stats

from cifar_ablations.ablations import schema
from cifar_ablations.reports.figures import forest, learning_curves, mechanism, paired, seeds, theme
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
    data = forest.data(verdicts, plan, runs)
    effects = data[data["kind"] == "effect"]
    np.testing.assert_allclose(effects[["effect", "low", "high"]], 100 * verdicts[["difference", "low", "high"]])
    assert effects["label"].to_list() == ["dropout", "dropout", plan.titles["hostile"], "dropout"]
    assert effects["where"].to_list() == ["in the full recipe"] * 3 + ["on its own"]
    assert effects["compared"].to_list() == ["6 + 6", "6 + 6", "6 + 6", "5 + 5"]
    assert set(data["margin"]) == {0.5}
    accuracy = 100 * runs.pivot(index="seed", columns="arm", values=schema.TEST_ACCURACY)
    for claim, treatment, control in ((0, "full recipe", "without dropout"), (3, "only dropout", "bare recipe")):
        seeds = data[(data["claim"] == claim) & (data["kind"] == "seed")].set_index("seed")["effect"]
        expected = (accuracy[treatment] - accuracy[control]).dropna()
        pd.testing.assert_series_equal(seeds, expected, check_names=False)
    nothing = verdict.judge(plan, runs.iloc[:0])
    assert forest.data(nothing, plan, runs.iloc[:0]).empty


def test_a_forest_says_which_way_and_counts_pairs(plan, runs):
    row = verdict.judge(plan, runs).iloc[0].to_dict()
    gap = {"metric": schema.GENERALISATION_GAP}
    expected = [
        ({"verdict": verdict.SUPPORTED}, "helps"),
        ({"verdict": verdict.REFUTED}, "hurts"),
        ({"verdict": verdict.EQUIVALENT}, "same"),
        ({"verdict": verdict.INCONCLUSIVE}, "open"),
        ({"verdict": verdict.SUPPORTED, "sign": -1, **gap}, "lowers"),
        ({"verdict": verdict.REFUTED, "sign": -1, **gap}, "raises"),
        ({"verdict": verdict.INCONCLUSIVE, **gap}, "open"),
    ]
    for change, word in expected:
        assert forest._word(row | change) == word
    paired_rule = replace(plan, rule=replace(plan.rule, test="paired t", correction="holm"))
    pairs = forest.data(verdict.judge(paired_rule, runs), paired_rule, runs)
    assert pairs.loc[pairs["kind"] == "effect", "compared"].to_list() == ["6", "6", "6", "4"]


SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("narrow", [False, True])
def test_a_row_of_a_forest_is_followed_by_its_seeds_which_are_not_seen(plan, runs, narrow):
    data = forest.data(verdict.judge(plan, runs), plan, runs)
    root = ET.fromstring(theme.svg(forest.draw(data, narrow=narrow), "forest"))
    found = 0
    for parent in root.iter(f"{SVG}g"):
        children = list(parent)
        for row, of_row in itertools.pairwise(children):
            if not row.get("id", "").startswith("forest-row-"):
                continue
            claim = int(row.get("id").rpartition("-")[2])
            found += 1
            assert row.get("tabindex") == "0"
            assert row.get("role") == "img"
            said = data[(data["claim"] == claim) & (data["kind"] == "effect")].iloc[0]
            assert row.get("aria-label").startswith(f"{said['label']} on ")
            assert row.get("aria-label").endswith(said["word"])
            assert of_row.get("id") == f"forest-seeds-{claim}"
            dots = list(of_row.iter(f"{SVG}use"))
            assert len(dots) == ((data["claim"] == claim) & (data["kind"] == "seed")).sum()
            assert all("fill-opacity: 0; " in dot.get("style") for dot in dots), "nor in print, nor in a file"
    assert found == 4


@pytest.mark.parametrize("narrow", [False, True])
def test_a_forest_is_read_in_words_of_a_size_that_can_be_read(plan, runs, narrow):
    data = forest.data(verdict.judge(plan, runs), plan, runs)
    data = data[(data["metric"] == schema.TEST_ACCURACY) & (data["label"] == "dropout")]
    figure = forest.draw(data, narrow=narrow)
    texts = [text for text in figure.findobj(Text) if text.get_text()]
    said = [text.get_text() for text in texts]
    assert {"Dropout", "In the full recipe", "On its own"} <= set(said)
    for row in data[data["kind"] == "effect"].to_dict("records"):
        unit = "" if narrow else " pp"
        numbers = f"{row['effect']:+.1f}{unit} [{row['low']:.1f}, {row['high']:.1f}]".replace("-", "−")
        beside = {f"{row['word']}, {row['compared']}"} if narrow else {row["word"], row["compared"]}
        assert {numbers} | beside <= set(said)
    assert figure.get_size_inches()[0] == (forest.NARROW if narrow else theme.WIDTH)
    at_least = (
        294 / forest.NARROW if narrow else 1020 / theme.WIDTH
    )  # px of an inch, on a phone 360 px wide and on a laptop
    assert min(text.get_fontsize() for text in texts) / 72 * at_least >= 11.9


def test_forest_limits_do_not_follow_one_huge_interval():
    rows = pd.DataFrame({"effect": [1.0, 2.0, 3.0], "low": [0.5, 1.5, -400], "high": [1.5, 2.5, 400], "margin": 0.5})
    left, right = forest._limits(rows)
    assert -5 < left < -0.5
    assert 3 < right < 8
    seeds = pd.DataFrame({"effect": [-1.5, 3.2], "low": np.nan, "high": np.nan, "margin": 0.5})
    left, right = forest._limits(pd.concat([rows.iloc[:2], seeds]))
    assert left < -1.5, "a seed is seen"
    assert right > 3.2
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
        (forest, forest.data(verdict.judge(plan, runs), plan, runs)),
        (seeds, seeds.data(runs, plan)),
        (paired, paired.data(runs, plan)),
        (learning_curves, learning_curves.data(curves, plan)),
        (mechanism, mechanism.data(runs, explained)),
    ]


@pytest.mark.exhaustive
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


@pytest.mark.exhaustive
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
