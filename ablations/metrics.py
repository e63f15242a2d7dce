"""The metrics of the store: their titles in a sentence, and the units a person reads them in."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cifar_ablations.ablations import schema

EPOCHS_TO_TARGET = "epochs_to_target"
"""Made from the validation curve by whoever reads the store: the first epoch at or above the plan's target. A run that
never got there counts as one epoch more than its arm had."""
REACHED_TARGET = "reached_target"
"""1 for a run that got there, 0 for one that did not."""


@dataclass(frozen=True)
class Metric:
    """A metric's name in the middle of a sentence; shares are read in per cent, their differences in points."""

    title: str
    share: bool = False
    unit: str = ""
    signed: bool = False
    """Whether a share may lie below zero, as a difference of two accuracies may."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the most it can be; infinite where nothing bounds it."""
        if not self.share:
            return -math.inf, math.inf
        return -1.0 if self.signed else 0.0, 1.0


METRICS = {
    schema.TEST_ACCURACY: Metric("test accuracy", share=True),
    schema.TRAIN_ACCURACY: Metric("training accuracy", share=True),
    schema.VALIDATION_ACCURACY: Metric("validation accuracy", share=True),
    schema.GENERALISATION_GAP: Metric("the generalisation gap", share=True, signed=True),
    schema.CALIBRATION_ERROR: Metric("the calibration error", share=True),
    schema.TEST_LOSS: Metric("test loss"),
    schema.TRAIN_LOSS: Metric("the last epoch's training loss"),
    schema.VALIDATION_LOSS: Metric("validation loss"),
    schema.FIRST_EPOCH_LOSS: Metric("the first epoch's training loss"),
    schema.WEIGHT_NORM: Metric("the weight norm"),
    schema.GRADIENT_NORM: Metric("the gradient norm"),
    schema.UPDATE_RATIO: Metric("the relative size of updates"),
    schema.ENTROPY: Metric("the entropy of predictions", unit="nats"),
    schema.EPOCHS: Metric("the number of epochs", unit="epochs"),
    EPOCHS_TO_TARGET: Metric("the epochs to the target", unit="epochs"),
    schema.SECONDS: Metric("training time", unit="s"),
}
for _when, _said in ((schema.INITIAL, "at the start"), (schema.FINAL, "at the end")):
    METRICS |= {
        _when + schema.VARIANCE_RATIO: Metric(f"log₁₀ of last to first activation variance {_said}"),
        _when + schema.VARIANCE_DRIFT: Metric(f"the drift of activation variance with depth {_said}"),
        _when + schema.GRADIENT_RATIO: Metric(f"log₁₀ of first to last layer's gradients {_said}"),
        _when + schema.DEAD_UNITS: Metric(f"the share of dead units {_said}", share=True),
    }


def metric(name: str) -> Metric:
    """The metric of that name in the store; one that is not listed is called by it."""
    return METRICS.get(name, Metric(name))
