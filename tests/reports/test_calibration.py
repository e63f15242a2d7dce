"""The statistics hold what they promise, by simulation: few draws by default, all of them with the slow tests."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import calibration, coverage
from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.record import ArmRecord
from cifar_ablations.reports.inference import (
    contrast,
    decision,
    divergence,
    factorial,
    power,
    simulation,
    statistics,
    verdict,
)
from cifar_ablations.reports.inference.simulation import Setting

DRAWS = pytest.mark.parametrize("draws", [200, pytest.param(10_000, marks=pytest.mark.exhaustive)])
NONE = "none"


def within(rate, draws, promised=0.95, exact=True):
    low, high = calibration.limits(draws, promised)
    return low <= rate <= (high if exact else 1)


@pytest.mark.exhaustive
@DRAWS
@pytest.mark.parametrize("kind", ["of_samples", "of_factorials", "of_images", "of_e_process"])
def test_intervals_hold_the_true_value_as_often_as_said(draws, kind):
    rows = list(getattr(coverage, kind)(draws, seed=1))
    assert len({(row.interval, row.case, row.n) for row in rows}) == len(rows) >= 3
    for row in rows:
        assert within(row.rate, draws, exact=row.exact), row


@pytest.mark.parametrize("seeds", [(3, 8), pytest.param(coverage.SEEDS, marks=pytest.mark.exhaustive)])
def test_intervals_of_shares_hold_every_true_share_at_least_as_often_as_said(monkeypatch, seeds):
    monkeypatch.setattr(coverage, "SEEDS", seeds)
    rows = list(coverage.of_shares())
    assert len(rows) == 4 * len(seeds)
    assert all(0.95 <= row.rate <= 1 for row in rows), rows


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
    parts = factorial.contributions(plan, runs, schema.TEST_ACCURACY).set_index("factor")
    assert parts.loc["a", "shapley"] == pytest.approx(2.0 + 1.5 / 2 - 0.7 / 3)
    assert parts.loc["a", "main"] == pytest.approx(2.0 + 1.5 / 2 - 0.7 / 4)
    between = factorial.interactions(plan, runs, schema.TEST_ACCURACY)
    assert between["effect"].iloc[0] == pytest.approx(1.5 - 0.7 / 2)


@pytest.mark.exhaustive
def test_pages_have_the_shapes_of_all_plans_that_claim_something():
    shape = calibration.page("techniques", 5).shape
    assert (len(shape.claims.metric), shape.arms, shape.seeds) == (19, 14, 5)
    assert len(set(calibration.page("techniques", 5).families)) == 5
    names = [name for group in calibration.names_alike() for name in group]
    assert sorted(names) == sorted(n for n in catalog.plan_names() if calibration.plan_of(n, 5).claims)
    assert {"techniques", "a-a", "claims", "factorial", "half-factorial", "pairwise", "tuned"} <= set(names)
    assert ["levels/optimizer", "levels/schedule"] in calibration.names_alike()
    assert calibration.page("techniques", 5, "adaptive").shape.looks == (5, 10, 15)
    assert calibration.page("techniques", 5, rule=("paired t", "holm")).shape.test == "paired t"


@DRAWS
def test_a_page_is_false_as_rarely_as_said_and_by_the_rule_before_in_all_families(monkeypatch, draws):
    wanted = ("all arms equal", "5 % diverge, lognormal .7", "seeds correlate .6")
    monkeypatch.setattr(calibration, "SCENARIOS", {name: calibration.SCENARIOS[name] for name in wanted})
    equal, diverging, correlated = calibration.main_table(draws, seed=1)
    _, high = calibration.limits(draws)
    for row in (equal, diverging, correlated):
        assert row.pages["new"] == max(row.by_truth.values()) <= high
        assert row.power3["new"] > row.power2["new"]
        assert row.coverage >= row.worst_coverage > 0.9
    # Five families, of which the fifth, the full recipe against the bare one, repeats some of what the others compare.
    four, five = 1 - 0.95**4, 1 - 0.95**5
    slack = 4 * math.sqrt(five * (1 - five) / draws)
    assert four - slack < equal.pages["old"] < five + slack
    assert 0 < equal.pages["plain"] <= high
    assert equal.power2["new"] > 1.5 * equal.power2["plain"] < equal.power2["old"]
    assert correlated.power2["new"] < correlated.power2["plain"], "pairs are better where seeds correlate"


def test_what_would_be_wrong_is_seen_by_the_simulation(monkeypatch):
    of, draws = calibration.page("techniques", 5), 1_000
    monkeypatch.setattr(calibration, "truths", lambda shape: {NONE: (shape, None)})

    def rate():
        return calibration.false_pages(of, [Setting()], draws, seed=0)[0]

    _, high = calibration.limits(draws)
    assert rate() <= high
    with monkeypatch.context() as wrong:
        wrong.setattr(decision, "weighted_holm", lambda p, weights: p)
        assert rate() > 0.2
    with monkeypatch.context() as wrong:
        wrong.setitem(
            decision.TESTS,
            "welch t",
            replace(decision.TESTS["welch t"], p=lambda t, df: 2 * stats.norm.sf(abs(t))),
        )
        assert rate() > high


def test_every_second_comparison_is_true_by_so_many_of_its_own_standard_deviations():
    shape, rng = calibration.page("techniques", 5).shape, np.random.default_rng(0)
    setting = calibration.half(shape, Setting(spread=0.7), 2.0, 50, rng)
    truth = setting.means @ shape.claims.weights.T
    sizes = np.abs(truth) / np.sqrt(setting.sds**2 @ (shape.claims.weights**2).T)
    assert sizes == pytest.approx(np.broadcast_to(np.rint(sizes[0] / 2) * 2, sizes.shape), abs=1e-6)
    assert set(np.rint(sizes[0])) == {0, 2}
    values = simulation.drawn(shape, setting, 50, rng)[schema.TEST_ACCURACY].values
    z = (values - setting.means[..., None]) / setting.sds[..., None]
    assert z.std() == pytest.approx(1, abs=0.05)
    assert z.mean() == pytest.approx(0, abs=0.1)


def test_effects_at_the_margin_are_exactly_there():
    shape, means = calibration.truths(calibration.page("techniques", 5).shape, 1.5)["all at the margin"]
    assert np.abs(shape.claims.weights @ means) == pytest.approx(np.full(19, 1.5))
    assert shape.claims.margin == pytest.approx(np.full(19, 1.5))
    shape, means = calibration.truths(shape, 1.5)["half at the margin"]
    assert set(np.abs(shape.claims.weights @ means).round(9)) == {0, 1.5}


def test_holm_in_families_is_holms():
    rng = np.random.default_rng(0)
    p, families = rng.random((20, 6)) ** 4, np.array(list("aabbba"))
    wanted = np.empty(p.shape, dtype=bool)
    for row, of_page in zip(wanted, p, strict=True):
        for name in "ab":
            row[families == name] = np.array(statistics.holm(of_page[families == name])) <= 0.05
    assert (calibration.holm(p, families) == wanted).all()


@pytest.mark.exhaustive
@pytest.mark.parametrize(("name", "rate"), [("techniques", 0.3), ("data-size", 0.6), ("half-factorial", 0.3)])
def test_divergence_is_called_where_a_report_calls_it(monkeypatch, name, rate):
    monkeypatch.setattr(calibration, "DIVERGENT", 0.3)  # so that something is called
    monkeypatch.setattr(divergence, "DIVERGENT", 0.3)
    of = calibration.page(name, 6)
    samples = simulation.drawn(of.shape, Setting(diverging=rate), 4, np.random.default_rng(0))
    called = calibration.diverges(of, samples)
    undecided = pd.DataFrame(columns=["treatment", "control", "counted", "verdict"])
    for i in range(4):
        runs = pd.DataFrame(
            [
                {
                    "arm": arm.name,
                    "seed": seed,
                    "converged": not np.isnan(samples[schema.TEST_ACCURACY].values[i, a, seed]),
                    **{metric: sample.values[i, a, seed] for metric, sample in samples.items()},
                }
                for a, arm in enumerate(of.plan.arms)
                for seed in of.plan.seeds
            ]
        )
        table = divergence.table(of.plan, runs, undecided)
        assert called[i] == (table["verdict"] != divergence.OPEN).any()
        tallies = [contrast.tally(claim, runs) for claim in of.plan.claims if not claim.beyond]
        left, right = of.compared()
        lost = np.isnan(samples[schema.TEST_ACCURACY].values[i]).sum(axis=-1)
        assert {(t.diverged, c.diverged) for t, c in tallies} == set(zip(left @ lost, right @ lost, strict=True))


@pytest.mark.exhaustive
@DRAWS
def test_no_plan_says_something_false_more_often_than_said(monkeypatch, draws):
    monkeypatch.setattr(calibration, "names_alike", lambda: [["techniques"], ["levels/mixup"]])
    monkeypatch.setattr(verdict, "error_rate", lambda shape: 0.0)
    _, high = calibration.limits(draws)
    monkeypatch.setattr(calibration, "SEEDS", (5, 10))
    for row in calibration.plans(draws, 1):
        assert row.false <= high + 0.01, row  # the worst of many cells


@DRAWS
def test_the_power_of_one_pair_is_the_non_central_ts(draws):
    for n in (5, 10):
        shape = calibration.page("levels/label_smoothing", n, rule=("paired t", "holm")).shape
        for effect in (0.5, 1.0, 2.0):
            theory = power.found(effect * math.sqrt(n), n - 1, decision.DIFFERENT, "paired t")
            low, high = stats.binom(draws, theory).ppf([0.0005, 0.9995]) / draws
            assert low <= calibration.at_power(shape, effect, draws, seed=1).found <= high


@pytest.mark.exhaustive
def test_the_effect_and_the_seeds_that_are_printed_are_near_the_true_ones(monkeypatch):
    monkeypatch.setattr(calibration, "POWERS", (("techniques", None),))
    for row in calibration.detectables(200, seed=1):
        assert row.printed == pytest.approx(row.truth, rel=0.2)
    for _, _, n, said in calibration.needed(200, seed=1):
        assert [int(x) for x in said.split(", ")] == pytest.approx([n, n], abs=max(2, 0.2 * n))
    for row in calibration.powers(200, seed=1):
        assert row.formula == pytest.approx(row.found, abs=0.15)
    assert power.POWER == 0.8


@DRAWS
def test_converged_means_are_covered_and_all_seeds_tell_the_truth_after_a_stop(draws):
    for *_, mean, worst in calibration.divergent(draws, seed=1):
        assert mean > 0.93
        assert worst > 0.88
    rows = {(row.effect, row.look): row for row in calibration.stopped(draws, seed=1)}
    early = rows[0.5, 5]
    assert early.then > early.finally_ > 0.5
    assert early.then_covered < early.finally_covered
    assert abs(rows[0.5, 15].then - rows[0.5, 15].finally_) < 1e-9


@pytest.mark.exhaustive
@DRAWS
def test_equal_treatments_rank_unequally_as_rarely_as_said(draws):
    _, high = calibration.limits(draws)
    assert all(rate <= high for *_, rate in calibration.friedmans(draws, seed=1))


def test_what_is_equivalent_is_found_and_what_is_at_the_margin_is_not():
    rows = {(n, margin): rest for n, margin, *rest in calibration.equivalences(200, seed=1)}
    assert rows[15, 2.0][0] > 0.9 > rows[5, 2.0][0]
    assert all(pages <= 0.03 for _, pages, _ in rows.values())


@pytest.mark.exhaustive
def test_the_report_says_what_it_was_made_of(monkeypatch):
    monkeypatch.setattr(verdict, "error_rate", lambda shape: 0.06 if shape.seeds == 3 else 0.01)
    monkeypatch.setattr(calibration, "SEEDS", (3, 5))
    monkeypatch.setattr(coverage, "SEEDS", (3,))
    monkeypatch.setattr(calibration, "SCENARIOS", {"all arms equal": Setting()})
    monkeypatch.setattr(calibration, "POWERS", (("levels/mixup", None),))
    monkeypatch.setattr(calibration, "WIDER", simulation.SETTINGS[:1])
    monkeypatch.setattr(calibration, "names_alike", lambda: [["levels/mixup"], ["levels/optimizer", "levels/schedule"]])
    text = "\n".join(calibration.report(draws=100, seed=0))
    assert f"100 draws per case where nothing else is said, seed 0, numpy {np.__version__}, scipy" in text
    assert "| levels/optimizer, levels/schedule | ~~" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)
    for block in text.split("\n\n"):
        bars = {line.count("|") for line in block.splitlines() if line.startswith("|")}
        assert len(bars) <= 1, block
