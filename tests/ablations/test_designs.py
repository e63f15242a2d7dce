"""Designs against sets and powers of two."""

from __future__ import annotations

from itertools import chain, combinations

import pytest

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.designs import (
    AT_BEST,
    BARE,
    FULL,
    MOST_FACTORS,
    RATE,
    at_best_rates,
    bare,
    by_recipe,
    combination,
    factorial,
    one_at_a_time,
    switched_on,
)
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.ablations.recipe import Recipe


def _having(count: int) -> Recipe:
    """The notebook's recipe with so many techniques switched on."""
    recipe = bare(catalog.notebook_recipe())
    can = [cls for cls in catalog.techniques().values() if "on" in cls.levels and not cls.measuring]
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


def test_an_arm_whose_best_rate_is_its_own_stands_for_both() -> None:
    arms = one_at_a_time(_having(3).set("optimizer=on"))
    own = {arm.name: arm.recipe.update_rule().rate for arm in arms}
    assert at_best_rates(arms, own) == {arm.name: arm for arm in arms}
    best = at_best_rates(arms, {**own, FULL: 0.0042})
    assert best[FULL].name == f"{FULL}{AT_BEST}"
    assert best[FULL].recipe == arms[0].recipe.set("optimizer.rate=0.0042")
    assert [best[arm.name] for arm in arms[1:]] == arms[1:]


def test_arms_of_one_recipe_share_a_rate_and_those_that_become_one_share_a_name() -> None:
    alone = bare(catalog.notebook_recipe()).set("dropout=on")
    arms = one_at_a_time(alone)  # the full recipe is the one with dropout only
    assert list(by_recipe(arms).values()) == [FULL, "without dropout"]
    best = at_best_rates(arms, {FULL: 0.02, "without dropout": 0.03})
    assert best[FULL] == best["only dropout"]
    assert best[BARE] == best["without dropout"]
    slower = bare(catalog.notebook_recipe()).set("optimizer.rate=0.003")  # what is left without it is plain SGD too
    arms = one_at_a_time(slower)
    best = at_best_rates(arms, dict.fromkeys(by_recipe(arms).values(), 0.05))
    assert len({arm.name for arm in best.values()}) == 1
    best = at_best_rates(arms, dict.fromkeys(by_recipe(arms).values(), 0.1))
    assert {arm.name for arm in best.values()} == {"without plain SGD (rate 0.003)"}


def test_every_best_rate_is_the_knob_of_its_recipe() -> None:
    arms = one_at_a_time(catalog.notebook_recipe())
    rates = {name: 0.01 + 0.001 * i for i, name in enumerate(by_recipe(arms).values())}
    best = at_best_rates(arms, rates)
    assert {name: arm.recipe.knobs()[RATE] for name, arm in best.items()} == rates
    assert len({arm.name for arm in best.values()}) == len(arms) == 14


@pytest.mark.parametrize("name", ["techniques", "pairwise", "factorial", "ladder", "data-size", "tuned"])
def test_what_only_measures_is_in_every_arm_and_in_no_claim(name: str) -> None:
    size = PROFILES["quick"]
    plain = size.apply(catalog.notebook_recipe()).set("dropout.p=0.3")
    plans = [catalog.make_plan(name, one, size, (0, 1)) for one in (plain, plain.set("mirrored_testing=on"))]
    without, with_it = ([arm.recipe.set("mirrored_testing=on") for arm in plan.arms] for plan in plans)
    assert without == with_it == [arm.recipe for arm in plans[1].arms]
    assert plans[0].claims == plans[1].claims
    levels = catalog.make_plan("levels/mirrored_testing", plain, size, (0, 1))
    assert {claim.technique for claim in levels.claims} == {"mirrored_testing"}
