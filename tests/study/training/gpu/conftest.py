"""The kernels for a GPU, run by Triton's interpreter where there is none, as the conftest of all tests has it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.training.fleet import Member

collect_ignore_glob = [] if importlib.util.find_spec("triton") else ["test_*.py"]  # torch for CPUs comes without it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Older interpreters of Triton make scalars of arrays in a way that NumPy advises against."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(
                pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0:DeprecationWarning")
            )


@pytest.fixture(autouse=True)
def masked_lanes_may_be_anything() -> Iterator[None]:
    """The interpreter computes with NumPy what no lane of a GPU would store."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture
def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def mixed(recipe: Recipe) -> list[Member]:
    """Members whose rules, masks and activation functions differ, those with adaptive rules first."""
    techniques = catalog.techniques()
    levels = [("optimizer", "on"), ("optimizer", "rmsprop"), ("optimizer", "momentum"), ("optimizer", "nesterov")]
    arms = [recipe.with_technique(techniques[name].at(level)) for name, level in levels]
    arms[1] = arms[1].set("dropout.p=0.3")
    arms[2] = arms[2].with_technique(techniques["gradient_clipping"].at("on")).without("dropout")
    arms.append(recipe.without("augmentation").without("optimizer"))
    return [Member(arm, 3) for arm in arms]
