"""Checks the statistics by simulation: false statements on pages, coverage of intervals, power and seeds.

`make validate`, or `python -m benchmarks.calibration`. Writes CALIBRATION.md beside itself, with the number of draws
and the seed, so that anyone can repeat it. Pages have the shapes of the plans that are shipped, and what is tested are
the functions of `reports` that a report uses.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from scipy import stats

from benchmarks import coverage, shrinkage
from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.plan import with_looks
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.ablations.record import DataRecord, PlanRecord
from cifar_ablations.reports.inference import contrast, decision, power, simulation, statistics, verdict
from cifar_ablations.reports.inference.decision import ALPHA, DIVERGENT, Decided, Sample
from cifar_ablations.reports.inference.simulation import SETTINGS, Setting, Shape

FILE = Path(__file__).parent / "CALIBRATION.md"

SEEDS = (3, 5, 6, 8, 10, 15)
CHANCE = -20.0
"""Where a run that diverged stood under the rule before this one, in standard deviations: its accuracy was chance."""
MARGIN = 2.0
"""Of equivalence, in standard deviations of a typical arm, where pages are to say something false of it."""
TUNED = ("dropout=0.3", "weight_decay=0.0005", "optimizer.rate=0.002", "augmentation=off")
RETUNED = {"schedule": {"optimizer.rate": 0.001}}
"""A baseline, and a rate of its own without a technique, such as a search finds."""

UNEQUAL = Setting(spread=0.7)
SCENARIOS: dict[str, Setting] = {
    "all arms equal": Setting(),
    "arms' sds lognormal .35": Setting(spread=0.35),
    "arms' sds lognormal .7": UNEQUAL,
    "lognormal .7, quiet baselines": SETTINGS[0],
    "one arm 3.5 × the variance": Setting(wild=3.5),
    "one arm 25 × the variance": Setting(wild=25),
    "baselines 3.5 × the variance": Setting(quiet=math.sqrt(3.5)),
    "t3, equal": Setting("t3"),
    "t3, lognormal .7": Setting("t3", spread=0.7),
    "t3, lognormal .7, quiet baselines": SETTINGS[1],
    "seeds correlate .3": Setting(correlation=0.3),
    "seeds correlate .6": Setting(correlation=0.6),
    **{f"{p} % diverge, equal": Setting(diverging=p / 100) for p in (5, 20, 40)},
    **{f"{p} % diverge, lognormal .7": Setting(spread=0.7, diverging=p / 100) for p in (5, 20, 40)},
    "*stress:* skewed, lognormal .35": Setting("skewed", spread=0.35),
    "*stress:* skewed, lognormal .35, quiet baselines": Setting("skewed", spread=0.35, quiet=0.25),
}
"""What runs are like, in the units of `simulation.Setting`."""
WIDER = (*SETTINGS, UNEQUAL, Setting("t3"), *(Setting(spread=0.7, diverging=p) for p in (0.05, 0.2)))
RULES = ("new", "plain", "old")
SKEWED = (Setting("skewed", spread=0.35), Setting("skewed", spread=0.35, quiet=0.25))

Each = Callable[..., Iterable[Any]]
"""`map`, or one that uses several processes."""


@dataclass(frozen=True)
class Page:
    """A plan as it is logged, and all of it that its page's error rate depends on."""

    plan: PlanRecord
    shape: Shape

    @property
    def families(self) -> np.ndarray:
        """By claim the name of its family, str [claims]."""
        return np.array([claim.family for claim in self.plan.claims])

    def compared(self) -> tuple[np.ndarray, np.ndarray]:
        """Both sides of each row of `divergence.table`: which arms belong to it, 0 or 1 [rows, arms]."""
        rows = {(claim.technique, *map(tuple, contrast.arms(claim))) for claim in self.plan.claims if not claim.beyond}
        names = [arm.name for arm in self.plan.arms]
        sides = np.array([[[name in side for name in names] for side in both] for _, *both in rows], dtype=float)
        left, right = np.swapaxes(sides.reshape(len(rows), 2, len(names)), 0, 1)
        return left, right


@cache
def plan_of(name: str, seeds: int, way: str = "", rule: tuple[str, str] | None = None) -> PlanRecord:
    """A plan of the catalogue; way: of looking at it, one of LOOKS; rule: another test and correction."""
    profile, baseline = PROFILES["quick"], catalog.notebook_recipe()
    for assignment in TUNED if name == "tuned" else ():
        baseline = baseline.set(assignment)
    plan = catalog.make_plan(name, baseline, profile, tuple(range(seeds)), RETUNED)
    if way:
        plan = with_looks(plan, way)
    if rule:
        plan = replace(plan, rule=replace(plan.rule, test=rule[0], correction=rule[1]))
    return plan.record(profile, DataRecord("cifar10", "0" * 16))


def page(name: str, seeds: int, way: str = "", rule: tuple[str, str] | None = None) -> Page:
    """The page of such a plan. Its margin, of .005, is next to nothing in the unit of a simulation."""
    plan = plan_of(name, seeds, way, rule)
    return Page(plan, verdict.shape_of(plan))


@dataclass(frozen=True)
class Drawn:
    """Pages of a shape, what their runs are like, all metrics, and what becomes of the claims."""

    shape: Shape
    setting: Setting
    samples: Mapping[str, Sample]
    decided: Decided

    @property
    def truth(self) -> np.ndarray:
        """By claim the true difference, float [claims] or [draws, claims]."""
        means = np.zeros(self.shape.arms) if self.setting.means is None else self.setting.means
        truth = means @ self.shape.claims.weights.T
        return np.where(np.abs(truth) < 1e-9, 0.0, truth)

    @property
    def covered(self) -> np.ndarray:
        """Whether a claim's interval holds the truth, [draws, claims]; NaN where there is no interval."""
        inside = (self.decided.low <= self.truth) & (self.truth <= self.decided.high)
        return np.where(np.isnan(self.decided.low), np.nan, inside)

    @property
    def found(self) -> float:
        """The share of true differences that are called, with the right sign."""
        return _found(self.decided.different, self.decided.direction, self.truth)


def _found(different: np.ndarray, direction: np.ndarray, truth: np.ndarray) -> float:
    right = different & (np.sign(direction) == np.sign(truth))
    return float(right[np.broadcast_to(truth != 0, right.shape)].mean())


def draw(shape: Shape, setting: Setting, draws: int, rng: np.random.Generator) -> Drawn:
    """Pages, judged at their looks."""
    samples = simulation.drawn(shape, setting, draws, rng)
    return Drawn(shape, setting, samples, simulation.at_looks(shape, samples))


def comparisons(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """The different weights among a page's claims [comparisons, arms], and which of them `half_true` has true: -1, 0
    or 1, [comparisons], or near it where they depend on each other."""
    rows = np.unique(shape.claims.weights, axis=0)
    return rows, rows @ simulation.half_true(shape, 1.0)


def half(shape: Shape, setting: Setting, size: float, draws: int, rng: np.random.Generator) -> Setting:
    """The setting with every second comparison true, by `size` standard deviations of its own difference."""
    sds = simulation.spreads(shape, setting, draws, rng)
    rows, true = comparisons(shape)
    rho = setting.correlation
    variance = (1 - rho) * sds**2 @ (rows**2).T + rho * (sds @ rows.T) ** 2
    means = size * true * np.sqrt(variance) @ np.linalg.pinv(rows).T
    return replace(setting, sds=sds, means=np.where(np.abs(means) < 1e-9, 0.0, means))


def truths(shape: Shape, margin: float = MARGIN) -> dict[str, tuple[Shape, np.ndarray | None]]:
    """Where a page could say something false: by name, the shape and the means of arms.

    With effects of exactly the margin, called equivalent is false too.
    """
    wide = replace(shape, claims=replace(shape.claims, margin=np.where(np.isnan(shape.claims.margin), np.nan, margin)))
    rows, _ = comparisons(shape)
    signs = margin * (-1.0) ** np.arange(len(rows))
    return {
        "none": (shape, None),
        "half": (shape, simulation.half_true(shape)),
        "half at the margin": (wide, simulation.half_true(shape, margin)),
        "all at the margin": (wide, np.linalg.lstsq(rows, signs, rcond=None)[0]),
    }


def pairs_at_chance(drawn: Drawn) -> tuple[np.ndarray, np.ndarray]:
    """p and estimate of every claim by the paired t test, a run that diverged counting as chance: the rule before."""
    claims = drawn.shape.claims
    p, estimate = (np.empty(drawn.decided.p.shape) for _ in range(2))
    for metric, sample in drawn.samples.items():
        mine = np.array([name == metric for name in claims.metric])
        folded = replace(sample, values=np.where(np.isnan(sample.values), CHANCE, sample.values))
        found = decision.by_pairs(folded, claims.weights[mine])
        with np.errstate(invalid="ignore"):
            p[..., mine] = decision.TESTS["paired t"].p(found.estimate / found.error, found.df)
        estimate[..., mine] = found.estimate
    return p, estimate


def holm(p: np.ndarray, families: np.ndarray) -> np.ndarray:
    """What Holm's procedure rejects at α in each of the families, bool [..., claims]."""
    rejected = np.zeros(p.shape, dtype=bool)
    for name in np.unique(families):
        mine = families == name
        rejected[..., mine] = decision.weighted_holm(p[..., mine], np.ones_like(p[..., mine])) <= ALPHA
    return rejected


@dataclass(frozen=True)
class Rates:
    """One scenario of the main table, all shares.

    pages, power2, power3: by rule. The rest is of the new one; by_truth: its false pages, as `truths` names them;
    called_coverage: where half of the comparisons are true by 2 standard deviations of the difference.
    """

    scenario: str
    pages: dict[str, float]
    by_truth: dict[str, float]
    worst_claim: float
    coverage: float
    worst_coverage: float
    called_coverage: float
    power2: dict[str, float]
    power3: dict[str, float]


def main_table(draws: int, seed: int, each: Each = map) -> Iterator[Rates]:
    """A page of `techniques` under every scenario, by the new rule, plain Holm, and the rule before this one."""
    yield from each(partial(_rates, page("techniques", 5), draws, seed), SCENARIOS.items())


def _rates(of: Page, draws: int, seed: int, scenario: tuple[str, Setting]) -> Rates:
    name, setting = scenario
    families = {"plain": np.full(len(of.families), "page"), "old": of.families}
    pages: dict[str, list[float]] = {rule: [] for rule in RULES}
    by_truth, claims, covered = {}, [], np.empty(0)
    for truth, (shape, means) in truths(of.shape).items():
        one = draw(shape, replace(setting, means=means), draws, np.random.default_rng([seed, 100]))
        false = simulation.false(shape, one.setting, one.decided)
        by_truth[truth] = float((false.any(axis=-1) | diverges(of, one.samples)).mean())
        pages["new"].append(by_truth[truth])
        claims.append(float(false.mean(axis=0).max()))
        p, estimate = pairs_at_chance(one)
        for rule, of_rule in families.items():
            wrong = holm(p, of_rule) & (np.sign(estimate) != np.sign(one.truth))
            pages[rule].append(float(wrong.any(axis=-1).mean()))
        if means is None:
            covered = np.nanmean(one.covered, axis=0)
    powers, called = [], math.nan
    for size in (2.0, 3.0):
        rng = np.random.default_rng([seed, 101])
        one = draw(of.shape, half(of.shape, setting, size, draws, rng), draws, rng)
        p, estimate = pairs_at_chance(one)
        by_rule = {rule: _found(holm(p, of_rule), estimate, one.truth) for rule, of_rule in families.items()}
        powers.append({"new": one.found} | by_rule)
        if size == 2.0:
            called = float(np.nanmean(one.covered[one.decided.different]))
    worst = {rule: max(rates) for rule, rates in pages.items()}
    return Rates(name, worst, by_truth, max(claims), covered.mean(), covered.min(), called, *powers)


def diverges(of: Page, samples: Mapping[str, Sample]) -> np.ndarray:
    """Which pages call a difference in how many runs diverged at any of their looks, bool [draws]: all are false."""
    sample = next(iter(samples.values()))
    called = np.zeros(sample.values.shape[0], dtype=bool)
    looks = of.shape.looks or (of.shape.seeds,)
    left, right = of.compared()
    if not np.isnan(sample.values).any() or not len(left):
        return called
    for look in looks:
        lost = np.isnan(sample.values[..., :look]).sum(axis=-1)
        counts = np.stack(
            [side for arms in (left, right) for side in (lost @ arms.T, np.full_like(lost, look) @ arms.T)]
        )
        cases, which = np.unique(counts.reshape(4, -1), axis=1, return_inverse=True)
        of_cases = np.array([_fisher(*map(int, case)) for case in cases.T])[np.ravel(which)]
        p, least = of_cases.T.reshape(2, len(lost), -1)
        # Adjusted ones are never below p itself.
        for i in np.flatnonzero(p.min(axis=-1) * len(looks) <= DIVERGENT):
            called[i] |= min(statistics.tarone_holm(p[i], least[i])) * len(looks) <= DIVERGENT
    return called


@cache
def _fisher(a: int, n: int, b: int, m: int) -> tuple[float, float]:
    return statistics.fisher_p(a, n, b, m), statistics.fisher_least_p(a, n, b, m)


def false_pages(of: Page, settings: Sequence[Setting], draws: int, seed: int) -> tuple[float, Setting]:
    """The largest share of pages with a false statement, and where it is: none true, half at 5 sd or at the margin."""
    found = []
    for i, setting in enumerate(settings):
        for truth, (shape, means) in truths(of.shape).items():
            if truth == "all at the margin" or (truth == "half" and setting not in SETTINGS):
                continue
            there = replace(setting, means=means)
            one = draw(shape, there, draws, np.random.default_rng([seed, 110, i]))
            wrong = simulation.false(shape, there, one.decided).any(axis=-1) | diverges(of, one.samples)
            found.append((float(wrong.mean()), setting))
    return max(found, key=lambda pair: pair[0])


@dataclass(frozen=True)
class Worst:
    """How often a page of such a plan says something false, at worst; and the same of skewed noise.

    told: what a report that simulates it for itself, with fewer draws and settings, takes it to be.
    """

    name: str
    seeds: int
    false: float
    where: Setting
    skewed: float
    told: float


def names_alike() -> list[list[str]]:
    """Names of all plans that claim something, those of one shape together."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for name in catalog.plan_names():
        if plan_of(name, 5).claims:
            claims = page(name, 5).shape.claims
            key = claims.metric, claims.weights.shape, claims.weights.tobytes(), claims.allowed.tobytes()
            groups.setdefault(key, []).append(name)
    return list(groups.values())


def plans(draws: int, seed: int, each: Each = map) -> Iterator[Worst]:
    """Every shape of the plans that are shipped, by number of seeds, and `techniques` by other rules."""
    cases = [(", ".join(names), page(names[0], n)) for names in names_alike() for n in SEEDS]
    cases += [
        (f"techniques by {' & '.join(rule)}", page("techniques", n, rule=rule))
        for rule in (("paired t", "weighted holm"), ("paired t", "holm"))
        for n in SEEDS
    ]
    yield from each(partial(_worst, WIDER, draws, seed), cases)


def looked(draws: int, seed: int, each: Each = map) -> Iterator[Worst]:
    """Plans that are looked at again and again."""
    cases = [(f"{name}, adaptive", page(name, 5, "adaptive")) for name in ("techniques", "a-a", "claims")]
    cases += [("techniques, open", page("techniques", 5, "open"))]
    yield from each(partial(_worst, (*SETTINGS, WIDER[-1]), draws, seed), cases)


def _worst(settings: Sequence[Setting], draws: int, seed: int, case: tuple[str, Page]) -> Worst:
    name, of = case
    false, where = false_pages(of, settings, draws, seed)
    skewed, _ = false_pages(of, SKEWED, draws, seed)
    return Worst(name, of.shape.seeds, false, where, skewed, verdict.error_rate(of.shape))


@dataclass(frozen=True)
class Stopped:
    """True claims that an adaptive plan of 15 seeds decides at some look, as estimates and 95 % intervals tell of them.

    effect, then, finally: in standard deviations of the difference. then: by the look that decides, with the coverage
    of a fixed number's interval; finally: by all seeds, with that of the rule's.
    """

    effect: float
    look: int
    share: float
    then: float
    then_covered: float
    finally_: float
    finally_covered: float


def stopped(draws: int, seed: int) -> Iterator[Stopped]:
    """`techniques`, arms equal, half of the comparisons true: the claims that each look decides."""
    shape, sd = page("techniques", 5, "adaptive").shape, math.sqrt(2)
    for effect in (0.5, 1.0):
        rng = np.random.default_rng([seed, 120])
        setting = half(shape, Setting(), effect, draws, rng)
        samples = simulation.drawn(shape, setting, draws, rng)
        at = [draw_at(shape, setting, samples, look) for look in shape.looks]
        truth, last = at[0].truth, at[-1]
        waiting = truth != 0
        true = waiting.sum()
        for look, now in zip(shape.looks, at, strict=True):
            these = waiting & now.decided.different
            waiting = waiting & ~these
            half_width = decision.TESTS[shape.test].critical(now.decided.own_df, ALPHA) * now.decided.own_error
            covered = np.abs(now.decided.estimate - truth) <= half_width
            sizes = [float((np.sign(truth) * x.decided.estimate)[these].mean() / sd) for x in (now, last)]
            yield Stopped(
                effect, look, float(these.sum() / true), sizes[0], covered[these].mean(), sizes[1],
                last.covered[these].mean(),
            )  # fmt: skip


def draw_at(shape: Shape, setting: Setting, samples: Mapping[str, Sample], look: int) -> Drawn:
    """Pages as they are at one look."""
    seen = {
        name: replace(s, values=s.values[..., :look], ended=np.full(s.ended.shape, look)) for name, s in samples.items()
    }
    return Drawn(
        shape, setting, seen, decision.decide(seen, shape.claims, shape.test, shape.correction, len(shape.looks) or 1)
    )


def divergent(draws: int, seed: int) -> Iterator[tuple[int, str, str, float, float]]:
    """Seeds, what diverges, how unequal arms are, and coverage of the difference of converged means: mean and worst."""
    for n in (5, 10):
        shape = page("techniques", n).shape
        for rate in (0.05, 0.2, 0.4):
            for spread in (0.0, 0.7):
                setting = Setting(spread=spread, diverging=rate)
                covered = np.nanmean(draw(shape, setting, draws, np.random.default_rng([seed, 130])).covered, axis=0)
                yield n, percent(rate, 0), "lognormal .7" if spread else "equal", covered.mean(), covered.min()


@dataclass(frozen=True)
class Power:
    """True claims that are found, half of the comparisons being true, and the share that a report's formula gives."""

    name: str
    seeds: int
    effect: float
    found: float
    formula: float


POWERS = (
    ("techniques", None),
    ("levels/optimizer", None),
    ("levels/mixup", None),
    ("techniques", ("paired t", "holm")),
)
"""Plans and rules, None for their own, whose power is simulated."""


def powers(draws: int, seed: int) -> Iterator[Power]:
    """Effects are in standard deviations of the difference, arms equal; the formula's df and error are the median's."""
    for name, rule in POWERS:
        for n in SEEDS[1:]:
            shape = page(name, n, rule=rule).shape
            for effect in (1.0, 1.5, 2.0, 3.0):
                one = at_power(shape, effect, draws, seed)
                df, error_ = medians(one)
                formula = power.found(effect * math.sqrt(2) / error_, df, level(shape), shape.test)
                yield Power(_title(name, rule), n, effect, one.found, formula)


def at_power(shape: Shape, effect: float, draws: int, seed: int) -> Drawn:
    """Pages of equal arms of which every second comparison is true; the same noise for every effect."""
    rng = np.random.default_rng([seed, 140])
    return draw(shape, half(shape, Setting(), effect, draws, rng), draws, rng)


def medians(drawn: Drawn) -> tuple[float, float]:
    """Of the degrees of freedom and the standard error of claims."""
    return float(np.median(drawn.decided.df)), float(np.median(drawn.decided.error))


def level(shape: Shape) -> float:
    """That a report takes a claim to be tested at, for its power."""
    return power.typical_alpha(len(shape.claims.metric), shape.seeds, shape.test, shape.correction)


def _title(name: str, rule: tuple[str, str] | None) -> str:
    return name if rule is None else f"{name} by {rule[0]}, {rule[1]}"


@dataclass(frozen=True)
class Detectable:
    """The effect that is found four times out of five, in standard deviations of the difference: the truth, and what
    the median page prints."""

    name: str
    seeds: int
    truth: float
    printed: float


def detectables(draws: int, seed: int) -> Iterator[Detectable]:
    """By plan and number of seeds, half of the comparisons being of that size."""
    for name, rule in POWERS:
        for n in SEEDS[1:]:
            shape = page(name, n, rule=rule).shape
            low, high = 0.1, 6.0
            while high - low > 0.01:
                middle = (low + high) / 2
                low, high = (
                    (middle, high) if at_power(shape, middle, draws, seed).found < power.POWER else (low, middle)
                )
            df, error_ = medians(at_power(shape, high, draws, seed))
            printed = power.standard_effect(round(df, 1), level(shape), shape.test) * error_ / math.sqrt(2)
            yield Detectable(_title(name, rule), n, high, printed)


def needed(draws: int, seed: int) -> Iterator[tuple[str, float, int, str]]:
    """Plan, effect, seeds that find it four times out of five, and what the median page of 5 and of 10 seeds prints."""
    for name, rule in POWERS:
        for effect in (1.0, 1.5, 2.0):
            low, high = 2, 40
            while high - low > 1:
                middle = (low + high) // 2
                found = at_power(page(name, middle, rule=rule).shape, effect, draws, seed).found
                low, high = (middle, high) if found < power.POWER else (low, middle)
            said = []
            for n in (5, 10):
                shape = page(name, n, rule=rule).shape
                df, error_ = medians(at_power(shape, effect, draws, seed))
                size, claims = effect * math.sqrt(2), len(shape.claims.metric)
                said.append(power.seeds_needed(size, error_, df, n, claims, shape.test, shape.correction))
            yield _title(name, rule), effect, high, f"{said[0]}, {said[1]}"


def equivalences(draws: int, seed: int) -> Iterator[tuple[int, float, float, float, float]]:
    """Seeds, margin in sd of the difference, and among equal arms: claims found equivalent where all are of no effect,
    pages and the worst claim where all are of exactly the margin."""
    for n in SEEDS[1:]:
        for margin in (1.0, 1.5, 2.0):
            rates = []
            shape, means = truths(page("techniques", n).shape, margin * math.sqrt(2))["all at the margin"]
            for true in (None, means):
                rng = np.random.default_rng([seed, 150])
                rates.append(draw(shape, Setting(means=true), draws, rng).decided.equivalent)
            yield n, margin, rates[0].mean(), rates[1].any(axis=-1).mean(), rates[1].mean(axis=0).max()


def friedmans(draws: int, seed: int) -> Iterator[tuple[int, int, str, float]]:
    """Treatments, blocks, what p is by, and how often p is at most 5 % for treatments that are alike.

    p depends on the sum of squares of the rank sums alone, where no ranks are tied.
    """
    for k, n in ((3, 2), (3, 3), (3, 5), (4, 3), (4, 5), (7, 5), (7, 10), (7, 20)):
        ranks = np.random.default_rng([seed, 160]).random((draws, n, k)).argsort(axis=-1) + 1
        squares = (ranks.sum(axis=1) ** 2).sum(axis=-1)
        _, first, which = np.unique(squares, return_index=True, return_inverse=True)
        found = [statistics.friedman(ranks[i]) for i in first]
        p = np.array([f.p for f in found])[which]
        yield k, n, found[0].by, float((p <= ALPHA + 1e-12).mean())


def coverages(draws: int, seed: int) -> Iterator[coverage.Coverage]:
    """Every kind of interval, kind by kind; that of seeds and images with a fifth of the draws."""
    for found in (
        coverage.of_samples(draws, seed),
        coverage.of_factorials(draws, seed),
        coverage.of_images(draws // 5, seed),
        coverage.of_shares(),
        coverage.of_e_process(draws, seed),
    ):
        yield from sorted(found, key=lambda c: c.interval)


def limits(draws: int, rate: float = ALPHA) -> tuple[float, float]:
    """The limits between which an estimate of a true rate lies with 99.9 % probability."""
    return tuple(stats.binom(draws, rate).ppf([0.0005, 0.9995]) / draws)


def error(draws: int, rate: float = ALPHA) -> str:
    """How well so many draws know a rate, in words."""
    points = 196 * math.sqrt(rate * (1 - rate) / draws)
    return f"{draws:,} draws: a rate of {100 * rate:g} % is known to ± {points:.2f} points (95 %)"


def report(draws: int, seed: int, each: Each = map) -> Iterator[str]:
    """The whole of it as Markdown, part by part; the main table has twice the draws."""
    rates = list(main_table(2 * draws, seed, each))
    yield "# Calibration\n"
    yield (
        f"Written by `make validate`: {draws:,} draws per case where nothing else is said, seed {seed}, numpy "
        f"{np.__version__}, scipy {scipy.__version__}. Rates are in per cent.\n"
    )
    yield (
        "A page says something false if it calls a difference that is not there or has the other sign, an equivalence "
        "at or beyond the margin, or unequal divergence where there is none. `sd` is that of a typical arm's runs, "
        "`sd_d` that of a claim's difference between two runs.\n"
    )
    techniques = plan_of("techniques", 5)
    yield f"## A page of `techniques`, 5 seeds: {len(techniques.claims)} claims on {len(techniques.arms)} arms\n"
    yield (
        f"{error(2 * draws)}. False pages: the worst of no claim true, every second comparison true by 5 sd or by "
        f"exactly a margin of {MARGIN:g} sd, and all at that margin. Found: of the true claims, where every second "
        "comparison is true by so many sd_d. *Plain*: the paired t test with Holm's correction over the page at 5 %. "
        "*Old*: the same in each of the four families, the rule up to 0.1.0. Both count a run that diverged as "
        f"chance, {-CHANCE:g} sd below, and are given differences alone.\n"
    )
    yield table(
        "scenario | false pages: new | plain | old | worst claim false | found at 2 sd_d: new | plain | old | "
        "new / plain | found at 3 sd_d: new | plain | old | new / plain",
        (
            (
                r.scenario,
                *(percent(r.pages[rule], 1) for rule in RULES),
                percent(r.worst_claim, 1),
                *(percent(r.power2[rule], 0) for rule in RULES),
                f"{r.power2['new'] / r.power2['plain']:.2f}",
                *(percent(r.power3[rule], 0) for rule in RULES),
                f"{r.power3['new'] / r.power3['plain']:.2f}",
            )
            for r in rates
        ),
    )
    yield "The new rule's false pages by what is true, and how often its 95 % intervals hold the true difference:\n"
    yield table(
        "scenario | none true | half, 5 sd | half, the margin | all, the margin | claims covered | worst claim | "
        "called claims covered",
        (
            (
                r.scenario,
                *(percent(rate, 1) for rate in r.by_truth.values()),
                percent(r.coverage, 1),
                percent(r.worst_coverage, 1),
                percent(r.called_coverage, 1),
            )
            for r in rates
        ),
    )
    yield "## Every plan that claims something: false pages\n"
    yield (
        f"{error(draws)}. The worst of spreads lognormal .7 with normal and with t3 noise and baselines a quarter as "
        "wide, lognormal .7, t3, and 5 and 20 % diverging, where no claim is true, every second comparison by 5 sd, or "
        "by exactly a margin of 2 sd; the worst of so many estimates is somewhat above the worst rate. In brackets: "
        "skewed noise, lognormal .35, with such baselines or without. Struck out: a report gives no verdicts there, as "
        f"it finds more than 5 % itself, with {simulation.DRAWS:,} draws of two of these, near 5 % with "
        f"{simulation.MORE_DRAWS:,}.\n"
    )
    everywhere = list(plans(draws, seed, each))
    yield table(
        "plan | " + " | ".join(f"{n} seeds" for n in SEEDS),
        (
            (name, *(_cell(w) for w in everywhere if w.name == name))
            for name in dict.fromkeys(w.name for w in everywhere)
        ),
    )
    yield (f"Looked at again and again, as long as planned ({draws // 2:,} draws):\n")
    yield table("plan | false pages", ((w.name, _cell(w)) for w in looked(draws // 2, seed, each)))
    yield "## Runs that diverged: coverage of the difference of converged means\n"
    yield table(
        "seeds | of all runs diverge | arms | claims covered | worst claim",
        ((n, rate, arms, percent(mean), percent(worst)) for n, rate, arms, mean, worst in divergent(draws, seed)),
    )
    yield "## After an adaptive stop: what is said of claims that a look decided\n"
    yield (
        "`techniques`, every second comparison true by so many sd_d. By the look alone: its estimate, with an interval "
        "for a fixed number of seeds. By all seeds: what a report says in the end.\n"
    )
    yield table(
        "true effect, sd_d | decided at | of true claims | by the look alone: mean estimate, sd_d | covered | "
        "by all seeds: mean estimate, sd_d | covered",
        (
            (
                f"{x.effect:g}",
                x.look,
                percent(x.share, 1),
                f"{x.then:.2f}",
                percent(x.then_covered, 1),
                f"{x.finally_:.2f}",
                percent(x.finally_covered, 1),
            )
            for x in stopped(draws, seed)
        ),
    )
    yield "## Power: true claims found, every second comparison true\n"
    yield "Arms equal. In brackets: by the formula that a report uses, from the median standard error.\n"
    yield table("plan | seeds | 1 sd_d | 1.5 | 2 | 3", _by_effect(powers(draws // 2, seed)))
    yield "The effect that is found four times out of five, in sd_d, and what the median page prints as such:\n"
    yield table(
        "plan | seeds | true | printed | printed / true",
        (
            (d.name, d.seeds, f"{d.truth:.2f}", f"{d.printed:.2f}", f"{d.printed / d.truth:.2f}")
            for d in detectables(draws // 4, seed)
        ),
    )
    yield "The seeds that find an effect four times out of five, and what the median page prints as such:\n"
    yield table(
        "plan | effect, sd_d | seeds | printed by pages of 5 and of 10 seeds",
        ((name, f"{effect:g}", n, said) for name, effect, n, said in needed(draws // 4, seed)),
    )
    yield "## Equivalence: `techniques`, arms equal\n"
    yield table(
        "seeds | margin, sd_d | no effects: claims found equivalent | all effects at the margin: pages with a "
        "false equivalence | worst claim",
        ((n, f"{m:g}", *(percent(rate) for rate in rest)) for n, m, *rest in equivalences(draws, seed)),
    )
    yield "## Coverage of other intervals: how often each holds the true value\n"
    yield (
        "Shares are computed from all their outcomes, not drawn; seeds and images are drawn "
        f"{draws // 5:,} times. The e-process's intervals count as holding the mean where they do so at every number "
        f"of seeds from 2 to {coverage.LONGEST}; it supposes normal differences.\n"
    )
    yield table(
        "interval of | case | seeds | coverage | promised",
        (
            (c.interval, c.case, c.n, percent(c.rate), "95" if c.exact else "at least 95")
            for c in coverages(draws, seed)
        ),
    )
    yield "## Friedman's test of ranks: how often p is at most 5 % where treatments are alike\n"
    yield table(
        "treatments | blocks | p by | found",
        ((k, n, by, percent(rate)) for k, n, by, rate in friedmans(draws, seed)),
    )
    yield "## Estimates shrunken towards zero: coverage, and errors in standard errors\n"
    yield (
        f"{draws // 10:,} draws. The largest: the estimate that is largest in a plan, and by how much it is beyond its "
        "effect on average.\n"
    )
    yield table(
        "true effects | claims | covered | worst | error, raw | shrunken | the largest: covered | beyond, raw | "
        "shrunken",
        (
            (
                r.case,
                r.effects,
                percent(r.average, 1),
                percent(r.worst, 1),
                f"{r.raw:.2f}",
                f"{r.shrunken:.2f}",
                percent(r.winner, 1),
                f"{r.winner_raw:+.2f}",
                f"{r.winner_shrunken:+.2f}",
            )
            for r in shrinkage.rows(draws // 10, seed)
        ),
    )


def _cell(w: Worst) -> str:
    both = f"{percent(w.false, 1)} ({percent(w.skewed, 1)})"
    return f"~~{both}~~" if w.told > ALPHA else both


def _by_effect(found: Iterable[Power]) -> Iterator[Sequence[object]]:
    rows: dict[tuple[str, int], list[str]] = {}
    for x in found:
        rows.setdefault((x.name, x.seeds), []).append(f"{percent(x.found, 0)} ({percent(x.formula, 0)})")
    return ((*key, *cells) for key, cells in rows.items())


def table(head: str, rows: Iterable[Sequence[object]]) -> str:
    """Rows as a Markdown table under a head whose columns are parted by bars."""
    lines = [f"| {head} |", "|" + "---|" * (head.count("|") + 1)]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows), ""])


def percent(rate: float, digits: int = 2) -> str:
    """A share in per cent, without the unit."""
    return f"{100 * rate:.{digits}f}"


def main() -> None:
    """Simulate and write CALIBRATION.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--file", type=Path, default=FILE)
    arguments = parser.parse_args()
    parts = []
    with ProcessPoolExecutor() as pool:
        for part in report(arguments.draws, arguments.seed, pool.map):
            print(part, flush=True)
            parts.append(part)
    arguments.file.write_text("\n".join(parts))
    print(f"Written to {arguments.file}")


if __name__ == "__main__":
    main()
