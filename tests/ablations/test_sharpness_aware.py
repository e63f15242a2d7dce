"""Sharpness-aware minimisation against a loop in plain PyTorch, alone and beside others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.techniques.sharpness_aware import SharpnessAware, climb
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.training.backend import KERNELS, TORCH, TorchBackend
from cifar_ablations.study.training.fleet import Member, initialised
from cifar_ablations.study.training.kernels import build
from cifar_ablations.study.training.lockstep import Training
from cifar_ablations.study.training.randomness import permutation
from cifar_ablations.study.training.step import normalize

CPU = torch.device("cpu")
LEVELS = ("on", "adaptive")


def _trained(members: Sequence[Member], data: Dataset, backend: str = TORCH) -> Training:
    training = Training(members, data, CPU, backend=backend)
    while training.epoch < training.budget.epochs:
        training.run_epoch()
    return training


def _state(training: Training, member: Member) -> dict[str, Tensor]:
    return training.fleet.networks[training.fleet.members.index(member)].state_dict()


def _plain(recipe: Recipe, network: str, level: str) -> Recipe:
    """Plain SGD with weight decay on so few images that the papers' loop is written in a few lines."""
    bare = replace(recipe, techniques=(SharpnessAware.at(level),)).set(f"model.name={network}")
    for name, on in (("optimizer", "momentum"), ("weight_decay", "on")):
        bare = bare.with_technique(catalog.techniques()[name].at(on))
    return bare.set("optimizer.rate=0.02").set("weight_decay.strength=0.01").set("budget.batch_size=40")


def _no_statistics(network: nn.Module, momentum: float) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = momentum


def _reference(member: Member, data: Dataset, adaptive: bool) -> nn.Module:
    """Foret et al.'s algorithm 1 with torch's SGD, each tensor for itself; statistics are of the first pass."""
    network, budget, rho = initialised(member, 10), member.recipe.budget, 0.5 if adaptive else 0.05
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    images, labels = normalize(data.train_images, mean, std), data.train_labels
    chosen = permutation(len(labels), member.seed, "split")[: budget.train_images]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9, weight_decay=0.01)
    for epoch in range(budget.epochs):
        for batch in chosen[permutation(len(chosen), member.seed, "order", epoch)].split(budget.batch_size):
            optimizer.zero_grad()
            F.cross_entropy(network(images[batch]), labels[batch]).backward()
            sizes = [p.detach().abs() + 0.01 if adaptive else torch.ones_like(p) for p in network.parameters()]
            norm = sum((t * p.grad).square().sum() for t, p in zip(sizes, network.parameters(), strict=True)).sqrt()
            old = [p.detach().clone() for p in network.parameters()]
            for size, p in zip(sizes, network.parameters(), strict=True):
                p.data += rho * size**2 * p.grad / norm
            optimizer.zero_grad()
            _no_statistics(network, 0.0)
            F.cross_entropy(network(images[batch]), labels[batch]).backward()
            _no_statistics(network, 0.1)
            for p, value in zip(network.parameters(), old, strict=True):
                p.data.copy_(value)
            optimizer.step()
    return network


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("network", ["notebook", "resnet9"])
def test_it_is_the_papers_loop(network: str, level: str, recipe: Recipe, tiny_data: Dataset) -> None:
    member = Member(_plain(recipe, network, level), 3)
    expected = _reference(member, tiny_data, adaptive=level == "adaptive").state_dict()
    found = _state(_trained([member], tiny_data), member)
    start = initialised(member, 10).state_dict()
    without = Member(_plain(recipe, network, "off"), 3)
    other = _state(_trained([without], tiny_data), without)
    for name, values in expected.items():
        if values.dtype != torch.float32:
            continue
        moved = torch.linalg.vector_norm(values - start[name])
        assert torch.linalg.vector_norm(found[name] - values) <= 1e-3 * moved + 1e-6, name
    apart = [
        float(torch.linalg.vector_norm(other[name] - values)) for name, values in expected.items() if values.ndim > 1
    ]
    assert min(apart) > 1e-4, "it is another training than without it"


@pytest.mark.parametrize("adaptive", [False, True])
def test_it_climbs_as_far_as_rho(adaptive: bool) -> None:
    weights, gradients = torch.randn(2, 1_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    way = climb(weights, gradients, 0.3, adaptive=adaptive)
    relative = way / (weights.abs() + 0.01) if adaptive else way
    assert float(torch.linalg.vector_norm(relative)) == pytest.approx(0.3)
    assert float(way @ gradients) > 0
    assert not climb(weights, torch.zeros(1_000, dtype=torch.float64), 0.3, adaptive=adaptive).any()


@pytest.mark.slow
@pytest.mark.parametrize("backend", [TORCH, KERNELS])
def test_beside_others_everybody_trains_as_alone(backend: str, recipe: Recipe, tiny_data: Dataset) -> None:
    """With dropout and augmentation, bit for bit; the others have one pass a step."""
    if backend == KERNELS:
        try:
            build.library()
        except build.UnavailableError as reason:
            pytest.skip(str(reason))
    members = [Member(recipe.set(f"sharpness_aware={level}"), seed) for seed, level in enumerate(("off", *LEVELS))]
    together = _trained(members, tiny_data, backend)
    for member in members:
        alone = _state(_trained([member], tiny_data, backend), member)
        assert all(torch.equal(values, alone[name]) for name, values in _state(together, member).items())


def test_both_passes_drop_the_same_units_and_others_have_one(
    recipe: Recipe, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, Tensor, Tensor]] = []
    gradients = TorchBackend.gradients

    def look(self: TorchBackend, row: int, images: Tensor, targets: Tensor) -> Tensor:
        mask = self._fleet.networks[row].dropout.mask
        seen.append((row, images, mask))
        return gradients(self, row, images, targets)

    monkeypatch.setattr(TorchBackend, "gradients", look)
    one = recipe.set("budget.epochs=1").set("budget.batch_size=80")
    _trained([Member(one, 0), Member(one.set("sharpness_aware=on"), 0)], tiny_data)
    assert [row for row, _, _ in seen] == [0, 1, 1]
    assert torch.equal(seen[1][1], seen[2][1])
    assert torch.equal(seen[1][2], seen[2][2])
