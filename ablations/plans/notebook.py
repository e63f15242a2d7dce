"""The notebook's exact recipe on all training images: where does its printed accuracy fall among seeds?"""

from __future__ import annotations

from dataclasses import replace

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.designs import FULL
from cifar_ablations.ablations.plan import Arm, Plan, PlanRequest
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.ablations.record import ReferenceRecord

QUESTION = "Where does the notebook's 78.04 % fall among repetitions of its recipe?"
OTHERWISE = "What does the recipe reach when it trains on the validation images too?"
"""Of a recipe that is not the notebook's."""


def plan(asked: PlanRequest) -> Plan:
    """One arm that trains on the validation images too, as the notebook does (it holds nothing out)."""
    baseline = asked.baseline
    budget = baseline.budget
    everything = replace(budget, train_images=budget.train_images + budget.validation_images, validation_images=0)
    notebooks = baseline.techniques == catalog.notebook_recipe().techniques
    name = "notebook" if notebooks else FULL
    reference = ReferenceRecord(name, schema.TEST_ACCURACY, 0.7804, "the notebook's one printed run, official CIFAR-10")
    full = PROFILES["full"]
    comparable = (baseline.model, replace(budget, precision=full.budget.precision)) == (full.model, full.budget)
    return Plan(
        name="notebook",
        question=QUESTION if notebooks else OTHERWISE,
        arms=(Arm(name, replace(baseline, budget=everything)),),
        seeds=asked.seeds,
        rule=asked.rule,
        references=(reference,) if notebooks and comparable else (),
    )
