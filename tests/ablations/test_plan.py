"""Plans: their arms, claims and digest."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.designs import bare, switched_on
from cifar_ablations.ablations.metrics import METRICS
from cifar_ablations.ablations.plan import LOOKS, with_looks
from cifar_ablations.ablations.profiles import PROFILES, profile
from cifar_ablations.ablations.record import DataRecord

NOTEBOOK_SECTIONS = (
    "Weight Decay",
    "Dropout",
    "Data Augmentation",
    "Exploding & Vanishing Gradients",
    "Weight Initialization",
    "Learning Rate",
    "Stochastic Gradient Descent",
    "Momentum",
    "RMSProp",
    "Adam",
    "Training Efficient Model",
)


@pytest.fixture(params=list(PROFILES))
def size(request):
    return profile(request.param)


def _plan(name, size, seeds=(0, 1)):
    baseline = size.apply(catalog.notebook_recipe())
    if name == "tuned":  # which is about another recipe than the notebook's
        baseline = baseline.set("optimizer.rate=0.002").set("dropout.p=0.2")
    return catalog.make_plan(name, baseline, size, seeds)


def test_the_techniques_plan_removes_and_adds_each_of_six(size) -> None:
    plan = _plan("techniques", size)
    full = plan.arm("full recipe").recipe
    empty = plan.arm("bare recipe").recipe
    assert len(plan.arms) == 14
    assert len({arm.recipe.digest() for arm in plan.arms}) == 14
    assert len(switched_on(full)) == 6
    assert switched_on(empty) == []
    for technique in switched_on(full):
        assert plan.arm(f"without {technique.title}").recipe == full.without(technique.name)
        alone = plan.arm(f"only {technique.title}").recipe
        assert switched_on(alone) == [technique]
        assert bare(alone) == empty


def test_claims_compare_arms_that_differ_in_their_technique_alone(size) -> None:
    plan = _plan("techniques", size)
    assert len({claim.statement for claim in plan.claims}) == len(plan.claims)
    for claim in plan.claims:
        treatment, control = plan.arm(claim.treatment).recipe, plan.arm(claim.control).recipe
        assert treatment.without(claim.technique) == control
        assert claim.source


def test_the_notebook_plan_is_the_notebooks_recipe() -> None:
    plan = _plan("notebook", profile("full"))
    knobs = plan.arms[0].recipe.knobs()
    notebook = {
        "model.name": "notebook",
        "model.width": 1.0,
        "budget.epochs": 20,
        "budget.batch_size": 256,
        "budget.train_images": 50_000,
        "budget.validation_images": 0,
        "budget.test_images": 10_000,
        "augmentation.padding": 4,
        "augmentation.flip": 0.5,
        "dropout.p": 0.5,
        "initialisation.scheme": "kaiming_uniform",
        "optimizer.kind": "adam",
        "optimizer.rate": 3e-3,
        "schedule.shape": "multistep",
        "schedule.gamma": 0.1,
        "weight_decay.strength": 1e-4,
    }
    assert notebook.items() <= knobs.items()
    assert [r.value for r in plan.references] == [0.7804]


def test_a_smaller_notebook_plan_is_not_held_against_the_printed_accuracy() -> None:
    assert _plan("notebook", profile("quick")).references == ()


def test_the_digest_is_of_everything_that_was_fixed() -> None:
    size = profile("quick")
    plan = _plan("techniques", size)
    assert plan.digest() == _plan("techniques", size).digest()
    assert plan.digest() != _plan("techniques", size, seeds=(0, 1, 2)).digest()
    changed = size.apply(catalog.notebook_recipe()).set("dropout.p=0.3")
    assert plan.digest() != catalog.make_plan("techniques", changed, size, (0, 1)).digest()


@pytest.mark.parametrize("name", catalog.plan_names())
def test_every_plan_asks_compares_and_is_trained_on_what_it_names(name: str) -> None:
    plan = _plan(name, profile("quick"))
    assert plan.name == name
    assert plan.question.endswith("?")
    trained = [(arm.recipe.digest(), arm.seed_offset) for arm in plan.arms]
    assert len(set(trained)) == len(trained), "two arms of a plan are one training"
    for claim in plan.claims:
        assert claim.source
        assert claim.metric in METRICS
        assert set(claim.mechanism) <= set(METRICS)
        if claim.over:
            assert sum(weight for _, weight in claim.over) == pytest.approx(0)
        else:
            treatment, control = plan.arm(claim.treatment), plan.arm(claim.control)
            assert (treatment.recipe, treatment.seed_offset) != (control.recipe, control.seed_offset)
    assert plan.digest() == _plan(name, profile("quick")).digest()


def test_there_is_a_plan_of_levels_for_each_technique() -> None:
    for name, cls in catalog.techniques().items():
        plan = _plan(f"levels/{name}", profile("quick"))
        assert len(plan.arms) == len(cls.levels)
        assert plan.arms[0].recipe == profile("quick").apply(catalog.notebook_recipe())
        assert {claim.technique for claim in plan.claims} <= {name}


def test_the_ledger_has_the_notebooks_statements() -> None:
    plan = _plan("claims", profile("quick"))
    assert len(plan.claims) >= 20
    assert plan.layout == "ledger"
    for claim in plan.claims:
        assert claim.notebook in NOTEBOOK_SECTIONS
        assert claim.mechanism


def test_fewer_images_are_visited_more_often() -> None:
    recipe = profile("quick").apply(catalog.notebook_recipe())
    steps = recipe.sized.budget.epochs * recipe.sized.budget.steps_per_epoch
    for level in ("1/2", "1/16"):
        budget = recipe.set(f"data_size={level}").sized.budget
        assert budget.train_images == 2000 * (0.5 if level == "1/2" else 1 / 16)
        assert budget.epochs * budget.steps_per_epoch == pytest.approx(steps, rel=0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: catalog.plan_module("technique"), "no plan 'technique'; did you mean techniques?"),
        (lambda: profile("quik"), "no profile 'quik'; did you mean quick?"),
        (lambda: _plan("techniques", profile("quick"), seeds=()), "at least one seed"),
    ],
)
def test_unknown_names_get_the_nearest(call, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_the_arms_of_the_a_a_plan_are_one_recipe_on_disjoint_seeds() -> None:
    plan = _plan("a-a", profile("quick"), seeds=tuple(range(15)))
    one, other = plan.arms
    assert one.recipe == other.recipe
    trained = [{seed + arm.seed_offset for seed in plan.seeds} for arm in plan.arms]
    assert not trained[0] & trained[1]


@pytest.mark.parametrize("way", sorted(LOOKS))
def test_looks_are_part_of_what_a_plan_fixes(way: str) -> None:
    fixed = _plan("techniques", profile("quick"), seeds=(7,))
    plan = with_looks(fixed, way)
    assert plan.seeds == tuple(range(7, 7 + plan.rule.looks[-1]))
    assert plan.digest() != fixed.digest()
    assert (plan.arms, plan.claims, plan.rule.margin) == (fixed.arms, fixed.claims, fixed.rule.margin)


@pytest.mark.parametrize("name", catalog.plan_names())
def test_a_plan_is_logged_whole(name):
    plan = _plan(name, profile("quick"))
    data = DataRecord("images", "d" * 16, "an archive", False, ("cat", "dog"))
    record = plan.record(profile("quick"), data, ("dropout.p=0.2",), "ablate run")
    for field in fields(plan):
        kept = getattr(plan, field.name)
        assert getattr(record, field.name) == (tuple(arm.record() for arm in kept) if field.name == "arms" else kept)
    assert (record.digest, record.data, record.profile.name) == (plan.digest(), data, "quick")
    assert (record.overrides, record.command) == (("dropout.p=0.2",), "ablate run")
    baseline = plan.arms[0].recipe
    assert (record.model, record.budget) == (str(baseline.model), str(baseline.budget))
    assert set(record.titles) == set(record.reasons) == {technique.name for technique in baseline.techniques}
