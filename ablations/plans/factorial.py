"""Every combination of the recipe's techniques: who contributes what, whatever the order of removal?"""

from __future__ import annotations

from cifar_ablations.ablations.designs import factorial, main_effect_claims, switched_on
from cifar_ablations.ablations.plan import Plan, Rule
from cifar_ablations.ablations.profiles import Profile
from cifar_ablations.ablations.recipe import Recipe

QUESTION = "Who contributes what, over every combination of the recipe's techniques?"


def plan(baseline: Recipe, profile: Profile, seeds: tuple[int, ...]) -> Plan:
    """The full factorial; the arms of `techniques` are among its own, and are trained once for both."""
    arms = factorial(baseline)
    return Plan(
        name="factorial",
        question=QUESTION,
        arms=tuple(arms),
        seeds=seeds,
        rule=Rule(margin=profile.margin),
        claims=tuple(main_effect_claims(baseline, arms)),
        factors=tuple(t.name for t in switched_on(baseline)),
    )
