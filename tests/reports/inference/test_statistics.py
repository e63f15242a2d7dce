"""Statistics against closed forms, scipy, statsmodels and published figures."""

import math
from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cifar_ablations.reports.inference import decision
from cifar_ablations.reports.inference import statistics as st

# The clinic data of statsmodels' test_tost.py, whose expected values come from R: groups 1 and 2 of two columns.
VAR1_1 = [2.84, 2.51, 2.41, 2.95, 3.14, 3.79, 4.14, 3.85, 3.02, 3.45, 5.37, 3.81, 4.19, 3.16, 3.84]
VAR1_2 = [2.60, 2.82, 2.18, 3.46, 4.01, 3.04, 3.47, 4.06, 2.91, 3.59, 4.51, 3.16, 3.86, 3.31, 3.02]
VAR2_1 = [4.00, 3.26, 4.14, 3.42, 3.25, 4.34, 4.97, 4.31, 3.11, 3.41, 5.02, 4.21, 4.59, 5.30, 4.32]
VAR2_2 = [3.76, 3.66, 3.65, 3.60, 3.48, 2.87, 3.24, 3.92, 3.99, 4.21, 4.21, 3.31, 3.61, 2.97, 2.73]


@pytest.fixture
def arms():
    rng = np.random.default_rng(7)
    shared = rng.normal(0.7, 0.03, 6)
    control = pd.Series(shared + rng.normal(0, 0.004, 6), index=range(6))
    return pd.Series(shared + 0.01 + rng.normal(0, 0.004, 6), index=range(6)), control


def test_paired_is_the_closed_form(arms):
    treatment, control = arms
    d = (treatment - control).to_numpy()
    se = d.std(ddof=1) / math.sqrt(6)
    half = stats.t.ppf(0.975, 5) * se
    found = st.paired(treatment, control)
    assert (found.n, found.mean, found.sd) == pytest.approx((6, d.mean(), d.std(ddof=1)))
    assert (found.low, found.high) == pytest.approx((d.mean() - half, d.mean() + half))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(d.mean()) / se, 5))
    assert found.correlation == pytest.approx(np.corrcoef(treatment, control)[0, 1])
    assert st.paired(control, treatment).mean == pytest.approx(-found.mean)


def test_mutations_are_told_apart(arms):
    """The figures differ from those of usual slips: a wrong ddof, unpaired, a wrong sign, no Holm."""
    treatment, control = arms
    d, found = (treatment - control).to_numpy(), st.paired(treatment, control)
    assert found.sd != pytest.approx(d.std(ddof=0), rel=1e-3)
    assert found.p < 0.1 * stats.ttest_ind(treatment, control).pvalue
    assert found.mean > 0.005 > -found.mean
    assert st.holm([0.01, 0.04, 0.03]) != pytest.approx([0.01, 0.04, 0.03])


def test_pairs_are_made_by_seed_not_by_position():
    treatment = pd.Series([0.3, 0.1, 0.2, 0.9], index=[2, 0, 1, 9])
    control = pd.Series([0.0, 0.05, 0.12, 0.4], index=[0, 1, 2, 8])
    assert list(st.differences(treatment, control).round(6)) == [0.1, 0.15, 0.18]
    assert st.paired(treatment, control).n == 3


def equivalence_p(one, other, margin):
    """Of the paired two one-sided tests (Schuirmann 1987), as pages make them: 1 for an estimate outside the margin."""
    sample = decision.Sample(np.array([one, other]), np.full(2, len(one)))
    claim = decision.Claims(("metric",), np.array([[1.0, -1.0]]), np.zeros(1), np.array([margin]))
    return float(decision.decide({"metric": sample}, claim, "paired t", "holm").tost_p[0])


def test_tost_published():
    assert equivalence_p(VAR2_1, VAR2_2, 0.6) == pytest.approx(0.4412034046, abs=1e-9)
    found = st.paired(pd.Series(VAR2_1), pd.Series(VAR2_2), confidence=0.9)
    assert (found.low, found.high) == pytest.approx((0.12616533, 0.99916800), abs=1e-8)
    assert equivalence_p(VAR1_1, VAR1_2, 0.6) == pytest.approx(0.003166881489, abs=1e-11)


def test_holm_by_hand_and_with_a_gap():
    assert st.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    adjusted = st.holm([0.01, math.nan, 0.03])
    assert adjusted[0] == pytest.approx(0.03)  # corrected for all three that were planned
    assert adjusted[2] == pytest.approx(0.06)
    assert math.isnan(adjusted[1])
    assert st.holm([math.nan, 1.0])[1] == 1.0
    assert st.holm([]) == []


@pytest.mark.exhaustive
def test_holm_is_statsmodels():
    from statsmodels.stats.multitest import multipletests

    for seed in range(5):
        p = np.random.default_rng(seed).uniform(0, 0.3, 6).round(2)
        np.testing.assert_allclose(st.holm(p), multipletests(p, method="holm")[1])


def test_upper_limit_of_sd_covers():
    draws = np.random.default_rng(5).normal(0, 2.0, (20_000, 5)).std(axis=1, ddof=1)
    limits = np.array([st.upper_limit_of_sd(sd, 5) for sd in draws[:4_000]])
    assert (limits > 2.0).mean() == pytest.approx(0.95, abs=0.012)
    assert math.isnan(st.upper_limit_of_sd(1.0, 1))


@pytest.mark.slow
def test_interval_covers_and_test_keeps_its_level():
    """A/A: no effect, correlated arms; 95 % of intervals hold zero and 5 % of tests reject."""
    rng = np.random.default_rng(5)
    inside, rejected, draws = 0, 0, 600
    for _ in range(draws):
        shared = rng.normal(0, 1, 5)
        a, b = (pd.Series(shared + rng.normal(0, 1, 5)) for _ in range(2))
        found = st.paired(a, b)
        inside += found.low <= 0 <= found.high
        rejected += found.p < 0.05
    assert inside / draws == pytest.approx(0.95, abs=0.027)
    assert rejected / draws == pytest.approx(0.05, abs=0.027)


def test_prediction_interval_covers_the_next_draw():
    draws = np.random.default_rng(1).normal(0, 1, (1_500, 6))
    inside = [low <= draw[5] <= high for draw in draws for low, high in [st.prediction_interval(draw[:5])]]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.018)


def test_proportion_interval_is_clopper_pearson():
    low, high = st.proportion_interval(1, 5)
    assert (low, high) == pytest.approx((stats.beta.ppf(0.025, 1, 5), stats.beta.ppf(0.975, 2, 4)))
    assert st.proportion_interval(0, 5)[0] == 0.0
    assert all(math.isnan(limit) for limit in st.proportion_interval(0, 0))


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_seeds(n):
    a = pd.Series([0.5] * n, dtype=float)
    found = st.paired(a, a - 0.1)
    assert found.n == n
    assert all(math.isnan(x) for x in (found.sd, found.low, found.high, found.p, found.correlation))
    assert math.isnan(st.mean_interval(a.to_numpy()).std)
    assert all(math.isnan(x) for x in st.prediction_interval(a.to_numpy()))


@pytest.mark.parametrize("shift", [0.0, 0.02])
def test_differences_without_spread_are_no_evidence(shift):
    control = pd.Series([0.70, 0.62, 0.55])
    found = st.paired(control + shift, control)
    assert found.sd == 0.0
    assert found.mean == pytest.approx(shift)
    assert all(math.isnan(x) for x in (found.low, found.high, found.p, st.upper_limit_of_sd(found.sd, 3)))
    assert all(math.isnan(x) for x in st.prediction_interval([0.7, 0.7, 0.7]))


@pytest.mark.slow
@pytest.mark.parametrize(("seed_spread", "example_spread"), [(0.0, 0.1), (0.05, 0.3), (0.2, 0.05), (0.0, 0.0)])
def test_the_interval_for_new_images_covers_new_seeds_and_new_images(seed_spread, example_spread):
    rng, covered, draws = np.random.default_rng(0), 0, 600
    for _ in range(draws):
        d = (
            0.02
            + seed_spread * rng.standard_normal((5, 1))
            + example_spread * rng.standard_normal((1, 60))
            + 0.3 * rng.standard_normal((5, 60))
        )
        alone = st.mean_interval(d.mean(axis=1))
        low, high = st.for_new_images(alone.low, alone.high, d)
        covered += low <= 0.02 <= high
    assert covered / draws > 0.95 - 3.3 * (0.95 * 0.05 / draws) ** 0.5, "errs on the wide side at most"


def test_the_interval_for_new_images_is_that_of_the_seeds_where_images_do_not_matter():
    by_seed = np.array([0.1, 0.3, -0.1, 0.2])
    assert st.for_new_images(-1.0, 3.0, np.repeat(by_seed[:, None], 50, axis=1)) == pytest.approx((-1, 3))
    assert math.isnan(st.for_new_images(0, 1, np.ones((1, 5)))[0])
    assert math.isnan(st.for_new_images(math.nan, math.nan, np.zeros((3, 5)))[0])


@pytest.mark.parametrize(("n", "confidence"), [(2, 0.95), (5, 0.95), (15, 0.9)])
def test_sd_interval_is_the_chi_square_one(n, confidence):
    low, high = st.sd_interval(2.0, n, confidence)
    # The limits are the true spreads under which so small, and so large, an estimate is just likely enough.
    for limit, probability in ((low, (1 + confidence) / 2), (high, (1 - confidence) / 2)):
        assert stats.chi2.cdf((n - 1) * 2.0**2 / limit**2, n - 1) == pytest.approx(probability)
    assert low < 2.0 < high
    assert st.sd_interval(2.0, n, 0.9)[1] == pytest.approx(st.upper_limit_of_sd(2.0, n, 0.95))
    for nothing in (st.sd_interval(2.0, 1), st.sd_interval(0.0, n), st.sd_interval(math.nan, n)):
        assert all(math.isnan(limit) for limit in nothing)


def test_sd_interval_published():
    """n = 10 and s = 1: the usual table's factors for 95 %, 0.688 and 1.826."""
    assert st.sd_interval(1.0, 10) == pytest.approx((0.688, 1.826), abs=5e-4)


def test_sd_interval_covers_and_misses_evenly_on_either_side():
    sds = np.random.default_rng(8).normal(0, 2.0, (4_000, 5)).std(axis=1, ddof=1)
    low, high = np.array([st.sd_interval(sd, 5) for sd in sds]).T
    for missed in ((low > 2.0).mean(), (high < 2.0).mean()):
        assert missed == pytest.approx(0.025, abs=3.3 * (0.025 * 0.975 / 4_000) ** 0.5)


@pytest.mark.parametrize(
    ("d", "above", "ties"), [([1, 2, -1], 2, 0), ([0.5, 0, 0, -1], 1, 2), ([0, 0], 0, 2), ([3], 1, 0)]
)
def test_improvement_is_the_share_above_zero_with_ties_counted_half(d, above, ties):
    n = len(d)
    share, low, high = st.improvement(0.001 * np.array(d, dtype=float))
    assert share == pytest.approx((above + ties / 2) / n)
    assert low == pytest.approx(stats.binomtest(above, n).proportion_ci(method="exact").low)
    assert high == pytest.approx(stats.binomtest(above + ties, n).proportion_ci(method="exact").high)
    assert 0 <= low <= share <= high <= 1


def test_improvement_without_seeds_with_rounding_and_from_the_other_side():
    assert all(math.isnan(x) for x in st.improvement(np.array([])))
    # 0.7 - 0.6 - 0.1 is zero but for rounding.
    assert st.improvement(np.array([0.7 - 0.6 - 0.1, 0.1]))[0] == 0.75
    d = np.array([0.2, 0.1, -0.3, 0.0, 0.4])
    share, low, high = st.improvement(d, 0.9)
    assert st.improvement(-d, 0.9) == pytest.approx((1 - share, 1 - high, 1 - low))
    assert low > st.improvement(d, 0.99)[1]


# Table 6 of Demšar 2006: ranks of four classifiers on 14 data sets.
DEMSAR = [
    [4, 3, 2, 1],
    [1, 2, 3, 4],
    [4, 1, 2, 3],
    [4, 1, 3, 2],
    [4, 2, 3, 1],
    [1, 2.5, 4, 2.5],
    [3, 2, 4, 1],
    [2.5, 2.5, 4, 1],
    [4, 3, 2, 1],
    [2.5, 2.5, 2.5, 2.5],
    [4, 2.5, 1, 2.5],
    [3, 2, 4, 1],
    [4, 1, 2, 3],
    [3, 1, 4, 2],
]


def tables(k, n):
    """All tables of ranks without ties, but for the order of the treatments: [tables, n, k]."""
    orders = list(permutations(range(1, k + 1)))
    return np.array([(orders[0], *rest) for rest in product(orders, repeat=n - 1)])


def test_friedman_published():
    found = st.friedman(np.array(DEMSAR))
    assert np.mean(DEMSAR, axis=0) == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    # The paper does not correct for ties, which are the table's sixth, eighth, tenth and eleventh rows.
    uncorrected = found.chi2 * (1 - (3 * (2**3 - 2) + (4**3 - 4)) / (14 * (4**3 - 4)))
    assert uncorrected == pytest.approx(9.28, abs=0.005)
    assert 13 * uncorrected / (14 * 3 - uncorrected) == pytest.approx(3.69, abs=0.005)
    # "The critical value of F(3,39) for α = 0.05 is 2.85, so we reject the null-hypothesis."
    assert stats.f.isf(0.05, 3, 39) == pytest.approx(2.85, abs=0.005)
    assert found.f > 3.69
    assert found.by == "exact"
    assert found.p == pytest.approx(stats.f.sf(found.f, 3, 39), abs=3e-3)
    assert found.p < 0.05


@pytest.mark.parametrize(
    ("k", "n", "chi2", "p"),
    [
        (3, 2, 4, 0.167),
        (3, 3, 4.667, 0.194),
        (3, 3, 6, 0.028),
        (3, 4, 6.5, 0.042),
        (3, 4, 8, 0.0046),
        (3, 5, 6.4, 0.039),
        (3, 5, 8.4, 0.0085),
        (4, 2, 6, 0.042),
        (4, 3, 7.4, 0.033),
        (4, 3, 9, 0.0017),
    ],
)
def test_friedman_is_exact_as_in_his_table(k, n, chi2, p):
    """Friedman 1937, as in Siegel 1956, table N."""
    of_it = next(ranks for ranks in tables(k, n) if abs(stats.friedmanchisquare(*ranks.T).statistic - chi2) < 1e-3)
    found = st.friedman(of_it)
    assert (found.chi2, found.p) == (
        pytest.approx(chi2, abs=1e-3),
        pytest.approx(p, abs=5 * 10.0 ** -(len(str(p)) - 1)),
    )
    assert found.by == "exact"


@pytest.mark.parametrize(
    ("k", "n", "levels"), [(2, 6, 3), (3, 4, 99), (3, 5, 4), (3, 5, 3), (4, 3, 99), (4, 3, 4), (5, 2, 5)]
)
def test_friedman_is_scipys_and_that_of_all_permutations(k, n, levels):
    values = np.random.default_rng([k, levels]).integers(0, levels, (n, k))
    values[0] = np.arange(k)  # not all tied
    ranks = stats.rankdata(values, axis=1)
    found = st.friedman(ranks)
    if k > 2:
        assert found.chi2 == pytest.approx(stats.friedmanchisquare(*values.T).statistic)
    # The F is that of an analysis of variance of the ranks, which has no spread between blocks.
    rest = ((ranks - (k + 1) / 2 - (ranks.mean(axis=0) - (k + 1) / 2)) ** 2).sum() / ((k - 1) * (n - 1))
    assert found.f == pytest.approx(n * ranks.mean(axis=0).var(ddof=1) / rest)
    squares = [(np.sum(table, axis=0) ** 2).sum() for table in product(*(permutations(block) for block in ranks))]
    assert found.p == pytest.approx(np.mean(np.array(squares) >= (ranks.sum(axis=0) ** 2).sum()))
    assert found.by == "exact"
    assert st.friedman(ranks[::-1, ::-1]).p == pytest.approx(found.p)


@pytest.mark.parametrize(("k", "n"), [(3, 2), (3, 3), (3, 5), (4, 3)])
def test_friedman_is_wrong_no_oftener_than_it_says_and_f_was(k, n):
    found = [st.friedman(ranks) for ranks in tables(k, n)]
    p = np.array([f.p for f in found])
    for level in np.unique(p):
        assert np.mean(p <= level + 1e-12) == pytest.approx(level), "attained as often as it says"
    of_f = np.mean(stats.f.sf([f.f for f in found], k - 1, (k - 1) * (n - 1)) < 0.05)
    assert of_f == pytest.approx({(3, 2): 1 / 6, (3, 3): 7 / 36, (3, 5): 0.0394, (4, 3): 0.0747}[k, n], abs=1e-4)


@pytest.mark.parametrize(("k", "n"), [(3, 6), (4, 5), (5, 4)])
def test_friedmans_drawn_permutations_come_near_to_all(k, n):
    for shift in (0.0, 0.5, 1.0):
        values = np.random.default_rng(n).standard_normal((n, k)) + shift * np.arange(k)
        twice = np.rint(2 * stats.rankdata(values.round(1), axis=1)).astype(int)
        p = st._counted(twice)
        assert st._drawn(twice) == pytest.approx(p, abs=3.3 * math.sqrt(p * (1 - p) / 20_000) + 1e-4)
        assert st._drawn(twice) == st._drawn(twice)


def test_friedman_says_what_its_p_is():
    rng = np.random.default_rng(0)
    for k, n, by in (
        (3, 2, "exact"),
        (3, 30, "exact"),
        (4, 16, "permutation"),
        (6, 4, "permutation"),
        (8, 2, "permutation"),
    ):
        assert st.friedman(stats.rankdata(rng.random((n, k)), axis=1)).by == by
    ranks = stats.rankdata(rng.random((st.F_FROM, 6)), axis=1)
    found = st.friedman(ranks)
    assert (found.by, found.p) == ("F", pytest.approx(stats.f.sf(found.f, 5, 5 * (st.F_FROM - 1))))
    # There, the two agree.
    assert st._drawn(np.rint(2 * ranks).astype(int)) == pytest.approx(found.p, abs=0.015)


def test_friedman_at_its_ends():
    same = st.friedman(np.tile([1.0, 2.0, 3.0], (6, 1)))
    assert (same.chi2, same.f, same.p) == (pytest.approx(12.0), math.inf, pytest.approx(6 / 6**6))
    assert st.friedman(np.tile(np.arange(1.0, 15), (5, 1))).p == 1 / 20_001, "not zero, which is never known of draws"
    level = st.friedman(np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]))
    assert (level.chi2, level.f, level.p) == pytest.approx((0.0, 0.0, 1.0))
    missing = [[1.0, math.nan, 2.0], [1.0, 2.0, 3.0]]
    for ranks in (np.ones((5, 1)), [[1.5, 1.5]], missing, np.empty((0, 3)), np.full((4, 3), 2.0)):
        found = st.friedman(np.asarray(ranks))
        assert math.isnan(found.p)
        assert found.by == ""


def test_fisher_is_the_hypergeometric_one():
    # Fisher's tea: 3 of 4 cups against 1 of 4.
    assert st.fisher_p(3, 4, 1, 4) == pytest.approx(34 / 70)
    assert st.fisher_p(4, 4, 0, 4) == pytest.approx(2 / 70)
    assert st.fisher_p(0, 5, 0, 5) == 1.0
    assert math.isnan(st.fisher_p(0, 0, 1, 5))
    assert math.isnan(st.fisher_least_p(1, 5, 0, 0))


@pytest.mark.parametrize(("n", "m"), [(5, 5), (3, 7), (1, 4)])
def test_the_least_p_of_fishers_test_is_that_of_all_tables(n, m):
    for total in range(n + m + 1):
        inside = range(max(0, total - m), min(n, total) + 1)
        least = min(st.fisher_p(a, n, total - a, m) for a in inside)
        assert {st.fisher_least_p(a, n, total - a, m) for a in inside} == {least}


def discrete(n, m, total):
    """All p-values that Fisher's test can give, each with its probability where the shares are equal."""
    inside = np.arange(max(0, total - m), min(n, total) + 1)
    p = [st.fisher_p(int(a), n, int(total - a), m) for a in inside]
    return list(zip(p, stats.hypergeom.pmf(inside, n + m, n, total), strict=True))


@pytest.mark.parametrize("totals", [(1, 5, 5), (2, 3, 5), (5, 5, 5), (0, 1, 4), (3, 4, 5)])
def test_tarone_holm_keeps_its_level_by_enumeration_and_is_never_worse_than_holm(totals):
    families = [discrete(5, 5, total) for total in totals]
    least = [min(p for p, _ in family) for family in families]
    smallest, chances = [], []
    for outcome in product(*families):
        p = [value for value, _ in outcome]
        adjusted, plain = st.tarone_holm(p, least), st.holm(p)
        assert all(ours <= holms + 1e-12 for ours, holms in zip(adjusted, plain, strict=True))
        assert all(ours >= value - 1e-12 for ours, value in zip(adjusted, p, strict=True))
        assert st.tarone_holm(p, [0.0] * len(p)) == pytest.approx(plain)
        assert st.tarone_holm(p[::-1], least[::-1])[::-1] == pytest.approx(adjusted)
        smallest.append(min(adjusted))
        chances.append(math.prod(chance for _, chance in outcome))
        for alpha in (0.01, 0.05, 0.1):
            rejected = {i for i, value in enumerate(adjusted) if value <= alpha}
            assert rejected >= tarone(p, least, alpha), "what Tarone's own procedure rejects is rejected"
    assert sum(chances) == pytest.approx(1)
    for alpha in np.unique(smallest):
        assert np.dot(np.array(smallest) <= alpha, chances) <= alpha + 1e-12, "wrong no oftener than it says"


def tarone(p, least, alpha):
    """Which Tarone 1990 rejects: as many tests are counted as can reach α divided by their number."""
    count = next(k for k in range(1, len(p) + 1) if sum(x <= alpha / k for x in least) <= k)
    return {i for i, value in enumerate(p) if value <= alpha / count}


def test_tarone_holm_published():
    """The example of the R package MHTdiscrete: Tarone's are 0.1054688, 0.046875 and 0.12288, all three counted.

    The smallest is the step-down's too; after it two are left to be counted.
    """
    p = [stats.binom.cdf(1, 8, 0.5), stats.binom.cdf(1, 5, 0.75), stats.binom.cdf(1, 6, 0.6)]
    least = [stats.binom.cdf(0, 8, 0.5), stats.binom.cdf(0, 5, 0.75), stats.binom.cdf(0, 6, 0.6)]
    assert st.tarone_holm(p, least) == pytest.approx([2 * 0.1054688 / 3, 0.0468750, 2 * 0.1054688 / 3])


def test_tarone_holm_counts_only_what_could_be_as_small():
    assert st.tarone_holm([0.008, 0.5], [0.008, 0.3]) == pytest.approx([0.008, 0.5])
    assert st.tarone_holm([0.008, 0.5], [0.008, 0.008]) == pytest.approx([0.016, 0.5])
    assert st.tarone_holm([0.008, math.nan], [0.008, math.nan]) == pytest.approx([0.016, math.nan], nan_ok=True)
    assert st.tarone_holm([0.008, math.nan], [0.008, 0.3]) == pytest.approx([0.008, math.nan], nan_ok=True)
    assert st.tarone_holm([], []) == []


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.4, 0.9])
@pytest.mark.parametrize("n", [2, 3, 5, 15])
def test_seeds_worth_gives_intervals_of_one_expected_length(correlation, n):
    gain = st.seeds_worth(correlation, n)

    def length(variance, freedom):
        mean_s = stats.chi.mean(freedom) / math.sqrt(freedom)
        return stats.t.ppf(0.975, freedom) * mean_s * math.sqrt(variance)

    m = n + gain
    assert length(2 / m, 2 * m - 2) == pytest.approx(length(2 * (1 - correlation) / n, n - 1))
    assert gain < n / (1 - correlation) - n + 1
    assert gain < 0 if correlation <= 0 else gain > 0 or n <= 3


def test_seeds_worth_of_many_seeds_is_that_of_the_variance_and_its_ends():
    assert st.seeds_worth(0.5, 4_000) == pytest.approx(4_000, rel=1e-3)
    assert st.seeds_worth(0.0, 4_000) == pytest.approx(-1, abs=0.1), "the fewer degrees of freedom cost one seed"
    assert st.seeds_worth(1.0, 5) == math.inf
    assert st.seeds_worth(1 - 1e-9, 5) > 1e9
    assert math.isnan(st.seeds_worth(0.5, 1))
    assert math.isnan(st.seeds_worth(math.nan, 5))


def test_seeds_worth_by_simulation():
    rng, n, correlation = np.random.default_rng(3), 5, 0.8
    m = n + st.seeds_worth(correlation, n)
    d = rng.standard_normal((20_000, n)) * math.sqrt(2 * (1 - correlation))
    paired = np.mean(d.std(axis=1, ddof=1)) * stats.t.ppf(0.975, n - 1) / math.sqrt(n)
    unpaired = []
    for whole in (math.floor(m), math.ceil(m)):
        x = rng.standard_normal((2, 20_000, whole))
        spread = np.sqrt(x.var(axis=2, ddof=1).mean(axis=0) * 2 / whole)
        unpaired.append(np.mean(spread) * stats.t.ppf(0.975, 2 * whole - 2))
    assert unpaired[1] * 0.99 < paired < unpaired[0] * 1.01


@pytest.mark.parametrize("n", [2, 5, 15])
@pytest.mark.parametrize("margin", [0.1, 0.5, 2.0])
def test_equivalence_is_statsmodels_and_an_interval_within_the_margin(n, margin):
    from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

    one, other = np.random.default_rng(n).normal(0.1, 1, (2, n))
    d = one - other
    p = equivalence_p(one, other, margin)
    for expected in (ttost_paired(one, other, -margin, margin)[0], DescrStatsW(d).ttost_mean(-margin, margin)[0]):
        assert p == pytest.approx(expected if abs(d.mean()) < margin else 1)
    found = st.mean_interval(d, 0.9)
    assert (p < 0.05) == (-margin < found.low and found.high < margin)
    assert equivalence_p(other, one, margin) == pytest.approx(p)


@pytest.mark.parametrize("n", [2, 3, 15])
@pytest.mark.parametrize("confidence", [0.95, 0.9, 1 - 0.05 / 3])
def test_the_interval_of_a_mean_is_scipys(n, confidence):
    x = np.random.default_rng(n).normal(0.7, 0.02, n)
    found, expected = st.mean_interval(x, confidence), stats.ttest_1samp(x, 0).confidence_interval(confidence)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    half = (expected.high - expected.low) / 2 * math.sqrt(n + 1)
    assert st.prediction_interval(x, confidence) == pytest.approx((x.mean() - half, x.mean() + half))


@pytest.mark.parametrize(
    ("seeds", "images", "spreads"), [(3, 8, (0.5, 1)), (5, 6, (0, 0)), (4, 10, (2, 0.3)), (6, 9, (0.2, 2))]
)
def test_new_images_add_what_an_analysis_of_variance_says(seeds, images, spreads):
    import statsmodels.formula.api as smf
    from statsmodels.stats.anova import anova_lm

    rng = np.random.default_rng(images)
    d = spreads[0] * rng.standard_normal((seeds, 1)) + spreads[1] * rng.standard_normal(images)
    d = d + rng.standard_normal((seeds, images))
    long = pd.DataFrame({"y": d.ravel(), "s": np.repeat(range(seeds), images), "i": np.tile(range(images), seeds)})
    squares = anova_lm(smf.ols("y ~ C(s) + C(i)", long).fit())["mean_sq"]
    assert st.residual_mean_square(d) == pytest.approx(squares["Residual"])
    added = max(0, squares["C(i)"] - squares["Residual"]) / (seeds * images)
    half = math.sqrt(0.7**2 + (1.959964 * math.sqrt(added)) ** 2)
    assert st.for_new_images(1.3, 2.7, d) == pytest.approx((2 - half, 2 + half))
