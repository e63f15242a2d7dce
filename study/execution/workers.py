"""Workers that are processes on this machine."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Collection, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from cifar_ablations.ablations import extensions
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.extensions import Extension
from cifar_ablations.study.execution.cores import cores
from cifar_ablations.study.execution.events import Event
from cifar_ablations.study.execution.pool import PATIENCE, LostError, Message, Order, Patience, Report, WorkerPool
from cifar_ablations.study.execution.starting import (
    ctrl_c_kept_out,
    current_folder_kept_out,
    main_kept_out,
    prepare,
    start_method,
)
from cifar_ablations.study.training.backend import TORCH
from cifar_ablations.study.training.engine import Checkpoints
from cifar_ablations.study.training.fleet import Member

if TYPE_CHECKING:
    import torch


def default_workers(device: torch.device) -> int:
    """One process per core that this process may use, with one thread each; each GPU is driven by one."""
    return len(gpus(str(device))) if device.type == "cuda" else cores()


def gpus(device: str) -> tuple[str, ...]:
    """The GPUs that `cuda` stands for: all of the model of the first, since others would round otherwise."""
    if device != "cuda":
        return (device,)
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    alike = tuple(f"cuda:{index}" for index, name in enumerate(names) if name == names[0])
    return alike if len(alike) > 1 else (device,)


THREADS = 1
"""Over how many threads torch shares out its work in a worker, whatever the number of workers and cores and whatever
OMP_NUM_THREADS says: a sum over several may differ in its last bit, and with it all that is trained."""


@dataclass(frozen=True)
class Settings:
    """What a worker gets when it starts."""

    data_folder: Path
    device: str
    kernel_threads: int
    """Over how many threads the kernels share out their work: no bit depends on it."""
    backend: str = TORCH
    extensions: tuple[Extension, ...] = ()
    """Those that it is to know; environment and current folder are not asked there."""


def local_pool(
    data_folder: Path,
    device: str,
    workers: int,
    patience: Patience = PATIENCE,
    backend: str = TORCH,
    known: tuple[Extension, ...] = (),
) -> WorkerPool[Process]:
    """Worker processes on this machine; known: the extensions that they are to know."""
    settings = Settings(data_folder, device, max(1, cores() // workers), backend, known)
    return WorkerPool(Processes(settings, patience.leaving_seconds), workers, patience)


def train_fleets(
    fleets: Sequence[Sequence[Member]],
    data_folder: Path,
    device: str,
    workers: int,
    checkpoints: Checkpoints | None = None,
    backend: str = TORCH,
) -> Generator[Event | None]:
    """Train fleets once, with workers started for it: `WorkerPool.train`."""
    with local_pool(data_folder, device, workers, backend=backend) as pool:
        yield from pool.train(fleets, checkpoints)


@dataclass(frozen=True, eq=False)
class Process:
    """A worker process, as the coordinator knows it."""

    connection: Connection
    process: BaseProcess
    counter: ctypes.c_uint64
    """Counted up by the worker in memory that both see: no lock that it could hold when it stops, no system call."""
    device: str
    leaving_seconds: float

    @property
    def ticks(self) -> int:
        """How many signs of life it has shown."""
        return self.counter.value

    def send(self, order: Order) -> None:
        """Have it train a fleet."""
        # Of a worker that has died already, the end of its pipe tells in a moment.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(order)

    def receive(self) -> Message:
        """The next thing that it says. Raises LostError."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, ConnectionResetError):
            # The worker died without a word: out of memory, most often.
            self.process.join(timeout=self.leaving_seconds)
            raise LostError(f"its worker process ended with exit code {self.process.exitcode}") from None
        return message


class Processes:
    """The worker processes of a pool."""

    def __init__(self, settings: Settings, leaving_seconds: float):
        """leaving_seconds: how long one that ends is waited for."""
        self._settings, self._leaving_seconds = settings, leaving_seconds
        self._devices = Counter(dict.fromkeys(gpus(settings.device), 0))
        """How many workers each device has."""

    def start(self) -> Process:
        """A worker process, at rest."""
        # Never forked from the coordinator: a child forked from a process with threads or a CUDA context may hang.
        device = min(self._devices, key=lambda name: self._devices[name])
        self._devices[device] += 1
        settings = replace(self._settings, device=device)
        prepare(device)
        forked = start_method(device) == "forkserver"
        context = multiprocessing.get_context("forkserver") if forked else multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        ticks = context.RawValue(ctypes.c_uint64)
        process = context.Process(target=_work, args=(theirs, settings, ticks), daemon=True)
        with current_folder_kept_out(), ctrl_c_kept_out(), main_kept_out():
            process.start()
        theirs.close()
        return Process(ours, process, ticks, device, self._leaving_seconds)

    def wait(self, workers: Collection[Process], seconds: float) -> list[Process]:
        """Those that have something to say or have died; after so many seconds, none."""
        by_connection = {worker.connection: worker for worker in workers}
        return [by_connection[ready] for ready in wait(list(by_connection), seconds)]  # type: ignore[index]

    def end(self, workers: Sequence[Process]) -> None:
        """Kill workers: they have nothing to put in order, and a stopped process does not hear anything milder."""
        for worker in workers:
            worker.connection.close()
            worker.process.kill()
            self._devices[worker.device] -= 1
        for worker in workers:
            worker.process.join(timeout=self._leaving_seconds)


def _work(connection: Connection, task: Settings, ticks: ctypes.c_uint64) -> None:
    """A worker's life: take fleets and train them until there are no more."""

    def tick() -> None:
        ticks.value += 1

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the coordinator, which ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tick()
    keep_freed_memory()
    import torch

    from cifar_ablations.study.data.dataset import open_cached
    from cifar_ablations.study.training.engine import train
    from cifar_ablations.study.training.kernels import kernel_backend

    tick()
    torch.set_num_threads(THREADS)
    kernel_backend.use_threads(task.kernel_threads)
    device = torch.device(task.device)
    data = open_cached(task.data_folder).to(device)
    cannot = unusable(task.extensions)
    while True:
        why = cannot
        tick()
        try:
            order: Order = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        except Exception:  # of code of an extension that its recipes name
            why = why or traceback.format_exc()
        tick()
        try:
            if why:
                connection.send(Report(why))
                continue
            train(
                order.members,
                data,
                device,
                connection.send,
                order.checkpoints,
                order.until_epoch,
                order.evaluate_test,
                tick,
                task.backend,
                order.keep_weights,
            )
            connection.send(Report())
        except (BrokenPipeError, ConnectionResetError):
            return  # the coordinator is gone, and with it whoever wanted these results
        except Exception:
            connection.send(Report(traceback.format_exc()))


def _end_with_parent() -> None:
    """End this process as soon as the coordinator has ended, however it did: nobody wants its results any more."""
    coordinator = multiprocessing.parent_process()
    assert coordinator is not None
    wait([coordinator.sentinel])
    os._exit(1)


def unusable(given: tuple[Extension, ...]) -> str:
    """Make these extensions known to this process; why that cannot be, "" where it can."""
    try:
        extensions.only(given)
    except AblateError as error:
        return str(error)
    except (Exception, SystemExit):
        return traceback.format_exc()
    return ""


def keep_freed_memory() -> None:
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
