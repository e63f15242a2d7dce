"""What tells a source of images from any other, so that a cache entry made of it is never taken for another's."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

CONTENT_BYTES = 1 << 30
"""Sources of more bytes are told apart by the times that the file system keeps, not by their content."""


def fingerprint(place: Path, names: Iterable[str]) -> str:
    """16 hexadecimal digits of these names of files and folders in a place, and of the content of the files.

    Above CONTENT_BYTES, in place of the content: size, time of modification, inode, and the time at which that was
    changed, which no program can set, whatever becomes of the others (`cp -p`, `rsync -t`, `touch -r`, `mv`). What
    cannot be opened counts as that, and a pipe or a device as a folder.
    """
    found = [(name, os.path.join(place, name)) for name in names]
    statuses = [_status(path) for _, path in found]
    files = [status is not None and stat.S_ISREG(status.st_mode) for status in statuses]  # a pipe might never end
    size = sum(status.st_size for status, is_file in zip(statuses, files, strict=True) if status and is_file)
    total = hashlib.sha256(b"content" if size <= CONTENT_BYTES else b"times")
    for (name, path), status, is_file in zip(found, statuses, files, strict=True):
        if status is None or not is_file:
            what = b"folder" if status else b"unreadable"
        elif size <= CONTENT_BYTES:
            what = _content(path)
        else:
            what = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}".encode()
        encoded = os.fsencode(name)
        total.update(b"%d %s %d " % (len(encoded), encoded, len(what)) + what)
    return total.hexdigest()[:16]


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _content(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return b"unreadable"
