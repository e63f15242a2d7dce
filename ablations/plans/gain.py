"""A tuned recipe against the notebook's and nothing else, for budgets at which one training takes long."""

from __future__ import annotations

from cifar_ablations.ablations.plan import Arm, Plan, PlanRequest
from cifar_ablations.ablations.plans.tuned import NOTEBOOK, TUNED, notebook_beside, overall

QUESTION = "How much better is the tuned recipe than the notebook's?"


def plan(asked: PlanRequest) -> Plan:
    """Both recipes, and the claim that the tuned one is better; where its points come from, the plan `tuned` says.

    Raises AblateError where the baseline is the notebook's recipe.
    """
    return Plan(
        name="gain",
        question=QUESTION,
        arms=(Arm(TUNED, asked.baseline), Arm(NOTEBOOK, notebook_beside(asked.baseline))),
        seeds=asked.seeds,
        rule=asked.rule,
        claims=(overall(),),
    )
