"""Finds techniques, plans and searches by looking in their folders: adding a file adds one."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Protocol, cast

import cifar_ablations.ablations.plans
import cifar_ablations.ablations.searches
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


@cache
def plan_names() -> list[str]:
    """The names of all plans: a file's, or `file/variant` where a file makes a plan per variant."""
    names = []
    for info in pkgutil.iter_modules(cifar_ablations.ablations.plans.__path__):
        name, module = info.name.replace("_", "-"), import_module(f"cifar_ablations.ablations.plans.{info.name}")
        names += [f"{name}/{variant}" for variant in module.variants()] if hasattr(module, "variants") else [name]
    return names


def notebook_recipe() -> Recipe:
    """The recipe of the notebook: every known technique at the level it uses there."""
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
    return plan_module(name).plan(PlanRequest(baseline, profile, seeds, variant, retuned or {}, best_rates or {}))


def plan_module(name: str) -> PlanModule:
    """The file that defines a plan. Raises AblateError, with what is near, for an unknown name."""
    if name not in plan_names():
        raise AblateError(f"no plan {name!r}{did_you_mean(name, plan_names())}")
    module = import_module(f"cifar_ablations.ablations.plans.{name.partition('/')[0].replace('-', '_')}")
    return cast(PlanModule, module)


@cache
def search_names() -> list[str]:
    """The names of all searches."""
    return [info.name.replace("_", "-") for info in pkgutil.iter_modules(cifar_ablations.ablations.searches.__path__)]


def search_module(name: str) -> SearchModule:
    """The file that defines a search. Raises AblateError, with what is near, for an unknown name."""
    if name not in search_names():
        raise AblateError(f"no search {name!r}{did_you_mean(name, search_names())}")
    return cast(SearchModule, import_module(f"cifar_ablations.ablations.searches.{name.replace('-', '_')}"))
