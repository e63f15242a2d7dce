"""Profiles: the size of a recipe, and nothing else of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.budget import Network
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.profiles import PROFILES, Profile, profile


@pytest.mark.parametrize("size", PROFILES.values(), ids=PROFILES.keys())
def test_a_profile_sets_the_size_alone(size: Profile) -> None:
    recipe = catalog.notebook_recipe()
    assert size.apply(recipe) == replace(recipe, model=size.model, budget=size.budget)
    assert size.apply(recipe).techniques == recipe.techniques


def test_full_is_the_notebooks_size() -> None:
    budget = profile("full").budget
    assert profile("full").model == Network("notebook", 1.0)
    assert (budget.epochs, budget.batch_size) == (20, 256)
    assert (budget.train_images, budget.validation_images, budget.test_images) == (45_000, 5_000, 10_000)


@pytest.mark.parametrize("size", PROFILES.values(), ids=PROFILES.keys())
def test_a_profile_fits_into_cifar_10(size: Profile) -> None:
    assert size.budget.train_images + size.budget.validation_images <= 50_000
    assert size.budget.test_images <= 10_000
    assert size.seeds >= 2, "one seed cannot tell an effect from chance"


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(AblateError, match="no profile 'quik'; did you mean quick"):
        profile("quik")
