"""What is each technique of the notebook's recipe worth, within the recipe and alone?"""

from __future__ import annotations

from cifar_ablations.ablations.designs import BARE, FULL, add_one_in, bare, claims_of, leave_one_out, switched_on
from cifar_ablations.ablations.plan import Arm, Plan, PlanRequest

QUESTION = "What is each technique worth, removed from the full recipe and added to the bare one?"


def plan(asked: PlanRequest) -> Plan:
    """The baseline, each of its techniques removed, the bare recipe, and each technique alone."""
    baseline = asked.baseline
    removed, alone = leave_one_out(baseline), add_one_in(baseline)
    used = switched_on(baseline)
    claims = claims_of(used, "in the full recipe", [FULL] * len(used), [a.name for a in removed])
    claims += claims_of(used, "on its own", [a.name for a in alone], [BARE] * len(used))
    return Plan(
        name="techniques",
        question=QUESTION,
        arms=(Arm(FULL, baseline), *removed, Arm(BARE, bare(baseline)), *alone),
        seeds=asked.seeds,
        rule=asked.rule,
        claims=tuple(claims),
    )
