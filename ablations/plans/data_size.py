"""Do regularisers matter more where there is less to learn from?"""

from __future__ import annotations

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.designs import sentence, switched_on, without
from cifar_ablations.ablations.metrics import metric
from cifar_ablations.ablations.plan import Arm, Plan, PlanRequest
from cifar_ablations.ablations.record import ClaimRecord
from cifar_ablations.ablations.techniques.data_size import DataSize

QUESTION = "Do augmentation, dropout and weight decay matter more where there is less training data?"

REGULARISERS = ("augmentation", "dropout", "weight_decay")
SHARES = {"all": 1.0, "a quarter": 1 / 4, "a sixteenth": 1 / 16}
LEAST = "a sixteenth"


def plan(asked: PlanRequest) -> Plan:
    """The full recipe and each regulariser removed, at three sizes of the training set and about the same steps."""
    baseline = asked.baseline
    regularisers = [t for t in switched_on(baseline) if t.name in REGULARISERS]
    arms, claims = [], []
    for words, share in SHARES.items():
        sized = baseline.with_technique(DataSize(share=share))
        arms.append(Arm(f"full recipe, {words} of the data", sized))
        arms += [Arm(f"{without(t)}, {words} of the data", sized.without(t.name)) for t in regularisers]
    for name, sign in ((schema.TEST_ACCURACY, +1), (schema.GENERALISATION_GAP, -1)):
        for t in regularisers:
            verb = "raises" if sign > 0 else "lowers"
            claims.append(
                ClaimRecord(
                    statement=f"{sentence(t.setting_title)} {verb} {metric(name).title} more with {LEAST} of the data",
                    technique=t.name,
                    metric=name,
                    sign=sign,
                    treatment=f"full recipe, {LEAST} of the data",
                    control=f"{without(t)}, {LEAST} of the data",
                    beyond=("full recipe, all of the data", f"{without(t)}, all of the data"),
                    family=f"{metric(name).title} with {LEAST} of the data, more than with all",
                    source="Shorten & Khoshgoftaar 2019" if t.name == "augmentation" else "Goodfellow et al. 2016, 7",
                    mechanism=(schema.GENERALISATION_GAP,),
                )
            )
    return Plan(
        name="data-size",
        question=QUESTION,
        arms=tuple(arms),
        seeds=asked.seeds,
        rule=asked.rule,
        claims=tuple(claims),
    )
