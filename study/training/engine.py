"""Trains the members of a fleet to their ends: halves a fleet that is too large, saves it, and takes it up again.

`lockstep` trains an epoch, `outcomes` measures the members that have ended, `checkpoint` reads and writes files. None
of them knows MLflow or Optuna.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from cifar_ablations.ablations import schema
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.training import checkpoint
from cifar_ablations.study.training.backend import TORCH
from cifar_ablations.study.training.events import Epoch, Outcome
from cifar_ablations.study.training.fleet import Member, Shape, same_shape
from cifar_ablations.study.training.lockstep import Training, split
from cifar_ablations.study.training.step import want_of_memory

__all__ = ["Checkpoints", "Epoch", "Outcome", "Shape", "Training", "same_shape", "split", "train"]


@dataclass(frozen=True)
class Checkpoints:
    """The folder that fleets are saved in, and the fewest seconds between two times."""

    folder: Path
    seconds: float


def train(
    members: Sequence[Member],
    data: Dataset,
    device: torch.device,
    report: Callable[[Epoch | Outcome], None],
    checkpoints: Checkpoints | None = None,
    until_epoch: int | None = None,
    evaluate_test: bool = True,
    tick: Callable[[], None] = lambda: None,
    backend: str = TORCH,
    keep_weights: bool = False,
) -> None:
    """Train all members, in lockstep; `report` gets each one's epochs as they end, and its outcome last.

    A member whose loss or weights are no longer finite at an epoch's end is reported as diverged and leaves; one that
    its recipe stops early leaves too. The results of a member do not depend on the others in the fleet (bitwise in
    fp32 on a CPU), nor on whether it was interrupted: with `checkpoints`, members that were saved there go on from
    their last epoch, their earlier ones are reported first, and all must have been saved at the same one.

    With `until_epoch`, members are saved after that epoch and left, and have no outcome yet. Without
    `evaluate_test` no test image is read: what is chosen on them is no longer measured by them.

    A fleet that does not fit into the GPU's memory is halved until it does, and its halves trained in turn.
    `tick` is called after every step and every batch that is evaluated, as a sign of life; it must cost nothing.
    `backend` is one of `training.backend`'s; what one has saved another does not take up. With `keep_weights` an
    outcome brings the weights that it was measured with.
    """
    reported: dict[Member, int] = dict.fromkeys(members, 0)
    """The last epoch of members that have no outcome yet."""

    def report_once(event: Epoch | Outcome) -> None:
        if isinstance(event, Outcome):
            del reported[event.member]
        elif event.epoch <= reported[event.member]:
            return  # trained again after the fleet was halved
        else:
            reported[event.member] = event.epoch
        report(event)

    waiting = [list(members)]
    while waiting:
        fleet = [m for m in waiting.pop(0) if m in reported]
        work = partial(
            _train_together,
            fleet,
            data,
            device,
            report_once,
            checkpoints,
            until_epoch,
            evaluate_test,
            tick,
            backend,
            keep_weights,
        )
        if fleet and (obstacle := _want_of_memory(work)):
            if len(fleet) == 1:
                network = fleet[0].recipe.sized.model
                raise MemoryError(f"one training of {network} does not fit into the memory of {device}: {obstacle}")
            waiting = [fleet[: len(fleet) // 2], fleet[len(fleet) // 2 :], *waiting]


def _want_of_memory(work: Callable[[], None]) -> str:
    """Do the work; "" if memory suffices, or else what was said of it."""
    try:
        work()
    except RuntimeError as error:
        if not want_of_memory(error):
            raise
        said = str(error).partition("\n")[0] or type(error).__name__
    else:
        return ""
    # Only here has the exception let go of the frames that hold the fleet's memory.
    torch.cuda.empty_cache()
    return said


def _train_together(
    members: Sequence[Member],
    data: Dataset,
    device: torch.device,
    report: Callable[[Epoch | Outcome], None],
    checkpoints: Checkpoints | None,
    until_epoch: int | None,
    evaluate_test: bool,
    tick: Callable[[], None],
    backend: str,
    keep_weights: bool,
) -> None:
    training = Training(members, data, device, evaluate_test, tick, backend, keep_weights)
    path = None
    if checkpoints is not None:
        path = checkpoint.path_of(checkpoints.folder, members, data.digest, backend)
        for past in training.go_on(checkpoint.find(checkpoints.folder, data.digest, device, backend)):
            report(past)
    saved_at = time.perf_counter()
    last = training.budget.epochs if until_epoch is None else min(until_epoch, training.budget.epochs)
    with checkpoint.Writer() as writer:
        while training.fleet.members and training.epoch < last:
            for event in training.run_epoch():
                report(event)
            if path is not None and checkpoints is not None and time.perf_counter() - saved_at >= checkpoints.seconds:
                if training.fleet.members:
                    writer.save(path, *training.copied())
                saved_at = time.perf_counter()
        if last < training.budget.epochs and training.fleet.members:
            assert path is not None, "what is left in the middle must be saved"
            writer.save(path, *training.copied())
        writer.wait()
    if last < training.budget.epochs:
        return
    for outcome in training.outcomes(range(len(training.fleet.members)), schema.FINISHED):
        report(outcome)
