"""The rule that a page's claims are decided by: against its formulas, run by run, and what it must never do."""

from __future__ import annotations

import math
from itertools import combinations
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from cifar_ablations.ablations.record import RuleRecord
from cifar_ablations.reports.inference import decision
from cifar_ablations.reports.inference.decision import Claims, Decided, Sample, decide

WELCH = ("welch t", "weighted holm")
METRICS = {"accuracy": (1, True), "gap": (-1, False), "norm": (0, False)}
"""By name, as in `Sample`: whether more is better, and whether a run without the metric is worse than any with it."""

Page = dict[str, list[list[float]]]
"""By metric, per arm its runs' numbers; NaN for a run that lacks it."""


def sampled(page: Page, ended: list[int] | None = None) -> dict[str, Sample]:
    return {
        name: Sample(
            np.array(values, dtype=float),
            np.array([len(of_arm) for of_arm in values] if ended is None else ended),
            0.0,
            *METRICS[name],
        )
        for name, values in page.items()
    }


def claimed(*claims: tuple[str, dict[int, float]], arms: int, allowed: float = 0.0, margin: float = math.nan) -> Claims:
    weights = np.zeros((len(claims), arms))
    for row, (_, named) in enumerate(claims):
        for arm, weight in named.items():
            weights[row, arm] = weight
    each = np.ones(len(claims))
    return Claims(tuple(name for name, _ in claims), weights, allowed * each, margin * each)


def less(one: int, other: int) -> dict[int, float]:
    return {one: 1.0, other: -1.0}


def of(values: list[float]) -> list[float]:
    return [x for x in values if not math.isnan(x)]


def variance(values: list[float]) -> float:
    known = of(values)
    mean = sum(known) / len(known)
    return sum((x - mean) ** 2 for x in known) / (len(known) - 1)


def plainly(page: Page, claims: Claims) -> tuple[list[float], list[float], list[str]]:
    """p, p that share the page's error, and what is said ('+', '-', '=' or ''), by steps 1 to 7, one run at a time."""
    n = len(next(iter(page.values()))[0])
    p, keys, said, tost, widths, counted = [], [], [], [], [], []
    for i, name in enumerate(claims.metric):
        arms, (better, lost) = page[name], METRICS[name]
        named = {arm: float(w) for arm, w in enumerate(claims.weights[i]) if w}
        lacking = {sign: sum(n - len(of(arms[a])) for a, w in named.items() if w * sign > 0) for sign in (1, -1)}
        there = {sign: n * sum(w * sign > 0 for w in named.values()) for sign in (1, -1)}
        more = np.sign(lacking[1] / there[1] - lacking[-1] / there[-1])
        against = -more * better
        if any(len(of(arms[a])) < 2 for a in named):
            if more and lost:
                table = [[lacking[sign], there[sign] - lacking[sign]] for sign in (1, -1)]
                p.append(stats.fisher_exact(table).pvalue)
            else:
                p.append(math.nan)
            keys.append(math.nan)
            said.append(against)
            tost.append(math.nan)
            widths.append((-math.inf, math.inf))
            counted.append(bool(more and lost))
            continue
        known = [variance(x) for x in arms if len(of(x)) >= 2]
        typical = median(known) * (n - 1) / stats.chi2.ppf(0.5, n - 1)
        m = sum(w * sum(of(arms[a])) / len(of(arms[a])) for a, w in named.items())
        squared, fourth, own, own_fourth = 0.0, 0.0, 0.0, 0.0
        for a, w in named.items():
            k, s2 = len(of(arms[a])), variance(arms[a])
            r2 = max(s2, (typical + (k - 1) * s2) / k)
            squared += w**2 * r2 / k
            fourth += (w**2 * r2 / k) ** 2 / k
            own += w**2 * s2 / k
            own_fourth += (w**2 * s2 / k) ** 2 / (k - 1)
        shifted = m + float(claims.allowed[i])
        one = 2 * stats.t.sf(abs(shifted) / math.sqrt(squared), squared**2 / fourth)
        # Nothing is decided for a side that lost more, nor, of one or two arms, for one that lost any.
        open_to = {sign: not more * sign > 0 and not (len(named) <= 4 and lacking[sign]) for sign in (1, -1)}
        some_lost = lacking[1] + lacking[-1] > 0 if len(named) <= 4 else bool(more)
        if better and not open_to[int(np.sign(shifted) * better)]:
            one = 1.0
        elif better and not all(open_to.values()):
            one = one / 2 if lost else one
        elif more and not better:
            one = 1.0
        p.append(float(one))
        keys.append((shifted**2 + len(named) * (n - 1) * own) / typical)
        said.append(np.sign(shifted))
        inside = (float(claims.margin[i]) - abs(m)) / math.sqrt(squared)
        tost.append(math.nan if some_lost else float(stats.t.sf(inside, squared**2 / fourth)))
        half = stats.t.ppf(0.975, own**2 / own_fourth) * math.sqrt(own)
        widths.append((m - half, m + half))
        counted.append(False)
    largest = max([k for k, x in zip(keys, p, strict=True) if not math.isnan(k) and not math.isnan(x)], default=1.0)
    weights = [largest if c else 0.0 if math.isnan(k) else k for k, c in zip(keys, counted, strict=True)]
    alpha = 0.03 if n < 8 else 0.035
    left, so_far = [i for i, w in enumerate(weights) if w > 0], 0.0
    page_p = [math.nan if math.isnan(x) else 1.0 for x in p]
    while left:
        first = min(left, key=lambda i: p[i] / weights[i])
        so_far = max(so_far, p[first] * sum(weights[i] for i in left) / weights[first])
        page_p[first] = min(1.0, so_far * 0.05 / alpha)
        left.remove(first)
    answers = []
    for i, x in enumerate(page_p):
        margin = float(claims.margin[i])
        clear = widths[i][0] + float(claims.allowed[i]) > 0 or widths[i][1] + float(claims.allowed[i]) < 0
        if x <= 0.05 and (counted[i] or clear):
            answers.append("+" if said[i] > 0 else "-")
        elif tost[i] <= 0.01 / len(p) and -margin < widths[i][0] and widths[i][1] < margin:
            answers.append("=")
        else:
            answers.append("")
    return p, page_p, answers


def answers_of(decided: Decided) -> list[str]:
    return [
        ("+" if direction > 0 else "-") if different else "=" if equivalent else ""
        for different, equivalent, direction in zip(
            decided.different, decided.equivalent, decided.direction, strict=True
        )
    ]


def drawn(seed: int, arms: int = 5, seeds: int = 6, diverging: float = 0.2) -> Page:
    rng = np.random.default_rng(seed)
    means, sds = 3 * rng.standard_normal((arms, 1)), np.exp(0.7 * rng.standard_normal((arms, 1)))
    page = {}
    lost = rng.random((arms, seeds)) < diverging
    for name in METRICS:
        values = means + sds * rng.standard_normal((arms, seeds))
        values[lost] = math.nan
        page[name] = values.tolist()
    return page


CLAIMS = claimed(
    ("accuracy", less(0, 1)),
    ("gap", less(0, 1)),
    ("accuracy", less(2, 1)),
    ("accuracy", {0: 1, 1: -1, 2: -1, 3: 1}),
    ("norm", less(3, 4)),
    ("gap", {0: 0.5, 1: 0.5, 2: -0.5, 3: -0.5}),
    ("accuracy", {0: 1, 3: -0.5, 4: -0.5}),
    arms=5,
    margin=0.6,
)


@pytest.mark.parametrize("allowed", [0.0, 0.3])
@pytest.mark.parametrize(("seeds", "diverging"), [(2, 0.0), (5, 0.0), (5, 0.25), (6, 0.5), (9, 0.2), (20, 0.0)])
def test_the_rule_is_that_of_the_formulas(seeds: int, diverging: float, allowed: float) -> None:
    claims = Claims(CLAIMS.metric, CLAIMS.weights, CLAIMS.allowed + allowed, CLAIMS.margin)
    seen = set()
    for draw in range(12):
        page = drawn(draw, seeds=seeds, diverging=diverging)
        found, (p, page_p, answers) = decide(sampled(page), claims, *WELCH), plainly(page, claims)
        np.testing.assert_allclose(found.p, p, rtol=1e-9)
        np.testing.assert_allclose(found.p_page, page_p, rtol=1e-9)
        assert answers_of(found) == answers
        seen |= set(answers)
    assert {"", "+", "-"} <= seen or seeds == 2 or diverging == 0.5


def test_equivalence_is_that_of_the_formulas_too() -> None:
    rng, seen = np.random.default_rng(0), set()
    for _ in range(20):
        values = (0.15 * rng.standard_normal((5, 1)) + 0.3 * rng.standard_normal((5, 20))).tolist()
        page = dict.fromkeys(METRICS, values)
        answers = plainly(page, CLAIMS)[2]
        assert answers_of(decide(sampled(page), CLAIMS, *WELCH)) == answers
        seen |= set(answers)
    assert "=" in seen


def test_many_pages_at_once_are_those_pages_one_by_one() -> None:
    pages = [drawn(draw, diverging=0.4) for draw in range(20)]
    together = {
        name: Sample(np.array([page[name] for page in pages]), np.full((20, 5), 6), 0.0, *METRICS[name])
        for name in METRICS
    }
    for test in decision.TESTS:
        for correction in decision.CORRECTIONS:
            whole = decide(together, CLAIMS, test, correction)
            for i, page in enumerate(pages):
                alone = decide(sampled(page), CLAIMS, test, correction)
                for name, values in vars(alone).items():
                    np.testing.assert_allclose(getattr(whole, name)[i], values, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("seeds", [5, 12])
def test_an_interval_is_welchs(seeds: int) -> None:
    page = drawn(3, seeds=seeds, diverging=0.0)
    found = decide(sampled(page), CLAIMS, *WELCH)
    expected = stats.ttest_ind(page["accuracy"][0], page["accuracy"][1], equal_var=False).confidence_interval(0.95)
    assert (found.low[0], found.high[0]) == pytest.approx(tuple(expected))
    shared = decide(sampled(page), CLAIMS, *WELCH, looks=3)
    wider = stats.ttest_ind(page["accuracy"][0], page["accuracy"][1], equal_var=False).confidence_interval(1 - 0.05 / 3)
    assert (shared.low[0], shared.high[0]) == pytest.approx(tuple(wider))


def test_an_interval_of_a_contrast_is_satterthwaites() -> None:
    page = drawn(4, seeds=7, diverging=0.0)
    row = 6
    weights, arms = CLAIMS.weights[row], np.array(page["accuracy"])
    parts = weights**2 * arms.var(axis=1, ddof=1) / 7
    df = parts.sum() ** 2 / (parts**2 / 6).sum()
    half = stats.t.ppf(0.975, df) * math.sqrt(parts.sum())
    found = decide(sampled(page), CLAIMS, *WELCH)
    assert (found.low[row], found.high[row]) == pytest.approx(
        (weights @ arms.mean(axis=1) - half, weights @ arms.mean(axis=1) + half)
    )


@pytest.mark.slow
def test_pairs_are_compared_by_the_paired_t_test_and_holm() -> None:
    """An old plan's rule; now over all claims of its page."""
    page = drawn(5, seeds=6, diverging=0.0)
    pairs = claimed(*((name, less(i, j)) for name in METRICS for i, j in ((0, 1), (2, 1), (3, 4))), arms=5)
    found = decide(sampled(page), pairs, "paired t", "holm")
    tests = [stats.ttest_rel(page[name][i], page[name][j]) for name in METRICS for i, j in ((0, 1), (2, 1), (3, 4))]
    np.testing.assert_allclose(found.p, [test.pvalue for test in tests])
    np.testing.assert_allclose(found.low, [test.confidence_interval(0.95).low for test in tests])
    adjusted = multipletests([test.pvalue for test in tests], method="holm")[1]
    np.testing.assert_allclose(found.p_page, np.minimum(1, adjusted * 0.05 / 0.035))


def test_unequal_spreads_are_raised_by_one_seed_of_the_typical_arm_never_lowered() -> None:
    quiet, wild = [0.0, 0.001, 0.002, 0.001, 0.001], [0.0, 9.0, -9.0, 5.0, -5.0]
    typical = [[0.0, 1.0, -1.0, 0.5, -0.5]] * 3
    page = {"accuracy": [[5 + x for x in quiet], quiet, *typical, [5 + x for x in wild]]}
    found = decide(sampled(page), claimed(("accuracy", less(0, 1)), ("accuracy", less(5, 2)), arms=6), *WELCH)
    v = variance(typical[0]) * 4 / stats.chi2.ppf(0.5, 4)
    raised = (v + 4 * variance(quiet)) / 5
    assert found.error[0] == pytest.approx(math.sqrt(2 * raised / 5))
    assert found.df[0] == pytest.approx(10)
    assert found.error[1] ** 2 == pytest.approx((variance(wild) + (v + 4 * variance(typical[0])) / 5) / 5)
    assert found.own_error[0] == pytest.approx(math.sqrt(2 * variance(quiet) / 5)), "not so for the interval"


def test_images_put_a_floor_under_a_spread() -> None:
    page = drawn(6, diverging=0.0)
    floor = np.full(5, 100.0)
    sample = Sample(np.array(page["accuracy"]), np.full(5, 6), floor, 1, True)
    found = decide({"accuracy": sample}, claimed(("accuracy", less(0, 1)), arms=5), *WELCH)
    assert found.own_error[0] == pytest.approx(math.sqrt(2 * 100 / 6))
    assert not found.different[0]


# The correction

shares = st.floats(0.01, 100)
pvalues = st.floats(1e-6, 1)


@pytest.mark.exhaustive
@pytest.mark.parametrize("claims", [1, 2, 9])
def test_equal_weights_make_it_holms_own(claims: int) -> None:
    p = np.random.default_rng(claims).random(claims) ** 3
    found = decision.weighted_holm(p, np.full(claims, 0.3))
    np.testing.assert_allclose(found, multipletests(p, method="holm")[1], rtol=1e-9)


@given(st.lists(st.tuples(pvalues, shares), min_size=1, max_size=6))
def test_weighted_holm_is_the_closed_test_of_weighted_bonferroni(pairs: list[tuple[float, float]]) -> None:
    p, w = zip(*pairs, strict=True)
    every = range(len(p))
    sets = [chosen for size in range(1, len(p) + 1) for chosen in combinations(every, size)]
    local = {s: min(1.0, min(p[i] / w[i] for i in s) * sum(w[i] for i in s)) for s in sets}
    closed = [max(value for s, value in local.items() if i in s) for i in every]
    np.testing.assert_allclose(decision.weighted_holm(np.array(p), np.array(w)), closed, rtol=1e-9)


def test_what_cannot_be_tested_takes_no_share_and_what_has_none_is_not_rejected() -> None:
    p, w = np.array([0.01, math.nan, 0.02, 1e-9]), np.array([1.0, 0.0, 1.0, 0.0])
    np.testing.assert_allclose(decision.weighted_holm(p, w), [0.02, math.nan, 0.02, 1.0])
    np.testing.assert_allclose(decision.weighted_holm(p[:3], np.ones(3)), [0.03, math.nan, 0.04])
    assert np.isnan(decision.weighted_holm(np.full(3, math.nan), np.zeros(3))).all()


@pytest.mark.parametrize("test", decision.TESTS)
def test_claims_of_a_metric_that_hardly_varies_leave_the_others_theirs(test: str) -> None:
    """Where most arms reach a target at the same epoch, the typical spread is nothing, and no unit."""
    rng = np.random.default_rng(0)
    accuracy, norm = 0.1 * rng.standard_normal((5, 8)), np.full((5, 8), 2.0)
    accuracy[0] += 20
    norm[0], norm[1] = 5 + 0.1 * rng.standard_normal(8), 8 + 0.1 * rng.standard_normal(8)
    claims = claimed(
        *((name, less(i, j)) for name in ("accuracy", "norm") for i, j in ((0, 1), (2, 3), (2, 4), (3, 4))), arms=5
    )
    for correction in decision.CORRECTIONS:
        found = decide(sampled({"accuracy": accuracy.tolist(), "norm": norm.tolist()}), claims, test, correction)
        assert found.different.tolist() == [True, *[False] * 3, True, *[False] * 3]
        assert np.isnan(found.p_page).tolist() == [False] * 5 + [True] * 3


def test_the_error_of_a_page() -> None:
    assert decision.error_of_differences("welch t", 7) == 0.03
    assert decision.error_of_differences("welch t", 8) == 0.035
    assert decision.error_of_differences("welch t", 15, 3) == pytest.approx(0.01)
    assert decision.error_of_differences("paired t", 5, 2) == pytest.approx(0.0175)
    assert decision.error_of_differences("paired t e-process", 50, 10) == 0.035, "it may be looked at at any time"
    assert decision.confidence(RuleRecord(0.01, test="welch t", looks=(5, 10))) == pytest.approx(0.975)
    assert decision.confidence(RuleRecord(0.01, test="paired t e-process", looks=(5, 10))) == 0.95
    assert decision.confidence(RuleRecord(0.01)) == 0.95


# Divergence

NONE = math.nan


def one(treatment: list[float], control: list[float], name: str = "accuracy", more: tuple[list[float], ...] = ()):
    page = {name: [treatment, control, *more]}
    return decide(sampled(page), claimed((name, less(0, 1)), arms=2 + len(more), margin=10.0), *WELCH)


@pytest.mark.parametrize(("seeds", "p"), [(6, 0.0022), (5, 0.0079)])
def test_an_arm_that_always_diverged_is_refuted_by_counting(seeds: int, p: float) -> None:
    """Statistics, from the command line: an optimizer that fails 6 of 6 times against 0 of 6 was inconclusive."""
    there = np.linspace(0.5, 0.6, seeds).tolist()
    found = one([NONE] * seeds, there)
    exact = stats.fisher_exact([[seeds, 0], [0, seeds]]).pvalue
    assert exact == pytest.approx(p, abs=5e-5)
    assert found.p[0] == pytest.approx(exact)
    assert found.p_page[0] == pytest.approx(exact * 0.05 / 0.03)
    assert (answers_of(found), found.counted[0]) == (["-"], True)
    assert np.isnan([found.estimate[0], found.low[0], found.high[0], found.error[0]]).all(), "nothing to compare"
    assert answers_of(one(there, [NONE] * seeds)) == ["+"]
    assert answers_of(one([NONE] * seeds, there, "gap")) == [""], "a gap that nobody saw is no worse"


@pytest.mark.parametrize("seeds", [1, 2, 6])
def test_where_every_run_of_all_arms_diverged_nothing_is_said(seeds: int) -> None:
    page = {name: [[NONE] * seeds] * 5 for name in METRICS}
    found = decide(sampled(page), CLAIMS, *WELCH)
    assert answers_of(found) == [""] * 7
    assert np.isnan(found.estimate).all()
    assert np.isnan(found.p).all()


@pytest.mark.parametrize("seeds", [0, 1, 2])
def test_with_hardly_any_seeds_nothing_is_called(seeds: int) -> None:
    page = {name: [[float(arm)] * seeds for arm in range(5)] for name in METRICS}
    for test in decision.TESTS:
        found = decide(sampled(page), CLAIMS, test, "weighted holm")
        assert answers_of(found) == [""] * 7
        assert np.isnan(found.p).all()
        assert np.isnan(found.low).all()


def test_without_spread_there_is_no_test() -> None:
    found = one([0.5] * 6, [0.4] * 6)
    assert found.estimate[0] == pytest.approx(0.1)
    assert np.isnan([found.p[0], found.low[0], found.tost_p[0]]).all()
    assert answers_of(found) == [""]
    half = one([0.5] * 6, [0.4, 0.41, 0.42, 0.4, 0.41, 0.42])
    assert half.own_df[0] == pytest.approx(5), "the spread is that of one arm"


def test_where_two_arms_do_not_vary_but_others_do_theirs_is_the_spread() -> None:
    others = [[0.1, 0.2, 0.3, 0.1, 0.2, 0.3]] * 3
    found = one([0.5] * 6, [0.4] * 6, more=tuple(others))
    typical = variance(others[0]) * 5 / stats.chi2.ppf(0.5, 5)
    assert found.error[0] == pytest.approx(math.sqrt(2 * typical / 6 / 6))
    assert found.p[0] == pytest.approx(2 * stats.t.sf(0.1 / math.sqrt(2 * typical / 36), 12))
    half = stats.t.ppf(0.975, 12) * math.sqrt(2 * typical / 36)
    assert (found.low[0], found.high[0]) == pytest.approx((0.1 - half, 0.1 + half))


def test_half_of_the_runs_lack_a_metric_and_the_rest_are_compared() -> None:
    there = [0.5, NONE, 0.6, NONE, 0.7, NONE]
    found = one(there, [0.4, NONE, 0.3, NONE, 0.35, NONE], more=([0.1, 0.2, 0.3, 0.1, 0.2, 0.3],))
    expected = stats.ttest_ind([0.5, 0.6, 0.7], [0.4, 0.3, 0.35], equal_var=False)
    assert found.estimate[0] == pytest.approx(0.25)
    assert (found.low[0], found.high[0]) == pytest.approx(tuple(expected.confidence_interval()))
    assert not found.counted[0]


def test_a_worse_outcome_strengthens_the_evidence() -> None:
    """Statistics, 1: one of five diverged and the others worse; with it at chance the page was inconclusive."""
    control = [0.50, 0.51, 0.52, 0.50, 0.51]
    others = [0.46, 0.47, 0.46, 0.47]
    found = one([*others, NONE], control)
    # Had the fifth run been lost for another reason, the four others alone would say it two-sided.
    sample = Sample(np.array([[*others, NONE], control]), np.array([4, 5]), 0.0, 1, True)
    alone = decide({"accuracy": sample}, claimed(("accuracy", less(0, 1)), arms=2), *WELCH)
    assert found.p[0] == pytest.approx(alone.p[0] / 2)
    assert (answers_of(found), found.direction[0]) == (["-"], -1)
    better = one([0.9 + x for x in others] + [NONE], control)
    assert better.p[0] == 1.0, "whatever the converged runs show"


def test_a_gap_that_diverged_runs_lack_counts_against_them_alone() -> None:
    """Statistics, 1: with 10 of 10 dropout runs diverged, dropout 'lowered the gap'."""
    control = np.linspace(0.2, 0.21, 10).tolist()
    assert answers_of(one([NONE] * 10, control, "gap")) == [""]
    assert answers_of(one([0.01, 0.011, *[NONE] * 8], control, "gap")) == [""], "lower in the two that are left"
    larger = one([0.4, 0.41, 0.42, 0.41, 0.4, 0.41, 0.4, 0.42, 0.41, NONE], control, "gap")
    assert answers_of(larger) == ["+"], "larger in those that are left, which is worse"
    assert one([0.4, 0.41, *[NONE] * 8], control, "norm").p[0] == 1.0


def test_two_arms_of_which_nearly_all_diverged_are_not_equivalent() -> None:
    """From the command line: EQUIVALENT on accuracy and gap, with 6 of 6 and 5 of 6 runs diverged."""
    for name in METRICS:
        found = one([NONE] * 6, [0.1, *[NONE] * 5], name)
        assert answers_of(found) == [""]
        assert np.isnan(found.tost_p[0])


def test_an_arm_that_lost_a_run_is_not_called_better_even_than_one_that_lost_one_too() -> None:
    """Else its worst run, once lost, would leave it looking better: with .400 in place of the last it is not called."""
    control = [0.600, 0.606, 0.594, 0.603, NONE]
    assert answers_of(one([0.650, 0.655, 0.645, 0.648, 0.400], control)) == [""]
    found = one([0.650, 0.655, 0.645, 0.648, NONE], control)
    assert (found.p[0], answers_of(found), found.forbidden[0]) == (1.0, [""], True)


def test_of_many_arms_a_side_those_with_more_divergence_are_not_called_better() -> None:
    arms = [[0.5 + 0.01 * ((3 * a + s) % 5) for s in range(6)] for a in range(3)]
    arms += [[0.3 + 0.01 * ((2 * a + s) % 5) for s in range(6)] for a in range(3)]
    claim = claimed(("accuracy", {a: (1 if a < 3 else -1) / 3 for a in range(6)}), arms=6)
    lose = lambda a, s: arms[a].__setitem__(s, NONE)  # noqa: E731
    assert answers_of(decide(sampled({"accuracy": arms}), claim, *WELCH)) == ["+"]
    lose(0, 0)
    assert answers_of(decide(sampled({"accuracy": arms}), claim, *WELCH)) == [""], "more of the better side"
    lose(3, 0)
    assert answers_of(decide(sampled({"accuracy": arms}), claim, *WELCH)) == ["+"], "as many of either"


@st.composite
def pages(draw: st.DrawFn) -> np.ndarray:
    """Three arms of up to seven seeds, in units that make anything from chance to certainty; NaN where one diverged."""
    seeds = draw(st.integers(2, 7))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    means = draw(st.lists(st.sampled_from([0.0, 1.0, 5.0, 100.0]), min_size=3, max_size=3))
    values = np.array(means)[:, None] + rng.standard_normal((3, seeds))
    lost = draw(st.lists(st.integers(0, seeds), min_size=3, max_size=3))
    for arm, many in enumerate(lost):
        values[arm, rng.permutation(seeds)[:many]] = math.nan
    return values


TRIPLE = claimed(
    *((name, less(i, j)) for name in METRICS for i, j in ((0, 1), (1, 2), (2, 0))),
    ("accuracy", {0: 1.0, 1: -0.5, 2: -0.5}),
    arms=3,
    margin=20.0,
)


@pytest.mark.slow
@settings(deadline=None)
@given(pages(), st.sampled_from(sorted(decision.TESTS)), st.sampled_from(decision.CORRECTIONS))
def test_divergence_never_decides_for_the_arm_that_diverged_more(
    values: np.ndarray, test: str, correction: str
) -> None:
    found = decide(sampled(dict.fromkeys(METRICS, values.tolist())), TRIPLE, test, correction)
    lost = np.isnan(values).mean(axis=1)
    for i, name in enumerate(TRIPLE.metric):
        weights = TRIPLE.weights[i]
        more = np.sign(lost[weights > 0].mean() - lost[weights < 0].mean()) if abs(weights @ lost) > 1e-9 else 0
        if not more:
            continue
        better = METRICS[name][0]
        assert not found.equivalent[i]
        assert not found.different[i] or found.direction[i] * better * more < 0


@pytest.mark.exhaustive
@settings(deadline=None)
@given(pages(), st.integers(0, 20), st.sampled_from(sorted(decision.TESTS)))
def test_a_run_that_diverges_helps_no_arm(values: np.ndarray, which: int, test: str) -> None:
    """Whatever the other arms have lost: no other verdict turns into one for the arm, nor into an equivalence."""
    arm, seed = which % 3, which % values.shape[1]
    before = decide(sampled(dict.fromkeys(METRICS, values.tolist())), TRIPLE, test, "weighted holm")
    values[arm, seed] = math.nan
    after = decide(sampled(dict.fromkeys(METRICS, values.tolist())), TRIPLE, test, "weighted holm")
    for i, name in enumerate(TRIPLE.metric):
        if TRIPLE.weights[i][arm] == 0:
            continue
        for_it, was_for_it = (
            one.different[i] and one.direction[i] * METRICS[name][0] * TRIPLE.weights[i][arm] > 0
            for one in (after, before)
        )
        assert not for_it or was_for_it
        assert not (after.equivalent[i] and not before.equivalent[i])


@settings(deadline=None)
@given(pages(), st.sampled_from(sorted(decision.TESTS)))
def test_no_number_appears_that_no_run_has(values: np.ndarray, test: str) -> None:
    found = decide(sampled(dict.fromkeys(METRICS, values.tolist())), TRIPLE, test, "weighted holm")
    left = (~np.isnan(values)).sum(axis=1)
    for i in range(len(TRIPLE.metric)):
        used = np.flatnonzero(TRIPLE.weights[i])
        if left[used].min() == 0:
            assert np.isnan([found.estimate[i], found.low[i], found.high[i], found.tost_p[i]]).all()
        elif test == "welch t":
            means = [np.mean(of(values[arm].tolist())) for arm in used]
            assert found.estimate[i] == pytest.approx(TRIPLE.weights[i][used] @ means)
        if left[used].min() < 2:
            assert np.isnan([found.error[i], found.low[i], found.high[i]]).all()
            assert np.isnan(found.p[i]) or found.counted[i]
