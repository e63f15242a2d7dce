"""Every technique and every pair of techniques removed from the full recipe."""

from __future__ import annotations

from cifar_ablations.ablations.designs import FULL, claims_of, leave_one_out, leave_two_out, switched_on
from cifar_ablations.ablations.plan import Arm, Plan, PlanRequest

QUESTION = "What is each technique worth within the full recipe, and which pairs stand in for each other?"


def plan(asked: PlanRequest) -> Plan:
    """The baseline, each of its techniques removed, and each two of them."""
    baseline = asked.baseline
    removed, used = leave_one_out(baseline), switched_on(baseline)
    claims = claims_of(used, "in the full recipe", [FULL] * len(used), [a.name for a in removed])
    return Plan(
        name="pairwise",
        question=QUESTION,
        arms=(Arm(FULL, baseline), *removed, *leave_two_out(baseline)),
        seeds=asked.seeds,
        rule=asked.rule,
        claims=tuple(claims),
    )
