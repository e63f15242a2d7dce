"""The recipe that plans and searches start from: the notebook's, or an adopted one, at a profile's size."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from cifar_ablations.ablations import catalog, extensions
from cifar_ablations.ablations.adopted import Adopted, find, read
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import brief
from cifar_ablations.ablations.profiles import Profile
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.execution.backends import AUTO, with_precision
from cifar_ablations.study.store.home import Home


def adopted_recipe(home: Home, name: str | None) -> Adopted | None:
    """The adopted recipe of that name or file; None for no name. Raises AblateError if there is none."""
    return None if name is None else read(find(name, home.recipes))


def baseline_recipe(
    size: Profile, adopted: Adopted | None, settings: Sequence[str], device: torch.device, backend: str = AUTO
) -> Recipe:
    """The notebook's recipe or the adopted one, with settings applied, and an arithmetic that suits device and backend.

    Raises AblateError for a setting that cannot be.
    """
    recipe = size.apply(catalog.notebook_recipe())
    if adopted is not None:
        recipe = adopted.applied(recipe)
    for setting in settings:
        try:
            recipe = recipe.set(setting)
        except AblateError as error:
            raise AblateError(f"--set {brief(setting)}: {error}") from None
    return with_precision(recipe, device, backend)


@contextmanager
def settings_named() -> Iterator[None]:
    """Adds to an AblateError about a recipe, raised within, which option changes its settings."""
    try:
        yield
    except AblateError as error:
        named = "; --extensions FOLDER names an extension" if extensions.HOW in str(error) else ""
        raise AblateError(f"{str(error).removesuffix('.')} (--set changes a setting{named})") from error


def overrides_of(adopted: Adopted | None, settings: Sequence[str]) -> tuple[str, ...]:
    """What was changed of the notebook's recipe, as the report names it: an adopted recipe by name and content."""
    if adopted is None:
        return tuple(settings)
    content = repr((sorted(adopted.record.techniques.items()), sorted(adopted.record.retuned.items())))
    return (f"baseline={adopted.name} ({hashlib.sha256(content.encode()).hexdigest()[:6]})", *settings)
