"""Which optimizer is best, each at its usual rate or, once they were looked for, each at its best one?"""

from __future__ import annotations

from collections.abc import Mapping

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.designs import EACH_AT_BEST, at_best_rates, each_optimizer
from cifar_ablations.ablations.metrics import metric
from cifar_ablations.ablations.plan import Arm, Plan, PlanRequest
from cifar_ablations.ablations.record import ClaimRecord
from cifar_ablations.ablations.techniques.optimizer import Optimizer

QUESTION = "Which optimizer is best, each at a learning rate that suits it?"

COMPARED = {"momentum": "off", "nesterov": "momentum", "rmsprop": "off", "on": "off", "muon": "on"}
"""By level of the optimizer, the level that it should be better than."""

RETUNED = (
    "Best rates: of equally many trials for every optimizer, in ranges of the same width around its usual rate, which "
    "is tried first; on validation images and other seeds."
)


def plan(asked: PlanRequest) -> Plan:
    """The baseline with each optimizer, and where best rates were found, with each of them at its best rate."""
    arms = each_optimizer(asked.baseline)
    chosen, how = {arm.name: arm for arm in arms}, ""
    if asked.best_rates:
        chosen, how = at_best_rates(arms, asked.best_rates), EACH_AT_BEST
        arms = list({arm.name: arm for arm in (*arms, *chosen.values())}.values())
    return Plan(
        name="optimizers",
        question=QUESTION,
        arms=tuple(arms),
        seeds=asked.seeds,
        rule=asked.rule,
        claims=tuple(_claims(chosen, how)),
        note=RETUNED if asked.best_rates else "",
        layout="ledger",
    )


def _claims(arms: Mapping[str, Arm], how: str) -> list[ClaimRecord]:
    titles = {level: Optimizer.at(level).setting_title for level in Optimizer.levels}
    accuracy = metric(schema.TEST_ACCURACY).title
    return [
        ClaimRecord(
            statement=f"{titles[level]} reaches a higher {accuracy} than {titles[other]}{how}",
            technique=Optimizer.name,
            metric=schema.TEST_ACCURACY,
            sign=+1,
            treatment=arms[titles[level]].name,
            control=arms[titles[other]].name,
            family=f"{accuracy} of optimizers{how}",
            source=Optimizer.sources.get(level, Optimizer.source),
            mechanism=Optimizer.mechanism,
        )
        for level, other in COMPARED.items()
        if arms[titles[level]].recipe != arms[titles[other]].recipe
    ]
