"""Finds techniques, plans and searches by looking in their folders: adding a file adds one."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

import cifar_ablations.ablations.plans
import cifar_ablations.ablations.searches
import cifar_ablations.ablations.techniques
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.ablations.plan import Plan
from cifar_ablations.ablations.profiles import Profile
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.technique import Technique


@cache
def techniques() -> dict[str, type[Technique]]:
    """Every technique by name, in alphabetical order."""
    found = {}
    for module_info in pkgutil.iter_modules(cifar_ablations.ablations.techniques.__path__):
        module = import_module(f"cifar_ablations.ablations.techniques.{module_info.name}")
        classes = [
            c
            for _, c in inspect.getmembers(module, inspect.isclass)
            if issubclass(c, Technique) and c.__module__ == module.__name__
        ]
        assert len(classes) == 1, f"{module.__name__} must define one technique, not {len(classes)}"
        assert classes[0].name == module_info.name, f"{module.__name__} must be named after its technique"
        found[module_info.name] = classes[0]
    return found


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
    retuned: Mapping[str, Mapping[str, Any]] | None = None,
) -> Plan:
    """The plan of that name around a baseline. Raises AblateError, with what is near, for an unknown name.

    retuned: what a search found for the baseline without one of its techniques, for the plans that ask for it.
    """
    module, variant = plan_module(name), name.partition("/")[2]
    if "retuned" in inspect.signature(module.plan).parameters:
        return module.plan(baseline, profile, seeds, retuned or {})
    if variant:
        return module.plan(baseline, profile, seeds, variant)
    return module.plan(baseline, profile, seeds)


def plan_module(name: str):
    """The file that defines a plan. Raises AblateError, with what is near, for an unknown name."""
    if name not in plan_names():
        raise AblateError(f"no plan {name!r}{did_you_mean(name, plan_names())}")
    return import_module(f"cifar_ablations.ablations.plans.{name.partition('/')[0].replace('-', '_')}")


@cache
def search_names() -> list[str]:
    """The names of all searches."""
    return [info.name.replace("_", "-") for info in pkgutil.iter_modules(cifar_ablations.ablations.searches.__path__)]


def search_module(name: str):
    """The file that defines a search. Raises AblateError, with what is near, for an unknown name."""
    if name not in search_names():
        raise AblateError(f"no search {name!r}{did_you_mean(name, search_names())}")
    return import_module(f"cifar_ablations.ablations.searches.{name.replace('-', '_')}")
