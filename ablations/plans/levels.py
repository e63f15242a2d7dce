"""One technique at each of its levels, everything else as in the full recipe."""

from __future__ import annotations

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.designs import claims_of
from cifar_ablations.ablations.plan import Arm, Plan, PlanRequest

QUESTION = "Which level of a technique is best, everything else as in the full recipe?"


def variants() -> list[str]:
    """The names of all techniques."""
    return list(catalog.techniques())


def level_arm(technique: str, level: str) -> str:
    """The name of the arm that has a technique at a level."""
    cls = catalog.techniques()[technique]
    if level == "off":
        return cls.baseline or f"without {cls.title}"
    return f"{technique.replace('_', ' ')} {level.replace('_', ' ')}"


def plan(asked: PlanRequest) -> Plan:
    """The baseline's level first, then the others; each is compared with `off` where something is expected of it."""
    baseline, variant = asked.baseline, asked.variant
    cls = catalog.techniques()[variant]
    levels = {level: cls.at(level) for level in cls.levels}
    own = next(t for t in baseline.techniques if t.name == variant)
    names = sorted(levels, key=lambda level: levels[level] != own)
    arms = [Arm(level_arm(variant, level), baseline.with_technique(levels[level])) for level in names]
    if own not in levels.values():  # set to something that has no name
        arms.insert(0, Arm("the baseline", baseline))
    claims = [
        claim
        for level in names
        if level != "off"
        for claim in claims_of(
            [levels[level]], f"({level.replace('_', ' ')})", [level_arm(variant, level)], [level_arm(variant, "off")]
        )
    ]
    return Plan(
        name=f"levels/{variant}",
        question=f"Which level of {cls.title.removeprefix('another ')} is best, everything else as in the full recipe?",
        arms=tuple(arms),
        seeds=asked.seeds,
        rule=asked.rule,
        claims=tuple(claims),
    )
