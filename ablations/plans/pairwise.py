"""Every technique and every pair of techniques removed from the full recipe."""

from __future__ import annotations

from cifar_ablations.ablations.designs import FULL, claims_of, leave_one_out, leave_two_out, switched_on
from cifar_ablations.ablations.plan import Arm, Plan, Rule
from cifar_ablations.ablations.profiles import Profile
from cifar_ablations.ablations.recipe import Recipe

QUESTION = "What is each technique worth within the full recipe, and which pairs stand in for each other?"


def plan(baseline: Recipe, profile: Profile, seeds: tuple[int, ...]) -> Plan:
    """The baseline, each of its techniques removed, and each two of them."""
    removed, used = leave_one_out(baseline), switched_on(baseline)
    claims = claims_of(used, "in the full recipe", [FULL] * len(used), [a.name for a in removed])
    return Plan(
        name="pairwise",
        question=QUESTION,
        arms=(Arm(FULL, baseline), *removed, *leave_two_out(baseline)),
        seeds=seeds,
        rule=Rule(margin=profile.margin),
        claims=tuple(claims),
    )
