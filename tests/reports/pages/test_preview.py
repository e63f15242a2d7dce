"""What the store says of a plan before its end: how much runs vary, and how many claims are still open."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import RuleRecord
from cifar_ablations.reports.pages import preview

DROPOUT_ALONE = "dropout moves test accuracy on its own"


def test_pilots_are_of_the_arms_runs_that_converged_of_all_seeds(written):
    pilots, runs = preview.pilot_spreads(written.uri, written.plan), written.runs
    converged = runs[runs["converged"]].groupby("arm")[schema.TEST_ACCURACY]
    (dropout, bare), mean = (converged.get_group(arm) for arm in ("only dropout", "bare recipe")), converged.mean()
    assert (len(dropout), len(bare)) == (5, 5)
    alone = pilots[DROPOUT_ALONE]
    assert alone.spread == pytest.approx(math.sqrt((np.var(dropout, ddof=1) + np.var(bare, ddof=1)) / 2))
    assert alone.possible == pytest.approx(1 - mean["bare recipe"])
    full = [*converged.get_group("full recipe"), 0.99]  # another seed, which the plan does not ask for
    without = converged.get_group("without dropout")
    spread = math.sqrt((np.var(full, ddof=1) + np.var(without, ddof=1)) / 2)
    assert pilots["dropout moves test accuracy in the full recipe"].spread == pytest.approx(spread)
    assert len(pilots) == 3, "none for the gap"


def test_an_arm_without_runs_leaves_the_spread_to_the_others(written):
    gone = {"only dropout": "0" * 16}
    plan = replace(written.plan, arms=tuple(replace(a, digest=gone.get(a.name, a.digest)) for a in written.plan.arms))
    bare = written.runs.query("arm == 'bare recipe' and converged")[schema.TEST_ACCURACY]
    assert preview.pilot_spreads(written.uri, plan)[DROPOUT_ALONE].spread == pytest.approx(bare.std(ddof=1))
    nothing = replace(plan, arms=tuple(replace(a, digest=f"{i:x}" * 16) for i, a in enumerate(plan.arms, start=9)))
    assert preview.pilot_spreads(written.uri, nothing) == {}


@pytest.fixture
def undecided(plan, monkeypatch):
    """A function from test accuracies by arm, and right answers by run id, to the number of claims that are open."""
    rule = RuleRecord(margin=0.005, test="welch t", correction="weighted holm", looks=(8, 16))
    first, *_, last = plan.claims
    plan = replace(plan, seeds=tuple(range(16)), rule=rule, claims=(first, last))
    monkeypatch.setattr(preview.load, "connect", lambda uri: None)
    monkeypatch.setattr(preview.load, "with_epochs_to_target", lambda client, runs, plan: runs)

    def count(values, answers=None):
        rows = [
            {"arm": arm, "seed": seed, "run_id": f"{arm} {seed}", "converged": True, schema.TEST_ACCURACY: value}
            for arm, of_arm in values.items()
            for seed, value in enumerate(of_arm)
        ]
        monkeypatch.setattr(preview.load, "runs_of", lambda client, plan: pd.DataFrame(rows))
        monkeypatch.setattr(preview.details, "arrays_of", lambda client, runs, plan: answers or {})
        return preview.undecided_claims("", plan)

    return plan, count


WOBBLE = 0.01 * np.tile([1, -1, 0.5, -0.5, 1.5, -1.5, 0.2, -0.2], 2)


def accuracies(plan, n, shift):
    return {arm.name: 0.5 + shift * (i == 0) + WOBBLE[:n] for i, arm in enumerate(plan.arms)}


def test_claims_are_open_until_a_look_decides_them(undecided):
    plan, count = undecided
    assert count(accuracies(plan, 7, 0.2)) == 2, "the first look has not been reached"
    assert count(accuracies(plan, 8, 0.2)) == 1, "the last claim has no effect"
    assert count(accuracies(plan, 8, 0.0)) == 2


def test_a_claim_that_no_test_applies_to_is_open(undecided):
    plan, count = undecided
    values = accuracies(plan, 8, 0.2)
    values |= {"full recipe": [math.nan] * 8, "without dropout": [math.nan] * 8}
    assert count(values) == 2
    values |= {
        "full recipe": [0.5] * 8,
        "without dropout": [0.4] * 8,
        "bare recipe": [0.1] * 8,
        "only dropout": [0.1] * 8,
    }
    assert count({name: [x[0]] * 8 for name, x in values.items()}) == 2, "nothing varies"


def test_a_claim_is_as_open_as_on_its_page_which_knows_how_much_the_images_matter(undecided):
    plan, count = undecided
    values, rng = accuracies(plan, 8, 0.05), np.random.default_rng(0)
    few = {f"{arm} {seed}": {"correct": rng.random(20) < 0.5} for arm in values for seed in range(8)}
    assert count(values) == 1
    assert count(values, few) == 2, "20 images alone make accuracies vary by 11 pp"


def test_no_claims_none_open(written):
    assert preview.undecided_claims(written.uri, replace(written.plan, claims=())) == 0
