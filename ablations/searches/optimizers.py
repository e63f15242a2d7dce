"""A learning rate of its own for each optimizer of the plan `optimizers`."""

from __future__ import annotations

from cifar_ablations.ablations.designs import each_optimizer
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.search import Rounds, until_inside
from cifar_ablations.ablations.searches.arms import WIDENINGS, studies

QUESTION = "Which learning rate suits each optimizer?"

DEFAULT_TRIALS = 6
KEEPS_BASELINE = True
OF_PLAN = "optimizers"


def search(baseline: Recipe, trials: int) -> Rounds:
    """A study per optimizer, around the rate that it has, in ranges of one width and of as many trials."""
    yield from until_inside(studies(each_optimizer(baseline), trials), trials, WIDENINGS)
