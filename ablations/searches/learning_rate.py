"""A learning rate for each optimizer: the same number of trials, the same width of the range, widened for all alike."""

from __future__ import annotations

from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.search import Rounds, Study, around, until_inside
from cifar_ablations.ablations.techniques.optimizer import Optimizer

QUESTION = "Which learning rate suits which optimizer, and which of them is then best?"

RATE = "optimizer.rate"
DECADES = 2.0
WIDENINGS = 2
DEFAULT_TRIALS = 10


def search(baseline: Recipe, trials: int) -> Rounds:
    """One study per kind of optimizer around the rate of its level; the baseline's own rate where that is its kind."""
    studies = []
    for level in Optimizer.levels:
        optimizer = Optimizer.at(level)
        own = next(t for t in baseline.techniques if t.name == Optimizer.name)
        assert isinstance(own, Optimizer)
        if own.kind == optimizer.kind:
            optimizer = own
        recipe = baseline.with_technique(optimizer)
        spread, title = around(RATE, optimizer.rate, DECADES), optimizer.kind_title
        studies.append(Study(optimizer.kind, recipe, (spread,), trials, ({RATE: optimizer.rate},), title=title))
    yield from until_inside(studies, trials, WIDENINGS)
