"""The seam between a step and what computes it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.training.backend import KERNELS, TORCH, TorchBackend, backend_of
from cifar_ablations.study.training.fleet import Fleet, Member
from cifar_ablations.study.training.kernels.kernel_backend import KernelBackend
from cifar_ablations.study.training.optimizer import FleetOptimizer
from cifar_ablations.study.training.randomness import StepDraws

CPU = torch.device("cpu")


def test_torchs_gradients_are_those_of_a_plain_backward_pass_and_only_of_the_member(recipe: Recipe) -> None:
    fleet = Fleet([Member(recipe, 0), Member(recipe, 1)], 10, CPU)
    fleet.train(True)
    images, targets = torch.randn(4, 3, 32, 32), torch.rand(4, 10).softmax(dim=1)
    loss = TorchBackend(fleet, CPU).gradients(1, images, targets)
    network = fleet.networks[1]
    expected = F.cross_entropy(network(images), targets)
    expected.backward()
    assert torch.equal(loss, expected.detach())
    for view, parameter in zip(fleet.gradient_views[1], network.parameters(), strict=True):
        assert torch.equal(view, parameter.grad)
    assert not fleet.gradients[0].any()


def test_the_name_says_which_one_it_is(recipe: Recipe, backend: str) -> None:
    fleet = Fleet([Member(recipe, 0)], 10, CPU)
    assert type(backend_of(backend, fleet, CPU)) is {TORCH: TorchBackend, KERNELS: KernelBackend}[backend]


def test_a_step_returns_the_norms_of_gradients_and_moves_the_weights(recipe: Recipe, backend: str) -> None:
    fleet = Fleet([Member(recipe, seed) for seed in (0, 1)], 10, CPU)
    rules = [member.recipe.update_rule() for member in fleet.members]
    optimizer = FleetOptimizer(fleet.weights, rules, torch.full((3, 2), 0.1, dtype=torch.float64))
    fleet.gradients.copy_(torch.randn(fleet.gradients.shape))
    before = fleet.weights.clone()
    norms = backend_of(backend, fleet, CPU).step(optimizer, torch.tensor([0]))
    torch.testing.assert_close(norms.double(), fleet.gradients.double().norm(dim=1), rtol=1e-5, atol=0)
    assert (fleet.weights != before).any(dim=1).all()


def test_draws_are_the_same_numbers_by_every_backend(recipe: Recipe, backend: str) -> None:
    fleet, key = Fleet([Member(recipe, 0)], 10, CPU), torch.tensor([5, 2**31 - 1], dtype=torch.int32)
    ours, reference = backend_of(backend, fleet, CPU).begin(key[None], 1)(0), StepDraws(key)
    assert torch.equal(ours.uniform((3, 5)), reference.uniform((3, 5)))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_logits_are_float32_whatever_computed_them(precision: str, recipe: Recipe) -> None:
    fleet = Fleet([Member(recipe.set(f"budget.precision={precision}"), 0)], 10, CPU)
    with torch.no_grad():
        assert TorchBackend(fleet, CPU).logits(0, torch.randn(2, 3, 32, 32)).dtype == torch.float32
