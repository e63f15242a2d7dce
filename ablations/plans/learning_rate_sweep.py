"""The notebook's exercise: at least three learning rates, and dropout and weight decay varied at the best of them."""

from __future__ import annotations

from cifar_ablations.ablations.plan import Arm, Plan, PlanRequest
from cifar_ablations.ablations.techniques.dropout import Dropout
from cifar_ablations.ablations.techniques.learning_rate import LearningRate
from cifar_ablations.ablations.techniques.weight_decay import WeightDecay

QUESTION = "Which learning rate is best, and what do dropout and weight decay change at it?"

FACTORS = (0.03, 0.1, 0.3, 1.0, 3.0)
DROPOUT = (0.0, 0.3)
WEIGHT_DECAY = (0.0, 1e-3)


def plan(asked: PlanRequest) -> Plan:
    """Five rates, and at each of them two other levels of dropout and of weight decay.

    Which rate is best is known only after the first runs, and a plan is fixed before them: so all rates get the whole
    treatment, and the question about the best one is answered whichever it is.
    """
    baseline = asked.baseline
    rate = baseline.update_rule().rate
    arms = []
    for factor in FACTORS:
        at = baseline.with_technique(LearningRate(factor=factor))
        name = f"rate {rate * factor:g}"
        arms.append(Arm(name, at))
        arms += [Arm(f"{name}, dropout {p:g}", at.with_technique(Dropout(p=p))) for p in DROPOUT]
        arms += [Arm(f"{name}, weight decay {s:g}", at.with_technique(WeightDecay(strength=s))) for s in WEIGHT_DECAY]
    arms.sort(key=lambda arm: arm.recipe != baseline)  # the baseline first
    return Plan(name="learning-rate-sweep", question=QUESTION, arms=tuple(arms), seeds=asked.seeds, rule=asked.rule)
