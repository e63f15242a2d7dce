"""The answer in a few lines: each finding in the line of its kind, with its number, and nothing that is a selection."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.reports.inference import verdict
from cifar_ablations.reports.inference.arms import arm_table
from cifar_ablations.reports.wording import headlines, phrases
from tests.reports.conftest import HOSTILE
from tests.reports.inference.test_verdict import WOBBLE, frame

KINDS = {"supported": "Helps", "refuted": "Hurts", "equivalent": "Same within 0.5 pp", "inconclusive": "Open"}


def judged(plan, **columns):
    arms = {arm.name: 0.5 + 0.05 * i + WOBBLE[:6] for i, arm in enumerate(plan.arms)}
    return phrases.with_sentences(plan, verdict.judge(plan, frame(plan, arms))).assign(**columns)


@pytest.mark.parametrize("kind", KINDS)
def test_a_finding_stands_in_the_line_of_its_kind_with_its_number(plan, kind):
    verdicts = judged(plan, verdict=kind, difference=[0.0123, 0.5, -0.0456, 0.2], obstacle="", reason="")
    (line,) = headlines.of_plan(plan, verdicts)
    assert line.label == KINDS[kind]
    said = f"{HOSTILE} −4.6 pp and dropout +1.2 pp in the full recipe; dropout +20.0 pp on its own"
    assert line.text.startswith(said), "the larger first"
    assert "50" not in line.text, "claims about the gap are not in it"
    assert headlines.sentences(plan, verdicts) == [f"{line.label}: {line.text}."]


def test_the_largest_come_first_and_the_rest_is_counted(plan):
    claim = plan.claims[0]
    names = [f"t{i}" for i in range(7)]
    many = replace(plan, claims=tuple(replace(claim, technique=n) for n in names), titles={n: n.upper() for n in names})
    verdicts = judged(many, verdict="supported", difference=np.arange(1, 8) / 100, obstacle="", reason="")
    (line,) = headlines.of_plan(many, verdicts)
    assert line.text == "T6 +7.0 pp, T5 +6.0 pp, T4 +5.0 pp, T3 +4.0 pp and 3 more in the full recipe"


@pytest.mark.parametrize(
    ("detectable", "margins", "said"),
    [
        (
            [0.03, 0.04],
            math.nan,
            "; about 24 seeds would settle dropout on its own, if its effect is as large as it looks",
        ),
        (
            [0.03, 0.04],
            20.0,
            "; about 20 seeds would settle dropout in the full recipe, if its effect is as large as it",
        ),
        ([math.nan, math.nan], math.nan, "dropout +2.0 pp on its own"),
    ],
)
def test_what_is_open_says_what_would_settle_it(plan, detectable, margins, said):
    """The effect that is found shrinks with the root of the seeds: of 6 that find 4 pp, 24 find 2 pp."""
    two = replace(plan, claims=(plan.claims[0], plan.claims[3]))
    numbers = {"difference": [0.01, 0.02], "detectable": detectable, "seeds_needed": margins, "seeds": 6}
    verdicts = judged(two, verdict="inconclusive", reason="", obstacle="", **numbers)
    (line,) = headlines.of_plan(two, verdicts)
    assert said in line.text
    assert line.text.startswith("dropout +1.0 pp in the full recipe; dropout +2.0 pp on its own")


def test_one_reason_for_all_is_said_once(plan):
    verdicts = judged(plan, verdict="inconclusive", reason=verdict.TOO_FEW, obstacle="too few seeds for verdicts (2)")
    assert headlines.sentences(plan, verdicts) == ["Open: 3 of 3 claims: too few seeds for verdicts (2)."]
    waiting = judged(plan, verdict="inconclusive", reason=verdict.UNFINISHED, obstacle="runs are missing")
    assert headlines.sentences(plan, waiting) == ["Open: 3 of 3 claims wait for runs."]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("supported", "as claimed"),
        ("refuted", "the opposite of the claim"),
        ("equivalent", "the same within 0.5 pp"),
        ("inconclusive", "open"),
    ],
)
def test_a_claim_about_everything_is_answered_first(plan, kind, said):
    claim = replace(plan.claims[0], family=f"{phrases.metric_title(schema.TEST_ACCURACY)} overall")
    asked = replace(plan, claims=(*plan.claims, claim))
    verdicts = judged(asked, verdict=kind, reason="", obstacle="")
    row = verdicts.iloc[-1]
    first = headlines.of_plan(asked, verdicts)[0]
    assert first.label == "Overall"
    assert first.text == (
        f"full recipe {100 * row['treatment_mean']:.1f} %, without dropout {100 * row['control_mean']:.1f} %: "
        f"{phrases.points(row['difference'], 1)} pp, {said}"
    )


def test_more_runs_that_diverge_hurt_whatever_the_difference(plan):
    counts = {"treatment_diverged": 5, "treatment_ended": 6, "control_diverged": 0, "control_ended": 6}
    verdicts = judged(plan, verdict="refuted", counted=True, difference=0.2, obstacle="", reason="", **counts)
    (line,) = headlines.of_plan(plan, verdicts)
    assert line.label == "Hurts"
    assert "dropout 5 of 6 runs diverged, against 0 of 6 on its own" in line.text.replace(HOSTILE, "")


def test_a_ledger_counts_its_statements_and_names_them(plan):
    ledger = replace(plan, layout="ledger")
    verdicts = judged(plan, verdict=["supported", "refuted", "supported", "inconclusive"])
    lines = headlines.of_plan(ledger, verdicts)
    assert [line.label for line in lines] == ["Supported", "Opposite found", "Open"]
    assert lines[0].text.startswith("2 of 4 statements, in 3 epochs on 5,000 images: ")
    assert lines[1].text.startswith("1 of 4 statements: ")
    assert lines[2].text == "1 of 4 statements"
    assert verdicts["statement"][1] in lines[1].text


def test_the_highest_mean_is_called_a_selection(plan, runs):
    said = headlines.highest_mean(plan, arm_table(plan, runs))
    best = runs.groupby("arm")[schema.TEST_ACCURACY].mean()
    assert said.startswith(f"Highest mean of 5 arms, not tested: {best.idxmax()}, {100 * best.max():.1f} %.")
    assert headlines.highest_mean(plan, arm_table(plan, runs).iloc[:2]) == ""
    assert headlines.highest_mean(replace(plan, claims=()), arm_table(plan, runs)) == ""


def test_nothing_claimed_is_nothing_answered(plan):
    assert headlines.of_plan(plan, pd.DataFrame()) == []
