"""The entries of a tar or a zip archive of images, read in memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import cast

from cifar_ablations.study.data.image_tree import assemble
from cifar_ablations.study.data.images import MOST_BYTES, DataError, Entry, FaultError, Images, is_junk, reason, shown


def _arrow(name: str) -> Callable[[Path], io.BufferedIOBase]:
    """An opener of what Arrow decompresses, since Python learned Zstandard in 3.14 alone."""

    def opened(path: Path) -> io.BufferedIOBase:
        import pyarrow

        return cast(io.BufferedIOBase, pyarrow.input_stream(str(path), compression=name))

    return opened


DECOMPRESSORS: dict[bytes, Callable[[Path], io.BufferedIOBase]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"\x5d\x00\x00": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": _arrow("zstd"),
    b"\x04\x22\x4d\x18": _arrow("lz4"),
}
"""By the first bytes of a file."""
OTHER_ARCHIVES = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!": "RAR", b"\x1f\x9d": "compress"}
"""Archives that are not read, by their first bytes."""
BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, struct.error, EOFError, OSError),
    *(RuntimeError, ValueError, OverflowError, IndexError, KeyError),  # of headers that say what cannot be
)
"""What is raised for archives that are none, damaged, or made to do harm."""
MOST_RATIO, FREE_BYTES = 100, 256 << 20
"""An archive may unpack to so many times its size, or to so many bytes where that is more: images are compressed
already, and what is unpacked further is made to fill a memory."""
MOST_HEADER = 1 << 20
"""Bytes of a name and of other things that a tar archive says of a file."""
MOST_EMPTY = 100
"""How often a reader may ask for more at the end of an archive: a file that claims to be larger than it makes it ask
for ever."""
PIECE = 4096
"""Bytes of a file in a zip archive that are unpacked at a time: the whole may be more than memory holds. Of bzip2 so
few may still become 100 MB."""


def read_archive(path: Path, image_size: int | None = None) -> Images:
    """The images of a tar archive (plain or compressed) or a zip archive; nothing is unpacked onto the disk."""
    name = shown(path.name)
    entries = _zip_entries(path) if zipfile.is_zipfile(path) else _tar_entries(path)
    try:
        return assemble(name, entries, image_size)
    except DataError:
        raise
    except BROKEN as error:
        if kind := _other_archive(path):
            raise DataError(f"{name} is a {kind} archive, which is not read; unpack it and give the folder.") from error
        raise DataError(
            f"{name} is not a readable tar or zip archive, or is cut short ({reason(error)}); "
            "copy or download it again."
        ) from error


def tar_stream(path: Path) -> io.BufferedIOBase:
    """The decompressed bytes of a tar archive; reading raises EOFError where the compressed data is cut short."""
    with path.open("rb") as file:
        start = file.read(8)
    for magic, opener in DECOMPRESSORS.items():
        if start.startswith(magic):
            return opener(path)
    return path.open("rb")


def _other_archive(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(8)
    return next((kind for magic, kind in OTHER_ARCHIVES.items() if start.startswith(magic)), None)


def _zip_entries(path: Path) -> Iterator[Entry]:
    total, most = 0, _most(path)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.flag_bits & 1:
                raise DataError(f"{shown(path.name)} is encrypted; give an archive without a password.")
            if (total := total + info.file_size) > most:
                raise _too_large(path, total)
            name = info.filename.replace("\\", "/")  # as some programs on Windows write it
            if not is_junk(parts := _parts(name)):
                yield Entry(parts, None if name.endswith("/") else partial(_zip_bytes, archive, info))


def _zip_bytes(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > MOST_BYTES:
        raise _too_large_a_file(info.file_size)
    with archive.open(info) as file:
        return b"".join(iter(lambda: file.read(PIECE), b""))


@contextmanager
def opened_tar(path: Path) -> Iterator[tuple[tarfile.TarFile, _Tail]]:
    """A tar archive to be read from its beginning to its end, plain or compressed, and the stream of its bytes.

    Raises one of BROKEN or DataError, here and as it is read, for what is none or is made to do harm.
    """
    with tar_stream(path) as stream:
        tail = _Tail(stream, path)
        with tarfile.open(fileobj=tail, mode="r|", tarinfo=_Header) as archive:  # type: ignore[call-overload]
            yield archive, tail


def _tar_entries(path: Path) -> Iterator[Entry]:
    with opened_tar(path) as (archive, tail):
        for member in archive:
            if not is_junk(parts := _parts(member.name)):
                yield Entry(parts, None if member.isdir() else partial(_tar_bytes, archive, member))
        while tail.read(1 << 20):
            pass
        # Without this, an archive cut between two members would pass for a smaller one.
        if not tail.ends_in_zeros():
            raise tarfile.ReadError("no end-of-archive mark")


def _tar_bytes(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member) if member.isreg() else None
    if file is None:
        raise FaultError(
            "is a link or a device", "pack the image files themselves (tar --dereference --hard-dereference)"
        )
    if member.size > MOST_BYTES:
        raise _too_large_a_file(member.size)
    return file.read()


def _too_large_a_file(size: int) -> FaultError:
    return FaultError(
        f"has {size:,} bytes, and images of at most {MOST_BYTES:,} are read", "remove it or make it smaller"
    )


def _most(path: Path) -> int:
    """How many bytes an archive may unpack to."""
    return max(FREE_BYTES, MOST_RATIO * path.stat().st_size)


def _too_large(path: Path, size: int) -> DataError:
    return DataError(
        f"{shown(path.name)} unpacks to {size:,} bytes or more, over {MOST_RATIO} times its size, which no archive of "
        "images does; give another, or unpack it and give the folder."
    )


class _Header(tarfile.TarInfo):
    """What a tar archive says of a file, where that can be."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        """As tarfile has it. Raises ReadError for a size that is none, or that of too long a name."""
        member = super().frombuf(buf, encoding, errors)
        is_about_another = member.type in (*HEADERS, tarfile.SOLARIS_XHDTYPE)
        if member.size < 0 or (is_about_another and member.size > MOST_HEADER):
            raise tarfile.ReadError(f"a header says that it has {member.size:,} bytes")
        return member


HEADERS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)
"""The types of what stands in a tar archive before a file and says something of it."""


class _Tail:
    """A stream that remembers the last block read from it, and ends where it should have ended.

    Reading raises DataError after more bytes than an archive of this size may unpack to, and EOFError where somebody
    asks again and again for what is not there.
    """

    def __init__(self, stream: io.BufferedIOBase, path: Path) -> None:
        self._stream, self._path, self._most = stream, path, _most(path)
        self._last = b""
        self._total = self._empty = 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._total += len(data)
        self._empty += not data
        if self._total > self._most:
            raise _too_large(self._path, self._total)
        if self._empty > MOST_EMPTY:
            raise EOFError("a file claims to be larger than the archive")
        self._last = (self._last + data)[-tarfile.BLOCKSIZE :]
        return data

    def ends_in_zeros(self) -> bool:
        return self._last == bytes(tarfile.BLOCKSIZE)


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in PurePosixPath(name).parts if part not in ("/", "//", "."))
