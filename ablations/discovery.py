"""Finds techniques by looking in their folder, and in extensions: adding a file adds one. Beneath searches, which look
up their knobs.
"""

from __future__ import annotations

import inspect
import pkgutil
from dataclasses import is_dataclass
from functools import cache, lru_cache
from importlib import import_module
from types import ModuleType

import cifar_ablations.ablations.techniques
from cifar_ablations.ablations import extensions
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.record import Value
from cifar_ablations.ablations.technique import Technique


def techniques() -> dict[str, type[Technique]]:
    """Every technique by name, in alphabetical order.

    Raises AblateError for one of an extension that cannot be used.
    """
    return _techniques(extensions.known())


@lru_cache(maxsize=8)
def _techniques(among: tuple[extensions.Extension, ...]) -> dict[str, type[Technique]]:
    return {name: _technique(name) for name in sorted([*_own(), *_of_extensions()])}


@cache
def _own() -> tuple[str, ...]:
    """The names of the suite's own."""
    return tuple(info.name for info in pkgutil.iter_modules(cifar_ablations.ablations.techniques.__path__))


def _of_extensions() -> dict[str, extensions.Extension]:
    return extensions.of_kind(extensions.TECHNIQUES, (*_own(), *NOT_TECHNIQUES))


NOT_TECHNIQUES = ("model", "budget")
"""What a setting may name beside techniques."""


def _technique(name: str) -> type[Technique]:
    """The technique that a file of the folder, or of an extension, defines."""
    if extension := _of_extensions().get(name):
        return _checked(extension.module(extensions.TECHNIQUES, name), name)
    module = import_module(f"cifar_ablations.ablations.techniques.{name}")
    classes = _defined_in(module)
    assert len(classes) == 1, f"{module.__name__} must define one technique, not {len(classes)}"
    found = classes[0]
    assert found.name == name, f"{module.__name__} must be named after its technique"
    return found


def _defined_in(module: ModuleType) -> list[type[Technique]]:
    return [
        c
        for _, c in inspect.getmembers(module, inspect.isclass)
        if issubclass(c, Technique) and c.__module__ == module.__name__
    ]


def _checked(module: ModuleType, name: str) -> type[Technique]:
    """The technique that a file of an extension defines. Raises AblateError where it is not laid out as one."""
    file, classes = module.__file__, _defined_in(module)
    if len(classes) != 1:
        raise AblateError(f"{file} must define one class derived from Technique, not {len(classes)}")
    (found,) = classes
    if missing := [one for one in ("name", "title", "source", "levels") if not hasattr(found, one)]:
        raise AblateError(f"{file}: {found.__name__} says no {', '.join(missing)}")
    if found.name != name:
        raise AblateError(
            f"{file}: its technique is called {found.name!r}, and must be called as the file is, {name!r}"
        )
    if not is_dataclass(found) or not found.__dataclass_params__.frozen:
        raise AblateError(f"{file}: {found.__name__} must be a frozen dataclass, @dataclass(frozen=True)")
    if "off" not in found.levels:
        raise AblateError(f"{file}: {found.__name__}.levels needs 'off', at which it does nothing")
    if found.notebook != "off":
        raise AblateError(
            f"{file}: {found.__name__}.notebook must be 'off', for the notebook's recipe has no such thing"
        )
    try:
        for level in found.levels:
            found.at(level)
    except (TypeError, KeyError, AblateError) as error:
        raise AblateError(f"{file}: {found.__name__} at {level!r}: {error}") from error
    return found


def setting_title(technique: str, knobs: tuple[tuple[str, Value], ...]) -> str:
    """What a technique is called as its knobs set it; empty where it is not known with these knobs at these values.

    Nothing but the technique's own file is imported, which may still bring torch.
    """
    return _setting_title(technique, knobs, extensions.known())


@lru_cache(maxsize=4096)
def _setting_title(
    technique: str, knobs: tuple[tuple[str, Value], ...], among: tuple[extensions.Extension, ...]
) -> str:
    if technique not in (*_own(), *_of_extensions()):
        return ""
    try:
        return _technique(technique)(**dict(knobs)).setting_title
    except (TypeError, AblateError):  # of another version
        return ""
