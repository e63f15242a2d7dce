"""Reads `train/<class>/…` and `test/<class>/…` images from a folder, a tar or a zip archive, decoding in memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import tarfile
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from cifar_ablations.ablations.errors import AblateError

SPLITS = ("train", "test")
SIDE = 32
ABOUT = "dataset.toml"
"""Beside train/ and test/, what the images do not tell: `mirror_safe = false` where a mirrored image would be of
another class, as with digits and letters."""
LAYOUT = "train/<class>/… and test/<class>/… images"
# Only these are tried, so that a stray file never reaches a decoder that starts other programs.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
DECOMPRESSORS: dict[bytes, Callable[[Path], io.BufferedIOBase]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"\x5d\x00\x00": lzma.LZMAFile,
}
"""By the first bytes of a file."""
BROKEN = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError, NotImplementedError)


class DataError(AblateError):
    """Images that cannot be used: one sentence that names the file and says what to do."""


class Images(NamedTuple):
    """Decoded images: uint8 [N, 32, 32, 3] and int64 [N] per split, with the names of the classes."""

    classes: tuple[str, ...]
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    mirror_safe: bool = True
    """Whether a mirrored image is of the same class."""
    size: tuple[int, int] = (SIDE, SIDE)
    """Width and height before they were resized."""


class Entry(NamedTuple):
    """A file (with a way to read it) or a folder (without) at a path inside the source."""

    parts: tuple[str, ...]
    read: Callable[[], bytes] | None


def read_folder(folder: Path) -> Images:
    """The images of a folder that holds train/ and test/, itself or in its only subfolder that does."""
    return _read(folder.name, _folder_entries(image_root(folder)))


def read_archive(path: Path) -> Images:
    """The images of a tar archive (plain, gzip, bzip2 or xz) or a zip archive; nothing is unpacked onto the disk."""
    entries = _zip_entries(path) if zipfile.is_zipfile(path) else _tar_entries(path)
    try:
        return _read(path.name, entries)
    except BROKEN as error:
        raise DataError(
            f"{path.name} is not a readable tar or zip archive, or is cut short ({reason(error)}); "
            "copy or download it again."
        ) from error


def image_root(folder: Path) -> Path:
    """The folder that holds train/ and test/: the given one, or the only one below it that does."""
    below = [child for child in sorted(folder.iterdir()) if child.is_dir() and not _is_junk((child.name,))]
    candidates = [place for place in (folder, *below) if any((place / split).is_dir() for split in SPLITS)]
    if not candidates:
        raise DataError(f"{folder.name} holds neither {LAYOUT} nor cifar-10-batches-py; name a folder that does.")
    if candidates[0] != folder and len(candidates) > 1:
        raise DataError(
            f"{folder.name} holds several image folders ({', '.join(c.name for c in candidates)}); name one of them."
        )
    return candidates[0]


def stamps(folder: Path) -> Iterator[str]:
    """A line per image file below train/ and test/: path, size and time of change. Reads no image."""
    root = image_root(folder)
    about = root / ABOUT
    if about.is_file():
        yield f"{ABOUT} {about.stat().st_size} {about.stat().st_mtime_ns}"
    for split in SPLITS:
        for directory, folders, _ in os.walk(root / split, followlinks=True):
            folders.sort()
            yield directory
            with os.scandir(directory) as entries:  # half the time of a stat by path, which 60,000 files notice
                status = {entry.name: entry.stat() for entry in entries if not entry.is_dir()}
            for name in sorted(status):
                yield f"{name} {status[name].st_size} {status[name].st_mtime_ns}"


def tar_stream(path: Path) -> io.BufferedIOBase:
    """The decompressed bytes of a tar archive; reading raises EOFError where the compressed data is cut short."""
    with path.open("rb") as file:
        start = file.read(8)
    for magic, opener in DECOMPRESSORS.items():
        if start.startswith(magic):
            return opener(path)
    return path.open("rb")


def _folder_entries(root: Path) -> Iterator[Entry]:
    if (root / ABOUT).is_file():
        yield Entry((ABOUT,), (root / ABOUT).read_bytes)
    for split in SPLITS:
        for directory, folders, files in os.walk(root / split, followlinks=True):
            parts = Path(directory).relative_to(root).parts
            yield Entry(parts, None)
            folders.sort()
            for name in files:
                yield Entry((*parts, name), (Path(directory) / name).read_bytes)


def _zip_entries(path: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.flag_bits & 1:
                raise DataError(f"{path.name} is encrypted; give an archive without a password.")
            yield Entry(_parts(info.filename), None if info.is_dir() else partial(archive.read, info))


def _tar_entries(path: Path) -> Iterator[Entry]:
    with tar_stream(path) as stream:
        tail = _Tail(stream)
        with tarfile.open(fileobj=tail, mode="r|") as archive:  # type: ignore[call-overload]
            for member in archive:
                yield Entry(_parts(member.name), None if member.isdir() else partial(_tar_bytes, archive, member))
        while tail.read(1 << 20):
            pass
        # Without this, an archive cut between two members would pass for a smaller one.
        if not tail.ends_in_zeros():
            raise tarfile.ReadError("no end-of-archive mark")


def _tar_bytes(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member) if member.isreg() else None
    if file is None:
        raise DataError(f"{member.name} in the archive is a link or a device; pack the image files themselves.")
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
    return tuple(part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "."))


def _is_junk(parts: tuple[str, ...]) -> bool:
    """Hidden files and what desktops leave behind."""
    return any((p.startswith(".") and p != "..") or p in ("__MACOSX", "Thumbs.db", "desktop.ini") for p in parts)


def reason(error: BaseException) -> str:
    """An exception's message on one line, without a full stop."""
    text = (isinstance(error, OSError) and error.strerror) or str(error)
    return re.sub(r"\s+", " ", text).strip().rstrip(".") or type(error).__name__


def _read(source: str, entries: Iterable[Entry]) -> Images:
    """Decode every image below train/ and test/ and put them in order. Files elsewhere are left alone."""
    decoded: dict[str, dict[str, dict[str, bytes]]] = {split: {} for split in SPLITS}
    tops = set()
    mirror_safe, sizes = True, _Sizes()
    for parts, read in entries:
        if _is_junk(parts):
            continue
        if parts[-1] == ABOUT and len(parts) <= 2 and read is not None:
            mirror_safe = _mirror_safe(read(), f"{ABOUT} in {source}")
            continue
        depth = next((i for i, part in enumerate(parts[:2]) if part in SPLITS), None)
        if depth is None:
            continue
        tops.add(parts[:depth])
        split, *inside = parts[depth:]
        where = f"{'/'.join(parts[depth:])} in {source}"
        if read is None:
            if len(inside) == 1:
                decoded[split].setdefault(inside[0], {})
        elif len(inside) != 2 or ".." in inside:
            raise DataError(f"{where} does not stand where an image should ({LAYOUT}); move or remove it.")
        else:
            label, name = inside
            decoded[split].setdefault(label, {})[name] = _decode(read(), where, sizes)
    if len(tops) > 1:
        raise DataError(f"{source} holds train and test in several places; keep one copy of {LAYOUT}.")
    classes = _classes(source, decoded)
    train, test = _interleaved(decoded["train"]), _interleaved(decoded["test"])
    return Images(classes, *train, *test, mirror_safe, sizes.first or (SIDE, SIDE))


def _mirror_safe(content: bytes, where: str) -> bool:
    try:
        about = tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{where} is not TOML ({reason(error)}); correct or remove it.") from error
    known = about.pop("mirror_safe", True)
    if about or not isinstance(known, bool):
        raise DataError(f"{where} may hold mirror_safe = true or false, and nothing else; correct it.")
    return known


class _Sizes:
    """The size that all images of a source have: that of the first one."""

    def __init__(self) -> None:
        self.first: tuple[int, int] | None = None

    def check(self, size: tuple[int, int], where: str) -> None:
        """Raise DataError for an image of another size than the first one's."""
        self.first = self.first or size
        if size != self.first:
            (width, height), (first_width, first_height) = size, self.first
            raise DataError(
                f"{where} is {width}×{height} pixels and the first image {first_width}×{first_height}; "
                "all must be of one size, so resize or remove it."
            )


def _decode(data: bytes, where: str, sizes: _Sizes) -> bytes:
    """RGB bytes, 32 * 32 * 3, of an encoded image; one of another size is resized (bilinear, antialiased)."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            image: Image.Image = opened
            sizes.check(image.size, where)
            if image.mode.startswith(("I", "F")):
                raise DataError(f"{where} has pixels of more than 8 bits; convert it to 8 bits a channel.")
            image = image.convert("RGBA").convert("RGB") if "transparency" in image.info else image.convert("RGB")
            if image.size != (SIDE, SIDE):
                image = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            return image.tobytes()
    except DataError:
        raise
    except Exception as error:  # decoders raise nearly anything on broken input
        raise DataError(
            f"{where} cannot be read as an image ({type(error).__name__}); replace or remove it."
        ) from error


def _classes(source: str, decoded: dict[str, dict[str, dict[str, bytes]]]) -> tuple[str, ...]:
    """The class names, sorted. Raises DataError unless train and test both hold images of each."""
    for split in SPLITS:
        if not decoded[split]:
            raise DataError(f"{source} holds no {split}/<class>/… images; it needs {LAYOUT}.")
    train, test = (set(decoded[split]) for split in SPLITS)
    for name in sorted(train ^ test):
        has, lacks = SPLITS if name in train else reversed(SPLITS)
        raise DataError(f"{source} has {has}/{name} but no {lacks}/{name}; every class needs images in both.")
    for split in SPLITS:
        for name, images in sorted(decoded[split].items()):
            if not images:
                raise DataError(f"{split}/{name} in {source} holds no image; add some or remove the class from both.")
    if len(train) < 2:
        raise DataError(f"{source} holds one class only, {next(iter(train))}; at least two are needed.")
    return tuple(sorted(train))


def _interleaved(classes: dict[str, dict[str, bytes]]) -> tuple[np.ndarray, np.ndarray]:
    """The first image of each class, then the second of each, …: any prefix is balanced as far as the counts allow."""
    keys = sorted(
        (rank, label, name, file)
        for label, name in enumerate(sorted(classes))
        for rank, file in enumerate(sorted(classes[name]))
    )
    pixels = b"".join(classes[name][file] for _, _, name, file in keys)
    images = np.frombuffer(pixels, np.uint8).reshape(-1, SIDE, SIDE, 3)
    return images, np.array([label for _, label, _, _ in keys], np.int64)
