"""Any named recipes against the first of them: the plan behind `compare`."""

from __future__ import annotations

from collections.abc import Mapping

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.designs import sentence
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.metrics import known, metric
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.ablations.plan import Arm, Plan
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import ClaimRecord, RuleRecord

NAME = "comparison"
LONGEST_NAME = 80


def comparison(
    recipes: Mapping[str, Recipe],
    seeds: tuple[int, ...],
    rule: RuleRecord,
    *,
    metrics: tuple[str, ...] = (schema.TEST_ACCURACY,),
    name: str = NAME,
    question: str = "",
) -> Plan:
    """A plan with an arm per recipe and, for each metric, a claim that each later arm raises it against the first.

    A claim has a direction for its wording alone: its test has none, and the opposite can be found. Raises AblateError
    for fewer than two recipes, for names that cannot be shown, and for an unknown metric.
    """
    if len(recipes) < 2:
        raise AblateError(f"a comparison needs at least two arms, not {len(recipes)}")
    for arm in recipes:
        if not arm.strip() or not arm.isprintable() or len(arm) > LONGEST_NAME:
            raise AblateError(f"an arm's name has 1 to {LONGEST_NAME} signs that can be printed, not {arm!r}")
    for asked in metrics:
        if asked not in known():
            raise AblateError(f"no metric {asked!r}{did_you_mean(asked, known())}")
    control, *others = recipes
    return Plan(
        name=name,
        question=question or f"What does each change against {control}?",
        arms=tuple(Arm(arm, recipe) for arm, recipe in recipes.items()),
        seeds=seeds,
        rule=rule,
        claims=tuple(
            ClaimRecord(
                statement=f"{sentence(arm)} raises {metric(asked).title} against {control}",
                technique=arm,
                metric=asked,
                sign=+1,
                treatment=arm,
                control=control,
                family=f"{metric(asked).title} against {control}",
                source="",
            )
            for asked in metrics
            for arm in others
        ),
    )
