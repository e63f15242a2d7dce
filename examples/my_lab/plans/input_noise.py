"""Does noise on the inputs help, in the full recipe and without its augmentation?"""

from __future__ import annotations

from cifar_ablations.ablations.designs import claims_of
from cifar_ablations.ablations.plan import Arm, Plan, PlanRequest
from cifar_ablations.ablations.recipe import Recipe

from ..techniques.input_noise import InputNoise

QUESTION = "Does noise on the inputs help, in the full recipe and without its augmentation?"


def plan(asked: PlanRequest) -> Plan:
    """The baseline, and the baseline without augmentation, each with noise and without."""
    noise, quiet = InputNoise.at("on"), asked.baseline.without("input_noise")
    plain = quiet.without("augmentation")
    arms = [*_pair("full recipe", quiet, noise), *_pair("without augmentation", plain, noise)]
    names = [arm.name for arm in arms]
    return Plan(
        name="input-noise",
        question=QUESTION,
        arms=tuple(arms),
        seeds=asked.seeds,
        rule=asked.rule,
        claims=(
            *claims_of([noise], "in the full recipe", [names[1]], [names[0]]),
            *claims_of([noise], "without augmentation", [names[3]], [names[2]]),
        ),
    )


def _pair(name: str, recipe: Recipe, noise: InputNoise) -> tuple[Arm, Arm]:
    return Arm(name, recipe), Arm(f"{name}, with noise", recipe.with_technique(noise))
