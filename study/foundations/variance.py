"""Variance and initialisation: how wide a layer's outputs spread, against its fan-in and through depth."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from cifar_ablations.ablations.record import LinkRecord
from cifar_ablations.ablations.techniques.initialisation import SCHEMES
from cifar_ablations.study.foundations.demonstration import Demonstration, between, near, predicted, prints, says
from cifar_ablations.study.training.randomness import key, seeded

NAME = "variance"
TITLE = "Variance and initialisation"
CHAPTER = 5

SEEDS, OUTPUTS = 199, 10
FAN_INS = (1, 10, 100, 1_000, 10_000)
INITIALISATIONS: dict[str, str] = {"N(0, 1)": "normal_1", "Xavier": "xavier_normal", "He": "kaiming_normal"}
"""The notebook's names of initialisations, and the engine's."""
EXPECTED: dict[str, Callable[[int], float]] = {
    "N(0, 1)": lambda n: n,
    "Xavier": lambda n: 2 * n / (n + OUTPUTS),
    "He": lambda n: 2.0,
}
"""The expected variance of outputs by fan-in, for standard normal inputs: n times the weights' variance."""
PRINTED = {
    "N(0, 1)": (0.010708284564316273, 10.293073654174805, 88.2718734741211, 1365.237548828125, 19736.84375),
    "He": (3.9262, 0.4608, 1.3280, 1.5888, 0.5858),
}

WIDTH, DEPTH, STACKS, BATCH = 256, 30, 20, 16
PER_LAYER: dict[tuple[str, bool], float] = {
    ("N(0, 1)", False): WIDTH,
    ("Xavier", False): 1.0,
    ("He", False): 2.0,
    ("N(0, 1)", True): WIDTH / 2,
    ("Xavier", True): 0.5,
    ("He", True): 1.0,
}
"""The factor by which a layer changes the variance before the activation; ReLU keeps half of the mean square."""


def run(seed: int) -> Demonstration:
    """The notebook's variances at five fan-ins, with three initialisations, and the same through thirty layers."""
    measured = {name: _by_fan_in(name, seed) for name in INITIALISATIONS}
    printed = _printed(measured)
    depth = pd.concat(
        [_by_depth(name, relu, seed) for name in INITIALISATIONS for relu in (False, True)], ignore_index=True
    )
    grown = depth.groupby(["initialisation", "relu", "depth"])["log10_variance"].mean().unstack("depth")
    per_layer = (grown[DEPTH] - grown[1]) / (DEPTH - 1)
    at = FAN_INS.index(1_000)
    # Ten outputs of one long input are independent draws: their variance is that of ten normal numbers.
    rare = float(stats.chi2.cdf((OUTPUTS - 1) * PRINTED["He"][-1] / EXPECTED["He"](FAN_INS[-1]), OUTPUTS - 1))
    checks = (
        *(
            near(
                f"{name} at a fan-in of 1,000: mean variance",
                expected=EXPECTED[name](1_000),
                found=values[:, at].mean(),
                tolerance=4 * values[:, at].std() / SEEDS**0.5,
            )
            for name, values in measured.items()
        ),
        between(
            "Of the ten variances that it prints, nearly all are usual ones",
            expected=9.5,
            found=printed["inside"].sum(),
            low=8,
            high=None,
            source=prints("ten variances"),
        ),
        predicted(
            "N(0, 1) at a fan-in of 10,000: the variance printed is a usual one",
            expected=PRINTED["N(0, 1)"][-1],
            draws=measured["N(0, 1)"][:, -1],
            source=prints("19736.84"),
        ),
        predicted(
            "He at a fan-in of 10,000: the variance printed is a usual one",
            expected=PRINTED["He"][-1],
            draws=measured["He"][:, -1],
            source=prints("0.5858"),
        ),
        near(
            "A variance as low as that one comes up in a share P(χ²₉ / 9 ≤ 0.29) of draws",
            expected=rare,
            found=(measured["He"][:, -1] <= PRINTED["He"][-1]).mean(),
            tolerance=4 * (rare * (1 - rare) / SEEDS) ** 0.5,
        ),
        between(
            "He's variance stays roughly constant: largest mean over smallest",
            expected=1,
            found=measured["He"].mean(axis=0).max() / measured["He"].mean(axis=0).min(),
            low=1,
            high=2,
            source=says("roughly constant"),
        ),
        *(
            near(
                f"{name}, {'with' if relu else 'without'} ReLU: log₁₀ of a layer's factor",
                expected=math.log10(factor),
                found=per_layer[name, relu],
                tolerance=0.02,
            )
            for (name, relu), factor in PER_LAYER.items()
        ),
    )
    return Demonstration(
        name=NAME,
        title=TITLE,
        question="How must weights be drawn so that signals keep their size from layer to layer?",
        idea=(
            "An output is a sum over its inputs, so its variance is the number of inputs times the variance of a "
            "weight: weights from N(0, 1) multiply it by the fan-in, at every layer again. Xavier's variance of 2 / "
            "(inputs + outputs) keeps it where nothing or tanh comes between; ReLU discards half of the mean square, "
            "and He's factor of two makes up for that. The variance of ten outputs is a rough measure: from the lowest "
            "to the highest of usual draws it differs by a factor of seven."
        ),
        frames={"fan_in": _spread(measured), "printed": printed, "depth": depth},
        checks=checks,
        links=(
            LinkRecord("claims", "the variance through the network that is trained", "torch's default initialisation"),
            LinkRecord("claims", "Xavier's weights under ReLU", "Xavier initialisation"),
            LinkRecord("levels/initialisation", "every initialisation of the engine"),
        ),
    )


def _by_fan_in(name: str, seed: int) -> np.ndarray:
    """The variance of ten outputs of one standard normal input, float64 [seeds, fan-ins]: the notebook's experiment."""
    draw = SCHEMES[INITIALISATIONS[name]]
    found = np.empty((SEEDS, len(FAN_INS)))
    generator = torch.Generator().manual_seed(key(seed, "foundations", NAME, "inputs"))
    for column, n in enumerate(FAN_INS):
        weights = torch.empty(OUTPUTS, n)
        with seeded(seed, "foundations", NAME, name, n):
            for row in range(SEEDS):
                outputs = draw(weights) @ torch.randn(n, generator=generator)
                found[row, column] = float(outputs.double().var())
    return found


def _spread(measured: dict[str, np.ndarray]) -> pd.DataFrame:
    parts = []
    for name, values in measured.items():
        low, high = np.quantile(values, [0.025, 0.975], axis=0)
        columns = {"initialisation": name, "fan_in": FAN_INS, "low": low, "mean": values.mean(axis=0), "high": high}
        parts.append(pd.DataFrame(columns | {"theory": [EXPECTED[name](n) for n in FAN_INS]}))
    return pd.concat(parts, ignore_index=True)


def _printed(measured: dict[str, np.ndarray]) -> pd.DataFrame:
    """The ten variances that the notebook prints, and where the seeds put them."""
    rows = []
    for name, values in PRINTED.items():
        for column, value in enumerate(values):
            check = predicted("", value, measured[name][:, column], "")
            rows.append(
                {
                    "initialisation": name,
                    "fan_in": FAN_INS[column],
                    "printed": value,
                    "low": check.low,
                    "high": check.high,
                    "inside": check.holds,
                }
            )
    return pd.DataFrame(rows)


def _by_depth(name: str, relu: bool, seed: int) -> pd.DataFrame:
    """log10 of the mean square before the activation, by layer, per stack of equally wide layers."""
    rows = []
    for stack in range(STACKS):
        with seeded(seed, "foundations", NAME, "stack", stack):
            x = torch.randn(BATCH, WIDTH)
            layers = [SCHEMES[INITIALISATIONS[name]](torch.empty(WIDTH, WIDTH)) for _ in range(DEPTH)]
        for depth, square in enumerate(mean_squares(x, layers, relu), start=1):
            rows.append(
                {
                    "initialisation": name,
                    "relu": relu,
                    "stack": stack,
                    "depth": depth,
                    "log10_variance": math.log10(square),
                    "theory": depth_theory(name, relu, depth),
                }
            )
    return pd.DataFrame(rows)


def depth_theory(name: str, relu: bool, depth: int) -> float:
    """log10 of the expected mean square before the activation of layer `depth`, for standard normal inputs."""
    first = PER_LAYER[name, False]  # the input has not been through ReLU
    return math.log10(first) + (depth - 1) * math.log10(PER_LAYER[name, relu])


def mean_squares(x: Tensor, layers: list[Tensor], relu: bool) -> list[float]:
    """The mean square of what each layer puts out before its activation; layers: weights [width, width]."""
    found = []
    # float64: 30 layers of N(0, 1) weights at width 256 reach 10^72.
    x = x.double()
    for weight in layers:
        outputs = x @ weight.double().T
        found.append(float(outputs.square().mean()))
        x = outputs.relu() if relu else outputs
    return found
