"""SGD's noise: how far a batch's gradient is from all the data's, and what that noise does to a training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cifar_ablations.ablations.record import LinkRecord
from cifar_ablations.ablations.update_rule import UpdateRule
from cifar_ablations.study.foundations.demonstration import (
    CLOSED_FORM,
    THEORY,
    Demonstration,
    between,
    farthest,
    near,
    says,
)
from cifar_ablations.study.foundations.descent import minimum, wave
from cifar_ablations.study.foundations.paths import descend
from cifar_ablations.study.training.optimizer import FleetOptimizer
from cifar_ablations.study.training.randomness import key, permutation

NAME = "sgd_noise"
TITLE = "The noise of stochastic gradients"
CHAPTER = 9

EXAMPLES, INPUTS, NOISE = 1_024, 20, 0.5
BATCHES = tuple(2**i for i in range(11))
ORDERS = 400
RATE, STEPS, REPEATS = 0.02, 800, 40
ANEW = "batches of 32, drawn anew"
KINDS = {"all 1,024": EXAMPLES, "batches of 32": 32, ANEW: 32, "single examples": 1}
"""Batch sizes. An epoch takes every example once, in a new order; drawn anew, each batch is drawn from all examples."""
WALKERS, ESCAPE_STEPS, ESCAPE_RATE, SPREAD = 1_000, 300, 0.1, 10.0
"""Walkers in the shallow minimum of x·cos(0.15πx); the standard deviation of a single example's gradient is SPREAD."""


@dataclass(frozen=True)
class Regression:
    """Examples x float64 [N, d] with y [N], and the weights [d] that fit them best."""

    x: Tensor
    y: Tensor
    best: Tensor

    def loss(self, weights: Tensor) -> Tensor:
        """Half the mean squared error of weights [..., d]."""
        return (weights @ self.x.T - self.y).square().mean(dim=-1) / 2


def regression(seed: int) -> Regression:
    """A linear regression with standard normal inputs and noise of NOISE."""
    generator = torch.Generator().manual_seed(key(seed, "foundations", NAME, "examples"))
    x = torch.randn(EXAMPLES, INPUTS, generator=generator, dtype=torch.float64)
    truth = torch.randn(INPUTS, generator=generator, dtype=torch.float64)
    y = x @ truth + NOISE * torch.randn(EXAMPLES, generator=generator, dtype=torch.float64)
    return Regression(x, y, torch.linalg.lstsq(x, y[:, None]).solution[:, 0])


def run(seed: int) -> Demonstration:
    """Gradient noise by batch size, trainings of equally many steps, and walkers that leave a local minimum."""
    data = regression(seed)
    noise, bias = gradient_noise(data, seed)
    training = _training(data, seed)
    escapes = _escapes(seed)
    single = noise.iloc[0]["mean_square"]
    below = noise[noise["batch"] < EXAMPLES]
    correction = (EXAMPLES - below["batch"].to_numpy()) / (EXAMPLES - 1)
    slope = np.polyfit(np.log(below["batch"].to_numpy()), np.log(below["mean_square"].to_numpy() / correction), 1)[0]
    ratios = below["mean_square"].to_numpy() / below["theory"].to_numpy()
    late = training[training["step"] > STEPS // 2].groupby("kind")["excess"].mean()
    residual = data.x @ data.best - data.y
    scatter = (residual.square() * data.x.square().sum(dim=1)).mean()
    expected = float(RATE * scatter / (4 * 32))
    free = escapes.set_index("batch")["escaped"]
    checks = (
        near(
            "The batches of an epoch average to the gradient of all data: largest deviation",
            expected=0,
            found=bias,
            tolerance=1e-12,
            source=CLOSED_FORM,
        ),
        near(
            "Their mean squared distance from it is S² / B · (N − B) / (N − 1): the ratio farthest from 1",
            expected=1,
            found=farthest(ratios),
            tolerance=0.12,
            source=CLOSED_FORM,
        ),
        near(
            "It falls as 1 / B: slope of its logarithm, less what comes of drawing without replacement",
            expected=-1,
            found=slope,
            tolerance=0.02,
            source=THEORY,
        ),
        near(
            "A full batch has none: share of a single example's",
            expected=0,
            found=noise.iloc[-1]["mean_square"] / single,
            tolerance=1e-20,
            source=says("full batches average all gradients"),
        ),
        near(
            "Batches of 32 drawn anew stay at an excess loss of η tr Σ / 4B: ratio to it",
            expected=1,
            found=late[ANEW] / expected,
            tolerance=0.15,
            source=THEORY,
        ),
        between(
            "Single examples stay farther away, by 32 or more: ratio of excess losses",
            expected=32,
            found=late["single examples"] / late[ANEW],
            low=32,
            high=None,
            source=THEORY,
        ),
        between(
            "Taking every example once an epoch gets closer than drawing anew: ratio of excess losses",
            expected=1,
            found=late["batches of 32"] / late[ANEW],
            low=0,
            high=0.9,
            source=THEORY,
        ),
        near(
            "Without noise nobody leaves a local minimum: share of walkers",
            expected=0,
            found=free[EXAMPLES],
            tolerance=0,
            source=says("noise can leave local minima"),
        ),
        between(
            "With the noise of single examples most leave it: share of walkers",
            expected=1,
            found=free[1],
            low=0.5,
            high=1,
            source=says("noise can leave local minima"),
        ),
    )
    return Demonstration(
        name=NAME,
        title=TITLE,
        question="What is lost and what is gained when a step looks at a few examples instead of all?",
        idea=(
            "A batch's gradient is right on average and off by a distance whose square falls as one over its size, "
            "while its price grows with its size: that is why small batches pay. At a constant rate the noise keeps "
            "the loss above its minimum by about the rate over the batch size. The same noise pushes a walker out of a "
            "shallow basin that a full batch would never leave."
        ),
        frames={"noise": noise, "training": training, "escapes": escapes},
        checks=checks,
        links=(
            LinkRecord("levels/batch_size", "batch sizes at the same number of epochs"),
            LinkRecord("claims", "batches that are no fair sample", "sorted by class"),
            LinkRecord("levels/schedule", "how a falling rate takes the noise away"),
        ),
    )


def gradient_noise(data: Regression, seed: int) -> tuple[pd.DataFrame, float]:
    """Mean squared distance of batch gradients from the full one by batch size, at weights of 0, over many orders.

    Batches are consecutive pieces of an epoch's order, as the engine takes them. Also the largest deviation of the mean
    over an epoch's batches of 32 from the full gradient.
    """
    gradients = -data.y[:, None] * data.x  # of half the squared error, per example, float64 [N, d]
    full = gradients.mean(dim=0)
    spread = float((gradients - full).square().sum(dim=1).mean())
    orders = torch.stack([permutation(EXAMPLES, seed, "foundations", NAME, "order", i) for i in range(ORDERS)])
    shuffled = gradients[orders]  # [orders, N, d]
    rows = []
    bias = 0.0
    for batch in BATCHES:
        means = shuffled.view(ORDERS, EXAMPLES // batch, batch, INPUTS).mean(dim=2)
        if batch == 32:
            bias = float((means.mean(dim=1) - full).abs().max())
        rows.append(
            {
                "batch": batch,
                "mean_square": float((means - full).square().sum(dim=2).mean()),
                "theory": spread / batch * (EXAMPLES - batch) / (EXAMPLES - 1),
            }
        )
    return pd.DataFrame(rows), bias


def _training(data: Regression, seed: int) -> pd.DataFrame:
    """The loss above its minimum by step: equal rates and equally many steps, the mean of REPEATS repetitions."""
    parts = []
    lowest = data.loss(data.best)
    for kind, batch in KINDS.items():
        generator = torch.Generator().manual_seed(key(seed, "foundations", NAME, kind))
        repeats = 1 if batch == EXAMPLES else REPEATS
        weights = torch.zeros(repeats, INPUTS, dtype=torch.float64)
        optimizer = FleetOptimizer(
            weights, [UpdateRule()] * repeats, torch.full((STEPS, repeats), RATE, dtype=torch.float64)
        )
        per_epoch = EXAMPLES // batch
        excess = []
        for step in range(STEPS):
            epoch, place = divmod(step, per_epoch)
            if place == 0 and kind != ANEW:
                orders = torch.stack(
                    [permutation(EXAMPLES, seed, "foundations", NAME, kind, r, epoch) for r in range(repeats)]
                )
            if kind == ANEW:
                taken = torch.randint(EXAMPLES, (repeats, batch), generator=generator)
            else:
                taken = orders[:, place * batch : (place + 1) * batch]
            x, y = data.x[taken], data.y[taken]
            residual = (x @ weights[..., None])[..., 0] - y
            gradients = (residual[:, None, :] @ x)[:, 0] / batch
            optimizer.step(torch.tensor([step]), weights, gradients)
            if (step + 1) % 8 == 0:
                excess.append(float((data.loss(weights) - lowest).mean()))
        parts.append(pd.DataFrame({"kind": kind, "step": range(8, STEPS + 1, 8), "excess": excess}))
    return pd.concat(parts, ignore_index=True)


def _escapes(seed: int) -> pd.DataFrame:
    """The share of walkers that end outside the basin they start in, by the batch size that their noise stands for."""
    batches = [1, 2, 4, 8, 16, 32, 64, EXAMPLES]
    spread = SPREAD * torch.tensor([(EXAMPLES - b) / (EXAMPLES - 1) / b for b in batches], dtype=torch.float64).sqrt()
    generator = torch.Generator().manual_seed(key(seed, "foundations", NAME, "escapes"))

    def noise(step: int) -> Tensor:
        drawn = torch.randn(len(batches), WALKERS, generator=generator, dtype=torch.float64)
        return spread[:, None] * drawn

    start = torch.full((len(batches), WALKERS), -minimum(1), dtype=torch.float64)
    rates = torch.full((len(batches),), ESCAPE_RATE, dtype=torch.float64)
    ends = descend(
        [UpdateRule()] * len(batches), rates, start, ESCAPE_STEPS, wave, noise=noise, logged=(ESCAPE_STEPS,)
    )[0]
    outside = (ends > minimum(1)) | (ends < -minimum(2))
    return pd.DataFrame({"batch": batches, "escaped": outside.double().mean(dim=1)})
