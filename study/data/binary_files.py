"""The binary version of CIFAR-10 and CIFAR-100: fixed-length records of labels and pixels."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from cifar_ablations.ablations.files import read_named
from cifar_ablations.study.data.images import SIDE, DataError, FaultError, Images, reason, refuse

PIXELS = 3 * SIDE * SIDE
MOST_BYTES = 1 << 30
"""Of a file of records: the largest of the official ones has 154 MB."""


class Layout(NamedTuple):
    """The files of a version, and how many bytes of labels precede the pixels; the last of them is what counts."""

    title: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    labels: int


LAYOUTS = {
    "cifar-10-batches-bin": Layout(
        "CIFAR-10", tuple(f"data_batch_{i}.bin" for i in range(1, 6)), ("test_batch.bin",), "batches.meta.txt", 1
    ),
    "cifar-100-binary": Layout("CIFAR-100", ("train.bin",), ("test.bin",), "fine_label_names.txt", 2),
}
"""By the name of the folder that the archive unpacks to."""


def find(source: Path) -> Path | None:
    """The folder of a binary version that the source is or holds, by its name or by the files in it."""
    for folder in (source, *(source / name for name in LAYOUTS)):
        if folder.is_dir() and _layout(folder) is not None:
            return folder
    return None


def title(folder: Path) -> str:
    """What is in a folder, in words."""
    layout = _layout(folder)
    assert layout is not None, folder
    return f"The binary version of {layout.title}, whose files have no known MD5 sums,"


def files(folder: Path) -> list[str]:
    """The names of the files that are read."""
    layout = _layout(folder)
    assert layout is not None, folder
    return [*layout.train, *layout.test, layout.names]


def read(folder: Path) -> Images:
    """The images of a folder, in the order of its files. Raises DataError, which names all files that are wrong."""
    layout = _layout(folder)
    assert layout is not None, folder
    try:
        text = read_named(folder / layout.names).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{layout.names} in {folder.name} cannot be read ({reason(error)}); unpack it again."
        ) from error
    classes = tuple(filter(None, map(str.strip, text.splitlines())))
    faults: list[tuple[str, FaultError]] = []
    splits = []
    for names in (layout.train, layout.test):
        rows = []
        for name in names:
            try:
                rows.append(_rows(folder / name, layout.labels, len(classes)))
            except FaultError as fault:
                faults.append((name, fault))
        splits.append(rows)
    refuse(folder.name, faults)
    train, test = (np.concatenate(rows) for rows in splits)
    return Images(classes, *_images(train, layout.labels), *_images(test, layout.labels))


def _layout(folder: Path) -> Layout | None:
    if folder.name in LAYOUTS:
        return LAYOUTS[folder.name]
    return next((layout for layout in LAYOUTS.values() if (folder / layout.train[0]).is_file()), None)


def _rows(file: Path, labels: int, classes: int) -> np.ndarray:
    """The records of a file, uint8 [N, labels + pixels]. Raises FaultError for a file that is not whole records."""
    try:
        content = np.frombuffer(read_named(file, MOST_BYTES), np.uint8)
    except OSError as error:
        raise FaultError(f"cannot be opened ({reason(error)})", "unpack the archive again") from error
    if not content.size or content.size % (labels + PIXELS):
        raise FaultError(f"is not made of records of {labels + PIXELS:,} bytes", "unpack the archive again")
    rows = content.reshape(-1, labels + PIXELS)
    if rows[:, labels - 1].max() >= classes:
        raise FaultError(f"has labels that the {classes} class names do not reach to", "unpack the archive again")
    return rows


def _images(rows: np.ndarray, labels: int) -> tuple[np.ndarray, np.ndarray]:
    images = rows[:, labels:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), rows[:, labels - 1].astype(np.int64)
