"""Fleets dealt to worker processes on this machine, and what they report, as one stream of events.

A worker that stands still is noticed by its silence and ended. Its fleet, or that of one that died, is given to
another one, once.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cifar_ablations.ablations import extensions
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.extensions import Extension
from cifar_ablations.study.execution.cores import cores
from cifar_ablations.study.execution.starting import (
    ctrl_c_kept_out,
    current_folder_kept_out,
    main_kept_out,
    prepare,
    start_method,
)
from cifar_ablations.study.training.backend import TORCH
from cifar_ablations.study.training.engine import Checkpoints, Epoch, Outcome
from cifar_ablations.study.training.fleet import Member

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Started:
    """A worker has begun a fleet."""

    members: tuple[Member, ...]


@dataclass(frozen=True)
class Done:
    """A fleet is through: every member's outcome has been told."""

    members: tuple[Member, ...]


@dataclass(frozen=True)
class Failed:
    """A fleet ended in an error; those of its members that had not ended before have no result."""

    members: tuple[Member, ...]
    why: str
    lost: bool = False
    """Whether its worker was lost, which says nothing about the members: they may well succeed another time."""


@dataclass(frozen=True)
class Stalled:
    """A worker stood still and was ended, or its process died; these members, without an outcome so far, go on."""

    members: tuple[Member, ...]
    why: str


Event = Started | Epoch | Outcome | Done | Failed | Stalled

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


def default_workers(device: torch.device) -> int:
    """One process per core that this process may use, with one thread each; a GPU is driven by one."""
    return 1 if device.type == "cuda" else cores()


THREADS = 1
"""Over how many threads torch shares out its work in a worker, whatever the number of workers and cores and whatever
OMP_NUM_THREADS says: a sum over several may differ in its last bit, and with it all that is trained."""


def train_fleets(
    fleets: Sequence[Sequence[Member]],
    data_folder: Path,
    device: str,
    workers: int,
    checkpoints: Checkpoints | None = None,
    backend: str = TORCH,
) -> Generator[Event | None]:
    """Train fleets once, with workers started for it: `WorkerPool.train`."""
    with WorkerPool(data_folder, device, workers, backend=backend) as pool:
        yield from pool.train(fleets, checkpoints)


class WorkerPool:
    """Worker processes that stay while fleets come and go. They are started when they are first needed."""

    def __init__(
        self,
        data_folder: Path,
        device: str,
        workers: int,
        patience: Patience = PATIENCE,
        backend: str = TORCH,
        known: tuple[Extension, ...] = (),
    ):
        """known: the extensions that workers are to know; environment and current folder are not asked there."""
        self._task = _Task(data_folder, device, max(1, cores() // workers), backend, known)
        self._size = workers
        self._patience = patience
        self._idle: list[_Worker] = []

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers that are at rest; those at work are ended with the iterator that they work for."""
        self._end(self._idle)
        self._idle.clear()

    def train(
        self,
        fleets: Sequence[Sequence[Member]],
        checkpoints: Checkpoints | None = None,
        until_epoch: int | None = None,
        evaluate_test: bool = True,
        keep_weights: bool = False,
    ) -> Generator[Event | None]:
        """Train fleets side by side, each worker one at a time, in the given order; yields events as they come.

        With `checkpoints`, fleets are saved there as they train, and go on from there; removing them is up to the
        caller. Where no event comes for a while it yields None, so that the caller can look up from its waiting.
        Closing the iterator early ends the workers. A worker whose parent has died ends by itself, at once.

        A worker that stands still is ended. Those of its fleet, or of one whose process has died, that have no outcome
        yet go on with another worker, after a Stalled: from their checkpoint, or else from the beginning, their earlier
        epochs told again. Where that one stands still or dies too, they have failed.
        """
        how = checkpoints, until_epoch, evaluate_test, keep_weights
        waiting = [_Order(tuple(fleet), *how) for fleet in reversed(fleets)]
        at_work: dict[Connection, _Job] = {}
        count = min(self._size, len(fleets))
        while len(self._idle) < count:  # all at once: it takes them seconds to start
            self._idle.append(_start(self._task))
        try:
            for _ in range(count):
                yield from self._assign(at_work, waiting)
            while at_work:
                happened = wait(list(at_work), timeout=QUIET_SECONDS)
                if not happened:
                    yield None
                for ready in happened:  # of a kind of its own on Windows
                    yield from self._receive(at_work[cast(Connection, ready)], at_work, waiting)
                for job in list(at_work.values()):
                    if job.watch.is_stuck(job.worker.ticks.value, time.monotonic()):
                        why = f"its worker made no progress for {job.watch.silence:.0f} s; it was ended"
                        yield from self._give_up(job, why, at_work, waiting)
        finally:
            self._end([job.worker for job in at_work.values()])

    def _assign(self, at_work: dict[Connection, _Job], waiting: list[_Order]) -> Iterator[Event]:
        """Give the next fleet, where there is one, to a worker at rest, or to a new one."""
        if not waiting:
            return
        order = waiting.pop()
        worker = self._idle.pop() if self._idle else _start(self._task)
        watch = Watch(self._patience, worker.ticks.value, time.monotonic())
        at_work[worker.connection] = _Job(worker, order, watch, dict.fromkeys(order.members))
        # Of a worker that has died already, the end of its pipe tells in a moment.
        with suppress(BrokenPipeError, ConnectionResetError):
            worker.connection.send(
                (order.members, order.checkpoints, order.until_epoch, order.evaluate_test, order.keep_weights)
            )
        yield Started(order.members)

    def _receive(self, job: _Job, at_work: dict[Connection, _Job], waiting: list[_Order]) -> Iterator[Event]:
        """Pass on what a worker sent; when its fleet is done, give it another one."""
        worker, members = job.worker, job.order.members
        try:
            message = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            # The worker died without a word: out of memory, most often.
            worker.process.join(timeout=self._patience.leaving_seconds)
            code = worker.process.exitcode
            yield from self._give_up(job, f"its worker process ended with exit code {code}", at_work, waiting)
            return
        job.watch.heard(message)
        if isinstance(message, Epoch | Outcome):
            if isinstance(message, Outcome):
                del job.left[message.member]
            yield message
            return
        del at_work[worker.connection]
        self._idle.append(worker)
        yield Done(members) if message is None else Failed(members, message)
        yield from self._assign(at_work, waiting)

    def _give_up(self, job: _Job, why: str, at_work: dict[Connection, _Job], waiting: list[_Order]) -> Iterator[Event]:
        """End a worker, if it has not ended; what is left of its fleet goes to another one, or has failed."""
        self._end([job.worker])
        del at_work[job.worker.connection]
        left = tuple(job.left)
        if not left:
            yield Done(job.order.members)
        elif job.order.again:
            yield Failed(left, f"{why}, for the second time", lost=True)
        else:
            waiting.append(replace(job.order, members=left, again=True))
            yield Stalled(left, why)
        yield from self._assign(at_work, waiting)

    def _end(self, workers: Sequence[_Worker]) -> None:
        """Kill workers: they have nothing to put in order, and a stopped process does not hear anything milder."""
        for worker in workers:
            worker.connection.close()
            worker.process.kill()
        for worker in workers:
            worker.process.join(timeout=self._patience.leaving_seconds)


@dataclass(frozen=True)
class _Order:
    """A fleet to be trained."""

    members: tuple[Member, ...]
    checkpoints: Checkpoints | None
    until_epoch: int | None
    evaluate_test: bool
    keep_weights: bool
    again: bool = False
    """Whether a first worker was lost at it."""


@dataclass(frozen=True)
class _Worker:
    """A worker process, as the coordinator knows it."""

    connection: Connection
    process: BaseProcess
    ticks: ctypes.c_uint64
    """Counted up by the worker in memory that both see: no lock that it could hold when it stops, no system call."""


@dataclass(frozen=True)
class _Job:
    """A worker at a fleet."""

    worker: _Worker
    order: _Order
    watch: Watch
    left: dict[Member, None]
    """The members without an outcome so far, in order."""


@dataclass(frozen=True)
class _Task:
    """The settings that a worker gets when it starts."""

    data_folder: Path
    device: str
    kernel_threads: int
    """Over how many threads the kernels share out their work: no bit depends on it."""
    backend: str
    extensions: tuple[Extension, ...]


def _start(task: _Task) -> _Worker:
    # Never forked from the coordinator: a child forked from a process with threads or a CUDA context may hang.
    prepare(task.device)
    forked = start_method(task.device) == "forkserver"
    context = multiprocessing.get_context("forkserver") if forked else multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    ticks = context.RawValue(ctypes.c_uint64)
    process = context.Process(target=_work, args=(theirs, task, ticks), daemon=True)
    with current_folder_kept_out(), ctrl_c_kept_out(), main_kept_out():
        process.start()
    theirs.close()
    return _Worker(ours, process, ticks)


def _work(connection: Connection, task: _Task, ticks: ctypes.c_uint64) -> None:
    """A worker's life: take fleets and train them until there are no more."""

    def tick() -> None:
        ticks.value += 1

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the coordinator, which ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tick()
    _keep_freed_memory()
    import torch

    from cifar_ablations.study.data.dataset import open_cached
    from cifar_ablations.study.training.engine import train
    from cifar_ablations.study.training.kernels import kernel_backend

    tick()
    torch.set_num_threads(THREADS)
    kernel_backend.use_threads(task.kernel_threads)
    device = torch.device(task.device)
    data = open_cached(task.data_folder).to(device)
    unusable = _unusable(task.extensions)
    while True:
        why = unusable
        tick()
        try:
            members, checkpoints, until_epoch, evaluate_test, keep_weights = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        except Exception:  # of code of an extension that its recipes name
            why = why or traceback.format_exc()
        tick()
        try:
            if why:
                connection.send(why)
                continue
            train(
                members,
                data,
                device,
                connection.send,
                checkpoints,
                until_epoch,
                evaluate_test,
                tick,
                task.backend,
                keep_weights,
            )
            connection.send(None)
        except (BrokenPipeError, ConnectionResetError):
            return  # the coordinator is gone, and with it whoever wanted these results
        except Exception:
            connection.send(traceback.format_exc())


def _end_with_parent() -> None:
    """End this process as soon as the coordinator has ended, however it did: nobody wants its results any more."""
    coordinator = multiprocessing.parent_process()
    assert coordinator is not None
    wait([coordinator.sentinel])
    os._exit(1)


def _unusable(given: tuple[Extension, ...]) -> str:
    """Make these extensions known to this process; why that cannot be, "" where it can."""
    try:
        extensions.only(given)
    except AblateError as error:
        return str(error)
    except (Exception, SystemExit):
        return traceback.format_exc()
    return ""


def _keep_freed_memory() -> None:
    """Have the C library keep what is freed for the next step.

    glibc gives large blocks back to the system and gets them afresh, page fault by page fault: about a tenth of a
    step's time on a CPU.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
