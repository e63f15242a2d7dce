"""Makes the outcome of a member whose training is over: its metrics, and the arrays that explain them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from cifar_ablations.ablations import metrics, schema
from cifar_ablations.study.training import diagnostics, evaluation
from cifar_ablations.study.training.evaluation import Evaluator
from cifar_ablations.study.training.events import Outcome
from cifar_ablations.study.training.fleet import Member


@dataclass
class Progress:
    """The epochs that a member has behind it, and its network before them.

    initial: `diagnostics.probe` of the untrained network; history: of each epoch its metrics; layers: of each
    epoch, norms by layer as `diagnostics.by_layer` has them; best: the state of the epoch with the lowest validation
    loss, of a member that may stop early.
    """

    initial: dict[str, np.ndarray]
    history: list[dict[str, float]] = field(default_factory=list)
    layers: list[list[list[float]]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    def of_length(self, seconds: float) -> dict[str, float]:
        """The metrics that every training has that has ended; seconds: those that it took."""
        return {schema.SECONDS: seconds, schema.EPOCHS: float(len(self.history))}


def diverged(member: Member, progress: Progress, layer_names: Sequence[str], seconds: float) -> Outcome:
    """The outcome of a member whose loss or weights are no longer finite; seconds: that its training took."""
    return Outcome(
        member,
        schema.DIVERGED,
        len(progress.history),
        progress.of_length(seconds) | metrics.of_network(progress.initial, schema.INITIAL),
        diagnostics.as_arrays(layer_names, progress.layers, progress.initial),
    )


def untested(member: Member, progress: Progress, outcome: str, seconds: float) -> Outcome:
    """The outcome of a member of which no test image is to be read; seconds: that its training took."""
    return Outcome(member, outcome, len(progress.history), progress.of_length(seconds))


def tested(
    evaluator: Evaluator, rows: Sequence[int], progress: Mapping[Member, Progress], outcome: str, seconds: float
) -> list[Outcome]:
    """The outcomes of members, by row: the one time that test images are read.

    seconds: that a member's training took; its share of what is done here is added.
    """
    began = time.perf_counter()
    logits, targets = evaluator.on_test_images(rows)
    scored = evaluation.scores(logits, [targets] * len(rows)), evaluator.on_known_images(rows)
    members = [evaluator.fleet.members[row] for row in rows]
    names = diagnostics.layer_names(evaluator.fleet)
    measured = []
    for row, member, of_member, on_test, on_train in zip(rows, members, logits, *scored, strict=True):
        log_probabilities, behind = F.log_softmax(of_member.double(), dim=1), progress[member]
        final = evaluator.probe(row)
        ended = metrics.Ended(
            behind.history, on_test.accuracy, on_test.loss, on_train.accuracy, log_probabilities, targets
        )
        numbers = {
            **metrics.of_training(ended),
            **metrics.of_network(behind.initial, schema.INITIAL),
            **metrics.of_network(final, schema.FINAL),
        }
        details = {
            "correct": on_test.correct,
            "confusion": diagnostics.confusion(log_probabilities, targets),
            **{schema.FINAL + name: values for name, values in final.items()},
            **diagnostics.as_arrays(names, behind.layers, behind.initial),
        }
        measured.append((member, numbers, details))
    seconds += (time.perf_counter() - began) / len(rows)
    return [
        Outcome(member, outcome, len(progress[member].history), numbers | progress[member].of_length(seconds), details)
        for member, numbers, details in measured
    ]
