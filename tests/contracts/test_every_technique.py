"""What every technique must satisfy; a new file in the folder is tested by being there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.technique import Technique
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.training import contracts
from cifar_ablations.study.training.contracts import Trainings

EVERY = pytest.mark.parametrize("cls", catalog.techniques().values(), ids=str)


@pytest.fixture(scope="module")
def trainings(recipe: Recipe, tiny_data: Dataset) -> Trainings:
    """Each recipe is trained once, and most techniques are off in most recipes."""
    return Trainings(recipe, tiny_data)


@pytest.mark.parametrize("check", contracts.TECHNIQUES, ids=lambda check: check.__name__)
@EVERY
def test_it_keeps_to_the_contract(
    cls: type[Technique], check: Callable[[type[Technique], Trainings], None], trainings: Trainings
) -> None:
    check(cls, trainings)


@EVERY
def test_its_source_says_where_the_notebook_speaks_of_it(cls: type[Technique]) -> None:
    assert "notebook" in cls.source
