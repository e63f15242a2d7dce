"""The verdicts of one real run of `techniques`, quick profile, five seeds, against figures reckoned elsewhere.

`fixtures/quick-run.csv` has the accuracies and gaps of its 70 trainings. The expected figures were
computed from the same trainings by another program, written before this one, and are rounded as they were published.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cifar_ablations.ablations import catalog, profiles, schema
from cifar_ablations.ablations.designs import ALL
from cifar_ablations.ablations.record import DataRecord
from cifar_ablations.reports.inference import arms, divergence, verdict

FILE = Path(__file__).parents[2] / "fixtures" / "quick-run.csv"

FULL, ALONE = "in the full recipe", "on its own"
EXPECTED = [
    ("initialisation", FULL, schema.TEST_ACCURACY, "supported", 5.37, 3.38, 7.37, 0.00020, 0.0023),
    ("optimizer", FULL, schema.TEST_ACCURACY, "inconclusive", 4.32, 0.95, 7.69, 0.0149, 0.064),
    ("augmentation", FULL, schema.TEST_ACCURACY, "refuted", -4.79, -6.84, -2.74, 0.00042, 0.0045),
    ("dropout", FULL, schema.TEST_ACCURACY, "refuted", -3.80, -5.93, -1.68, 0.0022, 0.027),
    ("schedule", FULL, schema.TEST_ACCURACY, "inconclusive", 1.43, -1.20, 4.06, 0.24, 1),
    ("weight_decay", FULL, schema.TEST_ACCURACY, "inconclusive", 0.19, -1.79, 2.17, 0.82, 1),
    ("augmentation", FULL, schema.GENERALISATION_GAP, "supported", -17.84, -19.32, -16.35, 6e-10, 0),
    ("dropout", FULL, schema.GENERALISATION_GAP, "inconclusive", -1.27, -2.21, -0.33, 0.017, 0.26),
    ("weight_decay", FULL, schema.GENERALISATION_GAP, "inconclusive", 0.26, -0.87, 1.38, 0.63, 1),
    ("initialisation", ALONE, schema.TEST_ACCURACY, "refuted", -4.46, -6.24, -2.68, 0.00024, 0.0035),
    ("augmentation", ALONE, schema.TEST_ACCURACY, "refuted", -5.50, -9.01, -1.99, 0.0064, 0.032),
    ("augmentation", ALONE, schema.GENERALISATION_GAP, "supported", -15.49, -16.83, -14.15, 3e-10, 0),
    ("dropout", ALONE, schema.GENERALISATION_GAP, "supported", -7.28, -9.77, -4.79, 0.00014, 0.0007),
    ("weight_decay", ALONE, schema.GENERALISATION_GAP, "inconclusive", 0.61, -1.06, 2.28, 0.41, 1),
]


@pytest.fixture(scope="module")
def plan():
    profile = profiles.profile("quick")
    asked = catalog.make_plan("techniques", profile.apply(catalog.notebook_recipe()), profile, tuple(range(5)))
    # Those figures are of a page without the claim about all techniques together.
    claims = tuple(claim for claim in asked.claims if claim.technique != ALL)
    return replace(asked, claims=claims).record(profile, DataRecord("cifar10", "0" * 16))


@pytest.fixture(scope="module")
def runs():
    frame = pd.read_csv(FILE).rename(
        columns={"test_accuracy": schema.TEST_ACCURACY, "generalisation_gap": schema.GENERALISATION_GAP}
    )
    return frame.assign(converged=frame["outcome"] != schema.DIVERGED)


@pytest.mark.slow
@pytest.mark.parametrize(("technique", "where", "metric", "said", "difference", "low", "high", "p", "p_page"), EXPECTED)
def test_the_verdicts_of_a_real_run(plan, runs, technique, where, metric, said, difference, low, high, p, p_page):
    judged = verdict.judge(plan, runs)
    (row,) = judged[
        (judged["technique"] == technique) & (judged["where"] == where) & (judged["metric"] == metric)
    ].to_dict("records")
    assert row["verdict"] == said
    assert [100 * row[name] for name in ("difference", "low", "high")] == pytest.approx(
        [difference, low, high], abs=0.006
    )
    assert row["p"] == pytest.approx(p, rel=0.06, abs=5e-11)
    assert row["p_page"] == pytest.approx(p_page, rel=0.03, abs=1e-4)


def test_of_eighteen_claims_eight_are_decided(plan, runs):
    judged = verdict.judge(plan, runs)
    assert (judged["verdict"] != "inconclusive").sum() == 8
    assert not (judged["verdict"] == "equivalent").any()


def test_seeds_hardly_make_arms_alike(plan, runs):
    rho, pairs = arms.seed_correlation(plan, runs)
    assert pairs == 91
    assert abs(rho) < 0.1


def test_one_lost_run_is_shown_and_decides_nothing(plan, runs):
    table = divergence.table(plan, runs, verdict.judge(plan, runs)).set_index("treatment")
    alone = table.loc["only Kaiming initialisation"]
    assert alone["treatment_diverged"] == 1
    assert [alone["treatment_low"], alone["treatment_high"]] == pytest.approx([0.005, 0.716], abs=0.001)
    assert [alone["control_low"], alone["control_high"]] == pytest.approx([0, 0.522], abs=0.001)
    assert alone["p"] == pytest.approx(1)
    assert (table["verdict"] == divergence.OPEN).all()
    assert np.isclose(table["p_page"], 1).all()
