"""The entries of a tar or a zip archive of images, read in memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import cast

from cifar_ablations.study.data.image_tree import assemble
from cifar_ablations.study.data.images import DataError, Entry, FaultError, Images, is_junk, reason, shown


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
BROKEN = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError, NotImplementedError)


def read_archive(path: Path, image_size: int | None = None) -> Images:
    """The images of a tar archive (plain or compressed) or a zip archive; nothing is unpacked onto the disk."""
    name = shown(path.name)
    entries = _zip_entries(path) if zipfile.is_zipfile(path) else _tar_entries(path)
    try:
        return assemble(name, entries, image_size)
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
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.flag_bits & 1:
                raise DataError(f"{shown(path.name)} is encrypted; give an archive without a password.")
            name = info.filename.replace("\\", "/")  # as some programs on Windows write it
            if not is_junk(parts := _parts(name)):
                yield Entry(parts, None if name.endswith("/") else partial(archive.read, info))


def _tar_entries(path: Path) -> Iterator[Entry]:
    with tar_stream(path) as stream:
        tail = _Tail(stream)
        with tarfile.open(fileobj=tail, mode="r|") as archive:  # type: ignore[call-overload]
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
    return file.read()


class _Tail:
    """A stream that remembers the last block read from it."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream
        self._last = b""

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._last = (self._last + data)[-tarfile.BLOCKSIZE :]
        return data

    def ends_in_zeros(self) -> bool:
        return self._last == bytes(tarfile.BLOCKSIZE)


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in PurePosixPath(name).parts if part not in ("/", "//", "."))
