"""Fleets dealt to workers, and what these report, as one stream of events.

Who the workers are, processes on this machine or tasks on a cluster, is their crew's business. A worker that stands
still is noticed by its silence and ended. Its fleet, or that of one that was lost, is given to another one, once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from cifar_ablations.study.execution.events import Done, Elsewhere, Event, Failed, Stalled, Started
from cifar_ablations.study.training.engine import Checkpoints, Epoch, Outcome
from cifar_ablations.study.training.fleet import Member

QUIET_SECONDS = 0.25
"""How long the coordinator waits for an event before it looks up."""

LONGEST_LOOK_SECONDS = 1.0
"""What one look at a worker adds to its silence at most. Between two looks the coordinator may have written to a slow
store, or the whole program may have been suspended, the workers with it: that is no silence of theirs."""


@dataclass(frozen=True)
class Patience:
    """How long a worker may show no sign of life (a step, an evaluated batch, a report) before it counts as stuck.

    Too long costs some minutes of one worker; too short ends trainings that would have come to their end.
    """

    starting_seconds: float = 600.0
    """Until a fleet's first epoch is through: torch is imported from a slow disk, CUDA sets up its context, kernels are
    tried out, steps captured as graphs, fleets halved. A GPU also takes a whole epoch's steps into its queue, so that
    the host waits for them in silence, and nothing has been measured yet."""
    floor_seconds: float = 120.0
    """After that. A step takes seconds at most; a laptop that throttles, a machine that swaps, or the writing of a
    checkpoint to a slow disk, may hold it up for a minute."""
    factor: float = 20.0
    """Times the fleet's longest silence so far, where that is more: a step does not take twenty times as long as the
    slowest one before, unless it never ends."""
    leaving_seconds: float = 5.0
    """How long a worker that ends is waited for: one that hangs in a driver stays until the driver lets it go."""


PATIENCE = Patience()


class Watch:
    """The silence of a worker at one fleet, counted while the coordinator is awake."""

    def __init__(self, patience: Patience, ticks: int, now: float):
        self._patience, self._ticks, self._looked = patience, ticks, now
        self.silence = 0.0
        self._longest = 0.0
        self._at_pace = False

    def heard(self, message: object) -> None:
        """Note that a report has come: the silence is over."""
        self._longest, self.silence = max(self._longest, self.silence), 0.0
        self._at_pace |= isinstance(message, Epoch) and not message.past

    def is_stuck(self, ticks: int, now: float) -> bool:
        """Whether the worker has been silent for too long.

        To be asked again and again, with its count of ticks and a clock's seconds.
        """
        if ticks != self._ticks:
            self._ticks = ticks
            self.heard(None)
        else:
            self.silence += min(now - self._looked, LONGEST_LOOK_SECONDS)
        self._looked = now
        least = self._patience.floor_seconds if self._at_pace else self._patience.starting_seconds
        return self.silence > max(least, self._patience.factor * self._longest)


@dataclass(frozen=True)
class Order:
    """A fleet to be trained, and how: `WorkerPool.train`."""

    members: tuple[Member, ...]
    checkpoints: Checkpoints | None = None
    until_epoch: int | None = None
    evaluate_test: bool = True
    keep_weights: bool = False
    again: bool = False
    """Whether a first worker was lost at it."""


@dataclass(frozen=True)
class Report:
    """That a worker is through with its fleet."""

    why: str = ""
    """What went wrong; "" where nothing did."""


@dataclass(frozen=True)
class Beat:
    """That a worker lives, and nothing else."""


Message = Epoch | Outcome | Report | Beat


class LostError(Exception):
    """A worker is gone, and says nothing more; its text is a clause that says how it went."""


class Worker(Protocol):
    """Trains one fleet after another."""

    @property
    def ticks(self) -> int:
        """How many signs of life it has shown."""

    def send(self, order: Order) -> None:
        """Have it train a fleet. Of one that is lost, `receive` will tell."""

    def receive(self) -> Message:
        """The next thing that it says, once its crew's `wait` has named it. Raises LostError."""


W = TypeVar("W", bound=Worker)


class Crew(Protocol[W]):
    """Starts workers, listens to them and ends them."""

    def start(self) -> W:
        """A worker at rest."""

    def wait(self, workers: Collection[W], seconds: float) -> Sequence[W]:
        """Those that have something to say or are lost; after so many seconds, none."""

    def end(self, workers: Sequence[W]) -> None:
        """End workers at once, whatever they do, and return when they are gone or cannot be waited for."""


class WorkerPool(Generic[W]):
    """Workers that stay while fleets come and go. They are started when they are first needed."""

    def __init__(
        self,
        crew: Crew[W],
        workers: int,
        patience: Patience = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ):
        """workers: how many there are at most; clock: in seconds."""
        self._crew, self._size, self._patience, self._clock = crew, workers, patience, clock
        self._idle: list[W] = []

    def __enter__(self) -> WorkerPool[W]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers that are at rest; those at work are ended with the iterator that they work for."""
        self._crew.end(self._idle)
        self._idle.clear()

    def train(
        self,
        fleets: Sequence[Sequence[Member]],
        checkpoints: Checkpoints | None = None,
        until_epoch: int | None = None,
        evaluate_test: bool = True,
        keep_weights: bool = False,
        claim: Callable[[tuple[Member, ...]], Collection[Member]] | None = None,
    ) -> Generator[Event | None]:
        """Train fleets side by side, each worker one at a time, in the given order; yields events as they come.

        With `checkpoints`, fleets are saved there as they train, and go on from there; removing them is up to the
        caller. In between it yields None, so that the caller can look up from its waiting.
        Closing the iterator early ends the workers. A worker whose parent has died ends by itself, at once.

        claim: is given each fleet before a worker is, and says which of it are to be trained here; of the others it
        yields an Elsewhere.

        A worker that stands still is ended. Those of its fleet, or of one that is lost, that have no outcome yet go on
        with another worker, after a Stalled: from their checkpoint, or else from the beginning, their earlier epochs
        told again. Where that one stands still or is lost too, they have failed.
        """
        how = checkpoints, until_epoch, evaluate_test, keep_weights
        waiting = [Order(tuple(fleet), *how) for fleet in reversed(fleets)]
        work: _Work[W] = _Work(waiting, claim)
        count = min(self._size, len(fleets))
        while len(self._idle) < count:  # all at once: it takes them seconds to start
            self._idle.append(self._crew.start())
        looked = self._clock()
        try:
            for _ in range(count):
                yield from self._assign(work)
            while work.jobs:
                happened = self._crew.wait(work.jobs.keys(), QUIET_SECONDS)
                if not happened:
                    yield None
                for worker in happened:
                    if worker in work.jobs:
                        yield from self._receive(worker, work)
                now = self._clock()
                if now - looked < QUIET_SECONDS and happened:
                    continue
                looked = now
                for worker, job in list(work.jobs.items()):
                    if job.watch.is_stuck(worker.ticks, now):
                        why = f"its worker made no progress for {job.watch.silence:.0f} s; it was ended"
                        yield from self._give_up(worker, why, work)
        finally:
            self._crew.end(list(work.jobs))

    def _assign(self, work: _Work[W]) -> Iterator[Event]:
        """Give the next fleet, where there is one, to a worker at rest, or to a new one."""
        order = None
        while order is None:
            if not work.waiting:
                return
            order, elsewhere = work.next()
            if elsewhere:
                yield Elsewhere(elsewhere)
        worker = self._idle.pop() if self._idle else self._crew.start()
        watch = Watch(self._patience, worker.ticks, self._clock())
        work.jobs[worker] = _Job(order, watch, dict.fromkeys(order.members))
        worker.send(order)
        yield Started(order.members)

    def _receive(self, worker: W, work: _Work[W]) -> Iterator[Event | None]:
        """Pass on what a worker says, None for a mere sign of life; when its fleet is done, give it another one."""
        job = work.jobs[worker]
        try:
            message = worker.receive()
        except LostError as lost:
            yield from self._give_up(worker, str(lost), work)
            return
        job.watch.heard(message)
        match message:
            case Beat():
                yield None
            case Epoch():
                yield message
            case Outcome():
                del job.left[message.member]
                yield message
            case Report():
                del work.jobs[worker]
                self._idle.append(worker)
                yield Failed(job.order.members, message.why) if message.why else Done(job.order.members)
                yield from self._assign(work)

    def _give_up(self, worker: W, why: str, work: _Work[W]) -> Iterator[Event]:
        """End a worker, if it has not ended; what is left of its fleet goes to another one, or has failed."""
        self._crew.end([worker])
        job = work.jobs.pop(worker)
        left = tuple(job.left)
        if not left:
            yield Done(job.order.members)
        elif job.order.again:
            yield Failed(left, f"{why}, for the second time", lost=True)
        else:
            work.waiting.append(replace(job.order, members=left, again=True))
            yield Stalled(left, why)
        yield from self._assign(work)


@dataclass(frozen=True)
class _Job:
    """A fleet that a worker is at."""

    order: Order
    watch: Watch
    left: dict[Member, None]
    """The members without an outcome so far, in order."""


class _Work(Generic[W]):
    """The fleets of one call: those that wait, the next one last, and those that workers are at."""

    def __init__(self, waiting: list[Order], claim: Callable[[tuple[Member, ...]], Collection[Member]] | None):
        self.waiting = waiting
        self.jobs: dict[W, _Job] = {}
        self._claim = claim

    def next(self) -> tuple[Order | None, tuple[Member, ...]]:
        """The next fleet, as far as it is to be trained here, and those of it that are not."""
        order = self.waiting.pop()
        if self._claim is None or order.again:  # what was lost here is still this call's
            return order, ()
        ours = set(self._claim(order.members))
        elsewhere = tuple(member for member in order.members if member not in ours)
        left = tuple(member for member in order.members if member in ours)
        return replace(order, members=left) if left else None, elsewhere
