"""The statistics hold what they promise, by simulation: few draws by default, all of them with the slow tests."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import calibration, coverage
from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import ArmRecord
from cifar_ablations.reports.inference import factorial, statistics, verdict

DRAWS = pytest.mark.parametrize("draws", [200, pytest.param(10_000, marks=pytest.mark.slow)])


@DRAWS
def test_equal_arms_are_found_different_as_rarely_as_said(draws):
    low, high = calibration.limits(draws)
    for row in calibration.nulls(draws, seed=1):
        if row.noise == "normal":
            assert low <= row.false_positives <= high, row
        # Without normal noise the t test of symmetric differences errs on the safe side.
        assert row.false_positives <= high, row
        assert row.coverage == pytest.approx(1 - row.false_positives, abs=1e-9)


@DRAWS
def test_holm_keeps_the_family_and_without_it_the_family_is_lost(draws):
    _, high = calibration.limits(draws)
    for n, corrected, uncorrected in calibration.family_wise(draws, seed=1):
        assert corrected <= high, n
        assert uncorrected > high, "leaving the correction out must show"


@DRAWS
def test_power_is_the_non_central_ts(draws):
    for n, effect, found, theory in calibration.powers(draws, seed=1):
        low, high = stats.binom(draws, theory).ppf([0.0005, 0.9995]) / draws
        assert low <= found <= high, (n, effect)


def within(rate, draws, promised=0.95, exact=True):
    low, high = calibration.limits(draws, promised)
    return low <= rate <= (high if exact else 1)


@DRAWS
@pytest.mark.parametrize("kind", ["of_samples", "of_factorials", "of_images", "of_e_process"])
def test_intervals_hold_the_true_value_as_often_as_said(draws, kind):
    found = list(getattr(coverage, kind)(draws, seed=1))
    assert len({(row.interval, row.case, row.n) for row in found}) == len(found) >= 3
    for row in found:
        assert within(row.rate, draws, exact=row.exact), row


@pytest.mark.parametrize("seeds", [(3, 8), pytest.param(coverage.SEEDS, marks=pytest.mark.slow)])
def test_intervals_of_shares_hold_every_true_share_at_least_as_often_as_said(monkeypatch, seeds):
    monkeypatch.setattr(coverage, "SEEDS", seeds)
    found = list(coverage.of_shares())
    assert len(found) == 4 * len(seeds)
    assert all(0.95 <= row.rate <= 1 for row in found), found


def test_a_t_interval_looked_at_again_and_again_does_not_hold_all_along():
    """What the e-process is for; and the simulation would see it if its intervals were too narrow."""
    d = np.random.default_rng(0).standard_normal((200, coverage.LONGEST))
    ends = range(2, coverage.LONGEST + 1)
    means = np.array([d[:, :n].mean(axis=1) for n in ends])
    spreads = np.array([d[:, :n].std(axis=1, ddof=1) for n in ends])
    halves = spreads * np.array([[stats.t.ppf(0.975, n - 1) / n**0.5] for n in ends])
    assert (abs(means) <= halves).all(axis=0).mean() < 0.8


def test_effects_of_a_factorial_are_planted_as_the_report_computes_them(plan):
    names = {used: "+".join(sorted(used)) or "bare" for used in coverage.USED}
    arms = [
        ArmRecord(name, f"{i:016x}", levels={f: "on" if f in used else "off" for f in coverage.FACTORS})
        for i, (used, name) in enumerate(names.items())
    ]
    plan = replace(plan, arms=tuple(arms), factors=coverage.FACTORS)
    runs = pd.DataFrame(
        [
            {"arm": name, "seed": seed, schema.TEST_ACCURACY: coverage.worth(used) + seed}
            for used, name in names.items()
            for seed in range(3)
        ]
    )
    found = factorial.contributions(plan, runs, schema.TEST_ACCURACY).set_index("factor")
    assert found.loc["a", "shapley"] == pytest.approx(2.0 + 1.5 / 2 - 0.7 / 3)
    assert found.loc["a", "main"] == pytest.approx(2.0 + 1.5 / 2 - 0.7 / 4)
    between = factorial.interactions(plan, runs, schema.TEST_ACCURACY)
    assert between["effect"].iloc[0] == pytest.approx(1.5 - 0.7 / 2)


@DRAWS
def test_looks_keep_the_family_and_without_their_correction_it_is_lost(draws):
    found = list(calibration.looked(draws, seed=1))
    _, high = calibration.limits(draws)
    assert [row.kept for row in found] == [True, False, False, True, False]
    adaptive, uncorrected, nothing, still, _ = (row.wrong for row in found)
    assert max(adaptive, still) <= high
    assert adaptive < uncorrected < nothing
    assert nothing > 0.2
    if draws >= 10_000:
        assert uncorrected > high
    assert [row.level for row in found] == pytest.approx([0.05 / 3, 0.05, 0.05, 0.05, 0.05])


@DRAWS
def test_large_effects_are_decided_at_the_first_looks(draws):
    found = {(row.test, row.effect): row for row in calibration.seeds_used(draws // 2, seed=1)}
    for test, looks in calibration.WAYS:
        rows = [found[test, effect] for effect in (0.0, 0.5, 1.0, 2.0)]
        for row in rows:
            assert set(row.at) == set(looks)
            assert sum(row.at.values()) <= 1 + 1e-9
            assert looks[0] <= row.seeds <= looks[-1]
        assert rows[3].equivalent < 0.01
        assert rows[3].seeds < rows[2].seeds < rows[1].seeds
    for effect in (0.5, 1.0, 2.0):
        repeated = draws // 2
        power = statistics.power_of_t_test(effect, 5, 0.05 / 3)
        either = found["paired t", effect].at[5]
        low, high = stats.binom(repeated, power).ppf([0.0005, 0.9995]) / repeated
        assert low <= either <= high + found["paired t", effect].equivalent, (effect, power)


@pytest.mark.parametrize("way", calibration.WAYS)
@pytest.mark.parametrize("effect", [0.0, 1.0, 2.5])
def test_what_is_simulated_of_the_looks_is_what_a_report_judges(plan, way, effect):
    test, looks = way
    claim, rule = plan.claims[0], replace(plan.rule, test=test, looks=looks, margin=0.01)
    plan = replace(plan, seeds=tuple(range(looks[-1])), claims=(claim,), arms=plan.arms[:2], rule=rule)
    for seed in range(2):
        d = 0.01 * (effect + np.random.default_rng(seed).standard_normal(looks[-1]))
        rows = [
            {
                "arm": arm,
                "seed": s,
                "converged": True,
                schema.TEST_ACCURACY: 0.5 + (d[s] if arm == claim.treatment else 0),
            }
            for arm in (claim.treatment, claim.control)
            for s in plan.seeds
        ]
        row = verdict.judge(plan, pd.DataFrame(rows)).iloc[0]
        expected, look = calibration.decided(d, test, looks, 0.01)
        if expected == verdict.SUPPORTED and d[:look].mean() < 0:
            expected = verdict.REFUTED
        assert (row["verdict"], row["look"]) == (expected, look)


@DRAWS
def test_a_difference_of_the_margin_is_rarely_found_equivalent(draws):
    _, high = calibration.limits(draws)
    low, _ = calibration.limits(draws)
    for test, n, margin, found in calibration.equivalences(draws, seed=1):
        assert found <= high, (test, n, margin)
        if test == "TOST" and margin == max(calibration.MARGINS):
            assert found >= low, "where the margin is wide, the level is used up"


@DRAWS
def test_unequal_spreads_do_not_mislead_the_paired_t_test_but_a_pooled_one(draws):
    paired, pooled = calibration.unequal_spreads(draws, seed=1)
    low, high = calibration.limits(draws)
    assert low <= paired <= high < pooled


def test_the_report_names_every_section_and_its_versions(monkeypatch):
    monkeypatch.setattr(calibration, "SEEDS", (3,))
    monkeypatch.setattr(coverage, "SEEDS", (3,))
    text = calibration.report(draws=5, seed=0)
    assert f"5 draws per case, seed 0, numpy {np.__version__}, scipy" in text
    assert text.count("\n## ") == 8
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)
    assert "nan" not in text
    heads = [line.count("|") for line in rows if line.startswith("|---")]
    assert len(heads) == 8


@pytest.mark.parametrize("mutation", ["ddof", "unpaired", "normal quantile"])
def test_what_would_be_wrong_is_seen_by_the_simulation(mutation):
    rng, draws, n = np.random.default_rng(0), 4_000, 5
    shared = rng.standard_normal((draws, n))
    one, other = (0.9**0.5 * shared + 0.1**0.5 * rng.standard_normal((draws, n)) for _ in range(2))
    d = one - other
    if mutation == "ddof":
        t = d.mean(axis=1) / (d.std(axis=1, ddof=0) / n**0.5)
        p = 2 * stats.t.sf(abs(t), n - 1)
    elif mutation == "unpaired":
        p = stats.ttest_ind(one, other, axis=1).pvalue
    else:
        p = 2 * stats.norm.sf(abs(d.mean(axis=1) / (d.std(axis=1, ddof=1) / n**0.5)))
    low, high = calibration.limits(draws)
    rate = float((p < 0.05).mean())
    assert not low <= rate <= high
    right = float(np.mean(calibration.p_values(d) < 0.05))
    assert low <= right <= high
