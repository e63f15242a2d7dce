"""A learning rate of its own for the recipe without each of its techniques: what is removed may have been balanced by
the rate.
"""

from __future__ import annotations

from cifar_ablations.ablations.designs import switched_on, without
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.search import Rounds, Study, around

QUESTION = "Which learning rate suits the recipe once a technique has been removed?"

DEFAULT_TRIALS = 6
RATE = "optimizer.rate"
DECADES = 1.5
KEEPS_BASELINE = True


def search(baseline: Recipe, trials: int) -> Rounds:
    """A study per technique in use, named after it, around the rate that is left."""
    studies = []
    for technique in switched_on(baseline):
        recipe = baseline.without(technique.name)
        rate = recipe.update_rule().rate
        spread, title = around(RATE, rate, DECADES), without(technique)
        studies.append(Study(technique.name, recipe, (spread,), trials, ({RATE: rate},), title=title))
    yield studies
