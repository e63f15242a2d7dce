"""The answer that stands in MLflow: what it says, and which arm an effect is written beside."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.reports.inference import verdict
from cifar_ablations.reports.pages import description, findings
from cifar_ablations.reports.reading import load
from tests.reports.conftest import HOSTILE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(written):
    known = load.invocations(written.uri)
    return findings.of_invocation(load.connect(written.uri), known[0], known)


def test_it_has_question_answer_numbers_and_where_the_page_lies(results):
    text = description.of_plan(results, "page.html")
    first, answer, *_ = text.split("\n\n")
    assert first.startswith("**What is each technique worth")
    assert "dropout" in answer
    assert answer.startswith("- ")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    of_accuracy = results.verdicts[results.verdicts["metric"] == schema.TEST_ACCURACY]
    assert len(rows) == 2 + len(of_accuracy)
    for row, line in zip(of_accuracy.to_dict("records"), rows[2:], strict=True):
        assert f"{100 * abs(row['difference']):.2f} pp" in line
        assert row["obstacle"] in line
        assert f"{100 * row['treatment_mean']:.1f} %" in line
    run, experiment = results.invocation.run_id, results.invocation.experiment_id
    assert f"(#/experiments/{experiment}/runs/{run}/artifacts/page.html?workflowType=machine_learning)" in text
    assert results.plan.digest in text
    assert "<script" not in text.replace("\\<", "")
    assert len(text) < 8_000


def test_a_rehearsal_is_called_one_and_many_claims_are_cut(results):
    drawn = replace(results.invocation, plan=replace(results.plan, data=replace(results.plan.data, stand_in=True)))
    assert "Rehearsal on drawn images" in description.of_plan(replace(results, invocation=drawn), "page.html")
    accuracy = results.verdicts[results.verdicts["metric"] == schema.TEST_ACCURACY]
    many = replace(results, verdicts=accuracy.iloc[[0] * 90].reset_index(drop=True))
    text = description.of_plan(many, "page.html")
    assert "50 more stand on the page." in text
    assert len(text) < 8_000


def test_a_plan_without_claims_or_results_has_a_description_too(results):
    bare = replace(results, invocation=replace(results.invocation, plan=replace(results.plan, claims=())))
    bare = replace(bare, verdicts=results.verdicts.iloc[:0])
    assert "| " not in description.of_plan(bare, "page.html")
    assert description.effects(bare) == []


def test_an_effect_stands_beside_the_arm_that_differs(results):
    found = {one.arm: one for one in description.effects(results)}
    assert set(found) == {"without dropout", f"without {HOSTILE}", "only dropout"}
    rows = {
        (row["treatment"], row["control"]): row
        for row in results.verdicts.to_dict("records")
        if row["metric"] == schema.TEST_ACCURACY
    }
    row = rows["full recipe", "without dropout"]
    one = found["without dropout"]
    assert (one.effect, one.low, one.high) == (row["difference"], row["low"], row["high"])
    assert row["verdict"] == verdict.SUPPORTED
    assert (one.outcome, one.about) == ("helps", "dropout in the full recipe")


def test_a_claim_without_a_number_and_one_about_many_arms_have_no_effect(results):
    unknown = replace(results, verdicts=results.verdicts.assign(difference=float("nan")))
    assert description.effects(unknown) == []
    claims = tuple(replace(claim, over=(("full recipe", 1.0), ("bare recipe", -1.0))) for claim in results.plan.claims)
    many = replace(results.invocation, plan=replace(results.plan, claims=claims))
    assert description.effects(replace(results, invocation=many)) == []
