"""Files of arrays (npz), read without pickle and whatever is in them: what comes out is arrays or a ValueError.

They may be damaged, or of another person: a size that a header claims is compared with what there is before memory is
asked for, and what is compressed is unpacked up to a limit.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Collection
from functools import lru_cache
from tokenize import TokenError
from typing import BinaryIO

import numpy as np

MOST_UNPACKED = 256 << 20
"""Bytes that compressed arrays may have: a hundred times the largest that the suite writes. Those that are stored as
they are may have as many as their file."""
PIECE = 1 << 16
"""Bytes that are unpacked at a time."""
ENDING = ".npy"


def read(file: BinaryIO, names: Collection[str] | None = None, without: Collection[str] = ()) -> dict[str, np.ndarray]:
    """The arrays of a file, by name: of these names, those that there are, or all but some. They cannot be written to.

    Raises ValueError for a file that is damaged, holds objects, or claims to be larger than it is.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            _check_sizes(archive, file)
            kept = {info.filename.removesuffix(ENDING): info for info in archive.infolist()}
            chosen = [name for name in (kept if names is None else names) if name in kept and name not in without]
            return {name: array(_content(archive, kept[name])) for name in chosen}
    except Exception as error:  # zipfile, zlib and numpy raise nearly anything on a damaged file
        raise ValueError(f"it is no whole file of arrays ({type(error).__name__}: {error})") from error


def _check_sizes(archive: zipfile.ZipFile, file: BinaryIO) -> None:
    size, claimed = file.seek(0, os.SEEK_END), sum(info.file_size for info in archive.infolist())
    if claimed > max(size, MOST_UNPACKED):
        raise ValueError(f"its arrays claim {claimed:,} bytes, over {MOST_UNPACKED >> 20} MB and those of the file")


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("it is compressed otherwise than numpy does")
    with archive.open(info) as opened:
        if info.compress_type == zipfile.ZIP_STORED:
            return opened.read(info.file_size)
        return b"".join(iter(lambda: opened.read(PIECE), b""))  # never more than the size that was checked


def array(content: bytes) -> np.ndarray:
    """An array as numpy's files have it, without pickle; one that cannot be written to.

    As `numpy.load` reads it, in a third of the time: of many files nearly all headers are alike. Raises whatever numpy
    does for what is none.
    """
    wide = content[6:7] != b"\x01"
    start = (12 if wide else 10) + int.from_bytes(content[8 : 12 if wide else 10], "little")
    shape, by_column, dtype = _header(content[:start])
    if dtype.hasobject or any(side < 0 for side in shape):
        raise ValueError("it holds objects, or a side of less than nothing")
    if math.prod(shape) * dtype.itemsize != len(content) - start:
        raise ValueError("its shape is not that of its content")
    if not math.prod(shape):
        return np.empty(shape, dtype)
    return np.frombuffer(content, dtype, offset=start).reshape(shape, order="F" if by_column else "C")


HEADER_ERRORS = (TokenError, RecursionError, MemoryError)
"""What numpy raises beside ValueError at the header of an array that was damaged: it is an expression of Python."""


@lru_cache(4096)
def _header(text: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns come first, and type of an array, from the beginning of its file."""
    opened = io.BytesIO(text)
    try:
        if np.lib.format.read_magic(opened) == (1, 0):
            return np.lib.format.read_array_header_1_0(opened)
        return np.lib.format.read_array_header_2_0(opened)
    except HEADER_ERRORS as error:
        raise ValueError(f"its header cannot be read ({error})") from None
