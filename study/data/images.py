"""What the readers of images share: what they read, how they refuse it, and what names are shown as."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cifar_ablations.ablations.errors import AblateError

SPLITS = ("train", "test")
SIDE = 32
LAYOUT = "train/<class>/… and test/<class>/… images"
NAMED = 10
"""How many faults of one source are named."""
MOST_BYTES = 64 << 20
"""Of an encoded image: an uncompressed one of 20 megapixels has as many."""
MOST_ENTRIES = 2_000_000
"""Files and folders of a source: the pixels of so many images take 6 GB of memory, and ImageNet has 1.3 million."""
MOST_FAULTS = 10_000
"""Of a source, after which no more of it is looked at."""
LFS = b"version https://git-lfs"
"""How a file begins that stands for a large one in a clone without it."""
JUNK = {
    *("__macosx", "icon\r"),  # macOS
    *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("@eadir", "#recycle", "lost+found"),  # network drives, and the root of a disk
}
"""What systems leave behind, in any case of the letters."""
MARKED = ":zone.identifier"
"""How a file ends in whose name Linux has what Windows keeps beside a file from the Internet."""


class DataError(AblateError):
    """Images that cannot be used: one line that names the file and says what to do."""


class FaultError(DataError):
    """What is wrong with one file of a source, to follow its name, and what to do about it."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(what)
        self.what = what
        self.advice = advice


class Images(NamedTuple):
    """Decoded images: uint8 [N, 32, 32, 3] and int64 [N] per split, with the names of the classes."""

    classes: tuple[str, ...]
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    mirror_safe: bool = True
    """Whether a mirrored image is of the same class."""
    resized: str = ""
    """From what size to what, in words; "" where nothing was."""
    notes: tuple[str, ...] = ()
    """What was done to them, and what a reader must know about them, a sentence each."""
    validation_images: np.ndarray | None = None
    """None where the source has no validation images of its own."""
    validation_labels: np.ndarray | None = None


class Entry(NamedTuple):
    """A file (with a way to read it), a folder (without), or what is wrong with it, at a path inside the source."""

    parts: tuple[str, ...]
    read: Callable[[], bytes] | None
    fault: FaultError | None = None


def refuse(source: str, faults: Sequence[tuple[str, FaultError]]) -> None:
    """Raise DataError, in one line, where there are faults; each is given with the path of its file in the source."""
    if not faults:
        return
    if len(faults) == 1:
        ((where, fault),) = faults
        raise DataError(f"{where} in {source} {fault.what}; {fault.advice}.")
    advice = "; ".join(dict.fromkeys(fault.advice for _, fault in faults))
    raise DataError(
        f"{len(faults):,} files or folders in {source} cannot be used: "
        f"{first_of([f'{where} {fault.what}' for where, fault in faults], '; ')}. For each: {advice}."
    )


def first_of(words: Sequence[str], separator: str = ", ") -> str:
    """The first ten of a list, and how many more there are."""
    more = len(words) - NAMED
    return separator.join([*words[:NAMED], *([f"and {more:,} more"] if more > 0 else [])])


def is_junk(parts: Sequence[str]) -> bool:
    """Hidden files and what systems leave behind."""
    return any((p.startswith(".") and p != "..") or p.lower() in JUNK or p.lower().endswith(MARKED) for p in parts)


def is_text(name: str) -> bool:
    """Whether a file's name is Unicode; Python gives other bytes as halves of characters."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(name: str) -> str:
    """A file's name as it can be printed: other bytes and control characters as escapes, outer spaces in quotes."""
    text = name if is_text(name) else os.fsencode(name).decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return f"'{text}'" if text != text.strip() else text


def reason(error: BaseException) -> str:
    """An exception's message on one line, without a full stop."""
    text = (isinstance(error, OSError) and error.strerror) or str(error)
    return re.sub(r"\s+", " ", text).strip().rstrip(".") or type(error).__name__
