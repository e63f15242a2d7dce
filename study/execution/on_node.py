"""What a Ray cluster runs: a fleet is trained, and all that comes of it is told.

Nothing that is slow, or could hang, is imported before the first word: a task that says none has no room yet.
"""

from __future__ import annotations

import os
import pickle
import queue
import socket
import tempfile
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cifar_ablations.ablations.extensions import Extension
    from cifar_ablations.ablations.record import EnvironmentRecord
    from cifar_ablations.study.execution.pool import Message

BEAT_SECONDS = 2.0
"""Between two signs of life of a task that has nothing else to say."""


@dataclass(frozen=True)
class Begun:
    """The very first: that there is room for the task, before anything is imported that may hang."""


@dataclass(frozen=True)
class Hello:
    """Where a task is, and what its trainings would have in common with those of this machine."""

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


def train_on_node(
    settings: NodeSettings, order: bytes, data: Sequence[Any], saved: Mapping[str, bytes]
) -> Iterator[Begun | Hello | Saved | Message]:
    """Train a fleet in a task, and tell what comes of it; order: a pickled Order; data: Ray's reference to the files
    of the data's cache entry, by name; saved: checkpoints that may be gone on from.
    """
    yield Begun()
    import torch

    from cifar_ablations.study.execution.pool import Beat, Order, Report
    from cifar_ablations.study.execution.workers import THREADS, keep_freed_memory, unusable
    from cifar_ablations.study.store.provenance import environment
    from cifar_ablations.study.training.engine import Checkpoints, train
    from cifar_ablations.study.training.kernels import kernel_backend

    why = unusable(settings.extensions)
    device = torch.device(settings.device)
    yield Hello(socket.gethostname(), version(), environment(device, THREADS, settings.backend))
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
            import ray

            found = put_entry(ray.get(data[0]), entry)
        _OPENED[digest] = found
    return found


_OPENED: dict[str, Any] = {}
"""The data sets of this process, by their digest."""


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "cifar-ablations" / "data"


def version() -> str:
    """Of this package, here."""
    from importlib import metadata

    return metadata.version("cifar-ablations")
