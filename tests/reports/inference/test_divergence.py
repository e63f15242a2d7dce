"""Divergence as an outcome of its own, against Fisher's test, and what of a page it decides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.inference import divergence, verdict

ACCURACY, GAP = schema.TEST_ACCURACY, schema.GENERALISATION_GAP


def trained(plan: PlanRecord, lost: dict[str, int], seeds: int) -> pd.DataFrame:
    """Runs of all arms, of which the first few of some diverged and have no numbers."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "arm": arm.name,
            "seed": seed,
            "run_id": f"{arm.name} {seed}",
            "outcome": schema.DIVERGED if seed < lost.get(arm.name, 0) else schema.FINISHED,
            "converged": seed >= lost.get(arm.name, 0),
            ACCURACY: 0.6 + 0.01 * rng.standard_normal(),
            GAP: 0.1 + 0.01 * rng.standard_normal(),
        }
        for arm in plan.arms
        for seed in range(seeds)
    ]
    frame = pd.DataFrame(rows)
    frame.loc[~frame["converged"], [ACCURACY, GAP]] = np.nan
    return frame


def of(plan: PlanRecord, lost: dict[str, int], seeds: int = 6) -> tuple[pd.DataFrame, pd.DataFrame]:
    asked = replace(plan, seeds=tuple(range(seeds)))
    runs = trained(asked, lost, seeds)
    verdicts = verdict.judge(asked, runs)
    return divergence.table(asked, runs, verdicts), verdicts


def by_themselves(plan: PlanRecord, lost: dict[str, int], seeds: int) -> pd.DataFrame:
    """The rows where no claim was decided by the same test."""
    asked = replace(plan, seeds=tuple(range(seeds)))
    runs = trained(asked, lost, seeds)
    return divergence.table(asked, runs, verdict.judge(asked, runs).assign(counted=False))


def test_a_row_per_two_sides_with_exact_limits_and_fishers_p(plan: PlanRecord) -> None:
    found, _ = of(plan, {"full recipe": 2, "bare recipe": 1, "only dropout": 4})
    assert found.columns.to_list() == divergence.COLUMNS
    assert len(found) == 3, "two claims compare the same two arms"
    named = found.set_index(["treatment", "control"])
    row = named.loc[("only dropout", "bare recipe")]
    assert row[["treatment_diverged", "treatment_n", "control_diverged", "control_n"]].to_list() == [4, 6, 1, 6]
    for side, k in (("treatment", 4), ("control", 1)):
        expected = proportion_confint(k, 6, 0.05, method="beta")
        assert (row[f"{side}_low"], row[f"{side}_high"]) == pytest.approx(expected)
    assert row["p"] == pytest.approx(stats.fisher_exact([[4, 2], [1, 5]]).pvalue)
    assert row["verdict"] == divergence.OPEN
    none = named.loc[("full recipe", "without dropout")]
    assert (none["control_diverged"], none["control_high"]) == (0, pytest.approx(1 - 0.025 ** (1 / 6)))


def test_an_arm_that_never_diverged_has_an_upper_limit(plan: PlanRecord) -> None:
    """Statistics, 1: 0 of 5 printed '0', where up to 52 % is possible."""
    found, _ = of(plan, {}, seeds=5)
    assert found["treatment_high"].to_list() == pytest.approx([0.522] * 3, abs=0.0005)
    assert found["verdict"].to_list() == [divergence.OPEN] * 3
    assert found["p_page"].to_list() == [1.0] * 3


@pytest.mark.slow
@pytest.mark.parametrize(("lost", "verdicts"), [(2, 0), (7, 0), (10, 1)])
def test_the_rows_share_an_error_of_their_own(plan: PlanRecord, lost: int, verdicts: int) -> None:
    found = by_themselves(plan, {"full recipe": 0, "without dropout": lost}, seeds=10)
    table = [[0, 10], [lost, 10 - lost]]
    p = stats.fisher_exact(table).pvalue
    row = found[found["control"] == "without dropout"].iloc[0]
    # No other row could have been significant, so the number of hypotheses is one (Tarone).
    assert row["p_page"] == pytest.approx(min(1, p * 0.05 / 0.01))
    assert (found["verdict"] == divergence.LESS).sum() == int(p <= 0.01)
    assert (row["verdict"] == divergence.LESS) == (p <= 0.01) or verdicts == 0


@pytest.mark.slow
def test_where_every_row_could_be_significant_it_is_holms(plan: PlanRecord) -> None:
    found = by_themselves(plan, {arm.name: k for arm, k in zip(plan.arms, (9, 1, 3, 8, 2), strict=True)}, seeds=10)
    adjusted = multipletests(found["p"], method="holm")[1]
    assert (found["p_page"] <= np.minimum(1, adjusted * 5) + 1e-12).all()
    # Each row could have given a p as small as the smallest: of 10, 12 and 10 that diverged all but two on one side.
    assert found["p_page"].min() == pytest.approx(5 * adjusted.min()) == pytest.approx(15 * found["p"].min())
    p = found.set_index("control")["p"]
    assert p["without dropout"] == pytest.approx(stats.fisher_exact([[9, 1], [1, 9]]).pvalue)
    assert found.set_index("control")["verdict"]["without dropout"] == divergence.MORE


def test_what_decided_a_claim_decides_its_row(plan: PlanRecord) -> None:
    """Six of six against none: p = .0022 by itself, which shares the error of the claims."""
    found, verdicts = of(plan, {"full recipe": 6})
    refuted = verdicts[(verdicts["treatment"] == "full recipe") & (verdicts["metric"] == ACCURACY)]
    assert refuted["verdict"].to_list() == ["refuted"] * 2
    assert refuted["counted"].all()
    assert refuted["p"].to_list() == pytest.approx([stats.fisher_exact([[6, 0], [0, 6]]).pvalue] * 2)
    assert refuted["difference"].isna().all()
    decided = found[found["verdict"] == divergence.MORE]
    assert decided["p_page"].to_list() == refuted["p_page"].to_list()
    assert found.set_index("control")["verdict"].to_dict() == {
        "without dropout": divergence.MORE,
        f"without {plan.titles['hostile']}": divergence.MORE,
        "bare recipe": divergence.OPEN,
    }


def test_the_looks_share_this_error_too(plan: PlanRecord) -> None:
    runs = trained(replace(plan, seeds=tuple(range(10))), {"without dropout": 9}, 10)
    asked = replace(plan, seeds=tuple(range(10)))
    looking = replace(asked, rule=replace(plan.rule, looks=(5, 10)))
    once, twice = (divergence.table(p, runs, verdict.judge(p, runs).assign(counted=False)) for p in (asked, looking))
    of_once, of_twice = (frame.set_index("control").loc["without dropout"] for frame in (once, twice))
    assert of_twice["p_page"] == pytest.approx(min(1, 2 * of_once["p_page"]))
    low, high = proportion_confint(9, 10, 0.025, method="beta")
    assert (of_twice["control_low"], of_twice["control_high"]) == pytest.approx((low, high))


def test_without_claims_or_runs_there_is_nothing_to_count(plan: PlanRecord, runs: pd.DataFrame) -> None:
    none = replace(plan, claims=())
    assert divergence.table(none, runs, pd.DataFrame()).empty
    empty = runs.iloc[:0]
    found = divergence.table(plan, empty, verdict.judge(plan, empty))
    assert found["treatment_n"].to_list() == [0] * 3
    assert found[["treatment_high", "p"]].isna().all(axis=None)
    assert found["verdict"].to_list() == [divergence.OPEN] * 3
