"""Pages of a given shape, drawn again and again: how often one says something false, and what it would find."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import scipy

from cifar_ablations.ablations import kept
from cifar_ablations.reports.inference import decision, sequential, statistics
from cifar_ablations.reports.inference.decision import Claims, Decided, Sample

Noise = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

NOISES: dict[str, Noise] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "t3": lambda rng, shape: rng.standard_t(3, shape) / np.sqrt(3),
    "skewed": lambda rng, shape: rng.exponential(size=shape) - 1,
}
"""Of variance 1: normal, with heavy tails, and skewed (exponential)."""


@dataclass(frozen=True)
class Shape:
    """All of a page that its error rate depends on.

    arms, seeds: how many. better: by metric, as in `Sample`; lost: the metrics that are. test, correction, looks: of
    the rule; looks are numbers of seeds, the last of them `seeds`, or empty. runs: of each arm, at most `seeds`, where
    arms have different numbers of runs; then there are no looks.
    """

    claims: Claims
    arms: int
    seeds: int
    better: Mapping[str, int]
    lost: frozenset[str]
    test: str
    correction: str
    looks: tuple[int, ...] = ()
    runs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Setting:
    """What runs are like: the noise, how unequal the arms' spreads are, the share that diverges, and the correlation
    of runs that share a seed.

    spread: of the logarithm of the arms' standard deviations (normal). quiet: factor on the standard deviation of arms
    that several comparisons share, such as a baseline. wild: factor on the variance of one arm.
    means: by arm in sd of a typical arm, float [arms]; None for no differences at all.
    """

    noise: str = "normal"
    spread: float = 0.0
    quiet: float = 1.0
    wild: float = 1.0
    diverging: float = 0.0
    correlation: float = 0.0
    sds: np.ndarray | None = field(default=None)
    means: np.ndarray | None = field(default=None)


def drawn(shape: Shape, setting: Setting, draws: int, rng: np.random.Generator) -> dict[str, Sample]:
    """Pages [draws, arms, seeds] by metric, in units of a typical arm's standard deviation."""
    size, noise = (draws, shape.arms, shape.seeds), NOISES[setting.noise]
    diverged = rng.random(size) < setting.diverging
    sds = spreads(shape, setting, draws, rng) if setting.sds is None else setting.sds
    means = np.zeros(shape.arms) if setting.means is None else setting.means
    ended = np.broadcast_to(np.array(shape.runs or [shape.seeds] * shape.arms), size[:-1])
    missing = np.arange(shape.seeds) >= ended[..., None]
    samples = {}
    for metric in dict.fromkeys(shape.claims.metric):
        own = noise(rng, size)
        if setting.correlation:
            shared = noise(rng, (draws, 1, shape.seeds))
            own = np.sqrt(setting.correlation) * shared + np.sqrt(1 - setting.correlation) * own
        values = means[..., None] + sds[..., None] * own
        values[diverged | missing] = np.nan
        samples[metric] = Sample(values, ended, 0.0, shape.better[metric], metric in shape.lost)
    return samples


def spreads(shape: Shape, setting: Setting, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Standard deviations of the arms [draws, arms], drawn as a setting says."""
    sds = np.exp(setting.spread * rng.standard_normal((draws, shape.arms)))
    sds[:, _shared(shape)] *= setting.quiet
    wild = rng.integers(shape.arms, size=draws)
    sds[np.arange(draws), wild] *= np.sqrt(setting.wild)
    return np.asarray(sds)


def _shared(shape: Shape) -> np.ndarray:
    """Whether an arm takes part in more than one comparison, bool [arms]."""
    return np.asarray((np.unique(np.abs(shape.claims.weights) > 0, axis=0)).sum(axis=0) > 1)


def at_looks(shape: Shape, samples: Mapping[str, Sample]) -> Decided:
    """What the pages say in the end: of each claim, what the first look that decides it said."""
    if not shape.looks:
        return decision.decide(samples, shape.claims, shape.test, shape.correction)
    told: Decided | None = None
    for look in shape.looks:
        seen = {
            metric: Sample(s.values[..., :look], np.full(s.ended.shape, look), s.floor, s.better, s.lost)
            for metric, s in samples.items()
        }
        now = decision.decide(seen, shape.claims, shape.test, shape.correction, len(shape.looks))
        if told is None:
            told = now
            continue
        before = told.different | told.equivalent
        told = Decided(**{name: np.where(before, getattr(told, name), getattr(now, name)) for name in vars(now)})
    assert told is not None
    return told


def false(shape: Shape, setting: Setting, decided: Decided) -> np.ndarray:
    """Which claims say something false, bool [draws, claims].

    That is a difference that is not there or has the other sign, or an equivalence at or beyond the margin.
    """
    means = np.zeros(shape.arms) if setting.means is None else setting.means
    truth = means @ shape.claims.weights.T
    shifted = truth + shape.claims.allowed
    truth, shifted = (np.where(np.abs(x) < 1e-9, 0.0, x) for x in (truth, shifted))
    wrong = decided.different & (np.sign(decided.direction) != np.sign(shifted))
    return np.asarray(wrong | (decided.equivalent & (np.abs(truth) >= shape.claims.margin - 1e-12)))


def false_pages(shape: Shape, setting: Setting, draws: int, rng: np.random.Generator) -> float:
    """The share of pages that say at least one thing that is false."""
    decided = at_looks(shape, drawn(shape, setting, draws, rng))
    return float(false(shape, setting, decided).any(axis=-1).mean())


DRAWS, MORE_DRAWS, NEAR = 2_000, 20_000, 0.012
"""Pages drawn a case, and how many where the first come so near to ALPHA that luck would decide."""
LARGE, TOGETHER = 128, 250
"""Seeds that a page is drawn with at most: few are what a test errs on, and more only take longer to draw. Of so many
seeds so many pages are drawn at a time, in memory that need not be asked for anew."""
SETTINGS = (Setting(spread=0.7, quiet=0.25), Setting("t3", spread=0.7, quiet=0.25))
"""What a page's error rate is the worst of: normal noise and heavy tails, spreads of arms as unequal as lognormal 0.7,
and baselines that vary little, which is where the test errs most. `benchmarks/CALIBRATION.md` has many more."""


def worst(shape: Shape, settings: Sequence[Setting] = SETTINGS) -> float:
    """The largest share of false pages over `settings`, where no claim is true and where half of them are.

    With many looks a quarter of the draws has to do. It is drawn once on a machine for each shape. One with more than
    LARGE seeds, all looked at once, counts as one with so many.
    """
    if shape.seeds > LARGE and not shape.looks:
        runs = tuple(min(n, LARGE) for n in shape.runs)
        shape = replace(shape, seeds=LARGE, runs=runs if min(runs, default=LARGE) < LARGE else ())
    key = (
        shape.claims.weights.tobytes(),
        shape.claims.allowed.tobytes(),
        shape.claims.margin.tobytes(),
        shape.claims.metric,
        tuple(sorted(shape.better.items())),
        tuple(sorted(shape.lost)),
        shape.seeds,
        shape.looks,
        shape.test,
        shape.correction,
        tuple(settings),
        *([shape.runs] if shape.runs else []),
    )
    if key not in _known:
        few = 1 if len(shape.looks) <= 3 else 4
        means = (None, half_true(shape))
        _known[key] = kept.number(
            "error-rate",
            (key, DRAWS, MORE_DRAWS, NEAR, _code()),
            lambda: max(_rate(shape, replace(setting, means=true), few) for setting in settings for true in means),
        )
    return _known[key]


@cache
def _code() -> tuple[str, ...]:
    """The code that a rate comes from: it is drawn anew where that has changed."""
    sources = (Path(str(module.__file__)).read_bytes() for module in (decision, statistics, sequential))
    own = Path(__file__).read_bytes()
    return (*(hashlib.sha256(source).hexdigest() for source in (own, *sources)), np.__version__, scipy.__version__)


def _rate(shape: Shape, setting: Setting, few: int) -> float:
    rate = _share(shape, setting, DRAWS // few, np.random.default_rng(0))
    if abs(rate - decision.ALPHA) < NEAR:
        rate = _share(shape, setting, MORE_DRAWS // few, np.random.default_rng(1))
    return rate


def _share(shape: Shape, setting: Setting, draws: int, rng: np.random.Generator) -> float:
    if shape.seeds < LARGE:
        return false_pages(shape, setting, draws, rng)
    return float(np.mean([false_pages(shape, setting, TOGETHER, rng) for _ in range(-(-draws // TOGETHER))]))


_known: dict[Hashable, float] = {}


def half_true(shape: Shape, size: float = 5.0) -> np.ndarray:
    """Means of arms [arms] with which every second comparison has a true effect of that size, and the others none.

    As nearly as the comparisons allow, by least squares.
    """
    rows = np.unique(shape.claims.weights, axis=0)
    effects = np.where(np.arange(len(rows)) % 2 == 0, size, 0.0) * np.where(np.arange(len(rows)) % 4 == 0, 1, -1)
    means = np.linalg.lstsq(rows, effects, rcond=None)[0]
    return np.where(np.abs(means) < 1e-9, 0.0, means)
