"""An L2 penalty on a linear regression with more inputs than examples, as the notebook trains it, for many seeds."""

from __future__ import annotations

from collections.abc import Sequence
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
    near,
    predicted,
    prints,
)
from cifar_ablations.study.training.optimizer import FleetOptimizer
from cifar_ablations.study.training.randomness import key

NAME = "l2_regression"
TITLE = "Weight decay on a linear regression"
CHAPTER = 1

SEEDS = 119
"""So many that the third smallest and the third largest bound a 95 % prediction interval exactly."""
EXAMPLES, INPUTS, BIAS, SCALE = 50, 200, 0.05, 0.01  # training examples; as many again for the test
RATE, EPOCHS, EVERY = 0.001, 1_000, 10
STRENGTHS = (0.0, 0.04, 0.3, 1.0, 2.0, 5.0, 10.0, 20.0)
STRONG = 5.0
BEST_LIMIT = 2 / EXAMPLES
"""The λ that ridge regression wants: 2/n times the noise's variance over the weights', which are equal here."""

PRINTED = {
    0.0: {
        0: (0.3437, 0.3242),
        200: (0.0162, 0.2346),
        400: (0.0029, 0.2270),
        600: (0.0007, 0.2258),
        800: (0.0002, 0.2257),
    },
    STRONG: {
        0: (0.5573, 0.2234),
        200: (0.0821, 0.0313),
        400: (0.0188, 0.0131),
        600: (0.0103, 0.0133),
        800: (0.0091, 0.0143),
    },
}
"""The notebook's losses by λ and epoch: in training with the penalty, on the test half without it."""


@dataclass(frozen=True)
class Problems:
    """A regression per seed: x float32 [S, n, 201], whose last input is 1 for the bias, and y float32 [S, n, 1]."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    truth: Tensor  # [S, 201]
    first: Tensor  # [S, 201], as nn.Linear draws weights and bias


@dataclass(frozen=True)
class Course:
    """Losses at the logged epochs, float32 [logged epochs, S, strengths]; weights [S, strengths, 201] at the end."""

    epochs: list[int]
    train: Tensor  # before the epoch's step and with the penalty, as the notebook has it
    train_error: Tensor
    test: Tensor  # after the epoch's step
    weights: Tensor


def problems(seeds: int, seed: int) -> Problems:
    """The notebook's data for so many seeds: standard normal inputs, weights and noise of 0.01, half for the test."""
    generator = torch.Generator().manual_seed(key(seed, "foundations", NAME))
    x = torch.randn(seeds, 2 * EXAMPLES, INPUTS, generator=generator)
    weights = torch.randn(seeds, INPUTS, 1, generator=generator) * SCALE
    noise = torch.randn(seeds, 2 * EXAMPLES, 1, generator=generator) * SCALE
    y = x @ weights + noise + BIAS
    x = torch.cat([x, torch.ones(seeds, 2 * EXAMPLES, 1)], dim=2)
    first = (2 * torch.rand(seeds, INPUTS + 1, generator=generator) - 1) / INPUTS**0.5
    truth = torch.cat([weights[..., 0], torch.full((seeds, 1), BIAS)], dim=1)
    half = EXAMPLES
    return Problems(x[:, :half].clone(), y[:, :half].clone(), x[:, half:].clone(), y[:, half:].clone(), truth, first)


def train(data: Problems, first: Tensor, strengths: Sequence[float], epochs: int, every: int) -> Course:
    """Full-batch SGD at 0.001 on the squared error plus λ/2 · (‖w‖² + b²), for all seeds and strengths at once.

    first: [S, strengths, 201]. The penalty's gradient is the engine's coupled weight decay. Every so many epochs are
    logged, the first of them among them.
    """
    seeds, count, size = first.shape
    rules = [UpdateRule(rate=RATE, coupled_decay=strength) for strength in strengths] * seeds
    weights = first.reshape(seeds * count, size).clone()
    optimizer = FleetOptimizer(weights, rules, torch.full((epochs, len(rules)), RATE, dtype=torch.float64))
    by_seed, decay = weights.view(seeds, count, size), torch.tensor(strengths)
    logged: list[int] = []
    losses: list[tuple[Tensor, Tensor, Tensor]] = []
    for epoch in range(epochs):
        residual = torch.baddbmm(-data.y, data.x, by_seed.transpose(1, 2))  # [S, n, strengths]
        gradients = torch.bmm(residual.transpose(1, 2), data.x).mul_(2 / EXAMPLES)
        if shown := epoch % every == 0:
            error = residual.square().mean(dim=1)
            penalised = error + decay / 2 * by_seed.square().sum(dim=2)
        optimizer.step(torch.tensor([epoch]), weights, gradients.view(seeds * count, size))
        if shown:
            test = torch.baddbmm(-data.y_test, data.x_test, by_seed.transpose(1, 2)).square().mean(dim=1)
            logged.append(epoch)
            losses.append((penalised, error, test))
    train_loss, train_error, test_loss = (torch.stack(parts) for parts in zip(*losses, strict=True))
    return Course(logged, train_loss, train_error, test_loss, by_seed.clone())


def ridge(data: Problems, strength: float) -> Tensor:
    """The weights that minimise the penalised loss for λ > 0, float64 [S, 201]: Xᵀ(XXᵀ + nλ/2 · I)⁻¹y."""
    x, y = data.x.double(), data.y.double()
    squares = x @ x.transpose(1, 2) + EXAMPLES * strength / 2 * torch.eye(EXAMPLES, dtype=torch.float64)
    solved: Tensor = torch.linalg.solve(squares, y)
    return (x.transpose(1, 2) @ solved)[..., 0]


def test_errors(data: Problems, weights: Tensor) -> Tensor:
    """Mean squared error on the test half, float64 [S], of weights [S, 201]."""
    return (data.x_test.double() @ weights.double()[..., None] - data.y_test.double()).square().mean(dim=(1, 2))


def unseen_error() -> float:
    """The expected test error of the model that fits the training half exactly, from torch's first weights.

    50 examples fix 50 of 201 directions; in the others the weights stay where they were drawn, uniformly with variance
    1/600, away from a truth of variance SCALE². The noise is fitted too, which adds its share of a random regression.
    """
    unseen = INPUTS + 1 - EXAMPLES
    missed = unseen / (INPUTS + 1) * ((INPUTS + 1) / (3 * INPUTS) + INPUTS * SCALE**2 + BIAS**2)
    return missed + SCALE**2 * (1 + EXAMPLES / (INPUTS - EXAMPLES - 1))


def run(seed: int) -> Demonstration:
    """The notebook's two trainings, the second one going on from the first as it does there, and a sweep of λ."""
    data = problems(SEEDS, seed)
    sweep = train(data, data.first[:, None].expand(-1, len(STRENGTHS), -1), STRENGTHS, EPOCHS, EVERY)
    plain, strong = STRENGTHS.index(0.0), STRENGTHS.index(STRONG)
    after = train(data, sweep.weights[:, plain : plain + 1], (STRONG,), EPOCHS, EVERY)
    courses = {
        (0.0, "from torch's first weights"): (sweep, plain),
        (STRONG, "going on, as in the notebook"): (after, 0),
        (STRONG, "from torch's first weights"): (sweep, strong),
    }
    frames = {
        "curves": pd.concat([_curve(*name, *course) for name, course in courses.items()], ignore_index=True),
        "sweep": _sweep(data, sweep),
        "printed": _printed({0.0: (sweep, plain), STRONG: (after, 0)}),
    }
    end = after.epochs.index(800)
    final = sweep.test[-1]
    limit = ridge(data, STRONG)
    left = (sweep.weights[:, strong].double() - limit).norm(dim=1) / (data.first.double() - limit).norm(dim=1)
    slowest = (1 - RATE * STRONG) ** EPOCHS
    stuck = final[:, plain].double()
    inside = frames["printed"]["inside"]
    best = frames["sweep"].set_index("strength")["test_median"].idxmin()
    checks = (
        *(
            predicted(
                f"λ = {strength:g}: the notebook's {split} loss at epoch 800 is a usual one",
                expected=PRINTED[strength][800][column],
                draws=losses.numpy(),
                source=prints(f"{PRINTED[strength][800][column]:.4f}"),
            )
            for strength, course, place in ((0.0, sweep, plain), (STRONG, after, 0))
            for column, (split, losses) in enumerate(
                (("training", course.train[end, :, place]), ("test", course.test[end, :, place]))
            )
        ),
        between(
            "Of the 20 losses that it prints, nearly all are usual", 19, inside.sum(), 17, None, prints("20 losses")
        ),
        predicted(
            "Its training with λ = 5 goes on from the model that λ = 0 left: the loss it starts from is a usual one",
            expected=PRINTED[STRONG][0][0],
            draws=after.train[0, :, 0].numpy(),
            source=prints("0.5573"),
        ),
        between(
            "From fresh weights it could not start there: share of seeds that start at 0.5573 or below",
            expected=0,
            found=(sweep.train[0, :, strong] <= PRINTED[STRONG][0][0]).float().mean(),
            low=None,
            high=0.025,
            source=prints("0.5573"),
        ),
        near(
            "Without a penalty the test loss ends where 151 of 201 directions were never learnt",
            expected=unseen_error(),
            found=stuck.mean(),
            tolerance=3 * stuck.std() / SEEDS**0.5,
            source=CLOSED_FORM,
        ),
        between(
            "With λ = 5 what separates the weights from ridge regression has shrunk to (1 − 0.005)¹⁰⁰⁰, at most",
            expected=slowest,
            found=left.max(),
            low=None,
            high=slowest * (1 + 1e-3),
            source=CLOSED_FORM,
        ),
        between(
            "λ = 5 ends with a lower test loss than λ = 0: share of seeds",
            expected=1,
            found=(final[:, strong] < final[:, plain]).float().mean(),
            low=1,
            high=None,
            source=prints("0.2257 and 0.0143"),
        ),
        between("After 1,000 epochs neither no penalty nor the largest is best: the best λ", 5, best, 1, 10, THEORY),
        between(
            "Trained to the end, λ = 0.04 is better than 5, whose virtue is to forget the first weights in time: "
            "difference of test losses",
            expected=0,
            found=(test_errors(data, ridge(data, BEST_LIMIT)) - test_errors(data, limit)).mean(),
            low=None,
            high=0,
            source=CLOSED_FORM,
        ),
    )
    return Demonstration(
        name=NAME,
        title=TITLE,
        question="What does a penalty on the size of weights buy where there are more inputs than examples?",
        idea=(
            "Fifty examples cannot fix two hundred weights: the training loss goes to zero while three quarters of all "
            "directions keep the values they happened to be drawn with. A penalty pulls every direction towards zero, "
            "those the data say nothing about fastest of all, and the test loss falls with them. The notebook trains "
            "its second model from where the first one ended, and prints its training loss with the penalty in it; "
            f"both are repeated here, with {SEEDS} seeds at once."
        ),
        frames=frames,
        checks=checks,
        links=(
            LinkRecord("claims", "weight decay against the generalisation gap on images", "without weight decay"),
            LinkRecord("claims", "a penalty that is too strong underfits", "much weight decay"),
            LinkRecord("levels/weight_decay", "every strength, through the gradient or beside it"),
        ),
    )


def _curve(strength: float, start: str, course: Course, place: int) -> pd.DataFrame:
    rows = []
    for split, losses in (("training", course.train), ("test", course.test)):
        values = losses[:, :, place].numpy()
        low, middle, high = np.quantile(values, [0.025, 0.5, 0.975], axis=1)
        rows.append(pd.DataFrame({"split": split, "epoch": course.epochs, "low": low, "median": middle, "high": high}))
    return pd.concat(rows).assign(strength=strength, start=start)


def _sweep(data: Problems, course: Course) -> pd.DataFrame:
    """By λ, at the end, from torch's first weights: errors without the penalty, the weights' norm, and the test error
    that training without end would reach.
    """
    columns: dict[str, np.ndarray | tuple[float, ...]] = {"strength": STRENGTHS}
    for split, errors in (("train", course.train_error[-1]), ("test", course.test[-1])):
        low, middle, high = np.quantile(errors.numpy(), [0.025, 0.5, 0.975], axis=0)
        columns |= {f"{split}_low": low, f"{split}_median": middle, f"{split}_high": high}
    columns["norm_median"] = course.weights.norm(dim=2).median(dim=0).values.numpy()
    columns["limit_median"] = np.array(
        [float(test_errors(data, ridge(data, strength)).median()) if strength else np.nan for strength in STRENGTHS]
    )
    return pd.DataFrame(columns)


def _printed(courses: dict[float, tuple[Course, int]]) -> pd.DataFrame:
    """Every loss that the notebook prints, and where the seeds put it."""
    rows = []
    for strength, (course, place) in courses.items():
        for epoch, pair in PRINTED[strength].items():
            at = course.epochs.index(epoch)
            for split, value, losses in zip(("training", "test"), pair, (course.train, course.test), strict=True):
                check = predicted("", value, losses[at, :, place].numpy(), "")
                rows.append(
                    {
                        "strength": strength,
                        "split": split,
                        "epoch": epoch,
                        "printed": value,
                        "median": check.found,
                        "low": check.low,
                        "high": check.high,
                        "inside": check.holds,
                    }
                )
    return pd.DataFrame(rows)
