"""Recipes: what their digest depends on, and what a person may set."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.technique import Technique
from cifar_ablations.ablations.techniques.dropout import Dropout
from cifar_ablations.ablations.techniques.optimizer import Optimizer
from cifar_ablations.ablations.techniques.weight_decay import WeightDecay


@pytest.mark.parametrize("name", list(catalog.techniques()))
def test_a_technique_that_is_off_leaves_the_digest_alone(name: str) -> None:
    # So a technique added tomorrow does not make the store forget today's runs.
    notebook = catalog.notebook_recipe()
    absent = Recipe(techniques=tuple(t for t in notebook.techniques if t.name != name))
    assert notebook.without(name).digest() == absent.digest()
    cls = catalog.techniques()[name]
    for level in set(cls.levels) - {"off"}:
        assert notebook.with_technique(cls.at(level)).digest() != absent.digest()


def test_every_setting_changes_the_digest() -> None:
    notebook = catalog.notebook_recipe()
    changes = [
        "model.width=0.5",
        "budget.epochs=3",
        "budget.batch_size=7",
        "budget.train_images=9",
        "budget.precision=bf16",
        "budget.validation_images=11",
        "budget.test_images=12",
        "augmentation.padding=3",
        "augmentation.flip=0.25",
        "dropout.p=0.1",
        "initialisation=off",
        "optimizer.kind=sgd",
        "optimizer.rate=0.5",
        "schedule.gamma=0.3",
        "schedule.first=0.1",
        "schedule.second=0.9",
        "weight_decay.strength=0.01",
    ]
    digests = {notebook.set(change).digest() for change in changes}
    assert len(digests | {notebook.digest()}) == len(changes) + 1


def test_the_rate_of_plain_sgd_counts_although_sgd_is_off() -> None:
    recipe = catalog.notebook_recipe().without("optimizer")
    assert recipe.digest() != recipe.with_technique(Optimizer(rate=0.05)).digest()


@given(st.permutations(catalog.notebook_recipe().techniques))
def test_the_order_of_techniques_does_not_matter(order: list[Technique]) -> None:
    notebook = catalog.notebook_recipe()
    shuffled = Recipe(techniques=tuple(order))
    assert shuffled == notebook
    assert shuffled.digest() == notebook.digest()


def test_setting_is_the_same_as_building() -> None:
    recipe = catalog.notebook_recipe()
    assert recipe.set("dropout.p=0.3") == recipe.with_technique(Dropout(p=0.3))
    assert recipe.set(" weight_decay = off ") == recipe.with_technique(WeightDecay())
    assert recipe.set("budget.train_images=1_000") == replace(recipe, budget=replace(recipe.budget, train_images=1000))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("dropout", "not of the form object.field=value"),
        ("dropout.p=", "not of the form"),
        ("drpout.p=0.1", "no object 'drpout'; did you mean dropout?"),
        ("dropout.q=0.1", "dropout has no field 'q'. Known: p."),
        ("dropout.p=many", "dropout.p must be a number, not 'many'"),
        ("dropout.p=1.5", "dropout.p must lie between 0 and 0.95, not at 1.5"),
        ("dropout.p=nan", "dropout.p must be a number, not nan"),
        ("dropout=onn", "dropout has no level 'onn'; did you mean on?"),
        ("optimizer.kind=adm", "optimizer.kind cannot be 'adm'; did you mean adam?"),
        ("augmentation.padding=1.5", "augmentation.padding must be a whole number, not '1.5'"),
        ("budget.epochs=0", "budget.epochs must be at least 1, not 0"),
        ("budget.precision=fp16", "budget.precision cannot be 'fp16'; did you mean bf16 or fp32?"),
        ("model.width=0", "model.width must lie in"),
    ],
)
def test_a_mistaken_setting_gets_one_helpful_sentence(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        catalog.notebook_recipe().set(setting)


def test_a_technique_is_known_without_a_recipe() -> None:
    """Recipes are made of techniques, and neither way back."""
    code = (
        "import sys, cifar_ablations.ablations.technique; sys.exit('cifar_ablations.ablations.recipe' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_technique_says_why_it_should_work() -> None:
    for name, technique in catalog.techniques().items():
        assert technique.reason.endswith("."), name
