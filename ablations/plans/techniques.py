"""What is each technique of the notebook's recipe worth, within the recipe and alone?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.designs import (
    ALL,
    BARE,
    EACH_AT_BEST,
    FULL,
    OVERALL,
    at_best_rates,
    claims_of,
    one_at_a_time,
    only,
    switched_on,
    without,
)
from cifar_ablations.ablations.metrics import metric
from cifar_ablations.ablations.plan import Arm, Plan, PlanRequest
from cifar_ablations.ablations.record import ClaimRecord
from cifar_ablations.ablations.technique import Technique

QUESTION = "What is each technique worth, removed from the full recipe and added to the bare one?"

FULL_AGAINST_BARE = ClaimRecord(
    statement="The full recipe reaches a higher test accuracy than the bare one",
    technique=ALL,
    metric=schema.TEST_ACCURACY,
    sign=+1,
    treatment=FULL,
    control=BARE,
    family=f"{metric(schema.TEST_ACCURACY).title} {OVERALL}",
    source="the notebook, which trains with all of its techniques at once",
    mechanism=(schema.GENERALISATION_GAP,),
)

RETUNED = (
    "Best rates: of equally many trials for every arm, its own rate among them, on validation images and other seeds. "
    "An arm whose own rate was the best stands for both."
)


def plan(asked: PlanRequest) -> Plan:
    """The baseline, each of its techniques removed, the bare recipe, and each technique alone; where best rates were
    found, also each of them at its best rate, and each claim about those too."""
    arms = one_at_a_time(asked.baseline)
    used = switched_on(asked.baseline)
    claims = _claims(used, {arm.name: arm for arm in arms})
    if asked.best_rates:
        best = at_best_rates(arms, asked.best_rates)
        known = {(claim.metric, claim.treatment, claim.control) for claim in claims}
        claims += [
            claim
            for claim in _claims(used, best, EACH_AT_BEST)
            if (claim.metric, claim.treatment, claim.control) not in known and claim.treatment != claim.control
        ]
        arms = list({arm.name: arm for arm in (*arms, *best.values())}.values())
    return Plan(
        name="techniques",
        question=QUESTION,
        arms=tuple(arms),
        seeds=asked.seeds,
        rule=asked.rule,
        claims=tuple(claims),
        note=RETUNED if asked.best_rates else "",
    )


def _claims(used: Sequence[Technique], arms: Mapping[str, Arm], how: str = "") -> list[ClaimRecord]:
    """What is claimed of the techniques in use; each is called as it is set in the arm that has it.

    arms: those that stand for the arms of `one_at_a_time`, by the names of these; how: ends the places.
    """
    removed, alone = [arms[without(t)] for t in used], [arms[only(t)] for t in used]
    within = [_set_in(arms[FULL], t) for t in used]
    claims = claims_of(within, f"in the full recipe{how}", [arms[FULL].name] * len(used), [a.name for a in removed])
    by_itself = [_set_in(arm, t) for arm, t in zip(alone, used, strict=True)]
    claims += claims_of(by_itself, f"on its own{how}", [a.name for a in alone], [arms[BARE].name] * len(used))
    if len(used) > 1:  # else all of them together are the one, or nothing
        overall = replace(FULL_AGAINST_BARE, treatment=arms[FULL].name, control=arms[BARE].name)
        claims.append(replace(overall, statement=f"{overall.statement}{how}", family=f"{overall.family}{how}"))
    return claims


def _set_in(arm: Arm, technique: Technique) -> Technique:
    """A technique as an arm has it."""
    return next(t for t in arm.recipe.techniques if t.name == technique.name)
