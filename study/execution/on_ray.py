"""Workers that are tasks of a Ray cluster: the same fleets, wherever there is room for them.

Nothing but this process writes to the store, asks Optuna, or keeps checkpoints: a task sends what it has to say, its
checkpoints among it, and gets with its fleet what an earlier one has saved. So nodes need no folder in common. A task
is never tried again by Ray itself, which would tell its epochs twice; the pool gives its fleet to another one.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.extensions import Extension
from cifar_ablations.ablations.files import write_atomically
from cifar_ablations.ablations.naming import shown
from cifar_ablations.ablations.record import EnvironmentRecord
from cifar_ablations.study.execution.cores import cores
from cifar_ablations.study.execution.on_node import Begun, Hello, NodeSettings, Saved, train_on_node, version
from cifar_ablations.study.execution.pool import Beat, LostError, Message, Order, Report
from cifar_ablations.study.execution.starting import beside_the_package, current_folder_kept_out
from cifar_ablations.study.training import checkpoint
from cifar_ablations.study.training.engine import Epoch, Outcome

if TYPE_CHECKING:
    import torch

INSTALL = "pip install 'cifar-ablations[cluster]'"
CONNECT_SECONDS = 10.0
"""How long an address may take to answer at all."""
ROOM_SECONDS = 5.0
"""Between two looks at what the cluster has, while a fleet waits for room on it."""
TRAININGS_SAVED_AT_ONCE = 4
"""Workers whose checkpoints this process takes as often as those of its own machine; of more, more seldom."""


def connect(address: str | None, workers: int | None, device: torch.device) -> int:
    """Connect to a cluster, or start one on this machine where no address is given; returns how many workers it has.

    address: `auto`, or host:port of its head, of a cluster that this machine is a node of; workers: of one that is
    started here, or the most to be used. Raises AblateError, in a sentence, where that cannot be.
    """
    ray = _ray()
    if not ray.is_initialized():
        words: dict[str, Any] = {"address": "local", "num_cpus": workers or cores(), "include_dashboard": False}
        if address is not None:
            _check_reachable(address)
            words = {"address": address}
        try:
            # Ray lets its workers import what lies in the folder that it is begun in.
            with current_folder_kept_out(), beside_the_package():
                ray.init(**words, log_to_driver=False, configure_logging=False)
        except (ray.exceptions.RayError, ConnectionError, TimeoutError, ValueError, RuntimeError, OSError) as error:
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise AblateError(
                f"no Ray cluster could be reached at {address or 'this machine'} ({said}); `ray start` with the option "
                "head starts one, and `ray status` says what it has"
            ) from None
    kind = "GPU" if device.type == "cuda" else "CPU"
    with _cluster():
        there = int(ray.cluster_resources().get(kind, 0))
    if not there:
        raise AblateError(f"the Ray cluster has no {kind} for workers; add nodes, or choose another device")
    return workers or there


def _ray() -> Any:
    """The package, told to keep to itself. Raises AblateError where there is none."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise AblateError(f"a Ray cluster needs the package ray: {INSTALL}") from None
    logging.getLogger("ray").setLevel(logging.ERROR)
    return ray


@contextmanager
def _cluster() -> Iterator[Any]:
    """The package; within it, a cluster that is gone is a sentence."""
    ray = _ray()
    try:
        yield ray
    except (ray.exceptions.RayError, ConnectionError, TimeoutError) as error:
        raise AblateError(
            f"the Ray cluster does not answer any more ({_first_line(error)}); what has ended is kept, and the same "
            "command goes on with the rest"
        ) from None


def _check_reachable(address: str) -> None:
    """Raise AblateError for an address that is none, or where nobody answers."""
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if address.startswith("ray://"):
        raise AblateError(
            f"the address {address} is for machines outside a Ray cluster, to which it does not pass on what fleets "
            "tell while they train; run the command on a node of the cluster, and name auto"
        )
    if not colon or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise AblateError(
            f"a Ray cluster's address must be auto or host:port, such as 10.0.0.1:6379, not {shown(address)}"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:
        raise AblateError(
            f"nobody answers at {address} ({error}); is that the address that `ray start` printed on the head?"
        ) from None


@dataclass(eq=False)
class RayTask:
    """A place for one fleet after another, each a task of its own."""

    crew: RayTasks
    ticks: int = 0
    """How many signs of life its fleets have shown."""
    stream: Any = None
    """Ray's generator of what its task says; None where it has none."""
    order: Order = field(default_factory=lambda: Order(()))
    begun: bool = False
    """Whether there was room for its task."""
    greeted: bool = False
    """Whether its node computes as this machine does."""

    def send(self, order: Order) -> None:
        """Have a fleet trained as soon as there is room."""
        self.order, self.begun, self.greeted = order, False, False
        self.stream = self.crew.submit(order)

    def receive(self) -> Message:
        """The next thing that its task says. Raises LostError, and AblateError for a node that computes otherwise."""
        ray = _ray()
        try:
            message = ray.get(next(self.stream))
        except StopIteration:
            raise LostError("its task ended without a word") from None
        except ray.exceptions.RayTaskError as error:
            if not self.greeted:  # no fleet would fare better there, and each would fail in a moment
                raise AblateError(
                    f"a node of the Ray cluster cannot train ({str(error).strip().splitlines()[-1]}); is this package "
                    f"installed there, as version {version()}?"
                ) from None
            return Report(str(error))
        except ray.exceptions.RayError as error:
            raise LostError(f"its task was lost ({_first_line(error)})") from None
        self.ticks += 1
        if isinstance(message, Begun):
            self.begun = True
            return Beat()
        if isinstance(message, Hello):
            self.crew.check(message)
            self.greeted = True
            return Beat()
        if isinstance(message, Saved):
            assert self.order.checkpoints is not None
            write_atomically(self.order.checkpoints.folder / message.name, message.content)
            return Beat()
        assert isinstance(message, Epoch | Outcome | Report | Beat), message
        if isinstance(message, Report):
            self.stream = None
        return message


class RayTasks:
    """The tasks of a pool, on the cluster that this process is connected to."""

    def __init__(
        self,
        data_folder: Path,
        digest: str,
        device: torch.device,
        workers: int,
        backend: str,
        known: tuple[Extension, ...],
        environment: EnvironmentRecord,
    ):
        """environment: what all trainings must have in common, as `provenance.environment` has it here."""
        self._settings = NodeSettings(digest, device.type, backend, known)
        self._device, self._workers, self._environment = device, workers, environment
        self._data_folder = data_folder
        self._data: Any = None
        self._looked, self._room = float("-inf"), True
        ray = _ray()
        on_gpu = device.type == "cuda"
        self._function = ray.remote(train_on_node).options(
            num_cpus=1, num_gpus=int(on_gpu), max_retries=0, num_returns="streaming", name="fleet"
        )

    def start(self) -> RayTask:
        """A place for fleets, which takes nothing of the cluster until it has one."""
        return RayTask(self)

    def wait(self, workers: Collection[RayTask], seconds: float) -> list[RayTask]:
        """Those whose tasks have something to say or are lost; after so many seconds, none."""
        by_stream = {worker.stream: worker for worker in workers}
        streams = list(by_stream)
        with _cluster() as ray:
            ready, _ = ray.wait(streams, num_returns=1, timeout=seconds, fetch_local=False)
            if ready and len(streams) > 1:
                ready, _ = ray.wait(streams, num_returns=len(streams), timeout=0, fetch_local=False)
        for worker in workers:
            if not worker.begun and self._has_room():
                worker.ticks += 1  # it waits for room, which is no silence of its own
        return [by_stream[stream] for stream in ready]

    def end(self, workers: Sequence[RayTask]) -> None:
        """Kill the tasks that are at work."""
        ray = _ray()
        for worker in workers:
            if worker.stream is not None:
                with suppress(ray.exceptions.RayError, ValueError):
                    ray.cancel(worker.stream, force=True)
                worker.stream = None

    def submit(self, order: Order) -> Any:
        """Ray's generator of what the task of a fleet says."""
        settings, saved = self._settings, dict[str, bytes]()
        if order.checkpoints is not None:
            folder, often = order.checkpoints.folder, max(1.0, self._workers / TRAININGS_SAVED_AT_ONCE)
            found = checkpoint.find(folder, settings.digest, self._device, settings.backend)
            places = (found.get(checkpoint.identity(member)) for member in order.members)
            for path in {place.path for place in places if place}:
                with suppress(OSError):
                    saved[path.name] = path.read_bytes()
            order = replace(order, checkpoints=replace(order.checkpoints, seconds=order.checkpoints.seconds * often))
        # As bytes: what recipes name of extensions can be read once the task knows them. The data in a list: a task
        # whose node has them already must not have them sent.
        with _cluster() as ray:
            if self._data is None:
                self._data = ray.put({file.name: file.read_bytes() for file in sorted(self._data_folder.iterdir())})
            return self._function.remote(settings, pickle.dumps(order), [self._data], saved)

    def check(self, hello: Hello) -> None:
        """Raise AblateError for a node whose trainings could not be compared with those of the others."""
        # Of extensions a task has told already what it cannot use; which others it knows says nothing.
        here = {"cifar_ablations": version(), **vars(self._environment), "extension": ""}
        there = {"cifar_ablations": hello.version, **vars(hello.environment), "extension": ""}
        if differs := [name for name in here if here[name] != there.get(name)]:
            what = ", ".join(f"{name} {there.get(name)!r} and not {here[name]!r}" for name in differs)
            raise AblateError(
                f"the node {hello.host} of the Ray cluster has {what}, as this machine has it; trainings of both could "
                "not be compared. Install the same there, or take the node out of the cluster"
            )

    def _has_room(self) -> bool:
        """Whether the cluster has, busy or not, what a fleet needs; looked up now and then."""
        if time.monotonic() - self._looked > ROOM_SECONDS:
            kind = "GPU" if self._device.type == "cuda" else "CPU"
            with _cluster() as ray:
                self._room = bool(ray.cluster_resources().get(kind, 0))
            self._looked = time.monotonic()
        return self._room


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
