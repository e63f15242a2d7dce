"""What do newer techniques add to the notebook's recipe, and what would each of them leave if it were taken out?"""

from __future__ import annotations

from dataclasses import replace

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.designs import ALL, OVERALL, claims_of
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.metrics import metric
from cifar_ablations.ablations.plan import Arm, Plan, PlanRequest
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import ClaimRecord

QUESTION = "What is each newer technique worth, added to the baseline and removed from all of them together?"

MODERN = {
    "augmentation": "alternating_flip",
    "normalisation": "on",
    "optimizer": "muon",
    "schedule": "linear",
    "weight_averaging": "ema",
}
"""Techniques that cost about a step's time or less, at the level that stands for what was found after the notebook."""

BASELINE, TOGETHER = "baseline", "all newer techniques"


def plan(asked: PlanRequest) -> Plan:
    """The baseline, it with each newer technique in the place of its own, all of them, and all but each of them.

    Raises AblateError for a baseline that has all of them already but one.
    """
    baseline = asked.baseline
    levels = {name: catalog.techniques()[name].at(level) for name, level in MODERN.items()}
    newer = [technique for name, technique in levels.items() if technique != baseline.technique(name)]
    if len(newer) < 2:
        raise AblateError("the plan modern needs a baseline that lacks two of its techniques or more; give another")
    together = baseline
    for technique in newer:
        together = together.with_technique(technique)
    added = [Arm(f"with {t.setting_title}", baseline.with_technique(t)) for t in newer]
    removed = [Arm(f"all but {t.setting_title}", together.with_technique(baseline.technique(t.name))) for t in newer]
    to_each = claims_of(newer, "in the baseline", [arm.name for arm in added], [BASELINE] * len(newer))
    to_all = claims_of(newer, "together with the others", [TOGETHER] * len(newer), [arm.name for arm in removed])
    accuracy = metric(schema.TEST_ACCURACY).title
    overall = ClaimRecord(
        statement="All newer techniques together reach a higher test accuracy than the baseline",
        technique=ALL,
        metric=schema.TEST_ACCURACY,
        sign=+1,
        treatment=TOGETHER,
        control=BASELINE,
        family=f"{accuracy} {OVERALL}",
        source="the papers of each",
        mechanism=(schema.GENERALISATION_GAP,),
    )
    claims = [claim for claim in (*to_each, *to_all) if claim.metric == schema.TEST_ACCURACY]
    return Plan(
        name="modern",
        question=QUESTION,
        arms=(Arm(BASELINE, baseline), *added, Arm(TOGETHER, together), *removed),
        seeds=asked.seeds,
        rule=asked.rule,
        claims=(*(replace(claim, statement=_instead(claim, baseline)) for claim in claims), overall),
    )


def _instead(claim: ClaimRecord, baseline: Recipe) -> str:
    """A claim's statement, with what the baseline has in that place where that is something."""
    own = baseline.technique(claim.technique)
    return claim.statement if own.is_off else f"{claim.statement}, in place of {own.setting_title}"
