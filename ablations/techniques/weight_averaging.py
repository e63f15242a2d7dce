"""Weight averaging: a network whose weights are an average over those that training passes through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.technique import Expectation, Plain, RunningAverage, Technique, knob

KINDS = ("none", "ema", "swa", "lookahead")


def exponential(steps: int, decay: float, start: float) -> Tensor:
    """The shares of an exponential moving average that begins as the weights after a share `start` of the steps.

    float64 [steps]: 1 up to there. Then the n-th step counts 1 - min(decay, (1 + n) / (10 + n)), as in TensorFlow's
    `ExponentialMovingAverage` that is told the number of updates: so a short training is not averaged with what it
    began with. Past that, as torch.optim.swa_utils.AveragedModel with `get_ema_multi_avg_fn(decay)`.
    """
    first = min(int(start * steps), steps - 1) + 1
    taken = torch.arange(1, steps - first + 1, dtype=torch.float64)
    shares = torch.ones(steps, dtype=torch.float64)
    shares[first:] = 1 - ((1 + taken) / (10 + taken)).clamp(max=decay)
    return shares


def equal(epochs: int, steps_per_epoch: int, start: float) -> Tensor:
    """The shares of an equal average of the weights at the ends of epochs, from a share `start` of the epochs on.

    float64 [steps]: 1 before, then 1 / n at the end of the n-th of these epochs, and 0 between. The first is the one
    that ends at that share, rounded down to whole epochs: Izmailov et al. 2018, algorithm 1, whose average begins with
    the weights from which it sets out. As torch.optim.swa_utils.AveragedModel, updated once an epoch.
    """
    first = max(1, min(int(start * epochs), epochs))
    shares = torch.ones(epochs, steps_per_epoch, dtype=torch.float64)
    shares[first:] = 0
    shares[first - 1 :, -1] = 1 / torch.arange(1, epochs - first + 2, dtype=torch.float64)
    return shares.flatten()


def lookahead(steps: int, every: int, alpha: float) -> Tensor:
    """The shares of the slow weights of Zhang et al. 2019: alpha at every k-th step, float64 [steps], else 0."""
    shares = torch.zeros(steps, dtype=torch.float64)
    shares[every - 1 :: every] = alpha
    return shares


@dataclass(frozen=True)
class WeightAveraging(Technique):
    """Beside the weights in training runs an average of them, with which the network is measured: on validation images
    after every epoch, and on test images.

    `ema` weighs the newest weights most, `swa` the ends of the late epochs alike; both leave the training as it is.
    `lookahead` changes it: every so many steps the slow weights move towards the fast ones, which then go on from them.
    Batch normalisation's running statistics are taken anew from training images for the averaged weights.
    """

    kind: str = knob("none", doc="which average", choices=KINDS, later=True)
    decay: float = knob(
        0.99,
        doc="share of the average kept at each step, less at the first; ema",
        low=0.0,
        high=0.99999,
        search=(0.9, 0.999),
        when=("kind", ("ema",)),
        later=True,
    )
    start: float = knob(
        0.0,
        doc="share of the training before the average begins; ema, swa",
        low=0.0,
        high=1.0,
        search=(0.0, 0.9),
        when=("kind", ("ema", "swa")),
        later=True,
    )
    every: int = knob(
        5,
        doc="steps of the fast weights for one of the slow; lookahead",
        low=1,
        high=10_000,
        search=(2, 20),
        when=("kind", ("lookahead",)),
        later=True,
    )
    alpha: float = knob(
        0.8,
        doc="share of the way that the slow weights go; lookahead",
        low=0.0,
        high=1.0,
        search=(0.2, 1.0),
        when=("kind", ("lookahead",)),
        later=True,
    )

    name: ClassVar[str] = "weight_averaging"
    title: ClassVar[str] = "weight averaging"
    source: ClassVar[str] = "Polyak & Juditsky 1992; beyond the notebook's techniques"
    reason: ClassVar[str] = (
        "Late steps wander about a minimum; the mean of where they pass lies nearer to its middle than any of them."
    )
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        "ema": {"kind": "ema"},
        "swa": {"kind": "swa", "start": 0.75},
        "lookahead": {"kind": "lookahead"},
    }
    titles: ClassVar[Mapping[str, str]] = {
        "ema": "an exponential moving average of weights",
        "swa": "stochastic weight averaging",
        "lookahead": "Lookahead",
    }
    sources: ClassVar[Mapping[str, str]] = {
        "ema": "Polyak & Juditsky 1992; Morales-Brotons et al. 2024",
        "swa": "Izmailov et al. 2018, arXiv 1803.05407",
        "lookahead": "Zhang et al. 2019, arXiv 1907.08610",
    }
    expectations: ClassVar[tuple[Expectation, ...]] = (
        Expectation(schema.TEST_ACCURACY, +1, "Izmailov et al. 2018, arXiv 1803.05407"),
    )
    mechanism: ClassVar[tuple[str, ...]] = (schema.GENERALISATION_GAP, schema.TRAIN_LOSS, schema.UPDATE_RATIO)

    @property
    def only_measures(self) -> bool:
        return self.kind in ("ema", "swa")

    def average(self, epochs: int, steps_per_epoch: int) -> RunningAverage | None:
        steps = epochs * steps_per_epoch
        match self.kind:
            case "ema":
                return RunningAverage(exponential(steps, self.decay, self.start))
            case "swa":
                return RunningAverage(equal(epochs, steps_per_epoch, self.start))
            case "lookahead":
                return RunningAverage(lookahead(steps, self.every, self.alpha), pulls=True)
        return None

    def plain(self, sized: Sized) -> Plain:
        raise self.not_plain("the program measures the network that it trains, and this measures an average of it")
