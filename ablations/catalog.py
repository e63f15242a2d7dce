"""Finds techniques, plans and searches by looking in their folders, and in extensions: adding a file adds one."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, lru_cache
from importlib import import_module
from types import ModuleType
from typing import Protocol, cast

import cifar_ablations.ablations.plans
import cifar_ablations.ablations.searches
from cifar_ablations.ablations import extensions
from cifar_ablations.ablations.discovery import techniques as techniques
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.ablations.plan import Plan, PlanRequest
from cifar_ablations.ablations.profiles import Profile
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import Value
from cifar_ablations.ablations.search import Rounds


class PlanModule(Protocol):
    """A file in `ablations/plans/`."""

    QUESTION: str

    def plan(self, asked: PlanRequest) -> Plan:
        """The file's plan, or that of the variant that is asked for."""


class SearchModule(Protocol):
    """A file in `ablations/searches/`."""

    QUESTION: str
    DEFAULT_TRIALS: int

    def search(self, baseline: Recipe, trials: int) -> Rounds:
        """The file's studies, round by round; trials: of each study."""


def plan_names() -> list[str]:
    """The names of all plans: a file's, or `file/variant` where a file makes a plan per variant.

    Raises AblateError for one of an extension that cannot be used, as `search_names` does.
    """
    return _plan_names(extensions.known())


@lru_cache(maxsize=8)
def _plan_names(among: tuple[extensions.Extension, ...]) -> list[str]:
    names = []
    for file in [*_own(extensions.PLANS), *extensions.of_kind(extensions.PLANS, _own(extensions.PLANS))]:
        name, module = _typed(file), _module(extensions.PLANS, file)
        names += [f"{name}/{variant}" for variant in module.variants()] if hasattr(module, "variants") else [name]
    return names


FOLDERS = {
    extensions.PLANS: cifar_ablations.ablations.plans,
    extensions.SEARCHES: cifar_ablations.ablations.searches,
}
NEEDS = {extensions.PLANS: ("QUESTION", "plan"), extensions.SEARCHES: ("QUESTION", "DEFAULT_TRIALS", "search")}
"""What a file must define."""


@cache
def _own(kind: str) -> tuple[str, ...]:
    """The suite's own files of a kind."""
    return tuple(info.name for info in pkgutil.iter_modules(FOLDERS[kind].__path__))


def _typed(file: str) -> str:
    """What a plan or search is called that a file defines."""
    return file.replace("_", "-")


def _module(kind: str, file: str) -> ModuleType:
    """A file of the suite's or of an extension's."""
    extension = extensions.of_kind(kind, _own(kind)).get(file)
    if extension is None:
        return import_module(f"{FOLDERS[kind].__name__}.{file}")
    module = extension.module(kind, file)
    extensions.asked_of(module, NEEDS[kind])
    return module


def origin(kind: str, name: str) -> str:
    """Where what is listed under a name comes from, in words; "" for the suite."""
    extension = extensions.of_kind(kind).get(name.partition("/")[0].replace("-", "_"))
    return extension.origin if extension else ""


def plan_of_search(name: str) -> str:
    """The plan that takes what a search finds, a rate for each arm; "" where it finds a recipe. Raises AblateError, and
    names what is near, for an unknown name."""
    return str(getattr(search_module(name), "OF_PLAN", ""))


def notebook_recipe() -> Recipe:
    """The recipe of the notebook: every known technique at the level it uses there.

    Examples:
        >>> recipe = notebook_recipe()
        >>> [technique.setting_title for technique in recipe.techniques if not technique.is_off]
        ['augmentation', 'dropout', 'Kaiming initialisation', 'Adam', 'the learning-rate schedule', 'weight decay']
    """
    return Recipe(techniques=tuple(cls.at(cls.notebook) for cls in techniques().values()))


def make_plan(
    name: str,
    baseline: Recipe,
    profile: Profile,
    seeds: tuple[int, ...],
    retuned: Mapping[str, Mapping[str, Value]] | None = None,
    best_rates: Mapping[str, float] | None = None,
) -> Plan:
    """The plan of that name around a baseline. Raises AblateError, with what is near, for an unknown name.

    retuned: by technique, what a search found should be set where the baseline is to do without it; best_rates: by arm
    of the plan `techniques`, the learning rate that a search found best.
    """
    variant = name.partition("/")[2]
    asked = PlanRequest(baseline, profile, seeds, variant, retuned or {}, best_rates or {})
    return without_unused(plan_module(name).plan(asked))


def without_unused(plan: Plan) -> Plan:
    """The plan without those techniques of extensions that no arm has switched on.

    So a plan stays the same, its digest with it, whatever extensions there are that it does not use.
    """
    used = {t.name for arm in plan.arms for t in arm.recipe.techniques if not t.is_off}
    unused = {
        t.name
        for arm in plan.arms
        for t in arm.recipe.techniques
        if t.name not in used and extensions.is_extensions(type(t))
    }
    if not unused:
        return plan
    arms = []
    for arm in plan.arms:
        left = tuple(t for t in arm.recipe.techniques if t.name not in unused)
        arms.append(replace(arm, recipe=replace(arm.recipe, techniques=left)))
    return replace(plan, arms=tuple(arms))


def plan_module(name: str) -> PlanModule:
    """The file that defines a plan. Raises AblateError, with what is near, for an unknown name."""
    if name not in plan_names():
        raise AblateError(f"no plan {name!r}{did_you_mean(name, plan_names())}")
    return cast(PlanModule, _module(extensions.PLANS, name.partition("/")[0].replace("-", "_")))


def search_names() -> list[str]:
    """The names of all searches."""
    own = _own(extensions.SEARCHES)
    return [_typed(file) for file in (*own, *extensions.of_kind(extensions.SEARCHES, own))]


def search_module(name: str) -> SearchModule:
    """The file that defines a search. Raises AblateError, with what is near, for an unknown name."""
    if name not in search_names():
        raise AblateError(f"no search {name!r}{did_you_mean(name, search_names())}")
    return cast(SearchModule, _module(extensions.SEARCHES, name.replace("-", "_")))
