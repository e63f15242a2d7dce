"""Why a training goes as it does: variances by depth, gradients and weights by layer, mistakes by class.

Cheap enough to be always on: a forward and backward pass of a few images at the start and the end, norms once an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_ablations.ablations import schema
from cifar_ablations.study.training.fleet import Fleet

PROBE_IMAGES = 64
"""Training images, unaugmented, on which activations and gradients are looked at."""

BINS = 15
"""Of confidence, for the calibration error: Guo et al. 2017 use as many."""

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


def of_probe(found: Mapping[str, np.ndarray], prefix: str) -> dict[str, float]:
    """Metrics from what `probe` gave, named by a prefix: `initial/` or `final/`.

    Those of activation functions are left out for a network without any, and what is not finite is.

    The variance's ratio is that of the last activation function's input to the first one's, the gradient's that of the
    first weights to the last ones', both as powers of ten: 0 is even, negative is vanishing along the way.
    """
    metrics = {}
    ratio = _log_ratio(found["variance"][-1:], found["variance"][:1])
    if math.isfinite(ratio):
        metrics[prefix + schema.VARIANCE_RATIO] = ratio
        metrics[prefix + schema.VARIANCE_DRIFT] = abs(ratio)
    ratio = _log_ratio(found["gradient"][:1], found["gradient"][-1:])
    if math.isfinite(ratio):
        metrics[prefix + schema.GRADIENT_RATIO] = ratio
    if len(found["dead"]) and np.isfinite(found["dead"]).all():
        metrics[prefix + schema.DEAD_UNITS] = float(found["dead"].mean())
    return metrics


def _log_ratio(upper: np.ndarray, lower: np.ndarray) -> float:
    if not len(upper) or not (upper[0] > 0 and lower[0] > 0):
        return math.nan
    return math.log10(float(upper[0])) - math.log10(float(lower[0]))


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


def of_predictions(logits: Tensor, targets: Tensor) -> tuple[dict[str, float], np.ndarray]:
    """Entropy and calibration error of predictions, and their confusion matrix, int64 [classes, classes], truth by row.

    logits: [N, classes]; targets: int64 [N]. The entropy of the predictions is in nats; the expected calibration error
    (Guo et al. 2017) is the mean distance of confidence and accuracy over equally wide bins of confidence, weighted by
    the predictions in each.
    """
    classes = logits.shape[1]
    log_probabilities = F.log_softmax(logits.double(), dim=1)
    entropy = -(log_probabilities.exp() * log_probabilities).sum(dim=1).mean()
    confidence, predicted = log_probabilities.exp().max(dim=1)
    correct = (predicted == targets).double()
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    zeros = torch.zeros(BINS, dtype=torch.float64, device=logits.device)
    error = (zeros.index_add(0, bins, confidence) - zeros.index_add(0, bins, correct)).abs().sum() / len(targets)
    confusion = torch.bincount(targets * classes + predicted, minlength=classes**2)
    numbers = torch.cat([torch.stack([entropy, error]), confusion.double()]).cpu().numpy()
    metrics = {schema.ENTROPY: float(numbers[0]), schema.CALIBRATION_ERROR: float(numbers[1])}
    return metrics, numbers[2:].astype(np.int64).reshape(classes, classes)


def as_arrays(
    names: Sequence[str], epochs: Sequence[Sequence[Sequence[float]]], initial: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The arrays that a run's details begin with: `layers`, `by_layer` and `initial/…` of `schema.DETAILS_FILE`.

    names: of the weight tensors; epochs: per epoch three rows of a number per weight tensor, as `by_layer` has them;
    initial: what `probe` gave of the untrained network.
    """
    found = {f"initial/{name}": values for name, values in initial.items()}
    return found | {"layers": np.array(names), "by_layer": np.array(epochs, dtype=np.float32)}
