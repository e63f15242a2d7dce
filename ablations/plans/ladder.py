"""From the bare recipe to the full one, a technique at a time."""

from __future__ import annotations

from itertools import pairwise

from cifar_ablations.ablations.designs import claims_of, ladder
from cifar_ablations.ablations.plan import Plan, PlanRequest

QUESTION = "How does accuracy grow from the bare recipe to the full one, a technique at a time?"


def plan(asked: PlanRequest) -> Plan:
    """The rungs, the full recipe first; each rung is compared with the one below it."""
    baseline = asked.baseline
    rungs = ladder(baseline)
    claims = []
    for below, above in pairwise(rungs):
        added = [t for t in above.recipe.techniques if t not in below.recipe.techniques]
        claims += claims_of(added, "on its rung", [above.name], [below.name])
    return Plan(
        name="ladder",
        question=QUESTION,
        arms=tuple(reversed(rungs)),
        seeds=asked.seeds,
        rule=asked.rule,
        claims=tuple(claims),
        note="What a rung adds depends on the order: a technique's step holds for the techniques below it alone.",
    )
