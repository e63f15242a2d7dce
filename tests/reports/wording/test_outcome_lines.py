"""What came of a plan in a line each says what the verdicts and the table of arms say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.designs import OVERALL
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.inference import verdict
from cifar_ablations.reports.inference.arms import arm_table
from cifar_ablations.reports.wording import outcome_lines, phrases
from cifar_ablations.reports.wording.outcome_lines import Line


def judged(plan: PlanRecord, runs: pd.DataFrame) -> pd.DataFrame:
    return phrases.with_sentences(plan, verdict.judge(plan, runs))


def test_a_line_has_what_its_verdict_has(plan: PlanRecord, runs: pd.DataFrame) -> None:
    verdicts = judged(plan, runs)
    rows = verdicts[verdicts["metric"] == schema.TEST_ACCURACY].to_dict("records")
    lines = outcome_lines.of_techniques(plan, verdicts)
    assert len(lines) == len(rows) == 3
    for line, row in zip(lines, rows, strict=True):
        assert (line.place.lower(), line.without, line.with_it) == (
            row["where"],
            row["control_mean"],
            row["treatment_mean"],
        )
        assert (line.low, line.difference, line.high) == (row["low"], row["difference"], row["high"])
        assert line.effect.startswith(f"{100 * row['difference']:+.2f}".replace("-", "−"))
        assert f"{100 * row['high']:.2f}".replace("-", "−") in line.effect
    assert (lines[0].what, lines[0].outcome, lines[0].said) == ("dropout", "helps", "helps")
    # "only dropout" has not been trained with every seed.
    assert (lines[2].outcome, lines[2].why, lines[2].said) == ("open", "runs missing", "open: runs missing")
    assert outcome_lines.of_techniques(plan, verdicts[:0]) == []


def test_every_reason_for_which_a_claim_is_open_has_words() -> None:
    reasons = {
        value
        for name, value in vars(verdict).items()
        if name.isupper() and isinstance(value, str) and value not in verdict.VERDICTS
    }
    assert reasons == set(outcome_lines.WHY_OPEN)
    assert all(len(words) <= 22 for words in outcome_lines.WHY_OPEN.values())


def test_too_few_seeds_are_the_reason_and_the_effect_stands(plan: PlanRecord, runs: pd.DataFrame) -> None:
    few = replace(plan, seeds=(0, 1))
    line = outcome_lines.of_techniques(few, judged(few, runs[runs["seed"] < 2]))[0]
    assert line.said == "open: too few seeds"
    assert line.effect.startswith("+")


def test_runs_that_diverge_are_the_effect_where_they_decide(plan: PlanRecord, runs: pd.DataFrame) -> None:
    lost = runs["arm"] == "full recipe"
    diverged = runs.assign(
        converged=~lost & runs["converged"],
        outcome=np.where(lost, schema.DIVERGED, runs["outcome"]),
        **{schema.TEST_ACCURACY: runs[schema.TEST_ACCURACY].mask(lost)},
    )
    line = outcome_lines.of_techniques(plan, judged(plan, diverged))[0]
    assert (line.effect, line.way) == ("6 against 0 diverged", phrases.HURTS)
    assert np.isnan([line.low, line.difference, line.high]).all(), "there is no interval to draw"


def test_the_whole_comes_first_and_is_told_by_its_arms(plan: PlanRecord, runs: pd.DataFrame) -> None:
    whole = replace(
        plan.claims[0],
        technique="everything",
        treatment="full recipe",
        control="bare recipe",
        family=f"test accuracy {OVERALL}",
    )
    asked = replace(plan, claims=(*plan.claims, whole))
    lines = outcome_lines.of_techniques(asked, judged(asked, runs))
    assert (lines[0].place, lines[0].what) == ("Overall", "full recipe against bare recipe")
    assert [line.place for line in lines[1:]] == ["In the full recipe", "In the full recipe", "On its own"]


def test_statements_have_the_effect_on_their_own_metric(plan: PlanRecord, runs: pd.DataFrame) -> None:
    verdicts = judged(plan, runs)
    lines = outcome_lines.of_statements(verdicts)
    assert [line.what for line in lines] == [claim.statement for claim in plan.claims]
    assert [line.outcome for line in lines] == [phrases.LABELS[kind] for kind in verdicts["verdict"]]
    assert lines[0].effect.endswith(" pp")
    assert outcome_lines.of_statements(verdicts[:0]) == []


def test_a_rehearsal_is_not_said_in_every_line(plan: PlanRecord, runs: pd.DataFrame) -> None:
    drawn = replace(plan, data=replace(plan.data, stand_in=True))
    verdicts = judged(drawn, runs)
    assert phrases.outcome(verdicts.to_dict("records")[0]).endswith(phrases.REHEARSED)
    for lines in (outcome_lines.of_techniques(drawn, verdicts), outcome_lines.of_statements(verdicts)):
        assert not any("rehearsal" in line.said for line in lines)


def test_arms_are_ranked_by_their_means(plan: PlanRecord, runs: pd.DataFrame) -> None:
    lines = outcome_lines.of_arms(arm_table(plan, runs))
    means = runs.groupby("arm")[schema.TEST_ACCURACY].mean().sort_values(ascending=False)
    assert [line.arm for line in lines] == list(means.index)
    assert [line.accuracy for line in lines] == pytest.approx(list(means))
    (bare,) = [line for line in lines if line.arm == "bare recipe"]
    assert (bare.n, bare.diverged) == (6, 1)
    assert outcome_lines.of_arms(arm_table(plan, runs[:0])) == []


def line(what: str, difference: float, way: str) -> Line:
    return Line("", what, 0.5, 0.5, difference, -1.0, 1.0, "", way, way)


def test_the_most_telling_are_the_decided_then_the_same_then_the_largest_open_ones() -> None:
    nothing = float("nan")
    lines = [
        line("open, small", 0.01, phrases.OPEN),
        line("same", 0.001, phrases.SAME),
        line("hurts a little", -0.02, phrases.HURTS),
        line("open, unknown", nothing, phrases.OPEN),
        line("open, large", -0.2, phrases.OPEN),
        line("helps a lot", 0.1, phrases.HELPS),
    ]

    def names(room: int) -> list[str]:
        return [one.what for one in outcome_lines.most_telling(lines, room)]

    assert names(1) == ["helps a lot"]
    assert names(2) == ["hurts a little", "helps a lot"]
    assert names(4) == ["same", "hurts a little", "open, large", "helps a lot"]
    assert names(5) == ["open, small", "same", "hurts a little", "open, large", "helps a lot"]
    assert names(9) == [one.what for one in lines]
