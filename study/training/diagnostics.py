"""Looks into networks in training: variances by depth, gradients and weights by layer, mistakes by class.

Cheap enough to be always on: a forward and backward pass of a few images at the start and the end, norms once an epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_ablations.study.training.fleet import Fleet

PROBE_IMAGES = 64
"""Training images, unaugmented, on which activations and gradients are looked at."""

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.GELU)


def probe(network: nn.Module, images: Tensor, targets: Tensor) -> dict[str, np.ndarray]:
    """Statistics of one forward and backward pass through a network in evaluation mode, which stays as it is.

    images: normalised [B, 3, H, W]; targets: int64 [B]. Per activation function, in the order in which they act:
    `variance` of its input, `mean` of its output, `dead`, the share of its units (channels) that are at or below zero
    for every image. Per weight tensor: `gradient`, the root mean square of its elements' gradients.
    """
    variances, means, dead = [], [], []

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        before, after = inputs[0].detach().float(), output.detach().float()
        variances.append(before.var())
        means.append(after.mean())
        dead.append((after.transpose(0, 1).flatten(1).amax(dim=1) <= 0).float().mean())

    hooks = [m.register_forward_hook(look) for m in network.modules() if isinstance(m, ACTIVATIONS)]
    try:
        loss = F.cross_entropy(network(images).float(), targets)
    finally:
        for hook in hooks:
            hook.remove()
    weights = [p for p in network.parameters() if p.ndim > 1]
    gradients = torch.autograd.grad(loss, weights, materialize_grads=True)
    sizes = torch.stack([g.float().square().mean().sqrt() for g in gradients])
    parts = [torch.stack(values) if values else sizes[:0] for values in (variances, means, dead)]
    lengths = [len(part) for part in parts]
    flat = torch.cat([*parts, sizes]).cpu().numpy()
    variance, mean, share, gradient = np.split(flat, np.cumsum(lengths))
    return {"variance": variance, "mean": mean, "dead": share, "gradient": gradient}


def layer_names(fleet: Fleet) -> list[str]:
    """The weight tensors (not biases and the like), in the network's order."""
    return [name for name, p in fleet.networks[0].named_parameters() if p.ndim > 1]


def by_layer(fleet: Fleet, before: Tensor) -> Tensor:
    """float32 [3, K, layers]: norms of gradients, of weights, and of the last update relative to the weights.

    before: the weights [K, P] as they were before the fleet's last step.
    """
    moved = fleet.weights - before
    rows = []
    for name in layer_names(fleet):
        gradient, weight, update = (
            torch.linalg.vector_norm(fleet.part(matrix, name), dim=1)
            for matrix in (fleet.gradients, fleet.weights, moved)
        )
        rows.append(torch.stack([gradient, weight, update / weight]))
    return torch.stack(rows, dim=2)


def confusion(log_probabilities: Tensor, targets: Tensor) -> np.ndarray:
    """How many images of each class were taken for which, int64 [classes, classes], truth by row.

    log_probabilities: [N, classes]; targets: int64 [N].
    """
    classes = log_probabilities.shape[1]
    predicted = log_probabilities.exp().max(dim=1).indices
    counts: np.ndarray = torch.bincount(targets * classes + predicted, minlength=classes**2).cpu().numpy()
    return counts.reshape(classes, classes)


def as_arrays(
    names: Sequence[str], epochs: Sequence[Sequence[Sequence[float]]], initial: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The arrays that a run's details begin with: `layers`, `by_layer` and `initial/…` of `schema.DETAILS_FILE`.

    names: of the weight tensors; epochs: per epoch three rows of a number per weight tensor, as `by_layer` has them;
    initial: what `probe` gave of the untrained network.
    """
    found = {f"initial/{name}": values for name, values in initial.items()}
    return found | {"layers": np.array(names), "by_layer": np.array(epochs, dtype=np.float32)}
