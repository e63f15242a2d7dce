"""Designs against sets and powers of two."""

from __future__ import annotations

from itertools import chain, combinations

import pytest

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.designs import BARE, FULL, MOST_FACTORS, bare, combination, factorial, switched_on
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.recipe import Recipe


def _having(count: int) -> Recipe:
    """The notebook's recipe with so many techniques switched on."""
    recipe = bare(catalog.notebook_recipe())
    can = [cls for cls in catalog.techniques().values() if "on" in cls.levels]
    for cls in can[:count]:
        recipe = recipe.with_technique(cls.at("on"))
    return recipe


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_factorial_is_every_subset_of_the_techniques_once(count: int) -> None:
    recipe = _having(count)
    names = [t.name for t in switched_on(recipe)]
    arms = factorial(recipe)
    subsets = chain.from_iterable(combinations(names, size) for size in range(count + 1))
    found = [frozenset(t.name for t in switched_on(arm.recipe)) for arm in arms]
    assert len(names) == count
    assert set(found) == set(map(frozenset, subsets))
    assert len(found) == len({arm.name for arm in arms}) == 2**count


def test_a_factorial_of_too_many_techniques_is_refused() -> None:
    with pytest.raises(AblateError, match=f"{MOST_FACTORS + 1} techniques has 512 arms"):
        factorial(_having(MOST_FACTORS + 1))


def test_all_and_nothing_have_names_of_their_own() -> None:
    recipe = _having(3)
    names = [t.name for t in switched_on(recipe)]
    assert combination(recipe, names).name == FULL
    assert combination(recipe, names).recipe == recipe
    assert combination(recipe, []).name == BARE
    assert switched_on(combination(recipe, []).recipe) == []
