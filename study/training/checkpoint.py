"""Fleets on disk: where each stood at the end of an epoch, so that a killed run goes on instead of starting over.

A file holds a whole fleet, its members by recipe digest and seed, and any later fleet may take members out of it: which
ones a run shares a fleet with changes nothing about it. Arrays and JSON in an npz, read without pickle.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cifar_ablations.ablations.files import PARTIAL, opened_atomically
from cifar_ablations.study.training.fleet import Member

FORMAT = 1  # raise it when what is written, or what it means, changes
META = "meta"
SUFFIX = ".npz"
READ_ERRORS = (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile)

Identity = tuple[str, int]
"""A member by its recipe's digest and its seed."""


def identity(member: Member) -> Identity:
    """A member's name on disk."""
    return member.digest, member.seed


@dataclass(frozen=True)
class Saved:
    """A member on disk: its file, its row of the file's arrays, and the epochs that it has behind it."""

    path: Path
    row: int
    epoch: int
    about: Mapping[str, Any]
    """JSON values about the member: `seconds`, `history`, `layers`."""

    def take(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The member's row of every array of its file, and what it has alone (`own.<row>.*`)."""
        own = f"own.{self.row}."
        rows = {name: values[self.row] for name, values in arrays.items() if not name.startswith("own.")}
        return rows | {name.removeprefix(own): values for name, values in arrays.items() if name.startswith(own)}


def read(path: Path) -> dict[str, np.ndarray]:
    """Every array of a fleet's file. Raises one of READ_ERRORS if it is damaged."""
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        return {name: file[name] for name in file.files if name != META}


def path_of(folder: Path, members: Iterable[Member], data_digest: str) -> Path:
    """The file of a fleet, named by its members."""
    name = json.dumps([data_digest, sorted(identity(member) for member in members)])
    return folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}{SUFFIX}"


def place(device: torch.device) -> dict[str, str]:
    """The build of torch and the kind of device, both of which must be the same for a run to go on bitwise."""
    return {"torch": torch.__version__, "device": device.type}


def save(
    path: Path,
    meta: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    members: Sequence[Member],
    about: Sequence[Mapping[str, Any]],
) -> None:
    """Write a fleet's file, whole or not at all; arrays: [K, …], or named own.<row>.<name>; about: JSON values."""
    described = [{"identity": identity(m), **a} for m, a in zip(members, about, strict=True)]
    text = json.dumps({"format": FORMAT, "members": described, **meta})
    named: dict[str, Any] = {META: np.frombuffer(text.encode(), np.uint8), **arrays}
    with opened_atomically(path) as file:
        np.savez(file, **named)


def find(folder: Path, data_digest: str, device: torch.device) -> dict[Identity, Saved]:
    """Every member that can go on here, at its latest epoch. Files of other data, torch or device are passed over."""
    found: dict[Identity, Saved] = {}
    wanted = {"format": FORMAT, "data": data_digest, **place(device)}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        meta = _meta(path)
        if meta is None or any(meta.get(key) != value for key, value in wanted.items()):
            continue
        for row, about in enumerate(meta["members"]):
            name = (about["identity"][0], about["identity"][1])
            if name not in found or found[name].epoch < meta["epoch"]:
                found[name] = Saved(path, row, meta["epoch"], about)
    return found


def forget(path: Path) -> None:
    """Remove a fleet's file, if there is one."""
    path.unlink(missing_ok=True)


def clean(folder: Path, data_digest: str, done: Iterable[Identity]) -> None:
    """Remove the files of which every member is done, that cannot be read, or that were never finished.

    To be called by whoever holds the output folder, while nobody trains. Files of other data are left alone.
    """
    done = set(done)
    for path in folder.glob(f"*{SUFFIX}"):
        meta = _meta(path)
        if meta is None or (
            meta["data"] == data_digest and all(tuple(about["identity"]) in done for about in meta["members"])
        ):
            forget(path)
    for path in folder.glob(f"{PARTIAL}*"):
        with contextlib.suppress(OSError):
            path.unlink()


def _meta(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            meta = json.loads(file[META].tobytes())
            return meta if meta["members"] and meta["format"] == FORMAT else None
    except READ_ERRORS:
        return None
