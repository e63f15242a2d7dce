"""More of the same, spent in different ways: a wider or deeper network, other batches, two passes per step."""

from __future__ import annotations

from math import sqrt

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.designs import ALL, FULL, sentence
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.metrics import metric
from cifar_ablations.ablations.plan import Arm, Plan, PlanRequest
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import ClaimRecord
from cifar_ablations.ablations.technique import Technique
from cifar_ablations.ablations.techniques.optimizer import Optimizer
from cifar_ablations.ablations.techniques.sharpness_aware import SharpnessAware

QUESTION = "What is the same arithmetic best spent on: width, depth, the batch size, or a technique that costs more?"

ROOT = sqrt(2)
"""A convolution's arithmetic grows with the square of the width: by this factor on the width it doubles."""

LONGER, BATCH = "twice the training", ("half the batch size", "twice the batch size")

DEPTHS = {"notebook": "notebook-deeper"}
"""By network, one that is deeper and has about twice the arithmetic per image."""

QUESTIONS = {
    "width": "At the same arithmetic, is a wider network better, or a narrower one that is trained longer?",
    "depth": "At the same arithmetic, is a deeper network better than longer training?",
    "batch_size": "At the same number of images, how large should a batch be, with a learning rate that goes with it?",
    "optimization": "Do techniques that cost up to two gradients per step gain more than twice the training does?",
}


def variants() -> list[str]:
    """What the arithmetic is spent on."""
    return list(QUESTIONS)


def plan(asked: PlanRequest) -> Plan:
    """The arms of one variant, which differ in what they do and about equally in what they cost.

    Width and depth: the arithmetic of an image doubles or halves, and the epochs halve or double. Batch size: the same
    images, at a learning rate that grows with the root of the batch size for adaptive optimizers (Malladi et al. 2022,
    arXiv 2205.10287), and linearly for others (Goyal et al. 2017, arXiv 1706.02677). Techniques: against twice the
    epochs, which cost more: a step of Muon takes less than twice a step of Adam, one of SAM has two gradients.

    Raises AblateError for a baseline whose network has no deeper one.
    """
    baseline, variant = asked.baseline, asked.variant
    arms, compared = {"width": _width, "depth": _depth, "batch_size": _batch_size, "optimization": _optimization}[
        variant
    ](baseline)
    return Plan(
        name=f"equal-cost/{variant}",
        question=QUESTIONS[variant],
        arms=tuple(Arm(name, recipe) for name, recipe in arms.items()),
        seeds=asked.seeds,
        rule=asked.rule,
        claims=tuple(_claim(*one, variant) for one in compared),
        layout="ledger",
    )


Arms = tuple[dict[str, Recipe], list[tuple[str, str, str]]]
"""Recipes by the name of their arm; and of what technique, which arm should be better than which other."""


def _width(baseline: Recipe) -> Arms:
    arms = {
        FULL: baseline,
        "wider, half the training": _times(baseline, capacity=ROOT, training_length=1 / 2),
        "narrower, twice the training": _times(baseline, capacity=1 / ROOT, training_length=2),
    }
    return arms, [("capacity", name, FULL) for name in list(arms)[1:]]


def _depth(baseline: Recipe) -> Arms:
    deeper = DEPTHS.get(baseline.model.name)
    if deeper is None:
        raise AblateError(
            f"the plan equal-cost/depth knows no deeper network than model.name={baseline.model.name}; it does for "
            f"{', '.join(DEPTHS)}"
        )
    arms = {
        FULL: baseline,
        "a deeper network": baseline.set(f"model.name={deeper}"),
        LONGER: _times(baseline, training_length=2),
    }
    return arms, [(ALL, "a deeper network", LONGER), ("training_length", LONGER, FULL)]


def _batch_size(baseline: Recipe) -> Arms:
    arms = {FULL: baseline}
    for name, times in zip(BATCH, (1 / 2, 2.0), strict=True):
        rate = times ** (0.5 if baseline.update_rule().adaptive else 1.0)
        arms[name] = _times(baseline, batch_size=times, learning_rate=rate)
    return arms, [("batch_size", name, FULL) for name in BATCH]


def _optimization(baseline: Recipe) -> Arms:
    techniques: tuple[Technique, ...] = SharpnessAware.at("on"), Optimizer.at("muon")
    costly = [t for t in techniques if t != baseline.technique(t.name)]
    arms = {f"with {t.setting_title}": baseline.with_technique(t) for t in costly}
    compared = [(t.name, name, LONGER) for t, name in zip(costly, arms, strict=True)]
    longer = _times(baseline, training_length=2)
    return {FULL: baseline, **arms, LONGER: longer}, [*compared, ("training_length", LONGER, FULL)]


def _times(recipe: Recipe, **factors: float) -> Recipe:
    """The recipe with the factor of each technique multiplied."""
    for technique, factor in factors.items():
        own = recipe.knobs()[f"{technique}.factor"]
        recipe = recipe.with_knob(f"{technique}.factor", float(f"{own * factor:.6g}"))
    return recipe


def _claim(technique: str, treatment: str, control: str, variant: str) -> ClaimRecord:
    accuracy = metric(schema.TEST_ACCURACY).title
    return ClaimRecord(
        statement=f"{sentence(treatment)} reaches a higher {accuracy} than {control}",
        technique=technique,
        metric=schema.TEST_ACCURACY,
        sign=+1,
        treatment=treatment,
        control=control,
        family=f"{accuracy} at equal cost ({variant.replace('_', ' ')})",
        source="none: it is asked, not expected",
        mechanism=(schema.TRAIN_LOSS, schema.GENERALISATION_GAP),
    )
