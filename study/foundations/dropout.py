"""Dropout: masks that keep the expectation, the two modes of a layer, and masks at test time as a measure of doubt."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from cifar_ablations.ablations.record import CheckRecord, LinkRecord
from cifar_ablations.ablations.techniques.dropout import Dropout, inverted_mask
from cifar_ablations.ablations.techniques.optimizer import Optimizer
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
from cifar_ablations.study.training.model import DropoutSite
from cifar_ablations.study.training.optimizer import FleetOptimizer
from cifar_ablations.study.training.randomness import StepDraws, key, seeded

NAME = "dropout"
TITLE = "Dropout"
CHAPTER = 2

PROBABILITIES = (0.1, 0.3, 0.5, 0.7)
DRAWS = 200_000
SURE = 4.0
"""Standard errors of tolerance: of 16,000 such checks of pure chance one fails."""
CPU = torch.device("cpu")

HIDDEN, STEPS, PASSES, P = 64, 800, 300, 0.2
SEEN = 1.0
"""The small network is shown inputs between this and its negative, and asked up to three times as far."""


def run(seed: int) -> Demonstration:
    """One mask, a great many masks, a layer in both modes, and a small network asked with masks on."""
    shares, checks = _expectations(seed)
    doubt, network = monte_carlo(seed)
    outside, inside = (doubt[(doubt["x"].abs() > SEEN) == far]["std"].mean() for far in (True, False))
    weights = torch.randn(HIDDEN, generator=torch.Generator().manual_seed(key(seed, "foundations", NAME, "linear")))
    sampled, exact = linear_doubt(weights, P, StepDraws.named(CPU, seed, "foundations", NAME, "linear"))
    drops, keeps = _modes(seed)
    checks += [
        near(
            "A layer in evaluation mode returns its input: largest difference",
            expected=0,
            found=keeps,
            tolerance=0,
            source=says("evaluation switches dropout off"),
        ),
        between("In training mode it does not: share of activations changed", 1, drops, 0.999, None, CLOSED_FORM),
        near(
            "A linear unit's spread over masks has the variance Σ w²x² · p / (1 − p): ratio", 1, sampled / exact, 0.05
        ),
        between(
            "Masks at test time disagree more where there was nothing to learn from: ratio of spreads",
            expected=1,
            found=outside / inside,
            low=1.2,
            high=None,
            source=THEORY,
        ),
    ]
    return Demonstration(
        name=NAME,
        title=TITLE,
        question="What does zeroing activations at random change, and what does it leave as it was?",
        idea=(
            "Each activation is kept with probability 1 − p and divided by it, so that the next layer receives the "
            "same sum on average, with noise of variance p / (1 − p) on top. In training no unit can rely on a "
            "particular other one; in evaluation the mask is left out and nothing needs rescaling. Left in on purpose, "
            "many masks give many answers, and their spread says where the network has little to go by."
        ),
        frames={"mask": _one_mask(seed), "masks": shares, "doubt": doubt, "examples": network},
        checks=tuple(checks),
        links=(
            LinkRecord("claims", "dropout against the generalisation gap on images", "without dropout"),
            LinkRecord("claims", "too much dropout costs accuracy", "dropout 0.7"),
            LinkRecord("levels/dropout", "p from 0.1 to 0.7"),
        ),
    )


def _one_mask(seed: int) -> pd.DataFrame:
    """The notebook's six activations under a mask drawn as the engine draws it, before and after scaling."""
    x, p = torch.arange(1.0, 7.0), 0.5
    mask = inverted_mask(StepDraws.named(CPU, seed, "foundations", NAME, "six").uniform((6,)), p)
    return pd.DataFrame({"unit": range(1, 7), "before": x, "dropped": x * (mask > 0), "after": x * mask})


def _expectations(seed: int) -> tuple[pd.DataFrame, list[CheckRecord]]:
    """Mean, variance and share of zeros of many masks, the engine's and torch's, by probability."""
    rows: list[dict[str, float | str]] = []
    checks: list[CheckRecord] = []
    for p in PROBABILITIES:
        ours = Dropout(p=p).mask((DRAWS,), StepDraws.named(CPU, seed, "foundations", NAME, "many", f"{p:g}"))
        assert ours is not None
        with seeded(seed, "foundations", NAME, "torch", f"{p:g}"):
            torchs = nn.Dropout(p)(torch.ones(DRAWS))
        for whose, mask in (("engine", ours), ("torch.nn.Dropout", torchs)):
            values = mask.double()
            rows.append(
                {
                    "p": p,
                    "whose": whose,
                    "mean": float(values.mean()),
                    "variance": float(values.var()),
                    "zeros": float((values == 0).double().mean()),
                    "largest": float(values.max()),
                }
            )
    frame = pd.DataFrame(rows)
    engine, torchs_rows = (frame[frame["whose"] == whose] for whose in ("engine", "torch.nn.Dropout"))
    for row in engine.to_dict("records"):
        p = row["p"]
        error = SURE * (p / (1 - p) / DRAWS) ** 0.5
        checks.append(near(f"p = {p:g}: the mean of a mask's factors is 1", 1, row["mean"], error))
    noise = engine["variance"].to_numpy() / (engine["p"].to_numpy() / (1 - engine["p"].to_numpy()))
    checks.append(near("Their variance is p / (1 − p): the ratio farthest from 1", 1, farthest(noise), 0.03))
    gaps = engine["zeros"].to_numpy() - torchs_rows["zeros"].to_numpy()
    errors = np.array([(2 * p * (1 - p) / DRAWS) ** 0.5 for p in PROBABILITIES])
    checks.append(
        near(
            "The engine's masks and torch.nn.Dropout's drop the same share: largest difference, in standard errors",
            expected=0,
            found=np.abs(gaps / errors).max(),
            tolerance=SURE,
            source=says("an equivalent of nn.Dropout"),
        )
    )
    same = np.abs(engine["largest"].to_numpy() / torchs_rows["largest"].to_numpy() - 1).max()
    checks.append(
        near(
            "Both scale what they keep alike: largest relative difference",
            expected=0,
            found=same,
            tolerance=1e-6,
            source=says("an equivalent of nn.Dropout"),
        )
    )
    return frame, checks


def _modes(seed: int) -> tuple[float, float]:
    """The share of activations that a layer changes in training mode, and the largest change in evaluation mode."""
    site = DropoutSite(4096)
    x = torch.randn(8, 4096, generator=torch.Generator().manual_seed(key(seed, "foundations", NAME, "modes")))
    site.mask = Dropout(p=0.5).mask(x.shape, StepDraws.named(CPU, seed, "foundations", NAME, "modes"))
    trained, evaluated = site.train()(x), site.eval()(x)
    return float((trained != x).double().mean()), float((evaluated - x).abs().max())


def linear_doubt(weights: Tensor, p: float, draws: StepDraws) -> tuple[float, float]:
    """The variance of Σ wᵢmᵢ over 20,000 masks, and its exact value Σ wᵢ² · p / (1 − p)."""
    outputs = inverted_mask(draws.uniform((20_000, len(weights))), p) @ weights
    return float(outputs.var()), float(weights.square().sum() * p / (1 - p))


def monte_carlo(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A network of two hidden layers trained with dropout on a noisy sine, then asked with as many masks as PASSES.

    Mean and standard deviation of the answers by input (Gal & Ghahramani 2016, section 4), and the 64 examples.
    """
    generator = torch.Generator().manual_seed(key(seed, "foundations", NAME, "examples"))
    x = (2 * torch.rand(64, 1, generator=generator) - 1) * SEEN
    y = torch.sin(4 * x) + 0.1 * torch.randn(64, 1, generator=generator)
    first, second = DropoutSite(HIDDEN), DropoutSite(HIDDEN)
    with seeded(seed, "foundations", NAME, "network"):
        network = nn.Sequential(
            nn.Linear(1, HIDDEN), nn.ReLU(), first, nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), second, nn.Linear(HIDDEN, 1)
        ).train()
    technique = Dropout(p=P)
    _fit(network, (first, second), x, y, technique, seed)
    grid = torch.linspace(-3 * SEEN, 3 * SEEN, 121)[:, None]
    draws = StepDraws.named(CPU, seed, "foundations", NAME, "passes")
    with torch.no_grad():
        for site in (first, second):  # one mask for a whole curve: a thinned network answers everywhere
            site.mask = technique.mask((PASSES, 1, HIDDEN), draws)
        answers = network(grid.expand(PASSES, -1, 1))[..., 0].double()
    frame = pd.DataFrame({"x": grid[:, 0].double(), "mean": answers.mean(dim=0), "std": answers.std(dim=0)})
    return frame, pd.DataFrame({"x": x[:, 0].double(), "y": y[:, 0].double()})


def _fit(
    network: nn.Module, sites: tuple[DropoutSite, ...], x: Tensor, y: Tensor, technique: Dropout, seed: int
) -> None:
    """Train in place on all examples at once with the engine's Adam, a new mask for every example and step."""
    rule = Optimizer(kind="adam", rate=0.01).update(UpdateRule())
    parameters = list(network.parameters())
    weights = torch.cat([p.detach().flatten() for p in parameters])[None]
    for parameter, part in zip(parameters, weights[0].split([p.numel() for p in parameters]), strict=True):
        parameter.data = part.view_as(parameter)
    optimizer = FleetOptimizer(weights, [rule], torch.full((STEPS, 1), rule.rate, dtype=torch.float64))
    for step in range(STEPS):
        draws = StepDraws.named(CPU, seed, "foundations", NAME, "step", step)
        for site in sites:
            site.mask = technique.mask((len(x), HIDDEN), draws)
        loss = (network(x) - y).square().mean()
        gradients = torch.autograd.grad(loss, parameters)
        optimizer.step(torch.tensor([step]), weights, torch.cat([g.flatten() for g in gradients])[None])
