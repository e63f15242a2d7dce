"""The entries of a folder of images: where train/ and test/ are in it, and what of it cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from cifar_ablations.ablations.files import read_named
from cifar_ablations.study.data.image_tree import ALL_NAMES, VALIDATION, assemble, is_about
from cifar_ablations.study.data.images import (
    LAYOUT,
    MOST_BYTES,
    SPLITS,
    DataError,
    Entry,
    FaultError,
    Images,
    is_junk,
    reason,
    shown,
)

OUTER = 3
"""How many folders may stand around train/ and test/ in the one that is given."""
UNREAD = {
    "-ubyte": "MNIST's own",
    "-ubyte.gz": "MNIST's own",
    ".mat": "Matlab",
    ".npz": "NumPy",
    ".npy": "NumPy",
    ".arrow": "Arrow",
    ".tfrecord": "TensorFlow",
    ".h5": "HDF5",
    ".hdf5": "HDF5",
}
"""Formats that people keep images in, by the ending of a file's name, which are not read."""


def read_folder(folder: Path, image_size: int | None = None) -> Images:
    """The images of a folder that holds train/ and test/, itself or in the outermost folder below it that does."""
    return assemble(shown(folder.name), entries(folder), image_size, folder)


def counted(folder: Path) -> Iterator[str]:
    """The paths in a folder of all files and folders that `read_folder` would look at."""
    return (os.sep.join(entry.parts) for entry in entries(folder))


def image_root(folder: Path) -> Path:
    """The folder that holds train/ and test/: the given one, or the outermost one below it that does.

    Raises DataError where there is none, or more than one.
    """
    level = [folder]
    named_otherwise = None
    for _ in range(OUTER + 1):
        below = {place: _subfolders(place) for place in level}
        found = [place for place, names in below.items() if any(split in names for split in SPLITS)]
        if len(found) > 1:
            names = ", ".join(shown(str(place.relative_to(folder))) for place in found)
            raise DataError(f"{shown(folder.name)} holds several image folders ({names}); name one of them.")
        if found:
            return found[0]
        like = [place for place, names in below.items() if any(name.lower() in ALL_NAMES for name in names)]
        named_otherwise = named_otherwise or (like[0] if like else None)
        level = [place / name for place, names in below.items() for name in names if not (place / name).is_symlink()]
    if named_otherwise:
        return named_otherwise
    raise DataError(f"{shown(folder.name)} {_instead(folder)}")


def entries(folder: Path) -> Iterator[Entry]:
    """All that counts of a folder: train/, test/ and validation with what is in them, declarations, others by name."""
    root = image_root(folder)
    outer = root.relative_to(folder).parts
    for depth in range(len(outer) + 1):
        place = folder.joinpath(*outer[:depth])
        for child in _scanned(place):
            if is_about(child.name) and not _is_folder(child):
                yield Entry((*outer[:depth], child.name), partial(_content, child.path))
    for child in sorted(_scanned(root), key=lambda child: child.name != SPLITS[0]):  # whose first image tells the size
        if child.name in SPLITS or (child.name.lower() in VALIDATION and (_is_folder(child) or child.is_symlink())):
            yield from _split(child, outer)
        elif child.name.lower() in ALL_NAMES and _is_folder(child):
            yield Entry((*outer, child.name), None)


def _split(split: os.DirEntry[str], outer: tuple[str, ...]) -> Iterator[Entry]:
    """A split, its classes and their files. Nothing further in is looked at, where a loop of links would lead."""
    parts = (*outer, split.name)
    if not _is_folder(split):
        yield Entry(
            parts, None, FaultError("is no folder, or a link that leads nowhere", "put the folder in its place")
        )
        return
    yield Entry(parts, None)
    for label in _listed(split, parts):
        if isinstance(label, Entry):
            yield label
            continue
        within = (*parts, label.name)
        if label.is_symlink() and not os.path.exists(label.path):
            yield Entry(within, None, FaultError("is a link that leads nowhere", "remove it"))
            continue
        if not _is_folder(label):
            yield Entry(within, partial(_content, label.path))
            continue
        yield Entry(within, None)
        for file in _listed(label, within):
            if isinstance(file, Entry):
                yield file
            elif not _is_folder(file):
                yield Entry((*within, file.name), partial(_content, file.path))
            elif any(True for _ in _listed(file, within)):
                what = "a link to a folder" if file.is_symlink() else "a folder"
                yield Entry((*within, file.name), None, FaultError(f"is {what} within a class", "move or remove it"))


def _listed(directory: os.DirEntry[str], parts: tuple[str, ...]) -> Iterable[os.DirEntry[str] | Entry]:
    """What is in a directory, sorted, or the fault of one that cannot be opened."""
    try:
        return _scanned(directory.path)
    except OSError as error:
        return [Entry(parts, None, _unreadable(error))]


def _scanned(directory: str | Path) -> list[os.DirEntry[str]]:
    """What is in a directory, sorted, without junk."""
    with os.scandir(directory) as found:
        return sorted((child for child in found if not is_junk((child.name,))), key=lambda child: child.name)


def _is_folder(child: os.DirEntry[str]) -> bool:
    try:
        return child.is_dir()
    except OSError:  # a link in a circle
        return False


def _content(path: str) -> bytes:
    try:
        return read_named(Path(path), MOST_BYTES)
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> FaultError:
    return FaultError(f"cannot be opened ({reason(error)})", "make it readable or remove it")


def _subfolders(place: Path) -> list[str]:
    """The names of the folders in one; none of one that cannot be opened."""
    try:
        return [child.name for child in _scanned(place) if _is_folder(child) or child.name in SPLITS]
    except OSError:
        return []


def _instead(folder: Path) -> str:
    """What is wrong with a folder without train/ and test/, as far as that can be seen."""
    try:
        names = [child.name for child in _scanned(folder)]
    except OSError as error:
        return f"cannot be opened ({reason(error)}); make it readable."
    for name in names:
        for ending, kind in UNREAD.items():
            if name.lower().endswith(ending):
                return f"holds {shown(name)}, of {kind} format, which is not read; write its images to {LAYOUT}."
    return f"holds neither {LAYOUT} nor cifar-10-batches-py; name a folder that does."
