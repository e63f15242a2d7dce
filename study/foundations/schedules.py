"""Schedules: the notebook's warm-up and cosine, every shape of the engine, and what each leaves of gradient noise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cifar_ablations.ablations.record import LinkRecord
from cifar_ablations.ablations.techniques.schedule import Schedule, warmup_cosine
from cifar_ablations.ablations.update_rule import UpdateRule
from cifar_ablations.study.foundations.demonstration import Demonstration, between, farthest, near, prints, says
from cifar_ablations.study.foundations.paths import descend
from cifar_ablations.study.training.randomness import key

NAME = "schedules"
TITLE = "Learning-rate schedules"
CHAPTER = 8

BASE = 0.1
PRINTED = ("0.0000", "0.0500", "0.1000", "0.0962", "0.0854", "0.0691", "0.0500", "0.0309", "0.0146", "0.0038")
"""The rates of the ten steps of warm-up and cosine at a base rate of 0.1."""
TRAINING = {
    **dict.fromkeys((1, 2, 4, 6, 8, 10), 0.003),
    **dict.fromkeys((12, 14), 0.0003),
    **dict.fromkeys((16, 18, 20), 0.00003),
}
"""The rate that the notebook prints at the end of an epoch of its training: the next epoch's."""

EPOCHS, STEPS_PER_EPOCH = 20, 20
WALKERS, RATE, START = 2_000, 0.3, 10.0
SURE = 4.0
"""Standard errors of tolerance."""


def run(seed: int) -> Demonstration:
    """The printed factors, all shapes over 20 epochs, and walkers in a bowl with noise under each of them."""
    found = [f"{float(BASE * factor):.4f}" for factor in warmup_cosine(10, 0.2)]
    levels = {"constant" if level == "off" else level: Schedule.at(level) for level in Schedule.levels}
    levels["multistep"] = levels.pop("on")
    factors = {name: _factors(schedule, EPOCHS, STEPS_PER_EPOCH) for name, schedule in sorted(levels.items())}
    epochwise = _factors(Schedule.at("on"), 20, 1)
    trained = [0.003 * float(epochwise[min(epoch, 19)]) for epoch in TRAINING]
    agree = int(np.isclose(trained, list(TRAINING.values()), rtol=1e-9).sum())
    settling = _settling(factors, seed)
    left = settling[settling["step"] == EPOCHS * STEPS_PER_EPOCH].set_index("schedule")
    last, theory = left["mean_square"].to_dict(), left["theory"].to_dict()
    constant = last["constant"]
    shares = [value / constant for name, value in last.items() if name != "constant"]
    share = torch.arange(EPOCHS * STEPS_PER_EPOCH, dtype=torch.float64) / STEPS_PER_EPOCH
    checks = (
        near(
            "Warm-up and cosine at ten steps: how many of the ten rates are as printed, to the fourth decimal",
            expected=10,
            found=sum(a == b for a, b in zip(found, PRINTED, strict=True)),
            tolerance=0,
            source=prints(" ".join(PRINTED)),
        ),
        near(
            "Milestones after 12 and 16 of 20 epochs: how many of the eleven rates are as printed",
            expected=11,
            found=agree,
            tolerance=0,
            source=prints("LR 0.003, 0.0003, 0.00003"),
        ),
        near(
            "Half a cosine in n steps has a mean of 1/2 + 1/2n", 0.5 + 0.5 / len(share), factors["cosine"].mean(), 1e-9
        ),
        near(
            "Three fifths at 1, a fifth at 0.1 and one at 0.01 have a mean of 0.622",
            expected=0.622,
            found=factors["multistep"].mean(),
            tolerance=1e-9,
        ),
        near(
            "The exponential one has fallen to 0.01 when it ends: factor of the last epoch times one epoch's",
            expected=0.01,
            found=factors["exponential"][-1] * 0.01 ** (1 / EPOCHS),
            tolerance=1e-9,
        ),
        near(
            "A constant rate η leaves a mean square of ησ² / (2 − η), for ever",
            expected=RATE / (2 - RATE),
            found=constant,
            tolerance=SURE * RATE / (2 - RATE) * (2 / WALKERS) ** 0.5,
        ),
        near(
            "The mean square that each schedule leaves follows v ← (1 − ηₜ)²v + ηₜ²σ²: the ratio farthest from 1",
            expected=1,
            found=farthest(last[name] / theory[name] for name in last),
            tolerance=SURE * (2 / WALKERS) ** 0.5,
        ),
        between(
            "Every schedule that falls leaves less than the constant rate: largest share of it",
            expected=1,
            found=max(shares),
            low=0,
            high=0.5,
            source=says("smaller steps late settle"),
        ),
    )
    return Demonstration(
        name=NAME,
        title=TITLE,
        question="Why should the learning rate change while training goes on, and in which way?",
        idea=(
            "A large rate gets far and cannot come to rest: near a minimum each step adds noise in proportion to the "
            "rate, and a constant one goes on adding it. A rate that falls spends its early steps on the way and its "
            "late ones on settling. Warm-up makes the first steps small, when gradients from fresh weights point "
            "nowhere in particular."
        ),
        frames={
            "printed": pd.DataFrame(
                {"step": range(10), "printed": [float(p) for p in PRINTED], "found": [float(f) for f in found]}
            ),
            "shapes": pd.concat(
                [pd.DataFrame({"schedule": n, "epoch": share, "factor": f}) for n, f in factors.items()],
                ignore_index=True,
            ),
            "settling": settling,
        },
        checks=checks,
        links=(
            LinkRecord("claims", "decay for the final accuracy", "constant rate"),
            LinkRecord("claims", "warm-up at a high rate", "three times the rate, warm-up and cosine"),
            LinkRecord("levels/schedule", "every schedule of the engine"),
        ),
    )


def _factors(schedule: Schedule, epochs: int, steps_per_epoch: int) -> Tensor:
    """The factor of the rate at each step, float64 [epochs · steps per epoch]."""
    found = schedule.schedule(epochs, steps_per_epoch)
    return torch.ones(epochs * steps_per_epoch, dtype=torch.float64) if found is None else found


def _settling(factors: dict[str, Tensor], seed: int) -> pd.DataFrame:
    """The mean square of walkers in the bowl x²/2 by step, for gradients with standard normal noise, and its theory."""
    steps, names = EPOCHS * STEPS_PER_EPOCH, list(factors)
    rates = RATE * torch.stack([factors[name] for name in names], dim=1)
    generator = torch.Generator().manual_seed(key(seed, "foundations", NAME, "noise"))

    def noise(step: int) -> Tensor:
        return torch.randn(len(names), WALKERS, generator=generator, dtype=torch.float64)

    start = torch.full((len(names), WALKERS), START, dtype=torch.float64)
    logged = range(0, steps + 1, 4)
    path = descend([UpdateRule()] * len(names), rates, start, steps, lambda x: x**2 / 2, noise=noise, logged=logged)
    found = path.square().mean(dim=2)
    mean, variance = torch.full((len(names),), START, dtype=torch.float64), torch.zeros(len(names), dtype=torch.float64)
    theory = [mean**2 + variance]
    for rate in rates:
        mean, variance = (1 - rate) * mean, (1 - rate) ** 2 * variance + rate**2
        theory.append(mean**2 + variance)
    expected = torch.stack(theory)[list(logged)]
    return pd.concat(
        [
            pd.DataFrame({"schedule": n, "step": logged, "mean_square": found[:, i], "theory": expected[:, i]})
            for i, n in enumerate(names)
        ],
        ignore_index=True,
    )
