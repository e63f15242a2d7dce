"""Checksums of what is logged: tags of a run, one for each of its files, by which a file is known that was changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from cifar_ablations.ablations.record import RecordError

PREFIX = "sha256."
"""Begins the name of a tag with a file's SHA-256 in hexadecimal; the file's path within the run follows."""


def of_folder(folder: Path) -> dict[str, str]:
    """The tags of a run that gets all files of a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {f"{PREFIX}{path.relative_to(folder).as_posix()}": of(path.read_bytes()) for path in files}


def of(content: bytes) -> str:
    """The SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def among(tags: Mapping[str, str]) -> dict[str, str]:
    """Of a run's tags those with a checksum."""
    return {tag: value for tag, value in tags.items() if tag.startswith(PREFIX)}


def check(content: bytes, tags: Mapping[str, str], file: str, where: str) -> bytes:
    """The content of a run's file, by its path within the run, once it is known to be what was logged.

    where: the file and the run, for the message. What versions without checksums logged is returned as it is. Raises
    RecordError for what was changed.
    """
    if tags.get(PREFIX + file, of(content)) != of(content):
        raise RecordError(f"{where} was changed or damaged since it was logged")
    return content
