"""Reads and writes fleets on disk, as they stood at the end of an epoch: a killed run goes on from there.

A file holds a whole fleet, its members by recipe digest and seed, and any later fleet may take members out of it: which
ones a run shares a fleet with changes nothing about it. It is an npz of arrays, read without pickle; one of them, the
header, is the JSON of a `FleetRecord`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cifar_ablations.ablations import arrays, record
from cifar_ablations.ablations.files import PARTIAL, opened_atomically
from cifar_ablations.study.training.backend import TORCH
from cifar_ablations.study.training.fleet import Member

META = "meta"
"""The header's name among the arrays."""
SUFFIX = ".npz"
READ_ERRORS = (OSError, ValueError, KeyError, IndexError)

Identity = tuple[str, int]
"""A member by its recipe's digest and its seed."""


def identity(member: Member) -> Identity:
    """A member's name on disk."""
    return member.digest, member.seed


@dataclass(frozen=True)
class MemberRecord:
    """A member in the header of a file, at its row; 0.1.0 wrote the same fields."""

    identity: Identity
    seconds: float
    """Those that its training took so far."""
    history: list[dict[str, float]]
    """Of each epoch its metrics, by their names in the store."""
    layers: list[list[list[float]]]
    """Of each epoch, norms by layer as `diagnostics.by_layer` has them."""
    extension: str = ""
    """The code of extensions that it was trained by."""


@dataclass(frozen=True)
class FleetRecord:
    """The header of a file: all of a fleet but its arrays."""

    epoch: int
    """The epochs that all members have behind them."""
    data: str
    """The digest of the data."""
    torch: str
    device: str
    members: tuple[MemberRecord, ...]
    backend: str = TORCH


@dataclass(frozen=True)
class Saved:
    """A member on disk: its file, its row of the file's arrays, and the epochs that it has behind it."""

    path: Path
    row: int
    epoch: int
    about: MemberRecord

    def suits(self, member: Member) -> bool:
        """Whether a member can go on from here: by the code of extensions that it was trained by so far."""
        return self.about.extension == member.extension

    def take(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The member's row of every array of its file, and what it has alone (`own.<row>.*`)."""
        own = f"own.{self.row}."
        rows = {name: values[self.row] for name, values in arrays.items() if not name.startswith("own.")}
        return rows | {name.removeprefix(own): values for name, values in arrays.items() if name.startswith(own)}


def read(path: Path) -> dict[str, np.ndarray]:
    """Every array of a fleet's file. Raises one of READ_ERRORS if it is damaged."""
    with path.open("rb") as file:
        return {name: values.copy() for name, values in arrays.read(file, without=(META,)).items()}


def path_of(folder: Path, members: Iterable[Member], data_digest: str, backend: str = TORCH) -> Path:
    """The file of a fleet, named by its members and what trains them; 0.1.0 had torch alone, and did not name it."""
    by = [] if backend == TORCH else [backend]
    name = json.dumps([data_digest, sorted(identity(member) for member in members), *by])
    return folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}{SUFFIX}"


def place(device: torch.device, backend: str = TORCH) -> dict[str, str]:
    """The build of torch, the kind of device and the backend, which must be the same for a run to go on bitwise."""
    return {"torch": torch.__version__, "device": device.type, "backend": backend}


def save(path: Path, header: FleetRecord, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a fleet's file, whole or not at all; arrays: [K, …], or named own.<row>.<name>."""
    # Not by `record.to_json`, which copies every number twice: of a large fleet there are half a million.
    text = json.dumps({**vars(header), "format": record.FORMAT}, default=vars)
    named: dict[str, Any] = {META: np.frombuffer(text.encode(), np.uint8), **arrays}
    with opened_atomically(path) as file:
        np.savez(file, **named)


class Writer:
    """Writes the files of fleets on a thread of its own, one after the other, while training goes on.

    As a context it waits for the last file.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._last: Future[None] | None = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    def save(self, path: Path, header: FleetRecord, arrays: Mapping[str, np.ndarray]) -> None:
        """Begin to write a file, once the one before it is written; the arrays must not change any more.

        Raises what the writing of the one before it raised.
        """
        self.wait()
        self._last = self._pool.submit(save, path, header, arrays)

    def wait(self) -> None:
        """Until the last file is written. Raises what that raised."""
        if self._last is not None:
            self._last.result()


def find(folder: Path, data_digest: str, device: torch.device, backend: str = TORCH) -> dict[Identity, Saved]:
    """Every member that can go on here, at its latest epoch. Files of another place or other data are passed over."""
    found: dict[Identity, Saved] = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        header = _header(path)
        if header is None or header.data != data_digest:
            continue
        if place(device, backend) != {"torch": header.torch, "device": header.device, "backend": header.backend}:
            continue
        for row, about in enumerate(header.members):
            if about.identity not in found or found[about.identity].epoch < header.epoch:
                found[about.identity] = Saved(path, row, header.epoch, about)
    return found


def take(
    members: Sequence[Member], saved: Mapping[Identity, Saved], shapes: Mapping[str, tuple[int, ...]]
) -> list[tuple[MemberRecord, dict[str, np.ndarray]]]:
    """Each member as it was saved, and its arrays; nothing unless all were saved at one epoch and can be read.

    shapes: of a member's row of the arrays that there must be.
    """
    places = [one for member in members if (one := saved.get(identity(member))) and one.suits(member)]
    if len(places) < len(members) or len({one.epoch for one in places}) > 1:
        return []
    try:
        files = {path: read(path) for path in {one.path for one in places}}
        taken = [(one.about, one.take(files[one.path])) for one in places]
        fit = all(rows[name].shape == shape for _, rows in taken for name, shape in shapes.items())
    except READ_ERRORS:
        return []
    kinds = {values.dtype for _, rows in taken for values in rows.values()}
    numeric = all(kind.kind in "biuf" and kind.isnative and kind.itemsize <= 8 for kind in kinds)  # what torch takes
    return taken if fit and numeric and len({len(about.history) for about, _ in taken}) == 1 else []


def forget(path: Path) -> None:
    """Remove a fleet's file, if there is one."""
    path.unlink(missing_ok=True)


def clean(folder: Path, data_digest: str, done: Iterable[Identity]) -> None:
    """Remove the files of which every member is done, that cannot be read, or that were never finished.

    To be called by whoever holds the output folder, while nobody trains. Files of other data are left alone.
    """
    done = set(done)
    for path in folder.glob(f"*{SUFFIX}"):
        header = _header(path)
        if header is None or (header.data == data_digest and all(one.identity in done for one in header.members)):
            forget(path)
    for path in folder.glob(f"{PARTIAL}*"):
        with contextlib.suppress(OSError):
            path.unlink()


def whole(path: Path) -> FleetRecord | None:
    """A file's header, once every array of it could be read; None where one cannot be."""
    try:
        read(path)
    except READ_ERRORS:
        return None
    return _header(path)


def _header(path: Path) -> FleetRecord | None:
    """A file's header; None where it cannot be read, or is of a newer format."""
    try:
        with path.open("rb") as file:
            return record.from_json(FleetRecord, arrays.read(file, (META,))[META].tobytes(), str(path))
    except READ_ERRORS:
        return None
