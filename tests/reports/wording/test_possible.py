"""No number is printed that a metric cannot have: detectable effects, limits of intervals, what a plan could find."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.metrics import metric
from cifar_ablations.ablations.record import ArmRecord
from cifar_ablations.reports.figures import forest, seeds, waterfall
from cifar_ablations.reports.inference import contrast, verdict
from cifar_ablations.reports.inference.arms import arm_table, placements
from cifar_ablations.reports.wording import answer, headlines, phrases, tables
from tests.reports.conftest import small_plan
from tests.reports.inference.test_verdict import frame

SHARE = st.floats(0, 1, allow_nan=False)
POINTS = re.compile(r"([+−]?[\d.]+(?:e\d+)?)(?= ?pp)")
BRACKETS = re.compile(r"\[([−\d.]+), ([−\d.]+)\]")


def number(text):
    return float(text.replace("−", "-").replace("+", ""))


def printed(text):
    """Every number of percentage points and every limit in a text; α and p values are none."""
    ranges = re.findall(r"([\d.]+) to ([\d.]+) pp", text)
    found = [*POINTS.findall(text), *(x for pair in (*BRACKETS.findall(text), *ranges) for x in pair)]
    return [abs(number(x)) for x in found]


def of_two_arms(plan, treatment, control):
    plan = replace(plan, claims=plan.claims[:1], seeds=tuple(range(len(control))))
    return plan, frame(plan, {"full recipe": treatment, "without dropout": control})


@pytest.mark.exhaustive
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SHARE, SHARE), min_size=2, max_size=4))
def test_nothing_impossible_is_printed_whatever_the_runs(pairs):
    treatment, control = zip(*pairs, strict=True)
    plan, runs = of_two_arms(small_plan(), treatment, control)
    verdicts = phrases.with_sentences(plan, verdict.judge(plan, runs))
    row = verdicts.iloc[0].to_dict()
    most = 100 * max(np.mean(control), 1 - np.mean(control))
    shown = phrases.detectable(row)
    assert shown in ("–", phrases.NOTHING_FINDABLE) or number(shown) <= most + 0.005
    strength = " ".join(answer.strength(plan, verdicts, verdict.error_rate(verdict.shape_of(plan))))
    texts = [
        row["sentence"],
        *headlines.sentences(plan, verdicts),
        strength,
        tables.as_markdown(tables.short_verdicts(verdicts)),
    ]
    arms = arm_table(plan, runs).to_dict("records")
    texts += [
        phrases.share_interval(a["low"], a["high"]) + phrases.std_interval(a["std_low"], a["std_high"]) for a in arms
    ]
    texts += answer.of_references(plan, placements(plan, runs))
    texts += [
        forest.describe(forest.data(verdicts, plan, runs)),
        phrases.limits(row["metric"], -9.0, 9.0, row["reach"]),
    ]
    assert max([x for text in texts for x in printed(text)], default=0) <= 100
    for limits in (
        forest.data(verdicts, plan, runs),
        seeds.data(runs, plan),
    ):
        assert limits[["low", "high"]].abs().max().fillna(0).max() <= 100
    for text in (row["sentence"], strength):
        detectable = re.search(r"(?:detectable at this n:|typically) ([\d.]+) pp", text)
        assert detectable is None or float(detectable[1]) <= most + 0.005


def test_a_detectable_effect_is_possible_or_there_is_none(plan):
    pattern = np.array([1, -1, 0.5, -0.5, 0, 0])

    def judged(spread):
        two, runs = of_two_arms(plan, 0.5 + spread * pattern, 0.5 + spread * pattern[::-1])
        return phrases.with_sentences(two, verdict.judge(two, runs)).iloc[0].to_dict()

    small = judged(0.01)
    for spread, findable in ((0.01, True), (0.01 * 0.7 / small["detectable"], False)):
        row = judged(spread)
        assert row["possible"] == pytest.approx(0.5)
        assert phrases.findable(row) is findable
        assert phrases.detectable(row) == (f"{100 * row['detectable']:.2f}" if findable else phrases.NOTHING_FINDABLE)
        assert (phrases.NOTHING_FINDABLE in row["sentence"]) is not findable
        assert row["detectable"] == pytest.approx(0.7) or findable, "more than the control allows, less than 100 points"


def test_the_strength_names_only_what_can_happen_and_counts_the_rest(plan, runs):
    verdicts = phrases.with_sentences(plan, verdict.judge(plan, runs))
    accuracy = verdicts["metric"] == schema.TEST_ACCURACY

    def said():
        return answer.strength(plan, verdicts, 0.04)[-1]

    verdicts.loc[accuracy, "detectable"], verdicts.loc[accuracy, "possible"] = [0.02, 0.04, 0.6], 0.55
    assert "a change of test accuracy of 2.00 to 4.00 pp would be found" in said()
    assert "; for 1 of 3 claims nothing this plan could find;" in said()
    verdicts.loc[accuracy, "detectable"] = [0.02, 0.03, 0.06]
    assert "of typically 3.00 pp (2.00 to 6.00 pp) would" in said()
    assert phrases.NOTHING_FINDABLE not in said()
    verdicts.loc[accuracy, "detectable"] = 0.6
    assert said().endswith("no change of test accuracy could be found reliably.")


def test_what_a_metric_allows(plan):
    claim = plan.claims[0]
    about = replace(claim, metric=schema.GENERALISATION_GAP)
    assert metric(schema.TEST_ACCURACY).bounds == (0, 1)
    assert metric(schema.GENERALISATION_GAP).bounds == (-1, 1)
    assert contrast.possible(claim, 0.3) == pytest.approx(0.7)
    assert contrast.possible(claim, 0.8) == pytest.approx(0.8)
    assert contrast.possible(claim, math.nan) == 1
    assert contrast.possible(about, 0.1) == 1
    assert contrast.possible(replace(claim, metric=schema.WEIGHT_NORM), 40.0) == math.inf
    beyond = replace(claim, beyond=("only dropout", "bare recipe"))
    assert contrast.reach(claim) == 1
    assert contrast.reach(beyond) == 2
    assert contrast.possible(beyond, 0.2) == pytest.approx(1.2)
    over = replace(claim, over=(("a", 0.5), ("b", 0.5), ("c", -1.0)))
    assert (contrast.reach(over), contrast.possible(over, 0.3)) == (1, pytest.approx(0.7))


def test_limits_end_where_the_possible_does_and_the_file_keeps_them(plan):
    two, runs = of_two_arms(plan, [0.9, 0.2], [0.1, 0.3])
    verdicts = phrases.with_sentences(two, verdict.judge(two, runs))
    row = verdicts.iloc[0].to_dict()
    assert row["low"] < -1
    assert row["high"] > 1
    assert "[−100.00, 100.00]" in phrases.effect(row)
    kept = tables.verdict_table(verdicts, two).iloc[0]
    assert (kept["low"], kept["high"]) == (row["low"], row["high"])
    assert phrases.limits(schema.TEST_ACCURACY, -3, 3, 2) == "[−200.00, 200.00]"
    assert phrases.limits(schema.WEIGHT_NORM, -300.0, 300.0) == "[−300, 300]"
    assert phrases.share_interval(-0.2, 1.3) == "[0.00, 100.00]"
    assert phrases.std_interval(0.01, 0.9) == "[1.00, 50.00]"
    shares = pd.DataFrame({"factor": ["dropout"], "n": [2], "shapley": 0.1, "shapley_low": -4.0, "shapley_high": 4.0})
    arms = tuple(ArmRecord(name, name, levels={"dropout": level}) for name, level in (("bare", "off"), ("full", "on")))
    factorial = replace(plan, factors=("dropout",), arms=arms)
    both = pd.DataFrame({"arm": ["bare", "full"], "seed": 0, schema.TEST_ACCURACY: [0.4, 0.5]})
    assert "from −100.00 to +100.00" in waterfall.describe(waterfall.data(shares, factorial, both))
