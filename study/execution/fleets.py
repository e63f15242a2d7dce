"""Trains members in fleets on a pool of workers, for a plan or a search, and passes their reports to a listener."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from cifar_ablations.ablations.budget import Sized
from cifar_ablations.study.execution.events import Done, Elsewhere, Failed, Stalled, Started
from cifar_ablations.study.execution.invocation import Surroundings
from cifar_ablations.study.execution.pace import Pace
from cifar_ablations.study.execution.sizing import fleet_size, hungriest, pack
from cifar_ablations.study.training.engine import Checkpoints, Epoch, Outcome
from cifar_ablations.study.training.fleet import Member

TRAININGS, TRIALS = "trainings", "trials"


@dataclass
class Progress:
    """How far a plan or a search has come; handed to whoever shows it after every event."""

    unit: str
    """What is counted: TRAININGS or TRIALS."""
    total: int = 0
    done: int = 0
    """Those that have ended and that the same command would not train again."""
    epochs_total: int = 0
    epochs_done: int = 0
    """The epochs trained, and those that a training or trial which ended early no longer needs."""
    diverged: int = 0
    pruned: int = 0
    part: str = ""
    """What of a search in several parts is at work: the time left is its own."""
    best: float | None = None
    """The highest validation accuracy of a search's finished trials."""
    leading: tuple[str, float, int] | None = None
    """The arm with the highest mean test accuracy, that mean, and over how many seeds: those that every arm has."""
    pace: Pace | None = None
    began: float | None = None
    """When the first fleet began, by time.monotonic()."""
    seeds_done: int = 0
    """The seeds of a plan that this call has completed: every arm has its result."""
    failed: dict[str, str] = field(default_factory=dict)
    """Names of those that raised an error, or lost two workers, and why."""
    elsewhere: int = 0
    """Those of a plan that another coordinator trained meanwhile, which are among the done."""
    epochs_elsewhere: int = 0
    """Their epochs, which are among those done."""
    waiting_for: list[str] = field(default_factory=list)
    """The coordinators that have in hand all that is left."""
    stalled: list[str] = field(default_factory=list)
    """A sentence for each fleet whose worker stood still or died: who goes on with another one, and why."""

    def per_second(self) -> float | None:
        """The pace since training began, in trainings or trials; None before it is known."""
        own = self.epochs_done - self.epochs_elsewhere
        if self.began is None or not own:
            return None
        return self.total * own / self.epochs_total / max(1e-9, time.monotonic() - self.began)

    def seconds_left(self) -> float | None:
        """About how long the rest will take; None before that is known.

        Trials are asked for while others end, and some are pruned: only the pace of the whole says what they take.
        """
        of_call = self.pace.seconds_left() if self.pace else None
        if self.unit == TRAININGS or of_call is None:
            return of_call
        pace = self.per_second()
        if not self.done or pace is None:
            return None
        return max(of_call, (1 - self.epochs_done / self.epochs_total) * self.total / pace)

    def add_stalled(self, names: Sequence[str], why: str) -> None:
        """Note a fleet whose worker was ended, by the names of its trainings or trials."""
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        self.stalled.append(f"{names[0]}{more}: {why}, and another goes on")


class Listener:
    """Receives the events of fleets; each method does nothing unless it is overridden."""

    def started(self, event: Started) -> None:
        """A worker has begun a fleet."""

    def epoch(self, event: Epoch) -> None:
        """A member has ended an epoch."""

    def outcome(self, event: Outcome) -> None:
        """A member has ended."""

    def done(self, event: Done) -> None:
        """All members of a fleet have ended."""

    def stalled(self, event: Stalled) -> None:
        """Members are about to start again, on another worker."""

    def failed(self, event: Failed) -> None:
        """A fleet has ended in an error; members that had ended before keep their outcome."""

    def elsewhere(self, event: Elsewhere) -> None:
        """Members are not trained here."""


class Trainer:
    """Trains members for one invocation, with checkpoints in a folder, and shows the progress as they report.

    The pool's workers stay between two calls of `train`; `close` ends them.
    """

    def __init__(
        self,
        invocation: Surroundings,
        folder: Path,
        progress: Progress,
        show: Callable[[Progress], None],
        stopped: Callable[[], bool],
    ):
        self.progress = progress
        self._pace = progress.pace = Pace(invocation.workers)
        self._invocation, self._folder = invocation, folder
        self._show, self._stopped = show, stopped
        self._pool = invocation.pool()
        self._fleet_sizes: dict[Sized, int] = {}

    def close(self) -> None:
        """End the workers."""
        self._pool.close()

    def show(self) -> None:
        """Show the progress."""
        self._show(self.progress)

    def train(
        self,
        members: Sequence[Member],
        listener: Listener,
        until_epoch: int | None = None,
        evaluate_test: bool = True,
        keep_weights: bool = False,
        claim: Callable[[tuple[Member, ...]], Collection[Member]] | None = None,
    ) -> None:
        """Train members to their end, or until an epoch, from their checkpoints where they have any.

        keep_weights: whether outcomes bring the weights that they were measured with. All members are taken to need
        the memory of the hungriest. claim: which members of a fleet are to be trained here, asked before each.

        Raises KeyboardInterrupt, with the workers ended, when `stopped` says so.
        """
        invocation, hungry = self._invocation, hungriest(members)
        size = self._fleet_sizes.get(hungry.sized)
        if size is None:
            size = fleet_size(hungry, invocation.data, invocation.device, invocation.backend)
            self._fleet_sizes[hungry.sized] = size
        behind = invocation.epochs_behind(self._folder, members)
        fleets = pack(members, invocation.workers, size, behind)
        self._pace.expect(fleets, behind, until_epoch, evaluate_test)
        checkpoints = Checkpoints(self._folder, invocation.save_every)
        with closing(self._pool.train(fleets, checkpoints, until_epoch, evaluate_test, keep_weights, claim)) as events:
            for event in events:
                match event:
                    case Started():
                        listener.started(event)
                    case Epoch():
                        listener.epoch(event)
                    case Outcome():
                        listener.outcome(event)
                    case Done():
                        listener.done(event)
                    case Stalled():
                        listener.stalled(event)
                    case Failed():
                        listener.failed(event)
                    case Elsewhere():
                        listener.elsewhere(event)
                self._pace.hear(event)
                if self.progress.began is None:
                    self.progress.began = time.monotonic()
                self.show()
                if self._stopped():
                    raise KeyboardInterrupt
