"""The official CIFAR-10 files: found, unpacked, downloaded, and read by torchvision once their MD5 sums hold."""

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

FOLDER = "cifar-10-batches-py"
DOWNLOAD_TIMEOUT_SECONDS = 20

# torchvision takes seconds to import, so only the functions that need it do.


def find_root(source: Path) -> Path | None:
    """The folder that holds cifar-10-batches-py, if the source is that one or holds it."""
    if source.name == FOLDER:
        return source.parent
    return source if (source / FOLDER).is_dir() else None


def stamps(root: Path) -> list[str]:
    """A line per file: name, size and time of change. Reads no file."""
    files = sorted((root / FOLDER).iterdir())
    return [f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]


def read(root: Path) -> Images:
    """The images of root/cifar-10-batches-py, in the official order. Raises DataError where an MD5 sum differs."""
    with _quiet():
        from torchvision.datasets import CIFAR10
        from torchvision.datasets.utils import check_integrity

        for file, md5 in [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]:
            if not check_integrity(str(root / FOLDER / file), md5):
                raise DataError(
                    f"{FOLDER}/{file} is missing or not the official file (its MD5 sum differs); "
                    "unpack the official cifar-10-python.tar.gz again."
                )
        train, test = (CIFAR10(str(root), train=is_train) for is_train in (True, False))
    train_labels, test_labels = (np.array(split.targets, np.int64) for split in (train, test))
    return Images(tuple(train.classes), train.data, train_labels, test.data, test_labels)


def download(folder: Path) -> None:
    """Download and unpack the official archive into the folder. Raises DataError where that fails."""
    try:
        with _quiet(), _socket_timeout(DOWNLOAD_TIMEOUT_SECONDS):
            from torchvision.datasets import CIFAR10

            CIFAR10(str(folder), download=True)
    except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:
        raise DataError(f"CIFAR-10 could not be downloaded ({reason(error)}).") from error


def is_archive(path: Path) -> bool:
    """Whether a tar archive begins with cifar-10-batches-py, as the official one does."""
    try:
        with tar_stream(path) as stream, tarfile.open(fileobj=stream, mode="r|") as members:
            return any(FOLDER in Path(member.name).parts for member in islice(members, 2))
    except BROKEN:
        return False


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
