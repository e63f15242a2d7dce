"""A fleet's losses and gradients on a GPU: matrix products by torch, what lies between them by the kernels here."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cifar_ablations.study.training.backend import TorchBackend, autocast
from cifar_ablations.study.training.fleet import Fleet
from cifar_ablations.study.training.gpu.blocks import block
from cifar_ablations.study.training.gpu.fleet_draws import FleetDraws
from cifar_ablations.study.training.gpu.gather import Gather
from cifar_ablations.study.training.gpu.loss import cross_entropy
from cifar_ablations.study.training.gpu.update import FleetUpdate
from cifar_ablations.study.training.model import NotebookNetwork
from cifar_ablations.study.training.optimizer import FleetOptimizer
from cifar_ablations.study.training.randomness import StepDraws

CAST = {nn.Conv2d: ("weight",), nn.Linear: ("weight", "bias")}
"""The parameters that autocast hands to matrix products in half precision. A convolution's bias may be added later."""


class GpuBackend(TorchBackend):
    """For every network and arithmetic; made anew whenever members leave."""

    def __init__(self, fleet: Fleet, device: torch.device):
        super().__init__(fleet, device)
        self._draws = FleetDraws()
        self._update: FleetUpdate | None = None
        self._gather = Gather(fleet.places, device)
        for network in fleet.networks:
            if isinstance(network, NotebookNetwork):
                network.block = block
        halved = fleet.members[0].recipe.sized.budget.precision == "bf16"
        self._half = torch.zeros_like(fleet.weights, dtype=torch.bfloat16) if halved else None
        self._parameters = [self._parameters_of(row) for row in range(len(fleet.members))]

    def _parameters_of(self, row: int) -> dict[str, Tensor]:
        """What a member's gradients are taken by: its parameters, or views into the matrix in half precision."""
        network = self._fleet.networks[row]
        named: dict[str, Tensor] = dict(network.named_parameters())
        if self._half is None:
            return named
        for prefix, module in network.named_modules():
            for leaf in CAST.get(type(module), ()):
                name = f"{prefix}.{leaf}" if prefix else leaf
                if name in named:
                    named[name] = self._fleet.view(self._half, row, name, named[name].shape).detach().requires_grad_()
        return named

    def begin(self, keys: Tensor, size: int) -> Callable[[int], StepDraws]:
        if self._half is not None:
            self._half.copy_(self._fleet.weights)
        return self._draws.begin(keys, size)

    def gradients(self, row: int, images: Tensor, targets: Tensor) -> Tensor:
        network, parameters = self._fleet.networks[row], self._parameters[row]
        with autocast(self._fleet.members[row].recipe.sized.budget.precision, self._device):
            logits: Tensor = functional_call(network, parameters, (images,))
        loss, slope = cross_entropy(logits.detach(), targets)
        gradients = torch.autograd.grad(logits, list(parameters.values()), slope, materialize_grads=True)
        self._gather.copy(gradients, self._fleet.gradients[row])
        return loss

    def moved(self, row: int) -> None:
        if self._half is not None:
            self._half[row].copy_(self._fleet.weights[row])

    def step(self, optimizer: FleetOptimizer, number: Tensor) -> Tensor:
        norms: Tensor = torch.linalg.vector_norm(self._fleet.gradients, dim=1)
        if self._update is None or self._update.optimizer is not optimizer:
            self._update = FleetUpdate(optimizer)
        with optimizer.orthogonalising(number, self._fleet.weights, self._fleet.gradients):
            self._update.step(number, self._fleet.weights, self._fleet.gradients, norms)
        return norms
