"""The recipe with everything drawn anew for each seed, and with one purpose at a time."""

from __future__ import annotations

from cifar_ablations.ablations.designs import FULL, switched_on, without
from cifar_ablations.ablations.plan import Arm, Plan, PlanRequest
from cifar_ablations.ablations.purposes import TITLES
from cifar_ablations.ablations.seeding import Seeding, drawn_for

QUESTION = "Where does the variance between runs of one recipe come from?"

SEEDS = 10
"""Fewer tell little: with ten, a variance is known to a factor of two or three."""


def plan(asked: PlanRequest) -> Plan:
    """The baseline, each purpose of it varied alone, and for pairs of equal seeds the baseline without a technique."""
    baseline = asked.baseline
    arms = [Arm(FULL, baseline)]
    arms += [Arm(f"only {TITLES[name]}", baseline.with_technique(Seeding(name))) for name in drawn_for(baseline)]
    removable = sorted(switched_on(baseline), key=lambda technique: technique.name != "dropout")
    arms += [Arm(without(technique), baseline.without(technique.name)) for technique in removable[:1]]
    few = f" A variance needs {SEEDS} seeds or more to be told." if len(asked.seeds) < SEEDS else ""
    return Plan(
        name="variance",
        question=QUESTION,
        arms=tuple(arms),
        seeds=asked.seeds,
        rule=asked.rule,
        note=f"In an arm named “only …” that alone is drawn anew for each seed, beside one draw of all else.{few}",
    )
