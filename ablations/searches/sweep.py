"""The notebook's way to tune by hand: a coarse grid of rates, a finer one around the best, then one regulariser at a
time.
"""

from __future__ import annotations

import math

from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import Value
from cifar_ablations.ablations.search import Best, Parameter, Rounds, Study, around

QUESTION = "How far does the notebook's workflow get: coarse rates, finer rates, one regulariser at a time?"

DEFAULT_TRIALS = 5
RATE = "optimizer.rate"
COARSE_DECADES = 3.0
REGULARISERS: tuple[tuple[str, tuple[Value, ...]], ...] = (
    ("dropout.p", (0.0, 0.2, 0.35, 0.5, 0.65)),
    ("weight_decay.strength", (0.0, 1e-5, 1e-4, 1e-3, 5e-3)),
    ("augmentation.padding", (0, 1, 2, 4, 6)),
    ("label_smoothing.epsilon", (0.0, 0.03, 0.1, 0.2, 0.3)),
)


def search(baseline: Recipe, trials: int) -> Rounds:
    """Grids one after the other, each around the best recipe so far; `trials` values in each grid of rates."""
    best: Best | None = None
    middle, decades = baseline.update_rule().rate, COARSE_DECADES
    for name in ("coarse rates", "finer rates"):
        spread = around(RATE, middle, decades)
        assert spread.low is not None
        assert spread.high is not None
        rates = _between(spread.low, spread.high, trials)
        (best_of_grid,) = yield [_grid(name, baseline, spread, rates)]
        best = _better(best, best_of_grid)
        if best is None:
            return
        middle, decades = float(best.sampled[RATE]), 2 * decades / max(2, trials - 1) * 0.75
    assert best is not None
    for name, values in REGULARISERS:
        numbers = [float(v) for v in values]
        spread = Parameter(name, min(numbers), max(numbers), integer=isinstance(values[0], int))
        (best_of_grid,) = yield [_grid(name.partition(".")[0].replace("_", " "), best.recipe, spread, values)]
        best = _better(best, best_of_grid) or best


def _grid(name: str, recipe: Recipe, spread: Parameter, values: tuple[Value, ...]) -> Study:
    return Study(name, recipe, (spread,), len(values), sampler="grid", grid={spread.name: values})


def _between(low: float, high: float, count: int) -> tuple[Value, ...]:
    """So many rates in equal factors, the limits included."""
    if count == 1:
        return (math.sqrt(low * high),)
    return tuple(low * (high / low) ** (i / (count - 1)) for i in range(count))


def _better(best: Best | None, other: Best | None) -> Best | None:
    if best is None or other is None:
        return best or other
    return other if other.value > best.value else best
