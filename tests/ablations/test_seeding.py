"""What holds a run's draws still but for one purpose, and the plan that is made of it."""

from __future__ import annotations

import pytest

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.plan import Plan
from cifar_ablations.ablations.profiles import profile
from cifar_ablations.ablations.purposes import PURPOSES, varied
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.seeding import HELD, Seeding, drawn_for


def _plan(*settings: str, seeds: int = 10) -> Plan:
    baseline = profile("quick").apply(catalog.notebook_recipe())
    for setting in settings:
        baseline = baseline.set(setting)
    return catalog.make_plan("variance", baseline, profile("quick"), tuple(range(seeds)))


def test_one_purpose_follows_the_seed() -> None:
    for varies in PURPOSES:
        seeds = {purpose: Seeding(varies).seed_for(purpose, 7) for purpose in PURPOSES}
        assert seeds == {purpose: 7 if purpose == varies else HELD for purpose in PURPOSES}
    assert all(Seeding().seed_for(purpose, 7) == 7 for purpose in PURPOSES)
    with pytest.raises(AblateError, match="did you mean order"):
        Seeding("ordre")


def test_off_is_the_recipe_without_it_and_each_level_another(recipe: Recipe) -> None:
    assert recipe.with_technique(Seeding()).digest() == recipe.digest()
    digests = {recipe.with_technique(Seeding.at(level)).digest() for level in Seeding.levels}
    assert len(digests) == 1 + len(PURPOSES)


def test_no_other_plan_holds_it() -> None:
    assert Seeding.name not in catalog.techniques()
    assert "levels/seeding" not in catalog.plan_names()


def test_purposes_are_those_that_the_recipe_draws_for(recipe: Recipe) -> None:
    assert drawn_for(recipe) == list(PURPOSES)
    assert drawn_for(recipe.set("dropout=off")) == ["split", "order", "augmentation", "weights"]
    plain = recipe.set("augmentation=off").set("dropout=off")
    assert drawn_for(plain) == ["split", "order", "weights"]
    assert drawn_for(plain.set("cutmix=on")) == ["split", "order", "augmentation", "weights"]


def test_the_plan_varies_one_purpose_at_a_time() -> None:
    plan = _plan()
    assert [varied(arm.record().levels) for arm in plan.arms] == ["", *PURPOSES, ""]
    whole = plan.arms[0].recipe
    assert all(arm.recipe.without(Seeding.name).digest() == whole.digest() for arm in plan.arms[1:-1])
    assert plan.arms[-1].recipe == whole.without("dropout")
    assert plan.claims == ()
    assert [arm.name for arm in _plan("dropout=off", "augmentation=off").arms] == [
        "full recipe",
        "only the split",
        "only the order of visits",
        "only the first weights",
        "without Kaiming initialisation",
    ]


def test_the_plan_says_where_seeds_are_few() -> None:
    assert "10 seeds or more" in _plan(seeds=9).note
    assert "seeds or more" not in _plan(seeds=10).note
