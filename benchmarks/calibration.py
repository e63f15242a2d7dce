"""Whether the statistics keep what they promise: false positives, coverage and power, by simulation.

`make validate`, or `python -m benchmarks.calibration`. Writes CALIBRATION.md beside itself, with the number of draws
and the seed, so that anyone can repeat it. What is simulated are differences of paired seeds; what is tested are the
functions of `reports.statistics` that a report uses.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from reports import statistics

FILE = Path(__file__).parent / "CALIBRATION.md"

SEEDS = (3, 5, 8, 10, 15)
CORRELATIONS = (0.0, 0.5)
EFFECTS = (0.0, 0.1, 0.25, 0.5, 1.0)
"""In percentage points, with a standard deviation of the differences of 0.5 points."""
SPREAD = 0.5
CLAIMS = 6

Noise = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

DISTRIBUTIONS: dict[str, Noise] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "t with 3 degrees of freedom": lambda rng, shape: rng.standard_t(3, shape) / math.sqrt(3),
    "skewed (exponential)": lambda rng, shape: rng.exponential(size=shape) - 1,
}


@dataclass(frozen=True)
class Null:
    """What comes out where two arms are the same."""

    noise: str
    n: int
    correlation: float
    false_positives: float
    coverage: float


def differences(rng: np.random.Generator, noise: Noise, draws: int, n: int, correlation: float) -> np.ndarray:
    """Differences of two equal arms [draws, n] whose runs share a part of their spread, the seed's."""
    shared, own = math.sqrt(correlation), math.sqrt(1 - correlation)
    seed, one, other = noise(rng, (draws, n)), noise(rng, (draws, n)), noise(rng, (draws, n))
    return (shared * seed + own * one) - (shared * seed + own * other)


def nulls(draws: int, seed: int) -> Iterator[Null]:
    """False positives at 5 % and coverage of 95 % intervals where there is no difference."""
    for name, noise in DISTRIBUTIONS.items():
        for n in SEEDS:
            for correlation in CORRELATIONS:
                rng = np.random.default_rng([seed, n, round(10 * correlation), len(name)])
                d = differences(rng, noise, draws, n, correlation)
                rejected = np.mean([statistics.zero_p(row) < 0.05 for row in d])
                found = (statistics.mean_interval(row) for row in d)
                covered = np.mean([interval.low <= 0 <= interval.high for interval in found])
                yield Null(name, n, correlation, float(rejected), float(covered))


def powers(draws: int, seed: int) -> Iterator[tuple[int, float, float, float]]:
    """Seeds, effect, share found, and what the non-central t distribution says, for normal differences."""
    for n in SEEDS:
        for effect in EFFECTS:
            rng = np.random.default_rng([seed, n, round(100 * effect)])
            d = effect + SPREAD * rng.standard_normal((draws, n))
            found = np.mean([statistics.zero_p(row) < 0.05 for row in d])
            yield n, effect, float(found), statistics.power_of_t_test(effect / SPREAD, n)


def family_wise(draws: int, seed: int) -> Iterator[tuple[int, float, float]]:
    """Seeds, and how often at least one of six claims about equal arms passes, with Holm's correction and without.

    The six share their baseline, as the arms of a plan do.
    """
    for n in SEEDS:
        rng = np.random.default_rng([seed, n])
        baseline = rng.standard_normal((draws, 1, n))
        d = rng.standard_normal((draws, CLAIMS, n)) - baseline
        p = stats.ttest_1samp(d, 0, axis=2).pvalue
        corrected = np.mean([min(statistics.holm(row)) < 0.05 for row in p])
        yield n, float(corrected), float(np.mean(p.min(axis=1) < 0.05))


def limits(draws: int, rate: float = 0.05) -> tuple[float, float]:
    """Between which a true rate is found with 99.9 % probability."""
    return tuple(stats.binom(draws, rate).ppf([0.0005, 0.9995]) / draws)


def report(draws: int, seed: int) -> str:
    """The whole of it as Markdown."""
    low, high = limits(draws)
    lines = [
        "# Calibration",
        "",
        f"Written by `make validate`: {draws:,} draws per case, seed {seed}. A true rate of 5 % is found between "
        f"{100 * low:.2f} and {100 * high:.2f} % with 99.9 % probability.",
        "",
        "## Two equal arms: how often the paired t test finds a difference, and the 95 % interval covers none",
        "",
        "| noise | correlation of the arms | seeds | false positives, % | coverage, % |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.noise} | {r.correlation:g} | {r.n} | {100 * r.false_positives:.2f} | {100 * r.coverage:.2f} |"
        for r in nulls(draws, seed)
    ]
    lines += [
        "", f"## {CLAIMS} claims about equal arms: how often at least one passes", "",
        "| seeds | with Holm's correction, % | without, % |", "|---|---|---|",
    ]  # fmt: skip
    lines += [f"| {n} | {100 * with_:.2f} | {100 * without:.2f} |" for n, with_, without in family_wise(draws, seed)]
    lines += [
        "", f"## Power: differences of standard deviation {SPREAD} percentage points", "",
        "| seeds | true effect, pp | found, % | theory (non-central t), % |", "|---|---|---|---|",
    ]  # fmt: skip
    lines += [f"| {n} | {e:g} | {100 * f:.1f} | {100 * t:.1f} |" for n, e, f, t in powers(draws, seed)]
    return "\n".join(lines) + "\n"


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
