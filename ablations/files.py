"""Files that appear whole: whoever reads one, also after the power was cut, sees the old one or the new one.

And files that a person named, which may be anything.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

PARTIAL = ".partial-"
"""Begins the name of a file that is still being written; a process that was killed leaves it behind."""

PARTIAL_SECONDS = 24 * 3600
"""An older one belongs to a process that was killed."""

MOST_BYTES = 16 << 20
"""Of a text that a person wrote: a file with more is something else."""


MOST_TOML, MOST_DOTS = 1 << 20, 100
"""Bytes of a TOML text, and dots of a word in it: Python's parser takes minutes for a key of 20,000 parts."""


def read_named(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a file that a person named, which holds at most so many bytes.

    Raises OSError for what cannot be read, and also for what is no file, such as a pipe or a device, which might never
    end, and for a file that is too large.
    """
    with open(path, "rb", buffering=0, opener=_without_waiting) as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "it is no file but a pipe or a device", str(path))
        if about.st_size > most:
            raise OSError(errno.EFBIG, f"it has more than {most >> 20} MB", str(path))
        return file.read(about.st_size or most)  # of some of the system's own files no size is known


def _without_waiting(path: str, flags: int) -> int:
    """Opens a pipe without waiting for somebody who writes to it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def parse_toml(content: bytes) -> dict[str, Any]:
    """What a TOML text says. Raises ValueError, in a sentence, for one that cannot be read, however it is made."""
    import tomllib

    if len(content) > MOST_TOML:
        raise ValueError(f"it has more than {MOST_TOML >> 20} MB")
    words = re.findall(rb"[^\s\[\]{}=,#]+", re.sub(rb"[ \t]*\.[ \t]*", b".", content))
    if any(word.count(b".") > MOST_DOTS for word in words):
        raise ValueError(f"it is nested too deeply: a key may have {MOST_DOTS} dots")
    with _in_a_sentence():
        return tomllib.loads(content.decode("utf-8-sig"))


def parse_json(content: bytes | str, **options: Any) -> Any:
    """What a JSON text says; options: of `json.loads`. Raises ValueError for one that cannot be read."""
    with _in_a_sentence():
        return json.loads(content, **options)


@contextmanager
def _in_a_sentence() -> Iterator[None]:
    """What a parser raises within for a text that was made to break it becomes a ValueError that says what it is."""
    try:
        yield
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text: byte {error.start:,} is 0x{error.object[error.start]:02x}") from None
    except ValueError as error:
        if "int_max_str_digits" in str(error):
            raise ValueError("it holds a number of over 4,000 digits") from None
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file, and the folders it lies in, whole or not at all. Raises OSError where it cannot be written."""
    with opened_atomically(path) as file:
        file.write(content)


@contextmanager
def opened_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to be written, which takes its place when the block ends, and is dropped where the block raises.

    Its permissions are those of any new file. Raises OSError where it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / f"{PARTIAL}{uuid.uuid4().hex}"
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # or the name could reach the disk before the content
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def remove_left(folder: Path) -> None:
    """Remove what processes that were killed more than a day ago had begun to write into a folder."""
    for left in folder.glob(f"{PARTIAL}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > PARTIAL_SECONDS:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def sync_folder(folder: Path) -> None:
    """Have the names in a folder reach the disk, on the file systems that can be asked to."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def copy_folder(source: Path, to: Path) -> None:
    """Copy the files of a folder into another, which may be there already.

    Raises OSError, the first one: shutil.copytree gathers them in an error that says the number of none.
    """
    to.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.rglob("*")):
        place = to / path.relative_to(source)
        if path.is_dir():
            place.mkdir(exist_ok=True)
        else:
            shutil.copyfile(path, place)
