"""Runs of other programs, judged: by the numbers of scipy and of the suite's own pages, and as a page."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import ClaimRecord
from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.inference import divergence, simulation, verdict
from cifar_ablations.reports.pages import rendering
from cifar_ablations.reports.pages.judged_page import judge
from cifar_ablations.reports.pages.result import EFFECT_COLUMNS
from cifar_ablations.reports.wording import phrases, tables
from tests.reports.conftest import HOSTILE, planted_runs, small_plan

EXAMPLE = Path(__file__).parents[3] / "examples" / "judge" / "results.csv"


def table(sizes=(8, 8, 8), effects=(0.0, 0.05, 0.001), seed=0, metric="accuracy", lost=()):
    """Runs of arms a, b, c of these sizes, with means 0.7 and these effects, and sd 0.01; lost: places of no number."""
    rng = np.random.default_rng(seed)
    rows = [
        (name, i, 0.7 + effect + rng.normal(0, 0.01))
        for name, size, effect in zip("abcdefgh", sizes, effects, strict=False)
        for i in range(size)
    ]
    frame = pd.DataFrame(rows, columns=["arm", "seed", metric])
    frame.loc[list(lost), metric] = math.nan
    return frame


def values_of(frame, arm, metric="accuracy"):
    return frame.loc[frame["arm"] == arm, metric].dropna().to_numpy()


def against_full_recipe(plan):
    """The plan with a claim on the test accuracy of each arm against the first."""
    first, *others = [arm.name for arm in plan.arms]
    title = phrases.metric_title(schema.TEST_ACCURACY)
    claims = [
        ClaimRecord(f"{arm} raises it", arm, schema.TEST_ACCURACY, 1, arm, first, f"{title} against {first}", "")
        for arm in others
    ]
    return replace(plan, claims=tuple(claims))


SHARED = [
    *("difference", "low", "high", "p", "p_page", "tost_p", "tost_p_page", "detectable", "seeds_needed", "seeds"),
    *("shrunken", "shrunken_low", "shrunken_high", "exaggeration", "correlation", "possible", "margin"),
    *("n", "least", "treatment_n", "treatment_ended", "treatment_diverged", "treatment_mean", "treatment_std"),
    *("control_n", "control_ended", "control_diverged", "control_mean", "control_std", "counted", "forbidden"),
]
"""What does not depend on the wording of a claim."""


@pytest.mark.slow
@pytest.mark.parametrize("losing", [False, True])
def test_the_file_of_runs_of_a_plan_gives_what_its_page_says(losing):
    plan = against_full_recipe(small_plan())
    runs = planted_runs(plan)
    missing = runs[runs["arm"] == "only dropout"].iloc[0].to_dict() | {"seed": 5, schema.TEST_ACCURACY: 0.52}
    runs = pd.concat([runs, pd.DataFrame([missing])], ignore_index=True)
    if losing:
        lost = (runs["arm"] == "only dropout") & (runs["seed"] > 0)
        runs.loc[lost, ["converged", schema.TEST_ACCURACY]] = [False, math.nan]
    page = verdict.judge(plan, runs)
    csv = rendering.csv(tables.run_table(plan, runs.assign(run_id="x")))  # as it lies beside the page
    found = judge(pd.read_csv(io.BytesIO(csv)), metric="test_accuracy", control="full recipe")
    assert found.verdicts[SHARED].astype(float).to_numpy() == pytest.approx(
        page[SHARED].astype(float).to_numpy(), rel=1e-5, abs=1e-7, nan_ok=True
    )
    said = [phrases.outcome(row) for row in page.to_dict("records")]
    assert list(found.effects["verdict"]) == said
    assert len(set(said)) > 1
    assert found.error_rate == verdict.error_rate(verdict.shape_of(plan))
    diverged = divergence.table(plan, runs, page)
    assert found.divergence["p_page"].to_numpy() == pytest.approx(diverged["p_page"].to_numpy())
    assert list(found.divergence["verdict"]) == list(diverged["verdict"])


def test_whether_a_plan_waits_for_runs_changes_no_number_where_all_are_there(plan):
    runs = planted_runs(plan)
    runs = runs[runs["arm"].isin(["full recipe", "without dropout"])]
    some = replace(plan, arms=plan.arms[:2], claims=plan.claims[:2])
    pd.testing.assert_frame_equal(verdict.judge(some, runs), verdict.judge(some, runs, complete=True))


@pytest.mark.exhaustive
@given(sizes=st.lists(st.integers(2, 12), min_size=3, max_size=3), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
@patch.object(verdict, "error_rate", lambda shape: 0.0)  # which takes a second for each shape
def test_intervals_of_independent_arms_are_those_of_welch(sizes, seed):
    frame = table(sizes, seed=seed).drop(columns="seed")
    found = judge(frame, metric="accuracy", control="a")
    for row in found.verdicts.to_dict("records"):
        one, other = values_of(frame, row["treatment"]), values_of(frame, "a")
        expected = stats.ttest_ind(one, other, equal_var=False).confidence_interval()
        assert row["difference"] == pytest.approx(one.mean() - other.mean())
        assert (row["low"], row["high"]) == pytest.approx((expected.low, expected.high))
        assert row["seeds"] == round(2 / (1 / len(one) + 1 / len(other)))
    assert f"Arms have {min(sizes)} to {max(sizes)} runs." in found.pairing_sentence or len(set(sizes)) == 1


@pytest.mark.slow
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_pairs_are_tested_as_pairs(seed):
    frame = table(seed=seed).sample(frac=1, random_state=1)
    found = judge(frame, metric="accuracy", control="a", paired=True)
    for row in found.verdicts.to_dict("records"):
        one, other = (frame[frame["arm"] == arm].set_index("seed")["accuracy"] for arm in (row["treatment"], "a"))
        expected = stats.ttest_rel(one.sort_index(), other.sort_index())
        assert row["p"] == pytest.approx(expected.pvalue)
        assert (row["low"], row["high"]) == pytest.approx(tuple(expected.confidence_interval()))
        assert row["correlation"] == pytest.approx(np.corrcoef(one.sort_index(), other.sort_index())[0, 1])
    assert "each once; they are compared within seeds (paired t test)" in found.pairing_sentence


def test_means_of_arms_have_the_interval_of_t():
    frame = table(lost=[3])
    row = judge(frame, metric="accuracy", control="a").arms.set_index("arm").loc["a"]
    known = values_of(frame, "a")
    interval = stats.ttest_1samp(known, 0).confidence_interval()
    assert (row["n"], row["diverged"], row["mean"]) == (8, 1, pytest.approx(known.mean()))
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))


def test_an_arm_that_lost_runs_is_never_called_better():
    frame = table(lost=[8])  # one of b, which is five points better
    found = judge(frame, metric="accuracy", control="a")
    assert found.verdicts["reason"].iloc[0] == verdict.LOST
    assert "counts as diverged: 1 of 8 of 'b'" in found.caveats[0]
    # All of b's: how many diverged decides, by Fisher's test.
    for metric in ("accuracy", "loss"):
        found = judge(table(lost=range(8, 16), metric=metric), metric=metric, control="a")
        assert found.verdicts["p"].iloc[0] == pytest.approx(stats.fisher_exact([[8, 0], [0, 8]]).pvalue)
        assert found.effects["verdict"].iloc[0] == "more diverge"
        assert "more diverge</span>" in found.to_html()


@pytest.mark.parametrize(
    ("metric", "better", "outcome"),
    [
        ("accuracy", None, "helps"),
        ("accuracy", "lower", "hurts"),
        ("val_loss", None, "hurts"),
        ("val_loss", "higher", "helps"),
        ("reward", None, "helps"),
    ],
)
def test_which_way_helps_is_told_or_guessed(metric, better, outcome):
    found = judge(table(metric=metric), metric=metric, control="a", better=better)
    assert found.effects["verdict"].iloc[0] == outcome
    assert found.verdicts["verdict"].iloc[0] == verdict.SUPPORTED, "it differs, in whichever direction"
    assert found.verdicts["sentence"].iloc[0].startswith(f"{outcome.capitalize()}: ")
    assert found.rows[0].outcome == outcome


@pytest.mark.parametrize(("expect", "outcome"), [("higher", "supported"), ("lower", "opposite found")])
def test_a_direction_that_was_claimed_is_found_or_its_opposite(expect, outcome):
    found = judge(table(), metric="accuracy", control="a", expect=expect)
    assert found.rows[0].outcome == outcome
    assert found.verdicts["sentence"].iloc[0].lower().startswith(outcome)
    assert f"{outcome}</span>" in found.to_html()


@pytest.mark.slow
@pytest.mark.parametrize(("metric", "margin", "said"), [("accuracy", 0.03, "3 pp"), ("reward", 0.03, "0.03")])
def test_what_lies_within_the_margin_is_the_same(metric, margin, said):
    found = judge(table((15,) * 3, metric=metric), metric=metric, control="a", margin=margin)
    assert found.effects["verdict"].iloc[1] == f"same within {said}"
    assert found.lines[-1].label == f"Same within {said}"
    assert f"±{said}" in found.to_html()
    assert judge(table((15,) * 3, metric="reward"), metric="reward", control="a").effects["verdict"].iloc[1] == "open"


def test_per_cent_and_fractions_are_judged_alike():
    frame = table(lost=[20])
    one = judge(frame, metric="accuracy", control="a")
    other = judge(frame.assign(accuracy=100 * frame["accuracy"]), metric="accuracy", control="a")
    numbers = one.effects.select_dtypes("number").columns
    assert other.effects[numbers].to_numpy() == pytest.approx(one.effects[numbers].to_numpy())
    assert list(other.effects["verdict"]) == list(one.effects["verdict"])
    assert any("read as per cent" in sentence for sentence in other.caveats)


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1e-4, 1.0, 1e4])
def test_the_unit_of_a_metric_changes_no_verdict_and_no_figure_has_points(factor):
    frame = table(metric="reward")
    found = judge(frame.assign(reward=factor * frame["reward"]), metric="reward", control="a")
    one = judge(frame, metric="reward", control="a")
    assert list(found.effects["verdict"]) == list(one.effects["verdict"])
    assert found.effects["p"].to_numpy() == pytest.approx(one.effects["p"].to_numpy())
    html = found.to_html()
    assert " pp" not in html
    assert "percentage points" not in html
    low, high = found.verdicts.loc[0, ["low", "high"]]
    assert f"[{phrases.significant(low)}, {phrases.significant(high)}]" in html
    # Of the figure's digits two are of the interval's half width, in a unit that it names.
    label = found.plot.forest().get_xlabel()
    power, digits = {1e-4: (6, 8), 1.0: (3, 4), 1e4: (0, 0)}[factor]
    assert label == f"difference in reward{', × 10⁻' + '³⁶'[power // 3 - 1] if power else ''}"
    data = found.drawings["forest"][1]
    assert data["effect"].iloc[0] == pytest.approx(found.effects["effect"].iloc[0] * 10**power)
    assert found.amount(factor * 0.7) == phrases.number(factor * 0.7, digits)


def test_seeds_are_drawn_where_they_are_shared():
    assert (judge(table(), metric="accuracy", control="a").drawings["forest"][1]["kind"] == "seed").sum() == 16
    unpaired = judge(table((8, 7, 8)), metric="accuracy", control="a")
    assert (unpaired.drawings["forest"][1]["kind"] == "effect").all()
    assert unpaired.verdicts["correlation"].isna().all()
    assert "'b' has not the control's seeds: arms are compared as independent" in unpaired.pairing_sentence


def test_several_rows_of_one_training_are_warned_of():
    frame = pd.concat([table().assign(epoch=epoch) for epoch in (1, 2)])
    frame["accuracy"] += np.arange(len(frame)) * 1e-5
    said = judge(frame, metric="accuracy", control="a").pairing_sentence
    assert "24 rows repeat the arm and seed of another" in said
    assert "if several are of one training, as “epoch” suggests, keep one of each" in said


def test_too_few_runs_get_no_verdict():
    found = judge(table((2, 2, 2)), metric="accuracy", control="a")
    assert found.error_rate > 0.05
    assert set(found.verdicts["reason"]) == {verdict.TOO_FEW}
    assert any("No verdicts" in sentence for sentence in found.strength)
    assert "too few seeds" in found.to_html()


def test_errors_are_simulated_for_the_runs_that_there_are():
    plan = judge(table((8, 8, 8)), metric="accuracy", control="a").plan
    counts = pd.Series({"a": 8, "b": 8, "c": 8})
    assert verdict.shape_of(plan, counts=counts).runs == ()
    shape = verdict.shape_of(plan, counts=pd.Series({"a": 8, "b": 3, "c": 3}))
    assert (shape.seeds, shape.runs) == (8, (8, 3, 3))
    sample = simulation.drawn(shape, simulation.Setting(), 50, np.random.default_rng(0))[plan.claims[0].metric]
    assert (sample.count == [8, 3, 3]).all()
    assert (sample.lacking == 0).all()
    many = verdict.shape_of(replace(plan, seeds=tuple(range(500))), counts=pd.Series({"a": 500, "b": 400, "c": 5}))
    assert (many.seeds, many.runs) == (30, (30, 30, 5))


def test_an_arm_of_many_runs_does_not_make_few_enough():
    found = judge(table((12, 3, 3)).drop(columns="seed"), metric="accuracy", control="a")
    counts = pd.Series({"a": 12, "b": 3, "c": 3})
    assert found.error_rate == verdict.error_rate(verdict.shape_of(found.plan, counts=counts))
    assert found.error_rate > verdict.error_rate(verdict.shape_of(found.plan))


@pytest.mark.slow
def test_the_page_is_whole_and_escapes(tmp_path):
    frame = table().replace({"arm": {"b": HOSTILE}})
    frame = frame.assign(data_kind=schema.REHEARSAL)
    path = judge(frame, metric="accuracy", control="a", name="<b>file</b>").save(
        tmp_path / "page.html", "ablate judge x"
    )
    text = path.read_text(encoding="utf-8")
    assert HOSTILE not in text
    assert "<b>file" not in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org", "")
    assert "ablate judge x" in text
    assert "Rehearsal on drawn images" in text
    assert text.count("<h2") == 4
    assert 'id="forest-' in text
    assert 'id="forest_narrow-' in text


def test_a_notebook_and_a_script_get_the_same():
    found = judge(EXAMPLE, metric="accuracy", control="baseline")
    assert list(found.effects.columns) == EFFECT_COLUMNS
    assert list(found.effects["metric"].unique()) == ["accuracy"]
    assert repr(found).startswith("<Judged results.csv: 24 runs>\nHelps: no augmentation +6.8 pp against baseline")
    assert found._repr_html_().startswith("<iframe srcdoc=")
    assert found.plot.names == ["forest", "forest_narrow"]
    with theme.styled():
        assert "percentage points" in found.plot.forest().get_xlabel()
