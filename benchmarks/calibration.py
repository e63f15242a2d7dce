"""Whether the statistics keep what they promise: false positives, coverage and power, by simulation.

`make validate`, or `python -m benchmarks.calibration`. Writes CALIBRATION.md beside itself, with the number of draws
and the seed, so that anyone can repeat it. What is simulated are differences of paired seeds; what is tested are the
functions of `reports` that a report uses.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy
from scipy import stats

from benchmarks import coverage
from benchmarks.coverage import DISTRIBUTIONS, LONGEST, SEEDS, differences, share
from cifar_ablations.ablations.plan import LOOKS
from cifar_ablations.ablations.record import RuleRecord
from cifar_ablations.reports.inference import sequential, statistics, verdict

FILE = Path(__file__).parent / "CALIBRATION.md"

CORRELATIONS = (0.0, 0.5)
EFFECTS = (0.0, 0.1, 0.25, 0.5, 1.0)
"""In percentage points, with a standard deviation of the differences of 0.5 points."""
SPREAD = 0.5
CLAIMS = 6
ALPHA = 0.05
WAYS = tuple(LOOKS.values())
MARGINS = (0.5, 1.0, 3.0)
"""Of equivalence, in standard deviations of the differences."""


@dataclass(frozen=True)
class Null:
    """What comes out where two arms are the same."""

    noise: str
    n: int
    correlation: float
    false_positives: float
    coverage: float


@dataclass(frozen=True)
class Looked:
    """How often at least one of the claims about equal arms is supported or refuted at any of the looks."""

    rule: str
    level: float
    wrong: float
    kept: bool


@dataclass(frozen=True)
class Used:
    """For one claim of a true effect in sd: shares decided by look, and found equivalent; and the seeds on average."""

    test: str
    effect: float
    at: dict[int, float]
    equivalent: float
    seeds: float


def rule(test: str, looks: Sequence[int]) -> RuleRecord:
    """A plan's rule with such looks."""
    return RuleRecord(margin=0.005, alpha=ALPHA, test=test, looks=tuple(looks))


def p_values(d: np.ndarray, test: str = "paired t") -> np.ndarray:
    """p of a mean of zero along the last axis.

    The t test is made of all at once, as that takes a hundredth of the time; the first hundred are made by the report's
    own function too.
    """
    own = verdict.TESTS[test].zero_p
    if own is not statistics.zero_p:
        return np.apply_along_axis(own, -1, d)
    p = stats.ttest_1samp(d, 0, axis=-1).pvalue
    some = d.reshape(-1, d.shape[-1])[:100]
    np.testing.assert_allclose(p.ravel()[:100], [own(row) for row in some])
    return np.asarray(p)


def nulls(draws: int, seed: int) -> Iterator[Null]:
    """False positives at 5 % and coverage of 95 % intervals where there is no difference."""
    for name, noise in DISTRIBUTIONS.items():
        for n in SEEDS:
            for correlation in CORRELATIONS:
                rng = np.random.default_rng([seed, n, round(10 * correlation), len(name)])
                d = differences(rng, noise, draws, n, correlation)
                rejected = np.mean([statistics.zero_p(row) < ALPHA for row in d])
                found = (statistics.mean_interval(row) for row in d)
                covered = np.mean([interval.low <= 0 <= interval.high for interval in found])
                yield Null(name, n, correlation, float(rejected), float(covered))


def powers(draws: int, seed: int) -> Iterator[tuple[int, float, float, float]]:
    """Seeds, effect, share found, and what the non-central t distribution says, for normal differences."""
    for n in SEEDS:
        for effect in EFFECTS:
            rng = np.random.default_rng([seed, n, round(100 * effect)])
            d = effect + SPREAD * rng.standard_normal((draws, n))
            found = np.mean(p_values(d) < ALPHA)
            yield n, effect, float(found), statistics.power_of_t_test(effect / SPREAD, n)


def family_wise(draws: int, seed: int) -> Iterator[tuple[int, float, float]]:
    """Seeds, and how often at least one of six claims about equal arms passes, with Holm's correction and without."""
    for n in SEEDS:
        p = p_values(_claims(np.random.default_rng([seed, n]), draws, n))
        corrected = np.mean([min(statistics.holm(row)) < ALPHA for row in p])
        yield n, float(corrected), float(np.mean(p.min(axis=1) < ALPHA))


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


def looked(draws: int, seed: int) -> Iterator[Looked]:
    """Six claims about equal arms with a baseline in common, looked at again and again."""
    for test, looks in WAYS:
        level = verdict.level(rule(test, looks))
        d = _claims(np.random.default_rng([seed, 50, len(looks)]), draws, looks[-1])
        p = np.stack([p_values(d[..., :look], test) for look in looks], axis=1)
        least = np.array([min(min(statistics.holm(at_look)) for at_look in draw) for draw in p])
        places = ", ".join(map(str, looks)) if len(looks) < 5 else f"{looks[0]}, {looks[1]}, … {looks[-1]}"
        said = f"{test} at {places} seeds"
        yield Looked(f"{said}, Holm", level, float(np.mean(least < level)), True)
        if level < ALPHA:
            yield Looked(f"{said}, Holm, looks not corrected for", ALPHA, float(np.mean(least < ALPHA)), False)
        alone = float(np.mean(p.min(axis=(1, 2)) < ALPHA))
        yield Looked(f"{said}, nothing corrected for", ALPHA, alone, False)


def decided(d: np.ndarray, test: str, looks: Sequence[int], margin: float) -> tuple[str, int]:
    """What becomes of one claim on its own, from differences [n]: the verdict and the look that it falls at.

    Supported stands for either sign; the margin is in the unit of the differences.
    """
    tests, level = verdict.TESTS[test], verdict.level(rule(test, looks))
    for look in looks:
        if tests.zero_p(d[:look]) < level:
            return verdict.SUPPORTED, look
        if tests.equivalence_p(d[:look], margin) < level:
            return verdict.EQUIVALENT, look
    return verdict.INCONCLUSIVE, looks[-1]


def seeds_used(draws: int, seed: int) -> Iterator[Used]:
    """For normal differences, by test and true effect."""
    for test, looks in WAYS:
        for effect in (0.0, 0.5, 1.0, 2.0):
            rng = np.random.default_rng([seed, 60, round(10 * effect)])
            found = [decided(effect + rng.standard_normal(looks[-1]), test, looks, 1.0) for _ in range(draws)]
            at = {look: share(v != verdict.INCONCLUSIVE and n == look for v, n in found) for look in looks}
            equivalent = share(v == verdict.EQUIVALENT for v, _ in found)
            yield Used(test, effect, at, equivalent, float(np.mean([n for _, n in found])))


def equivalences(draws: int, seed: int) -> Iterator[tuple[str, str, float, float]]:
    """Test, seeds, margin in sd, and how often a true difference of exactly the margin is found equivalent."""
    for margin in MARGINS:
        for n in SEEDS:
            d = margin + np.random.default_rng([seed, 70, n]).standard_normal((draws, n))
            yield "TOST", f"{n}", margin, share(statistics.equivalence_p(row, margin) < ALPHA for row in d)
        d = margin + np.random.default_rng([seed, 71]).standard_normal((draws, LONGEST))
        ever = share(any(sequential.equivalence_p(x[:n], margin) < ALPHA for n in range(2, LONGEST + 1)) for x in d)
        yield "e-process", f"any from 2 to {LONGEST}", margin, ever


def unequal_spreads(draws: int, seed: int) -> tuple[float, float]:
    """False positives of the paired t test, and of a comparison within an analysis of variance of all the arms.

    One of seven equal arms, over five seeds as blocks, has 3.5 times the variance; it is compared with the first.
    """
    n, arms = 5, CLAIMS + 1
    x = np.random.default_rng([seed, 80]).standard_normal((draws, n, arms))
    x[..., 1] *= math.sqrt(3.5)
    d = x[..., 1] - x[..., 0]
    rest = x - x.mean(axis=1, keepdims=True) - x.mean(axis=2, keepdims=True) + x.mean(axis=(1, 2), keepdims=True)
    freedom = (n - 1) * (arms - 1)
    t = d.mean(axis=1) / np.sqrt(2 / n * (rest**2).sum(axis=(1, 2)) / freedom)
    pooled = np.mean(2 * stats.t.sf(np.abs(t), freedom) < ALPHA)
    return share(statistics.zero_p(row) < ALPHA for row in d), float(pooled)


def limits(draws: int, rate: float = ALPHA) -> tuple[float, float]:
    """Between which a true rate is found with 99.9 % probability."""
    return tuple(stats.binom(draws, rate).ppf([0.0005, 0.9995]) / draws)


def _claims(rng: np.random.Generator, draws: int, n: int) -> np.ndarray:
    """Differences [draws, CLAIMS, n] of equal arms from the baseline that they share, as the arms of a plan do."""
    baseline = rng.standard_normal((draws, 1, n))
    return rng.standard_normal((draws, CLAIMS, n)) - baseline


def report(draws: int, seed: int) -> str:
    """The whole of it as Markdown."""
    low, high = limits(draws)
    paired, pooled = unequal_spreads(draws, seed)
    parts = [
        "# Calibration\n",
        f"Written by `make validate`: {draws:,} draws per case, seed {seed}, numpy {np.__version__}, scipy "
        f"{scipy.__version__}. A true rate of 5 % is found between {100 * low:.2f} and {100 * high:.2f} % with 99.9 % "
        "probability.\n",
        "## Two equal arms: how often the paired t test finds a difference, and the 95 % interval covers none\n",
        table(
            "noise | correlation of the arms | seeds | false positives, % | coverage, %",
            (
                (r.noise, f"{r.correlation:g}", r.n, percent(r.false_positives), percent(r.coverage))
                for r in nulls(draws, seed)
            ),
        ),
        f"## {CLAIMS} claims about equal arms: how often at least one passes\n",
        table(
            "seeds | with Holm's correction, % | without, %",
            ((n, percent(corrected), percent(raw)) for n, corrected, raw in family_wise(draws, seed)),
        ),
        f"## Power: differences of standard deviation {SPREAD} percentage points\n",
        table(
            "seeds | true effect, pp | found, % | theory (non-central t), %",
            ((n, f"{e:g}", percent(f, 1), percent(t, 1)) for n, e, f, t in powers(draws, seed)),
        ),
        "## Coverage of every interval: how often it holds the true value\n",
        "Shares are computed from all their outcomes, not drawn; seeds and images are drawn "
        f"{draws // 5:,} times. The e-process's intervals count as holding the mean where they do so at every number "
        f"of seeds from 2 to {LONGEST}; it supposes normal differences.\n",
        table(
            "interval of | case | seeds | coverage, % | promised, %",
            (
                (c.interval, c.case, c.n, percent(c.rate), "95" if c.exact else "at least 95")
                for c in coverages(draws, seed)
            ),
        ),
        f"## Looks: how often at least one of {CLAIMS} claims about equal arms is ever supported or refuted\n",
        table(
            "test and looks | level at each look, % | wrong at any look, %",
            ((r.rule, percent(r.level), percent(r.wrong)) for r in looked(draws, seed)),
        ),
        "## Looks: seeds until one claim is decided\n",
        f"Decided: different, or equivalent within 1 standard deviation of the differences; {draws // 3:,} draws.\n",
        table(
            "test | true effect, sd | decided at, % | equivalent, % | undecided, % | seeds on average",
            (
                (
                    u.test,
                    f"{u.effect:g}",
                    ", ".join(f"{look}: {percent(rate, 1)}" for look, rate in u.at.items()),
                    percent(u.equivalent, 1),
                    percent(1 - sum(u.at.values()), 1),
                    f"{u.seeds:.1f}",
                )
                for u in seeds_used(draws // 3, seed)
            ),
        ),
        "## Equivalence: how often a true difference of exactly the margin is found equivalent\n",
        table(
            "test | seeds | margin, sd | found, %",
            ((test, n, f"{margin:g}", percent(found)) for test, n, margin, found in equivalences(draws, seed)),
        ),
        f"## One of {CLAIMS + 1} equal arms has 3.5 times the variance, 5 seeds: false positives\n",
        table(
            "test | false positives, %",
            [("paired t", percent(paired)), ("analysis of variance of all arms, seeds as blocks", percent(pooled))],
        ),
    ]
    return "\n".join(parts)


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
    arguments = parser.parse_args()
    text = report(arguments.draws, arguments.seed)
    FILE.write_text(text)
    print(text + f"\nWritten to {FILE}")


if __name__ == "__main__":
    main()
