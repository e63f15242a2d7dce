"""Every combination of the recipe's techniques: who contributes what, whatever the order of removal?"""

from __future__ import annotations

from cifar_ablations.ablations.designs import factorial, main_effect_claims, switched_on
from cifar_ablations.ablations.plan import Plan, PlanRequest

QUESTION = "Who contributes what, over every combination of the recipe's techniques?"


def plan(asked: PlanRequest) -> Plan:
    """The full factorial; the arms of `techniques` are among its own, and are trained once for both."""
    baseline = asked.baseline
    arms = factorial(baseline)
    return Plan(
        name="factorial",
        question=QUESTION,
        arms=tuple(arms),
        seeds=asked.seeds,
        rule=asked.rule,
        claims=tuple(main_effect_claims(baseline, arms)),
        factors=tuple(t.name for t in switched_on(baseline)),
    )
