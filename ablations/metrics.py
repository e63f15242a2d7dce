"""The metrics of trainings, each declared once: its name in the store, its title, its unit, and how it is computed.

What is declared here, or in an extension, is logged, read and worded without being named anywhere else. Only the
numbers of curves are made where an epoch is trained, in `study/training/lockstep.py`, which brings them all over from
the device at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cifar_ablations.ablations import extensions
from cifar_ablations.ablations.errors import AblateError

if TYPE_CHECKING:  # commands that only print start without it
    import numpy as np

CURVE, ENDING, STATE = "curve", "ending", "state"
"""Kinds of metrics: logged once per epoch (step = epoch, from 1), once when a run ends, or then, of its network."""

INITIAL, FINAL = "initial/", "final/"
"""A STATE is logged twice: of the network as it was first initialised, and as it was in the end."""

BINS = 15
"""Of confidence, for the calibration error: Guo et al. 2017 use as many."""


@dataclass(frozen=True)
class Ended:
    """A training at its end, with all that its metrics are computed from.

    history: the curves' values, by name, of each epoch; accuracies are fractions. log_probabilities, float64
    [N, classes], and targets, int64 [N], are tensors of the test images, on the training's device.
    """

    history: Sequence[Mapping[str, float]]
    test_accuracy: float
    test_loss: float
    train_accuracy: float
    log_probabilities: Any
    targets: Any


Probe = Mapping[str, "np.ndarray"]
"""A network's state as `study.training.diagnostics.probe` has it."""


@dataclass(frozen=True)
class Metric:
    """A metric's name in the middle of a sentence; shares are read in per cent, their differences in points."""

    title: str
    logged: str = ""
    """CURVE, ENDING or STATE; "" for what is made from the store by whoever reads it."""
    share: bool = False
    unit: str = ""
    signed: bool = False
    """Whether a share may lie below zero, as a difference of two accuracies may."""
    better: int = 0
    """+1 where more of it is better, -1 where less is, 0 where neither."""
    of_training: Callable[[Ended], float] | None = None
    of_network: Callable[[Probe], float] | None = None
    """What is not finite is not logged."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the most it can be; infinite where nothing bounds it."""
        if not self.share:
            return -math.inf, math.inf
        return -1.0 if self.signed else 0.0, 1.0


METRICS: dict[str, Metric] = {}
"""The suite's own by their names in the store; `known` has those of extensions too."""


def _declare(name: str, metric: Metric) -> str:
    """Enter a metric into METRICS, a STATE under both its prefixes; returns the name."""
    assert name not in METRICS, f"two metrics are called {name}"
    METRICS.update(_stored(name, metric))
    return name


def _stored(name: str, metric: Metric) -> dict[str, Metric]:
    """A metric by its name, or names, in the store."""
    if metric.logged != STATE:
        return {name: metric}
    return {
        INITIAL + name: replace(metric, title=f"{metric.title} at the start"),
        FINAL + name: replace(metric, title=f"{metric.title} at the end"),
    }


def _entropy(end: Ended) -> float:
    log = end.log_probabilities
    return float(-(log.exp() * log).sum(dim=1).mean())


def _calibration_error(end: Ended) -> float:
    """The expected error (Guo et al. 2017): the mean distance of confidence and accuracy over equally wide bins of
    confidence, weighted by the predictions in each."""
    confidence, predicted = end.log_probabilities.exp().max(dim=1)
    correct = (predicted == end.targets).double()
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    zeros = confidence.new_zeros(BINS)
    distances = (zeros.index_add(0, bins, confidence) - zeros.index_add(0, bins, correct)).abs()
    return float(distances.sum() / len(end.targets))


def _log_ratio(upper: np.ndarray, lower: np.ndarray) -> float:
    """A ratio as a power of ten: 0 is even. NaN where there is none."""
    if not len(upper) or not (upper[0] > 0 and lower[0] > 0):
        return math.nan
    return math.log10(float(upper[0])) - math.log10(float(lower[0]))


def _variance_ratio(probe: Probe) -> float:
    """The last activation function's input to the first one's; negative is vanishing along the way."""
    return _log_ratio(probe["variance"][-1:], probe["variance"][:1])


TRAIN_LOSS = _declare("train/loss", Metric("the last epoch's training loss", CURVE, better=-1))
VALIDATION_LOSS = _declare("validation/loss", Metric("validation loss", CURVE, better=-1))
VALIDATION_ACCURACY = _declare("validation/accuracy", Metric("validation accuracy", CURVE, share=True, better=+1))
LEARNING_RATE = _declare("learning_rate", Metric("the learning rate", CURVE))
GRADIENT_NORM = _declare("gradient_norm", Metric("the gradient norm", CURVE))
WEIGHT_NORM = _declare("weight_norm", Metric("the weight norm", CURVE))
# Norm of the epoch's last update over that of the weights.
UPDATE_RATIO = _declare("update_ratio", Metric("the relative size of updates", CURVE))
IMAGES_PER_SECOND = _declare("images_per_second", Metric("images per second", CURVE))

TEST_ACCURACY = _declare(
    "test/accuracy", Metric("test accuracy", ENDING, share=True, better=+1, of_training=lambda end: end.test_accuracy)
)
TEST_LOSS = _declare("test/loss", Metric("test loss", ENDING, better=-1, of_training=lambda end: end.test_loss))
# In eval mode, without augmentation.
TRAIN_ACCURACY = _declare(
    "train/accuracy",
    Metric("training accuracy", ENDING, share=True, better=+1, of_training=lambda end: end.train_accuracy),
)
GENERALISATION_GAP = _declare(
    "generalisation_gap",
    Metric(
        "the generalisation gap",
        ENDING,
        share=True,
        signed=True,
        better=-1,
        of_training=lambda end: end.train_accuracy - end.test_accuracy,
    ),
)
# These two are known of every training that ends, also of those that diverge or are not tested: the engine tells them.
SECONDS = _declare("seconds", Metric("training time", ENDING, unit="s"))
# Trained until the end, which early stopping and divergence bring forward.
EPOCHS = _declare("epochs", Metric("the number of epochs", ENDING, unit="epochs"))
ENTROPY = _declare("test/entropy", Metric("the entropy of predictions", ENDING, unit="nats", of_training=_entropy))
CALIBRATION_ERROR = _declare(
    "test/calibration_error",
    Metric("the calibration error", ENDING, share=True, better=-1, of_training=_calibration_error),
)
FIRST_EPOCH_LOSS = _declare(
    "first_epoch/loss",
    Metric("the first epoch's training loss", ENDING, better=-1, of_training=lambda end: end.history[0][TRAIN_LOSS]),
)

VARIANCE_RATIO = _declare(
    "variance_ratio",
    Metric("log₁₀ of last to first activation variance", STATE, of_network=_variance_ratio),
)
VARIANCE_DRIFT = _declare(
    "variance_drift",
    Metric("the drift of activation variance with depth", STATE, of_network=lambda probe: abs(_variance_ratio(probe))),
)
# First weights' gradients to the last ones', root mean squares.
GRADIENT_RATIO = _declare(
    "gradient_ratio",
    Metric(
        "log₁₀ of first to last layer's gradients",
        STATE,
        of_network=lambda probe: _log_ratio(probe["gradient"][:1], probe["gradient"][-1:]),
    ),
)
# Share of units that answer no image.
DEAD_UNITS = _declare(
    "dead_units",
    Metric(
        "the share of dead units",
        STATE,
        share=True,
        of_network=lambda probe: float(probe["dead"].mean()) if len(probe["dead"]) else math.nan,
    ),
)

# Made from the validation curve: the first epoch at or above the plan's target. A run that never got there has none.
EPOCHS_TO_TARGET = _declare("epochs_to_target", Metric("the epochs to the target", unit="epochs", better=-1))
REACHED_TARGET = "reached_target"
"""1 for a run that got there, 0 for one that did not."""

CURVES = tuple(name for name, known in METRICS.items() if known.logged == CURVE)
ENDINGS = tuple(name for name, known in METRICS.items() if known.logged == ENDING)
STATES = tuple(
    name for when in (INITIAL, FINAL) for name in METRICS if METRICS[name].logged == STATE and name.startswith(when)
)


def known() -> dict[str, Metric]:
    """The suite's metrics and those of extensions, by their names in the store.

    Raises AblateError for one of an extension that cannot be used.
    """
    return _known(extensions.known())


@lru_cache(maxsize=8)
def _known(among: tuple[extensions.Extension, ...]) -> dict[str, Metric]:
    found = dict(METRICS)
    for name, extension in extensions.of_kind(extensions.METRICS).items():
        module = extension.module(extensions.METRICS, name)
        extensions.asked_of(module, ("METRIC",))
        declared, file = module.METRIC, module.__file__
        if not isinstance(declared, Metric):
            raise AblateError(f"{file}: METRIC must be a Metric, not {type(declared).__name__}")
        if (declared.logged, bool(declared.of_training), bool(declared.of_network)) not in (
            (ENDING, True, False),
            (STATE, False, True),
        ):
            raise AblateError(
                f"{file}: METRIC must be an ENDING with a function of_training, or a STATE with one of_network"
            )
        for stored, made in _stored(name, declared).items():
            if stored in found:
                raise AblateError(f"{file}: the suite has a metric {stored!r} of its own; rename the file")
            found[stored] = made
    return found


def metric(name: str) -> Metric:
    """The metric of that name in the store; one that is not listed is called by it."""
    return known().get(name, Metric(name))


def of_training(ended: Ended) -> dict[str, float]:
    """Every metric that is computed from a training's end, by name."""
    return {name: one.of_training(ended) for name, one in known().items() if one.of_training}


def of_network(probe: Probe, when: str) -> dict[str, float]:
    """Every metric that is computed from a network's state, by name; when: INITIAL or FINAL. Finite ones alone."""
    values = {name: one.of_network(probe) for name, one in known().items() if one.of_network and name.startswith(when)}
    return {name: value for name, value in values.items() if math.isfinite(value)}
