"""Exploding and vanishing: products of random matrices, slopes of activations, gradients through deep stacks."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from scipy.special import digamma
from torch import Tensor, nn

from cifar_ablations.ablations.record import LinkRecord
from cifar_ablations.ablations.techniques.activation import Activation
from cifar_ablations.ablations.techniques.initialisation import SCHEMES
from cifar_ablations.study.foundations.demonstration import (
    THEORY,
    Demonstration,
    between,
    near,
    predicted,
    prints,
    says,
)
from cifar_ablations.study.training.randomness import key, seeded

NAME = "exploding"
TITLE = "Exploding and vanishing gradients"
CHAPTER = 4

SIDE, PRODUCTS, SEEDS = 3, 50, 999
SCALES = {"N(0, 1)": 1.0, "N(0, 1/3)": 3**-0.5, "N(0, 1/9)": 3**-1.0}
MULTIPLIED = 21
"""Matrices in the notebook's product: one, then twenty more."""
PRINTED = ((57.8238, 68.0893, 37.5195), (115.4718, 135.9066, 75.0023), (-125.4195, -147.6163, -81.4617))
LEAKY = 0.2
"""The notebook's slope of the leaky ReLU below zero."""

WIDTH, DEPTH, BATCH, STACKS = 128, 30, 32, 12
PAIRS = {
    "sigmoid": ("xavier_normal", 1 / 16),
    "tanh": ("xavier_normal", 1.0),
    "relu": ("kaiming_normal", 1.0),
    "leaky_relu": ("kaiming_normal", 1 + LEAKY**2),
}
"""By activation: the initialisation meant for it, and what a layer multiplies the mean square of a gradient by, at
most for the first two, whose slopes are at most 1/4 and 1.
"""


def growth(size: int) -> float:
    """The growth rate of a product of size × size standard normal matrices, in nats per matrix: (ln 2 + ψ(size/2)) / 2.

    The largest Lyapunov exponent (Newman 1986).
    """
    return (math.log(2) + float(digamma(size / 2))) / 2


def run(seed: int) -> Demonstration:
    """Norms of products by depth, values and slopes of activation functions, gradients by depth."""
    logs = _products(seed)
    products = _norms(logs)
    activations = pd.concat([_activation(name) for name in ("sigmoid", "relu", "leaky_relu")], ignore_index=True)
    gradients = pd.concat([_through(name, seed) for name in PAIRS], ignore_index=True)
    rate = float((logs[:, -1] - logs[:, 10]).mean()) / (PRODUCTS - 11)
    error = float((logs[:, -1] - logs[:, 10]).std()) / (PRODUCTS - 11) / SEEDS**0.5
    slopes = activations.set_index(["activation", "x"])["slope"]
    sigmoid, sloped = slopes["sigmoid"], activations[activations["activation"] == "sigmoid"]
    per_layer = gradients.groupby(["activation", "depth"], sort=False)["log10_mean_square"].mean().unstack("depth")
    factors = (10 ** ((per_layer[DEPTH] - per_layer[0]) / DEPTH)).to_dict()
    checks = (
        near("The product's logarithm grows by (ln 2 + ψ(3/2)) / 2 per matrix", growth(SIDE), rate, 4 * error),
        predicted(
            "The notebook's product of 21 matrices has a usual size: ln of its norm",
            expected=printed_logarithm(),
            draws=logs[:, MULTIPLIED - 1],
            source=prints("the matrix 57.8 … −81.5"),
        ),
        near("The sigmoid's steepest slope is 1/4, at 0", 0.25, sigmoid.max(), 1e-7),
        near(
            "Its slope is σ(x)(1 − σ(x)): largest difference",
            expected=0,
            found=(sloped["slope"] - sloped["value"] * (1 - sloped["value"])).abs().max(),
            tolerance=1e-7,
        ),
        between(
            "At x = −8 and beyond it passes on almost nothing",
            expected=0,
            found=sigmoid.iloc[0],
            low=0,
            high=0.001,
            source=says("almost zero at both ends"),
        ),
        near("ReLU's slope below zero is 0", 0, slopes["relu"].loc[:-0.05].abs().max(), 0, says("zero")),
        near(
            "Leaky ReLU's slope below zero is 0.2",
            expected=LEAKY,
            found=slopes["leaky_relu"].loc[:-0.05].mean(),
            tolerance=1e-7,
            source=says("not exactly zero"),
        ),
        between(
            "Through 30 sigmoid layers each divides a gradient's mean square by 16 or more",
            expected=1 / 16,
            found=factors["sigmoid"],
            low=0,
            high=1 / 16,
            source=THEORY,
        ),
        near("ReLU layers with He's weights leave it as it is: factor per layer", 1, factors["relu"], 0.03),
        near(
            "Leaky ReLU layers with the same weights multiply it by 1 + 0.2²", 1 + LEAKY**2, factors["leaky_relu"], 0.03
        ),
    )
    return Demonstration(
        name=NAME,
        title=TITLE,
        question="Why do gradients grow or fade with depth, and what has the activation function to do with it?",
        idea=(
            "A gradient that passes back through many layers is multiplied by a matrix and by a slope at each of them, "
            "so its size goes up or down by a factor per layer: there is no middle way unless that factor is made to "
            "be one. Standard normal 3×3 matrices multiply a typical vector by 1.44 each, a sigmoid by a quarter at "
            "most. ReLU passes half of the signal unchanged, which the right weights can make up for exactly."
        ),
        frames={"products": products, "activations": activations, "gradients": gradients},
        checks=checks,
        links=(
            LinkRecord("claims", "gradients at the first layer of the network under sigmoid", "sigmoid"),
            LinkRecord("claims", "weights from N(0, 1) in the network", "weights from N(0, 1)"),
            LinkRecord("levels/activation", "every activation function"),
        ),
    )


def _products(seed: int) -> np.ndarray:
    """ln of the Frobenius norm of products of standard normal matrices, float64 [seeds, 1 … PRODUCTS matrices]."""
    generator = torch.Generator().manual_seed(key(seed, "foundations", NAME, "products"))
    product = torch.eye(SIDE, dtype=torch.float64).expand(SEEDS, -1, -1)
    logs = []
    for _ in range(PRODUCTS):
        product = product @ torch.randn(SEEDS, SIDE, SIDE, generator=generator, dtype=torch.float64)
        logs.append(product.norm(dim=(1, 2)).log())
    return torch.stack(logs, dim=1).numpy()


def _norms(logs: np.ndarray) -> pd.DataFrame:
    """log10 of the norm by number of matrices and by their entries' distribution, which only scales the product."""
    matrices = np.arange(1, PRODUCTS + 1)
    parts = []
    for name, scale in SCALES.items():
        scaled = (logs + matrices * math.log(scale)) / math.log(10)
        low, middle, high = np.quantile(scaled, [0.025, 0.5, 0.975], axis=0)
        expected = (growth(SIDE) + math.log(scale)) / math.log(10) * (matrices - MULTIPLIED) + middle[MULTIPLIED - 1]
        columns = {"entries": name, "matrices": matrices, "low": low, "median": middle, "high": high}
        parts.append(pd.DataFrame(columns | {"theory": expected}))
    frame = pd.concat(parts, ignore_index=True)
    itself = (frame["entries"] == "N(0, 1)") & (frame["matrices"] == MULTIPLIED)
    return frame.assign(printed=np.where(itself, printed_logarithm() / math.log(10), np.nan))


def printed_logarithm() -> float:
    """ln of the norm of the matrix that the notebook prints."""
    return 0.5 * math.log(sum(value**2 for row in PRINTED for value in row))


def module(name: str) -> nn.Module:
    """The engine's module of an activation function, leaky ReLU with the notebook's slope."""
    return Activation(function=name, slope=LEAKY).activation() or nn.ReLU()


def _activation(name: str) -> pd.DataFrame:
    """Values and slopes between −8 and 8 in steps of a tenth, as the notebook plots them."""
    x = (torch.arange(-80, 80, dtype=torch.float64) / 10).requires_grad_()
    y = module(name)(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    return pd.DataFrame({"activation": name, "x": x.detach(), "value": y.detach(), "slope": slope})


def _through(name: str, seed: int) -> pd.DataFrame:
    """log10 of a gradient's mean square after so many layers on its way back, relative to where it starts."""
    scheme, factor = PAIRS[name]
    act = module(name)
    rows = []
    for stack in range(STACKS):
        with seeded(seed, "foundations", NAME, "stack", stack):
            layers = [SCHEMES[scheme](torch.empty(WIDTH, WIDTH)) for _ in range(DEPTH)]
            x, back = torch.randn(BATCH, WIDTH), torch.randn(BATCH, WIDTH)
        sizes = [float(g.double().square().mean()) for g in backward(x, back, layers, act)]
        rows += [
            {
                "activation": name,
                "stack": stack,
                "depth": depth,
                "log10_mean_square": math.log10(size / sizes[0]),
                "theory": depth * math.log10(factor),
            }
            for depth, size in enumerate(sizes)
        ]
    return pd.DataFrame(rows)


def backward(x: Tensor, back: Tensor, layers: list[Tensor], act: nn.Module) -> list[Tensor]:
    """Gradients [B, width] of back · output with respect to the output and every layer's input, the last layer first.

    Layers are weights [width, width], each followed by the activation function.
    """
    inputs = [x.requires_grad_()]
    for weight in layers:
        inputs.append(act(inputs[-1] @ weight.T))
    found = torch.autograd.grad((inputs[-1] * back).sum(), inputs)
    return list(reversed(found))
