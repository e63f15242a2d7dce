"""Drawn pages: what they are drawn like, how often one is wrong where that is known, and that no shipped plan's is."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from scipy import stats

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.plan import LOOKS, with_looks
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.reports.inference import decision, simulation, verdict
from cifar_ablations.reports.inference.decision import Claims, Decided
from cifar_ablations.reports.inference.simulation import NOISES, Setting, Shape
from tests.reports.conftest import small_plan

DRAWS = 4_000


def shape(
    pairs: list[tuple[int, int]],
    seeds: int,
    test: str = "welch t",
    correction: str = "weighted holm",
    looks: tuple[int, ...] = (),
    margin: float = math.nan,
) -> Shape:
    arms = max(max(pair) for pair in pairs) + 1
    weights = np.zeros((len(pairs), arms))
    for row, (treatment, control) in enumerate(pairs):
        weights[row, treatment], weights[row, control] = 1, -1
    claims = Claims(("a",) * len(pairs), weights, np.zeros(len(pairs)), np.full(len(pairs), margin))
    return Shape(claims, arms, seeds, {"a": 1}, frozenset({"a"}), test, correction, looks)


def near(rate: float, draws: int = DRAWS) -> tuple[float, float]:
    low, high = stats.binom(draws, rate).ppf([0.0005, 0.9995]) / draws
    return float(low), float(high)


def rate_of(one: Shape, setting: Setting | None = None) -> float:
    return simulation.false_pages(one, setting or Setting(), DRAWS, np.random.default_rng(1))


@pytest.mark.parametrize("seeds", [5, 15])
def test_one_claim_of_pairs_is_wrong_as_often_as_its_level(seeds: int) -> None:
    low, high = near(0.035)
    assert low <= rate_of(shape([(0, 1)], seeds, "paired t", "holm")) <= high


def test_one_claim_of_many_seeds_is_wrong_as_often_as_its_level() -> None:
    """A pseudo-seed is nothing beside 200, and Welch's test is then the normal one."""
    low, high = near(0.035)
    assert low <= rate_of(shape([(0, 1)], 200)) <= high


@pytest.mark.parametrize("claims", [2, 6])
def test_claims_of_their_own_arms_are_wrong_as_often_as_holms_of_that_many(claims: int) -> None:
    """At least one p below α / m, of m that are independent."""
    low, high = near(1 - (1 - 0.035 / claims) ** claims)
    pairs = [(2 * i, 2 * i + 1) for i in range(claims)]
    assert low <= rate_of(shape(pairs, 6, "paired t", "holm")) <= high


def test_weights_of_mean_squares_are_exact_for_pairs() -> None:
    """Läuter, Glimm and Kropf 1998: whatever the spreads and the correlation of the claims."""
    _, high = near(0.035)
    baseline = [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]
    for setting in (Setting(), Setting(spread=0.7), Setting(correlation=0.6)):
        assert rate_of(shape(baseline, 5, "paired t"), setting) <= high


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 a case, however near to the line."""
    monkeypatch.setattr(simulation, "DRAWS", 200)
    monkeypatch.setattr(simulation, "NEAR", 0.0)
    monkeypatch.setattr(simulation, "_known", {})


def test_near_the_line_more_pages_are_drawn() -> None:
    one, setting = shape([(1, 0), (2, 0)], 3), Setting(spread=0.7)
    first = simulation.false_pages(one, setting, simulation.DRAWS, np.random.default_rng(0))
    again = simulation.false_pages(one, setting, simulation.MORE_DRAWS, np.random.default_rng(1))
    assert abs(first - 0.05) < simulation.NEAR
    assert simulation._rate(one, setting, 1) == again
    assert simulation._rate(shape([(1, 0), (2, 0)], 40), setting, 1) < 0.045


@pytest.mark.usefixtures("few_draws")
def test_the_worst_is_the_largest_of_its_settings() -> None:
    one = shape([(1, 0), (2, 0)], 6)
    rates = [
        simulation.false_pages(one, replace(setting, means=means), 200, np.random.default_rng(0))
        for setting in simulation.SETTINGS
        for means in (None, simulation.half_true(one))
    ]
    assert simulation.worst(one) == max(rates)


@pytest.mark.usefixtures("few_draws")
def test_the_worst_is_remembered_by_all_that_it_depends_on() -> None:
    """A wide margin makes false equivalents, and divergence counts for metrics that are lost."""
    one = shape([(1, 0), (2, 0)], 40)
    wide = replace(one, claims=replace(one.claims, margin=np.full(2, 4.0)))
    at_margin = replace(one, claims=replace(one.claims, margin=np.full(2, 1.5)))
    lossless, diverging = replace(one, lost=frozenset()), (Setting(diverging=0.5),)
    for shapes, settings in (((one, wide, at_margin), (Setting(),)), ((one, lossless), diverging)):
        fresh = []
        for each in shapes:
            simulation._known.clear()
            fresh.append(simulation.worst(each, settings))
        simulation._known.clear()
        assert [simulation.worst(each, settings) for each in shapes] == fresh
        assert len(simulation._known) == len(shapes)


@pytest.mark.usefixtures("few_draws")
def test_more_seeds_than_matter_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of 1,563 seeds took a minute and a half to draw."""
    drawn: list[Shape] = []
    monkeypatch.setattr(simulation, "_rate", lambda one, setting, few: float(drawn.append(one) or 0.04))
    simulation._known.clear()
    pairs, large = [(1, 0), (2, 0)], simulation.LARGE
    simulation.worst(shape(pairs, 10 * large))
    simulation.worst(replace(shape(pairs, 10 * large), runs=(10 * large, large // 2, 2 * large)))
    simulation.worst(shape(pairs, 2 * large, "paired t e-process", looks=(large, 2 * large)))
    assert {one.seeds for one in drawn if not one.looks} == {large}
    assert {one.runs for one in drawn if one.runs} == {(large, large // 2, large)}
    assert {one.looks for one in drawn if one.looks} == {(large, 2 * large)}


def test_few_seeds_are_too_few() -> None:
    """What makes a plan's verdicts `TOO_FEW`: with two or three seeds a page of claims is wrong too often."""
    many = [(i, 0) for i in range(1, 7)] + [(i, 7) for i in range(8, 14)]
    assert simulation.worst(shape(many, 3)) > 0.05
    assert simulation.worst(shape(many, 6)) < 0.05


def test_every_second_comparison_is_true() -> None:
    one = shape([(0, 1), (2, 1), (3, 4), (5, 4)], 5)
    rows = np.unique(one.claims.weights, axis=0)
    assert (rows @ simulation.half_true(one, 3.0)).tolist() == pytest.approx([3.0, 0.0, -3.0, 0.0])
    assert sorted(abs(one.claims.weights @ simulation.half_true(one, 3.0))) == pytest.approx([0, 0, 3, 3])


@pytest.mark.parametrize("noise", NOISES)
def test_noise_has_a_variance_of_one(noise: str) -> None:
    drawn = NOISES[noise](np.random.default_rng(0), (200_000,))
    assert drawn.mean() == pytest.approx(0, abs=0.02)
    assert drawn.var() == pytest.approx(1, abs=0.3 if noise == "t3" else 0.03)
    assert stats.skew(drawn) == pytest.approx(2 if noise == "skewed" else 0, abs=0.3 if noise == "skewed" else 5)


def test_pages_are_drawn_as_their_setting_says() -> None:
    one = shape([(1, 0), (2, 0), (3, 4)], 6)
    means = np.array([0.0, 1.0, 2.0, 3.0, 4.0])

    def of(**setting: float) -> np.ndarray:
        rng = np.random.default_rng(0)
        return simulation.drawn(one, Setting(means=means, **setting), 20_000, rng)["a"].values

    plain = of()
    assert plain.shape == (20_000, 5, 6)
    np.testing.assert_allclose(plain.mean(axis=(0, 2)), means, atol=0.02)
    np.testing.assert_allclose(plain.var(axis=(0, 2)), 1, atol=0.03)
    assert np.isnan(of(diverging=0.2)).mean() == pytest.approx(0.2, abs=0.005)
    of_seeds = of(correlation=0.6) - means[:, None]
    assert (of_seeds[:, 1] * of_seeds[:, 3]).mean() == pytest.approx(0.6, abs=0.02)
    quiet = of(quiet=0.25).var(axis=(0, 2))
    np.testing.assert_allclose(quiet, [1 / 16, 1, 1, 1, 1], rtol=0.03)
    wild = of(wild=6.0).var(axis=(0, 2))
    np.testing.assert_allclose(wild, 1 + 5 / 5, rtol=0.06)
    logs = np.log(of(spread=0.7).std(axis=2))
    assert logs.std() == pytest.approx(math.hypot(0.7, np.log(plain.std(axis=2)).std()), rel=0.02)


def said(**given: list[float]) -> Decided:
    known = {field.name: np.full((1, 4), np.nan) for field in fields(Decided)}
    known |= {"different": np.zeros((1, 4), bool), "equivalent": np.zeros((1, 4), bool)}
    return Decided(**(known | {name: np.array([values]) for name, values in given.items()}))


def test_what_is_false() -> None:
    one = shape([(0, 1), (2, 1), (3, 1), (4, 1)], 5, margin=1.0)
    setting = Setting(means=np.array([2.0, 0.0, 0.0, -2.0, 1.0]))
    every = [True] * 4
    for direction, wrong in ((1.0, [False, True, True, False]), (-1.0, [True, True, False, True])):
        decided = said(different=every, direction=[direction] * 4)
        assert simulation.false(one, setting, decided).tolist() == [wrong]
    assert simulation.false(one, setting, said(equivalent=every)).tolist() == [[True, False, True, True]]
    assert not simulation.false(one, setting, said()).any()
    nothing = said(different=every, direction=[1.0] * 4)
    assert simulation.false(one, Setting(), nothing).all()
    allowed = replace(one, claims=replace(one.claims, allowed=np.full(4, 1.0)))
    assert simulation.false(allowed, Setting(), nothing).tolist() == [[False] * 4], "none is as low as what is allowed"


def test_a_claim_keeps_what_the_first_look_says_that_decides_it() -> None:
    one = shape([(0, 1), (2, 3)], 12, looks=(4, 8, 12))
    setting = Setting(means=np.array([2.5, 0.0, 0.0, 0.3]))
    samples = simulation.drawn(one, setting, 200, np.random.default_rng(0))
    found = simulation.at_looks(one, samples)
    at = []
    for page in range(200):
        by_look = []
        for look in (4, 8, 12):
            seen = {"a": replace(samples["a"], values=samples["a"].values[page, :, :look], ended=np.full(4, look))}
            by_look.append(decision.decide(seen, one.claims, one.test, one.correction, 3))
        for claim in range(2):
            known = [look for look, d in enumerate(by_look) if d.different[claim] or d.equivalent[claim]]
            first = known[0] if known else 2
            at.append((claim, first, bool(known)))
            assert found.p_page[page, claim] == by_look[first].p_page[claim]
            assert found.different[page, claim] == by_look[first].different[claim]
    assert {first for claim, first, known in at if claim == 0 and known} == {0, 1, 2}
    without = simulation.at_looks(replace(one, looks=()), samples)
    whole = decision.decide(samples, one.claims, one.test, one.correction)
    np.testing.assert_array_equal(without.p_page, whole.p_page)


RECIPE = catalog.notebook_recipe()


def shipped(profile: str, seeds: int, way: str = "") -> dict[str, Shape]:
    """The shapes of all pages with claims that the catalog makes of the notebook's recipe."""
    size, found = PROFILES[profile], {}
    for name in catalog.plan_names():
        if name in ("tuned", "gain"):  # it is of an adopted recipe, and has the arms and claims of `techniques`
            continue
        made = catalog.make_plan(name, size.apply(RECIPE), size, tuple(range(seeds)))
        if made.claims:
            plan = with_looks(made, way) if way else made
            found[name] = verdict.shape_of(plan.record(size, small_plan().data))
    return found


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("profile", "seeds"),
    [
        *((name, seeds) for seeds, name in {size.seeds: name for name, size in PROFILES.items()}.items() if seeds >= 5),
        *(pytest.param("quick", seeds, marks=pytest.mark.exhaustive) for seeds in (5, 8, 10, 15)),
    ],
)
def test_no_page_of_a_shipped_plan_is_wrong_more_often_than_said(profile: str, seeds: int) -> None:
    """Statistics, 2: of 'levels' plans 22 to 48 % of pages were, as each level was corrected for by itself."""
    rates = {name: simulation.worst(one) for name, one in shipped(profile, seeds).items()}
    assert len(rates) > 10
    above = {name for name, rate in rates.items() if rate > 0.05}
    # Of two arms that are alike, with too few seeds: there a page gives intervals and no verdicts.
    assert above == ({"a-a"} if seeds < PROFILES["quick"].seeds else set()), rates


@pytest.mark.exhaustive
@pytest.mark.parametrize("way", LOOKS)
def test_no_page_with_looks_is_wrong_more_often_than_said(way: str) -> None:
    rates = {name: simulation.worst(one) for name, one in shipped("quick", 5, way).items() if one.arms < 20}
    assert max(rates.values()) <= near(0.05, 500)[1], rates
