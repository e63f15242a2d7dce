"""Half of the combinations of the recipe's techniques: the same main effects for half the price."""

from __future__ import annotations

from cifar_ablations.ablations.designs import half_fraction, main_effect_claims, switched_on
from cifar_ablations.ablations.plan import Plan, PlanRequest

QUESTION = "What is each technique worth on average over half of all combinations?"


def plan(asked: PlanRequest) -> Plan:
    """The half fraction; a main effect cannot be told from the joint effect of all other techniques."""
    baseline = asked.baseline
    arms = half_fraction(baseline)
    count = len(switched_on(baseline))
    return Plan(
        name="half-factorial",
        question=QUESTION,
        arms=tuple(arms),
        seeds=asked.seeds,
        rule=asked.rule,
        claims=tuple(main_effect_claims(baseline, arms)),
        factors=tuple(t.name for t in switched_on(baseline)),
        note=(
            f"Half of the combinations were trained: each main effect is mixed up with the joint effect of the other "
            f"{count - 1} techniques, and each interaction of two with that of the other {count - 2}."
        ),
    )
