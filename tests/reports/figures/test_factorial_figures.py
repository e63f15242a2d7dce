"""Figures of a factorial: data steps against plain pandas, and a page of one, from a store."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import ArmRecord
from cifar_ablations.reports.figures import interactions, main_effects, specification, theme, waterfall
from cifar_ablations.reports.inference import factorial
from cifar_ablations.reports.pages import drawings, plan_page

pytestmark = pytest.mark.exhaustive

FACTORS = ("a", "b", "c")
USED = [frozenset(s) for size in (3, 2, 1, 0) for s in combinations(FACTORS, size)]
WORTH = {"a": 0.05, "b": -0.02, "c": 0.001}


def name_of(used):
    return {3: "full recipe", 0: "bare recipe"}.get(len(used), "+".join(sorted(used)))


@pytest.fixture
def crossed(plan):
    arms = tuple(
        ArmRecord(name_of(u), f"{i:016x}", levels={f: "on" if f in u else "off" for f in "abc"})
        for i, u in enumerate(USED, start=1)
    )
    titles = {"a": "the first <technique>", "b": "second", "c": "third"}
    claims = tuple(
        replace(
            plan.claims[0],
            technique=factor,
            treatment=f"with {factor}",
            control=f"without {factor}",
            family="test accuracy on average",
            over=tuple((name_of(u), 0.25 if factor in u else -0.25) for u in USED),
        )
        for factor in FACTORS
    )
    return replace(plan, arms=arms, factors=FACTORS, claims=claims, references=(), titles=titles)


@pytest.fixture
def crossed_runs(crossed):
    rows = []
    for seed in crossed.seeds:
        rng = np.random.default_rng(seed)
        for arm, used in zip(crossed.arms, USED, strict=True):
            accuracy = 0.5 + sum(WORTH[f] for f in used) + 0.03 * ({"a", "b"} <= used) + rng.normal(0, 0.002)
            endings = dict.fromkeys(schema.ENDINGS, 1.0)
            about = {"arm": arm.name, "seed": seed, "digest": arm.digest, "outcome": schema.FINISHED}
            rows.append({**about, "converged": True, **endings, schema.TEST_ACCURACY: accuracy})
    return pd.DataFrame(rows)


def test_a_waterfall_goes_from_the_bare_recipe_to_the_full_one(crossed, crossed_runs):
    short = crossed_runs.iloc[:-1]  # the bare recipe lacks a seed, which costs no other arm one
    parts = factorial.contributions(crossed, short, schema.TEST_ACCURACY)
    data = waterfall.data(parts, crossed, short)
    whole = short.groupby("arm")[schema.TEST_ACCURACY].mean() * 100
    assert data["kind"].to_list() == ["bare", *["technique"] * 3, "full"]
    assert data["end"].iloc[0] == pytest.approx(whole["bare recipe"])
    assert data["end"].iloc[-1] == pytest.approx(whole["full recipe"])
    bars = data.iloc[1:-1]
    np.testing.assert_allclose(bars["start"], data["end"].iloc[:-2])
    np.testing.assert_allclose(bars["end"] - bars["start"], bars["value"])
    assert data["end"].iloc[-2] == pytest.approx(whole["full recipe"]), "the bars add up"
    assert bars["value"].is_monotonic_decreasing
    expected = (100 * parts.set_index("factor")[["shapley", "shapley_low", "shapley_high"]]).loc[["a", "c", "b"]]
    assert bars["label"].to_list() == [crossed.titles[f] for f in ("a", "c", "b")]
    np.testing.assert_allclose(bars[["value", "low", "high"]], expected)
    assert data["n"].to_list() == [5, 5, 5, 5, 6]


def test_a_half_fraction_has_no_waterfall(crossed, crossed_runs):
    half = replace(crossed, arms=tuple(arm for arm, u in zip(crossed.arms, USED, strict=True) if len(u) % 2))
    parts = factorial.contributions(half, crossed_runs, schema.TEST_ACCURACY)
    assert waterfall.data(parts, half, crossed_runs).empty
    assert len(main_effects.data(crossed_runs, half)) == 3 * 6


def test_interactions_are_greyed_by_holms_p(crossed, crossed_runs):
    pairs = factorial.interactions(crossed, crossed_runs, schema.TEST_ACCURACY)
    data = interactions.data(pairs, crossed)
    np.testing.assert_allclose(data[["effect", "low", "high"]], 100 * pairs[["effect", "low", "high"]])
    assert data["told"].to_list() == (pairs["p_holm"] < 0.05).to_list()
    told = data.set_index(["one", "other"])["told"]
    assert told["the first <technique>", "second"]
    strictest = replace(crossed, rule=replace(crossed.rule, alpha=0.0))
    assert interactions.data(pairs, strictest)["told"].sum() == 0
    svg = theme.svg(interactions.draw(data), "x")
    shades = re.findall(r"fill: var\(--figure-(?:second|accent), [^)]*\)(?:; fill-opacity: ([\d.]+))?", svg)
    assert sum(float(shade or 1) > 0.01 for shade in shades) == int(data["told"].sum())
    assert "the first <technique> and second" in interactions.describe(data)


def test_main_effects_are_means_over_arms_of_a_seed(crossed, crossed_runs):
    data = main_effects.data(crossed_runs, crossed)
    table = crossed_runs.pivot(index="seed", columns="arm", values=schema.TEST_ACCURACY) * 100
    for factor in FACTORS:
        rows = data[data["label"] == crossed.titles[factor]].set_index("seed")
        with_factor = [name_of(used) for used in USED if factor in used]
        np.testing.assert_allclose(rows["treatment_value"], table[with_factor].mean(axis=1))
        np.testing.assert_allclose(rows["control_value"], table.drop(columns=with_factor).mean(axis=1))
    parts = factorial.contributions(crossed, crossed_runs, schema.TEST_ACCURACY)
    means = data.groupby("label", sort=False)[["treatment_value", "control_value"]].mean()
    np.testing.assert_allclose(means["treatment_value"] - means["control_value"], 100 * parts["main"])


def test_a_specification_curve_is_every_simple_effect_in_order(crossed, crossed_runs):
    data = specification.data(crossed_runs, crossed)
    accuracies = crossed_runs.pivot(index="seed", columns="arm", values=schema.TEST_ACCURACY) * 100
    assert list(data.groupby("label", sort=False).size()) == [4, 4, 4]
    for factor in FACTORS:
        rows = data[data["label"] == crossed.titles[factor]]
        assert list(rows["effect"]) == sorted(rows["effect"])
        for row in rows.to_dict("records"):
            others = frozenset(f for f in FACTORS if f != factor and crossed.titles[f] in row["beside"])
            treatment, control = (accuracies[name_of(used)] for used in (others | {factor}, others))
            assert row["effect"] == pytest.approx(treatment.mean() - control.mean())
            welch = stats.ttest_ind(treatment, control, equal_var=False).confidence_interval(0.95)
            assert row["low"] < row["effect"] < row["high"]
            # The page's test borrows a little from the other arms, so its interval is not Welch's to the digit.
            assert row["high"] - row["low"] == pytest.approx(welch.high - welch.low, rel=0.4)
    sides = specification.told(data)
    assert set(sides[data["label"] == crossed.titles["a"]]) == {specification.HIGHER}
    assert "of 4 combinations" in specification.describe(data)
    half = replace(crossed, arms=tuple(a for a, u in zip(crossed.arms, USED, strict=True) if len(u) % 2))
    assert specification.data(crossed_runs, half).empty, "no two of its arms differ in one technique"


@pytest.mark.parametrize("seeds", [0, 1, 6])
def test_figures_are_whole_with_any_number_of_seeds(crossed, crossed_runs, seeds):
    runs = crossed_runs[crossed_runs["seed"] < seeds]
    parts = factorial.contributions(crossed, runs, schema.TEST_ACCURACY)
    pairs = factorial.interactions(crossed, runs, schema.TEST_ACCURACY)
    drawings = [
        (waterfall, waterfall.data(parts, crossed, runs)),
        (main_effects, main_effects.data(runs, crossed)),
        (interactions, interactions.data(pairs, crossed)),
        (specification, specification.data(runs, crossed)),
    ]
    for figure, data in drawings:
        kept = data.copy()
        first, second = (theme.svg(figure.draw(data), "name") for _ in range(2))
        assert first == second
        pd.testing.assert_frame_equal(data, kept)
        ET.fromstring(first)
        assert not re.search(r"<(metadata|style|image|technique)", first)
        assert figure.describe(data).startswith("No ") == (seeds == 0)


@pytest.mark.parametrize("many", [20, 7])
def test_a_factorials_page(crossed, crossed_runs, tmp_path, monkeypatch, many):
    from tests.reports.conftest import Writer
    from tests.reports.pages.test_plan_page import Parsed

    monkeypatch.setattr(drawings, "MANY_ARMS", many)
    writer = Writer(tmp_path)
    experiment = writer.experiment("crossed")
    small = replace(crossed, seeds=(0, 1))
    parent = writer.invoke(experiment, small)
    for row in crossed_runs[crossed_runs["seed"] < 2].to_dict("records"):
        writer.train(experiment, parent, small, row)
    (path,) = plan_page.write_reports(writer.uri, tmp_path / "pages")
    parsed = Parsed(path.read_text(encoding="utf-8"))
    named = {
        attributes["id"].partition("-")[0] for tag, attributes in parsed.elements if tag == "g" and "id" in attributes
    }
    assert {"waterfall", "main_effects", "specification", "interactions", "forest", "seeds", "curves"} <= named
    assert "paired" not in named, "the main effects show it"
    assert sum(details.get("class") == "mechanism" for details in parsed.all("details")) == 3, "one per technique"
    assert len(parsed.all("tfoot")) == 2
    assert "The first <technique>" in parsed.text
    files = {Path(a["href"]).name for a in parsed.all("a") if a.get("href", "").startswith("techniques-")}
    assert files == {file.name for file in path.parent.iterdir()} - {path.name, "how-to-read.html"}
    assert not math.isnan(pd.read_csv(path.with_name(f"{path.stem}-interactions.csv"))["effect"].sum())
