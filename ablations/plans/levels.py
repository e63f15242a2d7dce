"""One technique at each of its levels, everything else as in the full recipe."""

from __future__ import annotations

from dataclasses import replace

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.designs import claims_of
from cifar_ablations.ablations.metrics import metric
from cifar_ablations.ablations.plan import Arm, Plan, PlanRequest

QUESTION = "Which level of a technique is best, everything else as in the full recipe?"


def variants() -> list[str]:
    """The names of all techniques."""
    return list(catalog.techniques())


def plan(asked: PlanRequest) -> Plan:
    """The baseline's setting first, then the levels; each is compared with `off` where something is expected of it."""
    baseline, variant = asked.baseline, asked.variant
    cls = catalog.techniques()[variant]
    own = baseline.technique(variant)
    settings = list(dict.fromkeys([own, *(cls.at(level) for level in cls.levels)]))
    off = cls.at("off").setting_title
    claims = [
        # A family for each level: a report names it by the place of its claims.
        replace(claim, family=f"{metric(claim.metric).title} ({setting.setting_title})")
        for setting in settings
        if not setting.is_off
        for claim in claims_of([setting], f"against {off}", [setting.setting_title], [off])
    ]
    return Plan(
        name=f"levels/{variant}",
        question=f"Which level of {variant.replace('_', ' ')} is best, everything else as in the full recipe?",
        arms=tuple(Arm(setting.setting_title, baseline.with_technique(setting)) for setting in settings),
        seeds=asked.seeds,
        rule=asked.rule,
        claims=tuple(claims),
    )
