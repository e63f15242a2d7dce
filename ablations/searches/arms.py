"""A learning rate of its own for each arm of the plan `techniques`: one rate for all may suit some of them alone."""

from __future__ import annotations

from collections.abc import Sequence

from cifar_ablations.ablations.designs import RATE, by_recipe, one_at_a_time
from cifar_ablations.ablations.plan import Arm
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.search import Rounds, Study, around, until_inside

QUESTION = "Which learning rate suits each arm of the plan techniques?"

DEFAULT_TRIALS = 6
DECADES = 2.0
WIDENINGS = 1
KEEPS_BASELINE = True
OF_PLAN = "techniques"


def search(baseline: Recipe, trials: int) -> Rounds:
    """A study per arm, widened for all alike."""
    yield from until_inside(studies(one_at_a_time(baseline), trials), trials, WIDENINGS)


def studies(arms: Sequence[Arm], trials: int) -> list[Study]:
    """A study per arm, named after it, around the rate that it has, which is tried first.

    Arms of one recipe share a study, named after the first of them.
    """
    found = []
    for recipe, name in by_recipe(arms).items():
        rate = recipe.update_rule().rate
        found.append(Study(name, recipe, (around(RATE, rate, DECADES),), trials, ({RATE: rate},)))
    return found
