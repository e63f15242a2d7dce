"""Two claims are one where they say the same of the same runs; whatever a verdict needs makes another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cifar_ablations.ablations import catalog, profiles
from cifar_ablations.ablations.identity import identity_of
from cifar_ablations.ablations.record import (
    ArmRecord,
    ClaimRecord,
    DataRecord,
    PlanRecord,
    ProfileRecord,
    RuleRecord,
)

CLAIM = ClaimRecord("A exceeds B", "t", "test/accuracy", 1, "A", "B", "f", "s")
PLAN = PlanRecord(
    name="plan",
    question="?",
    arms=(ArmRecord("A", "a" * 16), ArmRecord("B", "b" * 16), ArmRecord("C", "c" * 16)),
    seeds=(0, 1),
    rule=RuleRecord(margin=0.005),
    profile=ProfileRecord("smoke"),
    data=DataRecord("tiny", "dd11"),
    claims=(CLAIM,),
)
HERE = identity_of(CLAIM, PLAN)


def over(*weighted: tuple[str, float]) -> ClaimRecord:
    return replace(CLAIM, over=weighted)


@pytest.mark.parametrize(
    ("claim", "plan"),
    [
        (replace(CLAIM, statement="other words", technique="u", family="g", source="r", notebook="n"), PLAN),
        (replace(CLAIM, mechanism=("seconds",)), PLAN),
        (CLAIM, replace(PLAN, name="other", question="Other?", seeds=(7,), overrides=("dropout.p=0.5",))),
        (CLAIM, replace(PLAN, profile=ProfileRecord("full"), digest="0", arms=PLAN.arms[::-1])),
        (replace(CLAIM, treatment="X"), replace(PLAN, arms=(replace(PLAN.arms[0], name="X"), *PLAN.arms[1:]))),
        (replace(CLAIM, treatment="B", control="A", sign=-1), PLAN),
        (over(("A", 1.0), ("B", -1.0)), PLAN),
        (over(("A", 1.0), ("B", -0.7), ("B2", -0.3)), replace(PLAN, arms=(*PLAN.arms, ArmRecord("B2", "b" * 16)))),
        (over(("A", 1.0), ("B", -0.1 - 0.2 - 0.7), ("C", 0.1 + 0.2 - 0.3)), PLAN),
        (replace(CLAIM, beyond=("C", "C")), PLAN),
    ],
)
def test_what_bears_on_no_verdict_makes_no_other_claim(claim: ClaimRecord, plan: PlanRecord) -> None:
    assert identity_of(claim, plan) == HERE


OTHER_RECIPE = (ArmRecord("A", "f" * 16), *PLAN.arms[1:])
OTHER_SEEDS = (replace(PLAN.arms[0], seed_offset=1_000), *PLAN.arms[1:])
DIFFERENT = [
    (replace(CLAIM, metric="test/loss"), PLAN),
    (replace(CLAIM, sign=-1), PLAN),
    (replace(CLAIM, allowed=True), PLAN),
    (replace(CLAIM, control="C"), PLAN),
    (replace(CLAIM, beyond=("C", "A")), PLAN),
    (over(("A", 0.5), ("B", -0.5)), PLAN),
    (CLAIM, replace(PLAN, arms=OTHER_RECIPE)),
    (CLAIM, replace(PLAN, arms=OTHER_SEEDS)),
    (CLAIM, replace(PLAN, data=DataRecord("tiny", "dd22"))),
    (CLAIM, replace(PLAN, rule=RuleRecord(margin=0.01))),
    (CLAIM, replace(PLAN, rule=RuleRecord(margin=0.005, looks=(1, 2)))),
    (CLAIM, replace(PLAN, rule=RuleRecord(margin=0.005, alpha=0.1))),
]


def test_what_bears_on_a_verdict_makes_another_claim() -> None:
    found = {identity_of(claim, plan) for claim, plan in DIFFERENT}
    assert len({HERE, *found}) == len(DIFFERENT) + 1


def test_claims_of_either_sign_and_any_rule_are_on_one_comparison() -> None:
    opposite = identity_of(replace(CLAIM, sign=-1, allowed=True), replace(PLAN, rule=RuleRecord(margin=1.0)))
    assert opposite.comparison == HERE.comparison
    assert opposite.statement != HERE.statement
    assert identity_of(CLAIM, replace(PLAN, rule=RuleRecord(margin=1.0))).statement == HERE.statement
    assert identity_of(replace(CLAIM, control="C"), PLAN).comparison != HERE.comparison


def test_arms_are_weighed_by_recipe_and_seeds() -> None:
    assert HERE.weights == (("a" * 16, 0, 1.0), ("b" * 16, 0, -1.0))
    assert HERE.arms == {("a" * 16, 0), ("b" * 16, 0)}
    beyond = identity_of(replace(CLAIM, beyond=("C", "B")), PLAN)
    assert beyond == identity_of(replace(CLAIM, control="C"), PLAN), "A - B - (C - B)"


def test_an_arm_that_a_plan_lacks_counts_by_its_name() -> None:
    assert identity_of(replace(CLAIM, control="gone"), PLAN).weights[1] == ("gone", 0, -1.0)


@pytest.mark.parametrize(
    "name", [name for name in catalog.plan_names() if name not in ("tuned", "gain")]
)  # which needs a search
def test_the_claims_of_a_plan_are_all_different(name: str) -> None:
    size = profiles.profile("smoke")
    recipe = size.apply(catalog.notebook_recipe())
    plan = catalog.make_plan(name, recipe, size, (0, 1), {}).record(size, PLAN.data)
    assert len({identity_of(claim, plan) for claim in plan.claims}) == len(plan.claims)
