"""The events that a training reports: the end of an epoch, and the outcome.

They pass from the engine to whoever trains and are not stored as they are: of them, metrics and arrays are logged.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cifar_ablations.study.training.fleet import Member


@dataclass(frozen=True)
class Epoch:
    """The end of one member's epoch (counted from 1), with metrics by their names in the store."""

    member: Member
    epoch: int
    metrics: dict[str, float]
    past: bool = False
    """It was trained before the fleet was taken up from a checkpoint, and is only reported again."""


@dataclass(frozen=True)
class Weights:
    """A member's network as its outcome was measured, and what its images were normalised with.

    arrays: weights and buffers by name, in the order of the module's `state_dict`; mean, std: of each channel, of
    pixels in [0, 1]; validation_accuracy: NaN where there are no validation images.
    """

    arrays: dict[str, np.ndarray]
    mean: list[float]
    std: list[float]
    validation_accuracy: float


@dataclass(frozen=True)
class Outcome:
    """The end of a member's training: finished, stopped early or diverged.

    metrics by their names in the store; details: arrays as `schema.DETAILS_FILE` has them; weights: where they are to
    be kept, of one that did not diverge.
    """

    member: Member
    outcome: str
    epochs: int
    metrics: dict[str, float] = field(default_factory=dict)
    details: dict[str, np.ndarray] = field(default_factory=dict)
    weights: Weights | None = None
