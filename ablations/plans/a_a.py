"""The same recipe under two names: does the suite stay silent where there is nothing to find?"""

from __future__ import annotations

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.metrics import metric
from cifar_ablations.ablations.plan import Arm, Plan, PlanRequest
from cifar_ablations.ablations.record import ClaimRecord

QUESTION = "Does the suite find a difference where there is none?"

ONE, OTHER = "full recipe", "full recipe, other seeds"
OFFSET = 1_000
"""Larger than any plan's number of seeds, so that the two arms share none."""

METRICS = (schema.TEST_ACCURACY, schema.GENERALISATION_GAP, schema.TEST_LOSS)


def plan(asked: PlanRequest) -> Plan:
    """Two arms of one recipe on disjoint seeds, and claims that there is no reason to believe."""
    claims = [
        ClaimRecord(
            statement=f"The recipe under another name raises {metric(name).title}",
            technique="another name",
            metric=name,
            sign=+1,
            treatment=OTHER,
            control=ONE,
            family=metric(name).title,
            source="nobody",
        )
        for name in METRICS
    ]
    return Plan(
        name="a-a",
        question=QUESTION,
        arms=(Arm(ONE, asked.baseline), Arm(OTHER, asked.baseline, seed_offset=OFFSET)),
        seeds=asked.seeds,
        rule=asked.rule,
        claims=tuple(claims),
        note="Both arms are the same recipe: whatever is supported or refuted here is a false alarm.",
    )
