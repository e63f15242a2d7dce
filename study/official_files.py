"""The official files of CIFAR-10 and CIFAR-100: found, unpacked, downloaded, read by torchvision if MD5 sums hold."""

from __future__ import annotations

import contextlib
import io
import socket
import tarfile
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from study.image_archive import BROKEN, DataError, Images, reason, tar_stream

FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
DOWNLOAD_TIMEOUT_SECONDS = 20

# torchvision takes seconds to import, so only the functions that need it do.


def find(source: Path) -> tuple[str, Path] | None:
    """Which data set's official folder the source is or holds, and the folder that holds it."""
    for name, folder in FOLDERS.items():
        if source.name == folder:
            return name, source.parent
        if (source / folder).is_dir():
            return name, source
    return None


def stamps(name: str, root: Path) -> list[str]:
    """A line per file: name, size and time of change. Reads no file."""
    files = sorted((root / FOLDERS[name]).iterdir())
    return [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]


def read(name: str, root: Path) -> Images:
    """The images of a data set's official folder below root, in the official order.

    Raises DataError where an MD5 sum differs.
    """
    with _quiet():
        from torchvision.datasets.utils import check_integrity

        reader, folder = _reader(name), FOLDERS[name]
        for file, md5 in [*reader.train_list, *reader.test_list, (reader.meta["filename"], reader.meta["md5"])]:
            if not check_integrity(str(root / folder / file), md5):
                raise DataError(
                    f"{folder}/{file} is missing or not the official file (its MD5 sum differs); "
                    f"unpack the official archive of {TITLES[name]} again."
                )
        train, test = (reader(str(root), train=is_train) for is_train in (True, False))
    train_labels, test_labels = (np.array(split.targets, np.int64) for split in (train, test))
    return Images(tuple(train.classes), train.data, train_labels, test.data, test_labels)


def download(name: str, folder: Path) -> None:
    """Download and unpack the official archive into the folder. Raises DataError where that fails."""
    try:
        with _quiet(), _socket_timeout(DOWNLOAD_TIMEOUT_SECONDS):
            _reader(name)(str(folder), download=True)
    except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:
        raise DataError(f"{TITLES[name]} could not be downloaded ({reason(error)}).") from error


def _reader(name: str):
    from torchvision.datasets import CIFAR10, CIFAR100

    return {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]


def archived(path: Path) -> str | None:
    """The data set whose official folder a tar archive begins with, as the official ones do; None for no such one."""
    try:
        with tar_stream(path) as stream, tarfile.open(fileobj=stream, mode="r|") as members:
            parts = {part for member in islice(members, 2) for part in Path(member.name).parts}
            return next((name for name, folder in FOLDERS.items() if folder in parts), None)
    except BROKEN:
        return None


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the official archive. Raises DataError for a damaged one or one that reaches outside the folder."""
    try:
        with tar_stream(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as members:
            members.extractall(folder, filter="data")
    except BROKEN as error:
        raise DataError(f"{archive.name} cannot be unpacked ({reason(error)}); copy or download it again.") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torchvision's progress bars, prints and warnings off the screen."""
    sink = io.StringIO()
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
