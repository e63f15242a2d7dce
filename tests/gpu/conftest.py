"""What the GPU tests share. `-m gpu` runs them on a CUDA device; without it, those that can be run on the CPU are, so
that they are known to work where there is no GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.designs import switched_on
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.technique import overrides
from cifar_ablations.study.training.backend import KERNELS, TORCH
from cifar_ablations.study.training.engine import Epoch, Outcome, train
from cifar_ablations.study.training.fleet import Member

CUDA = torch.device("cuda")
OWN_NETWORKS = """
from torch import nn
from cifar_ablations.study.training.model import DropoutSite

def factory(width, classes):
    size = max(1, round(64 * width))
    first = [nn.Conv2d(3, size, 5, stride=2), nn.BatchNorm2d(size), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*first, nn.LayerNorm(4 * size), DropoutSite(4 * size), nn.Linear(4 * size, classes))

class Looks(nn.Module):
    def forward(self, x):
        assert x.abs().max().item() < float("inf")
        return x

def that_looks(width, classes):
    return nn.Sequential(*factory(width, classes), Looks())
"""


def backend_on(device: torch.device) -> str:
    """What computes there by default, as far as it needs no compiler."""
    return KERNELS if device.type == "cuda" else TORCH


Trained = Callable[[list[Member], torch.device], dict[Member, list[Epoch | Outcome]]]


@pytest.fixture(params=[pytest.param("cuda", marks=pytest.mark.gpu), "cpu"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """The GPU, and in a rehearsal the CPU."""
    return torch.device(request.param)


@pytest.fixture
def trained(tiny_data) -> Trained:
    """Trains members on a device; returns each one's epochs and, last, its outcome."""

    def run(members: list[Member], device: torch.device) -> dict[Member, list[Epoch | Outcome]]:
        reported: dict[Member, list[Epoch | Outcome]] = {member: [] for member in members}
        train(
            members,
            tiny_data,
            device,
            lambda event: reported[event.member].append(event),
            backend=backend_on(device),
        )
        return reported

    return run


@pytest.fixture
def own_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of networks that a user wrote."""
    (tmp_path / "own_networks.py").write_text(OWN_NETWORKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "own_networks"


@pytest.fixture(params=["notebook", "resnet9", "convnext", "own_networks:factory"])
def on_network(request: pytest.FixtureRequest, recipe: Recipe, own_networks: str) -> Recipe:
    """The recipe with each network: those that come with the suite, and one that a user wrote."""
    return recipe.set(f"model.name={request.param}")


@pytest.fixture
def arms(on_network: Recipe) -> list[Member]:
    """The arms of the techniques plan at two seeds: every technique on and off."""
    recipes = [on_network, *(on_network.without(t.name) for t in switched_on(on_network))]
    return [Member(r, seed) for seed in (0, 1) for r in recipes]


@pytest.fixture(params=["notebook", "resnet9", "normalised"])
def mixed(request: pytest.FixtureRequest, recipe: Recipe, device: torch.device) -> list[Member]:
    """Every level of every technique but those by which members would not share a fleet, over three seeds.

    On the CPU two such members: that all of them are right there is tested elsewhere.
    """
    levels = {
        name: list(cls.levels)
        for name, cls in catalog.techniques().items()
        if not overrides(cls.at("off"), "resize") and not overrides(cls.at("off"), "normalise")
    }
    members = []
    for i in range(max(map(len, levels.values()))):
        one = recipe.set("normalisation=on" if request.param == "normalised" else f"model.name={request.param}")
        for name, names in levels.items():
            one = one.with_technique(catalog.techniques()[name].at(names[i % len(names)]))
        members.append(Member(one, i % 3))
    return members if device.type == "cuda" else members[:2]
