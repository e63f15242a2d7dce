"""Fleets dealt to worker processes on this machine, and what they report, as one stream of events."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from study.engine import WHOLE, Checkpoints, Epoch, Extent, Outcome
from study.fleet import Member

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


Event = Started | Epoch | Outcome | Done | Failed

QUIET_SECONDS = 0.25


def default_workers(device: torch.device) -> int:
    """One process per core that this process may use, with one thread each; a GPU is driven by one."""
    if device.type == "cuda":
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def train_fleets(
    fleets: Sequence[Sequence[Member]],
    data_folder: Path,
    device: str,
    workers: int,
    checkpoints: Checkpoints | None = None,
) -> Generator[Event | None]:
    """Train fleets once, with workers hired for it: `Crew.train`."""
    with Crew(data_folder, device, workers) as crew:
        yield from crew.train(fleets, checkpoints)


class Crew:
    """Worker processes that stay while fleets come and go. They are hired when they are first needed."""

    def __init__(self, data_folder: Path, device: str, workers: int):
        self._task = _Task(data_folder, device, 1 if workers > 1 else None)
        self._size = workers
        self._idle: list[tuple[Connection, BaseProcess]] = []

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the workers go that are at rest; those at work are ended with the iterator that they work for."""
        for connection, process in self._idle:
            connection.close()  # whereupon the worker ends by itself
            process.join(timeout=5)
            process.terminate()
            process.join()
        self._idle.clear()

    def train(
        self, fleets: Sequence[Sequence[Member]], checkpoints: Checkpoints | None = None, extent: Extent = WHOLE
    ) -> Generator[Event | None]:
        """Train fleets side by side, each worker one at a time, in the given order; yields events as they come.

        With `checkpoints`, fleets are saved there as they train, and go on from there; removing them is up to the
        caller. Where no event comes for a while it yields None, so that the caller can look up from its waiting.
        Closing the iterator early ends the workers. A worker whose parent has died ends by itself, at its next report.
        """
        waiting = [(tuple(fleet), checkpoints, extent) for fleet in reversed(fleets)]
        at_work: dict[Connection, tuple[BaseProcess, tuple[Member, ...]]] = {}
        try:
            for _ in range(min(self._size, len(fleets))):
                connection, process = self._idle.pop() if self._idle else _hire(self._task)
                at_work[connection] = (process, ())
            for connection in list(at_work):
                yield from self._assign(connection, at_work, waiting)
            while at_work:
                happened = wait(list(at_work), timeout=QUIET_SECONDS)
                if not happened:
                    yield None
                for ready in happened:
                    assert isinstance(ready, Connection)
                    yield from self._receive(ready, at_work, waiting)
        finally:
            for process, _ in at_work.values():
                process.terminate()
            for process, _ in at_work.values():
                process.join()

    def _assign(self, connection, at_work, waiting) -> Iterator[Event]:
        """Give a worker its next fleet, or let it rest when there is none."""
        process, _ = at_work[connection]
        if not waiting:
            del at_work[connection]
            self._idle.append((connection, process))
            return
        order = waiting.pop()
        at_work[connection] = (process, order[0])
        # Of a worker that has died already, the end of its pipe tells in a moment.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.send(order)
        yield Started(order[0])

    def _receive(self, connection, at_work, waiting) -> Iterator[Event]:
        """Pass on what a worker sent; when its fleet is done, give it another one."""
        process, members = at_work[connection]
        try:
            message = connection.recv()
        except (EOFError, ConnectionResetError):
            # The worker died without a word: out of memory, most often. Another takes its place.
            process.join()
            del at_work[connection]
            connection.close()
            yield Failed(members, f"its worker process ended with exit code {process.exitcode}")
            if waiting:
                fresh, process = _hire(self._task)
                at_work[fresh] = (process, ())
                yield from self._assign(fresh, at_work, waiting)
            return
        if isinstance(message, str):
            yield Failed(members, message)
            yield from self._assign(connection, at_work, waiting)
        elif message is None:
            yield Done(members)
            yield from self._assign(connection, at_work, waiting)
        else:
            yield message


@dataclass(frozen=True)
class _Task:
    """What a worker is told when it is hired."""

    data_folder: Path
    device: str
    threads: int | None


def _hire(task: _Task) -> tuple[Connection, BaseProcess]:
    # Spawned, not forked: a child forked from a process with threads or a CUDA context may hang.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, task), daemon=True)
    process.start()
    theirs.close()
    return ours, process


def _work(connection: Connection, task: _Task) -> None:
    """A worker's life: take fleets and train them until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the coordinator, which ends its workers
    _keep_freed_memory()
    import torch

    from study.data import open_cached
    from study.engine import train

    if task.threads is not None:
        torch.set_num_threads(task.threads)
    device = torch.device(task.device)
    data = open_cached(task.data_folder).to(device)
    while True:
        try:
            members, checkpoints, extent = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            train(members, data, device, connection.send, checkpoints, extent)
            connection.send(None)
        except (BrokenPipeError, ConnectionResetError):
            return  # the coordinator is gone, and with it whoever wanted these results
        except Exception:
            connection.send(traceback.format_exc())


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
