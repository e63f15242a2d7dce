"""What computes the losses, gradients and logits of a fleet's members: torch, or kernels made for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from cifar_ablations.study.training.fleet import Fleet
from cifar_ablations.study.training.kernels.kernel_backend import KernelBackend
from cifar_ablations.study.training.optimizer import FleetOptimizer
from cifar_ablations.study.training.randomness import StepDraws

TORCH, KERNELS = "torch", "kernels"


class Backend(Protocol):
    """Looks at the members of one fleet, by row, on the images of a batch."""

    def gradients(self, row: int, images: Tensor, targets: Tensor) -> Tensor:
        """Write a member's gradients into its row of the fleet's; returns the mean of its losses, [].

        images: float32 [B, 3, H, W]; targets: class probabilities [B, classes]. Dropout's masks lie in the network.
        """

    def moved(self, row: int) -> None:
        """Note that a member's weights have changed within a step, before its gradients are asked for again."""

    def step(self, optimizer: FleetOptimizer, number: Tensor) -> Tensor:
        """Take step `number` (int64 [1], from 0) of all members; returns the norms of their gradients, [K]."""

    def begin(self, keys: Tensor, size: int) -> Callable[[int], StepDraws]:
        """Get ready for a step on batches of this size; returns the draws by slot.

        keys: int32 [slots, 2], the halves of the key of every slot.
        """

    def logits(self, row: int, images: Tensor) -> Tensor:
        """A member's logits, float32 [B, classes], its network in evaluation mode; called without gradients."""


class TorchBackend:
    """The reference, for every network, device and arithmetic."""

    def __init__(self, fleet: Fleet, device: torch.device):
        self._fleet, self._device = fleet, device

    def gradients(self, row: int, images: Tensor, targets: Tensor) -> Tensor:
        network, precision = self._fleet.networks[row], self._fleet.members[row].recipe.sized.budget.precision
        with autocast(precision, self._device):
            logits = network(images)
        loss: Tensor = F.cross_entropy(logits.float(), targets)
        gradients = torch.autograd.grad(loss, list(network.parameters()), materialize_grads=True)
        for view, gradient in zip(self._fleet.gradient_views[row], gradients, strict=True):
            view.copy_(gradient)
        return loss.detach()

    def moved(self, row: int) -> None:
        pass  # the network's parameters are the weights

    def step(self, optimizer: FleetOptimizer, number: Tensor) -> Tensor:
        norms: Tensor = torch.linalg.vector_norm(self._fleet.gradients, dim=1)
        optimizer.step(number, self._fleet.weights, self._fleet.gradients)
        return norms

    def begin(self, keys: Tensor, size: int) -> Callable[[int], StepDraws]:
        return lambda slot: StepDraws(keys[slot])

    def logits(self, row: int, images: Tensor) -> Tensor:
        with autocast(self._fleet.members[row].recipe.sized.budget.precision, self._device):
            logits: Tensor = self._fleet.networks[row](images).float()
        return logits


def backend_of(name: str, fleet: Fleet, device: torch.device) -> Backend:
    """The backend of that name for a fleet as it stands; to be made anew when members leave."""
    if name == KERNELS and device.type == "cuda":
        from cifar_ablations.study.training.gpu.gpu_backend import GpuBackend  # needs Triton, which only GPUs come with

        return GpuBackend(fleet, device)
    if name == KERNELS:
        return KernelBackend(fleet)
    return TorchBackend(fleet, device)


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The arithmetic of forward passes: convolutions and matrix products in bf16, or nothing special for fp32."""
    if precision == "bf16":
        # A cache of cast weights would outlive the step that a graph captures.
        return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
    return nullcontext()
