"""A learning rate of its own for each arm of the plan `techniques`: one rate for all may suit some of them alone."""

from __future__ import annotations

from cifar_ablations.ablations.designs import RATE, by_recipe, one_at_a_time
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.search import Rounds, Study, around, until_inside

QUESTION = "Which learning rate suits each arm of the plan techniques?"

DEFAULT_TRIALS = 6
DECADES = 2.0
WIDENINGS = 1
KEEPS_BASELINE = True


def search(baseline: Recipe, trials: int) -> Rounds:
    """A study per arm, named after it, around the rate that it has, which is tried first; widened for all alike.

    Arms of one recipe share a study, named after the first of them.
    """
    studies = []
    for recipe, name in by_recipe(one_at_a_time(baseline)).items():
        rate = recipe.update_rule().rate
        studies.append(Study(name, recipe, (around(RATE, rate, DECADES),), trials, ({RATE: rate},)))
    yield from until_inside(studies, trials, WIDENINGS)
