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
class Outcome:
    """The end of a member's training: finished, stopped early or diverged.

    metrics by their names in the store; details: arrays as `schema.DETAILS_FILE` has them.
    """

    member: Member
    outcome: str
    epochs: int
    metrics: dict[str, float] = field(default_factory=dict)
    details: dict[str, np.ndarray] = field(default_factory=dict)
