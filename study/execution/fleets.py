"""Trains members in fleets on a pool of workers, for a plan or a search, and passes their reports to a listener."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from cifar_ablations.study.execution.invocation import Surroundings
from cifar_ablations.study.execution.sizing import fleet_size, pack
from cifar_ablations.study.execution.workers import Done, Failed, Stalled, Started
from cifar_ablations.study.training.engine import Checkpoints, Epoch, Outcome
from cifar_ablations.study.training.fleet import Member


@dataclass
class Progress:
    """How far a plan or a search has come; handed to whoever shows it after every event."""

    unit: str
    """What is counted: "trainings" or "trials"."""
    total: int = 0
    done: int = 0
    """Those that have ended and that the same command would not train again."""
    epochs_total: int = 0
    epochs_done: int = 0
    """The epochs trained, and those that a training or trial which ended early no longer needs."""
    diverged: int = 0
    pruned: int = 0
    best: float | None = None
    """The highest validation accuracy of a search's finished trials."""
    failed: dict[str, str] = field(default_factory=dict)
    """Names of those that raised an error, or stood still twice, and why."""
    stalled: list[str] = field(default_factory=list)
    """A sentence for each fleet whose worker stood still and was ended: who goes on with another one, and why."""

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
        self._invocation, self._folder = invocation, folder
        self._show, self._stopped = show, stopped
        self._pool = invocation.pool()
        self._fleet_size = 0

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
    ) -> None:
        """Train members to their end, or until an epoch, from their checkpoints where they have any.

        All members are taken to need about the first one's memory. Raises KeyboardInterrupt, with the workers ended,
        when `stopped` says so.
        """
        if not self._fleet_size:
            self._fleet_size = fleet_size(members[0].recipe, self._invocation.data, self._invocation.device)
        behind = self._invocation.epochs_behind(self._folder, members)
        fleets = pack(members, self._invocation.workers, self._fleet_size, behind)
        checkpoints = Checkpoints(self._folder, self._invocation.save_every)
        with closing(self._pool.train(fleets, checkpoints, until_epoch, evaluate_test)) as events:
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
                self.show()
                if self._stopped():
                    raise KeyboardInterrupt
