"""Workers that are tasks of a Ray cluster: the same fleets, wherever there is room for them.

Nothing but this process writes to the store, asks Optuna, or keeps checkpoints: a task sends what it has to say, its
checkpoints among it, and gets with its fleet what an earlier one has saved. So nodes need no folder in common. A task
is never tried again by Ray itself, which would tell its epochs twice; the pool gives its fleet to another one.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import socket
import tempfile
import threading
import time
import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.extensions import Extension
from cifar_ablations.ablations.files import write_atomically
from cifar_ablations.ablations.naming import shown
from cifar_ablations.ablations.record import EnvironmentRecord
from cifar_ablations.study.execution.pool import Beat, LostError, Message, Order, Report
from cifar_ablations.study.training.engine import Checkpoints, Epoch, Outcome

if TYPE_CHECKING:
    import torch

INSTALL = "pip install 'cifar-ablations[cluster]'"
CONNECT_SECONDS = 10.0
"""How long an address may take to answer at all."""
BEAT_SECONDS = 2.0
"""Between two signs of life of a task that has nothing else to say."""
ROOM_SECONDS = 5.0
"""Between two looks at what the cluster has, while a fleet waits for room on it."""
TRAININGS_SAVED_AT_ONCE = 4
"""Workers whose checkpoints this process takes as often as those of its own machine; of more, more seldom."""


@dataclass(frozen=True)
class Hello:
    """The first that a task says: where it is, and what its trainings would have in common with those here."""

    host: str
    version: str
    environment: EnvironmentRecord


@dataclass(frozen=True)
class Saved:
    """A checkpoint that a task has written, by the name of its file."""

    name: str
    content: bytes


@dataclass(frozen=True)
class NodeSettings:
    """What a task needs to know beside its fleet."""

    digest: str
    """Of the data."""
    device: str
    backend: str
    extensions: tuple[Extension, ...]


def connect(address: str | None, workers: int | None, device: torch.device) -> int:
    """Connect to a cluster, or start one on this machine where no address is given; returns how many workers it has.

    address: `auto`, or host:port of its head, of a cluster that this machine is a node of; workers: of one that is
    started here, or the most to be used. Raises AblateError, in a sentence, where that cannot be.
    """
    ray = _ray()
    if not ray.is_initialized():
        words: dict[str, Any] = {"address": "local", "num_cpus": workers or os.cpu_count()}
        if address is not None:
            _check_reachable(address)
            words = {"address": address}
        try:
            ray.init(
                **words,
                log_to_driver=False,
                configure_logging=False,
                **({} if address else {"include_dashboard": False}),
            )
        except (ConnectionError, TimeoutError, ValueError, RuntimeError, OSError) as error:
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise AblateError(
                f"no Ray cluster could be reached at {address or 'this machine'} ({said}); `ray start` with the option "
                "head starts one, and `ray status` says what it has"
            ) from None
    kind = "GPU" if device.type == "cuda" else "CPU"
    there = int(ray.cluster_resources().get(kind, 0))
    if not there:
        raise AblateError(f"the Ray cluster has no {kind} for workers; add nodes, or choose another device")
    return workers or there


def close() -> None:
    """Leave the cluster, and end one that was started here."""
    _ray().shutdown()


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
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError as error:
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

    def send(self, order: Order) -> None:
        """Have a fleet trained as soon as there is room."""
        self.order, self.begun = order, False
        self.stream = self.crew.submit(order)

    def receive(self) -> Message:
        """The next thing that its task says. Raises LostError, and AblateError for a node that computes otherwise."""
        ray = _ray()
        try:
            message = ray.get(next(self.stream))
        except StopIteration:
            raise LostError("its task ended without a word") from None
        except ray.exceptions.RayTaskError as error:
            return Report(str(error))
        except ray.exceptions.RayError as error:
            raise LostError(f"its task was lost ({_first_line(error)})") from None
        self.ticks += 1
        if isinstance(message, Hello):
            self.begun = True
            self.crew.check(message)
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
        self._function = ray.remote(_train_on_node).options(
            num_cpus=1, num_gpus=int(on_gpu), max_retries=0, num_returns="streaming", name="fleet"
        )

    def start(self) -> RayTask:
        """A place for fleets, which takes nothing of the cluster until it has one."""
        return RayTask(self)

    def wait(self, workers: Collection[RayTask], seconds: float) -> list[RayTask]:
        """Those whose tasks have something to say or are lost; after so many seconds, none."""
        ray = _ray()
        by_stream = {worker.stream: worker for worker in workers}
        streams = list(by_stream)
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
        from cifar_ablations.study.training import checkpoint

        ray, settings, saved = _ray(), self._settings, dict[str, bytes]()
        if self._data is None:
            self._data = ray.put({file.name: file.read_bytes() for file in sorted(self._data_folder.iterdir())})
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
        return self._function.remote(settings, pickle.dumps(order), [self._data], saved)

    def check(self, hello: Hello) -> None:
        """Raise AblateError for a node whose trainings could not be compared with those of the others."""
        # Of extensions a task has told already what it cannot use; which others it knows says nothing.
        here = {"cifar_ablations": _version(), **vars(self._environment), "extension": ""}
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
            self._room = bool(_ray().cluster_resources().get(kind, 0))
            self._looked = time.monotonic()
        return self._room


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _version() -> str:
    from importlib.metadata import version

    return version("cifar-ablations")


def _train_on_node(
    settings: NodeSettings, order: bytes, data: Sequence[Any], saved: Mapping[str, bytes]
) -> Iterator[Hello | Saved | Message]:
    """Train a fleet in a task, and tell what comes of it; order: a pickled Order; data: Ray's reference to the files
    of the data's cache entry, by name; saved: checkpoints that may be gone on from.
    """
    import torch

    from cifar_ablations.study.execution.workers import THREADS, keep_freed_memory, unusable
    from cifar_ablations.study.store.provenance import environment
    from cifar_ablations.study.training.engine import train
    from cifar_ablations.study.training.kernels import kernel_backend

    why = unusable(settings.extensions)
    device = torch.device(settings.device)
    yield Hello(socket.gethostname(), _version(), environment(device, THREADS, settings.backend))
    if why:
        yield Report(f"{socket.gethostname()}: {why}")
        return
    said: queue.SimpleQueue[Message] = queue.SimpleQueue()
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1

    def work(folder: Path) -> None:
        try:
            keep_freed_memory()
            torch.set_num_threads(THREADS)  # in this very thread: OpenMP counts for each
            kernel_backend.use_threads(THREADS)
            asked: Order = pickle.loads(order)
            checkpoints = asked.checkpoints and Checkpoints(folder, asked.checkpoints.seconds)
            train(
                asked.members,
                _data_on_node(settings.digest, data).to(device),
                device,
                said.put,
                checkpoints,
                asked.until_epoch,
                asked.evaluate_test,
                tick,
                settings.backend,
                asked.keep_weights,
            )
            said.put(Report())
        except BaseException:
            said.put(Report(traceback.format_exc()))

    with tempfile.TemporaryDirectory(prefix="ablate-") as temporary:
        folder = Path(temporary)
        for name, content in saved.items():
            (folder / name).write_bytes(content)
        sent = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
        threading.Thread(target=work, args=(folder,), daemon=True).start()
        heard = -1
        while True:
            try:
                message = said.get(timeout=BEAT_SECONDS)
            except queue.Empty:
                message = Beat()
            yield from _newly_saved(folder, sent)
            if isinstance(message, Beat) and ticks == heard:
                continue  # it stands still, and its silence will tell
            heard = ticks
            yield message
            if isinstance(message, Report):
                return


def _newly_saved(folder: Path, sent: dict[Path, int]) -> Iterator[Saved]:
    """The checkpoints of a folder that were written since the last look, whole ones."""
    from cifar_ablations.study.training import checkpoint

    for file in folder.glob(f"*{checkpoint.SUFFIX}"):
        with suppress(OSError):
            written = file.stat().st_mtime_ns
            if sent.get(file) != written:
                sent[file] = written
                yield Saved(file.name, file.read_bytes())


def _data_on_node(digest: str, data: Sequence[Any]) -> Any:
    """The data set of a digest, from this node's cache; fetched and put there once, and checked in every process."""
    from cifar_ablations.study.data.dataset import DataError, checked, open_cached, put_entry

    found = _OPENED.get(digest)
    if found is None:
        entry = _cache() / digest
        try:
            found = checked(open_cached(entry))
        except DataError:
            found = put_entry(_ray().get(data[0]), entry)
        _OPENED[digest] = found
    return found


_OPENED: dict[str, Any] = {}
"""The data sets of this process, by their digest."""


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "cifar-ablations" / "data"
