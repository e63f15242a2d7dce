"""The official files of CIFAR-10 and CIFAR-100: found, downloaded, unpacked, and read if their MD5 sums hold."""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading
import time
import warnings
from collections.abc import Callable, Container, Iterator
from http.client import HTTPException
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np

from cifar_ablations.study.data.image_archive import BROKEN, opened_tar
from cifar_ablations.study.data.images import DataError, Images, reason, shown

FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
MARKS = {"cifar10": ("data_batch_1", "batches.meta"), "cifar100": ("train", "test", "meta")}
"""Files by which a folder of another name is recognised."""
TITLES = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
OTHER_VERSIONS = {
    "cifar-10-batches-bin": "binary",
    "cifar-10-batches-mat": "Matlab",
    "cifar-100-binary": "binary",
    "cifar-100-matlab": "Matlab",
}
"""Folders of the versions that are not the official files, of which the binary ones are read."""
PART = ".part"  # ends the name of an archive that is still being downloaded
SILENCE_SECONDS = 20.0
PROGRESS_SECONDS = 5.0
BLOCK = 1 << 16
MEGABYTE = 10**6
MOST_UNPACKED = 512 << 20
"""Bytes of an archive that is unpacked onto the disk: the official ones have 180 MB."""

# torchvision takes seconds to import, so only the functions that need it do.


class DownloadError(DataError):
    """Official files that could not be downloaded; the message names the cause."""


def find(source: Path) -> tuple[str, Path] | None:
    """The data set whose official folder the source is or holds, and that folder; None for other sources.

    A folder of another name is recognised by the files in it, and a link by its own name or by where it leads.
    """
    for name, folder in FOLDERS.items():
        if source.name == folder and source.is_dir():
            return name, source
        if (source / folder).is_dir():
            return name, source / folder
    for name, files in MARKS.items():
        if source.name not in OTHER_VERSIONS and all((source / file).is_file() for file in files):
            return name, source
    return None


def located(name: str, source: Path) -> Path:
    """The path of a data set's official archive or folder: the source itself, or the folder in it.

    An archive is recognised by its MD5 sum; the files of a folder are checked by `read`. Raises DataError, which says
    what the source is instead.
    """
    title, folder, reader = TITLES[name], FOLDERS[name], _reader(name)
    wanted = f"{reader.filename} or the folder {folder}"
    try:
        if not source.exists():
            raise DataError(f"{source} does not exist; give {wanted}.")
        if not source.is_dir() and not source.is_file():
            raise DataError(f"{source} is no file but a pipe or a device; give {wanted}.")
        source = source.absolute()
        for found in (find(source), find(source / folder)):
            if found and found[0] == name:
                return found[1]
        if source.is_file() and _md5(source) == reader.tgz_md5:
            return source
        inside = _names(source)
    except OSError as error:
        raise DataError(f"{error.filename or source} cannot be read ({reason(error)}); check the path.") from error
    for other in FOLDERS:
        if other != name and FOLDERS[other] in inside:
            raise DataError(f"{source.name} is {TITLES[other]}, not {title}; say `ablate data {other} --from …`.")
    refuse_other_versions(source)
    if folder in inside or source.name == reader.filename:
        raise DataError(
            f"{source.name} is not the official archive of {title} (its MD5 sum differs): it is damaged, cut short or "
            f"packed anew; copy or download it again, or unpack it and give the folder {folder}."
        )
    raise DataError(f"{source.name} is not the official {title} ({wanted}); other images are given with --data PATH.")


def refuse_other_versions(source: Path, versions: Container[str] = ("binary", "Matlab")) -> None:
    """Raise DataError where a source is, or holds, one of these versions."""
    inside = _names(source)
    for folder, version in OTHER_VERSIONS.items():
        if folder in inside and version in versions:
            name = "cifar100" if "100" in folder else "cifar10"
            otherwise = ", or train on this one with --data PATH" if version == "binary" else ""
            raise DataError(
                f"{shown(source.name)} is the {version} version of {TITLES[name]}; give the Python version, "
                f"{_reader(name).filename}{otherwise}."
            )


def read(name: str, folder: Path) -> Images:
    """The images of a data set's official folder, whatever it is called, in the official order.

    Raises DataError where an MD5 sum differs.
    """
    with _quiet():
        from torchvision.datasets.utils import check_integrity

        # torchvision looks below a folder for one of this name.
        reader: Any = type(name, (_reader(name),), {"base_folder": folder.name})
        for file, md5 in [*reader.train_list, *reader.test_list, (reader.meta["filename"], reader.meta["md5"])]:
            if not check_integrity(str(folder / file), md5):
                raise DataError(
                    f"{folder.name}/{file} is missing or not the official file (its MD5 sum differs); "
                    f"unpack the official archive of {TITLES[name]} again."
                )
        train, test = (reader(str(folder.parent), train=is_train) for is_train in (True, False))
    train_labels, test_labels = (np.array(split.targets, np.int64) for split in (train, test))
    return Images(tuple(train.classes), train.data, train_labels, test.data, test_labels)


def download(
    name: str,
    folder: Path,
    say: Callable[[str], None],
    *,
    address: str | None = None,
    silence_seconds: float = SILENCE_SECONDS,
) -> Path:
    """Download the official archive into a folder and return its path; what an earlier call got is kept and continued.

    address: torchvision's, unless given. Raises DownloadError, with the cause, where the archive cannot be had, which
    includes that nothing comes for so many seconds, and where what came is another file, which is removed.
    """
    reader = _reader(name)
    address = address or reader.url
    host = urlsplit(address).netloc
    part = folder / f"{reader.filename}{PART}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if part.exists() and _md5(part) == reader.tgz_md5:  # an earlier call could not go on from here
            return part
        _fetch(address, part, f"{TITLES[name]} (170 MB) from {host}", say, silence_seconds)
        whole = _md5(part) == reader.tgz_md5
        if not whole:
            part.unlink()
    except (OSError, HTTPException) as error:
        why = _why(error, silence_seconds)
        raise DownloadError(f"{TITLES[name]} could not be downloaded from {host} ({why}).") from error
    if not whole:
        raise DownloadError(
            f"{TITLES[name]} could not be downloaded: {host} sent another file (its MD5 sum differs), now removed."
        )
    return part


def _fetch(address: str, part: Path, what: str, say: Callable[[str], None], silence_seconds: float) -> None:
    """Append to a partial file what it still misses, or write it anew where the server sends the whole."""
    start = part.stat().st_size if part.exists() else 0
    say(f"Downloading {what}{f', going on after {start // MEGABYTE} MB' if start else ''} …")
    try:
        response = _opened(Request(address, headers={"Range": f"bytes={start}-"} if start else {}), silence_seconds)
    except HTTPError as error:
        error.close()
        if not start or error.code != 416:  # there is nothing after what is here: it was complete, and wrong
            raise
        part.unlink()
        return _fetch(address, part, what, say, silence_seconds)
    with response:
        done = start if response.status == 206 else 0
        total = None if response.length is None else done + response.length
        reported = time.monotonic()
        with part.open("ab" if done else "wb") as file:
            while (total is None or done < total) and (block := response.read1(BLOCK)):
                file.write(block)
                done += len(block)
                if time.monotonic() - reported >= PROGRESS_SECONDS:
                    reported = time.monotonic()
                    say(f"  {done // MEGABYTE}{f' of {total // MEGABYTE}' if total else ''} MB")
    if total is not None and done < total:
        raise ConnectionError(f"cut after {done / MEGABYTE:.3g} of {total / MEGABYTE:.3g} MB; the next call goes on")


def _opened(request: Request, seconds: float) -> Any:
    """The response to a request. Raises TimeoutError where none has begun within so many seconds.

    In a thread, since the look-up of a host's name has no time limit of its own, and each of its addresses a new one.
    """
    responses: SimpleQueue[Any] = SimpleQueue()

    def ask() -> None:
        try:
            responses.put(urlopen(request, timeout=seconds))
        except Exception as error:  # raised again by who asked
            responses.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        found = responses.get(timeout=seconds)
    except Empty:
        raise TimeoutError from None
    if isinstance(found, Exception):
        raise found
    return found


def _why(error: BaseException, silence_seconds: float) -> str:
    if isinstance(error, URLError) and isinstance(error.reason, BaseException):
        error = error.reason
    return f"no answer for {silence_seconds:g} s" if isinstance(error, TimeoutError) else reason(error)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _reader(name: str) -> Any:
    """torchvision's class, which knows the files, their MD5 sums and their address."""
    from torchvision.datasets import CIFAR10, CIFAR100

    return {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]


def archived(path: Path) -> str | None:
    """The name of the official or the binary folder that a tar archive begins with, as the official ones do."""
    inside = _names(path)
    known = [*FOLDERS.values(), *(folder for folder, version in OTHER_VERSIONS.items() if version == "binary")]
    return next((folder for folder in known if folder in inside), None)


def _names(path: Path) -> set[str]:
    """A folder's name and what it holds; of a tar archive the parts of its first paths; none of anything else."""
    if path.is_dir():
        return {path.name, *(child.name for child in path.iterdir())}
    if not path.is_file():  # a pipe would be waited for
        return set()
    try:
        with opened_tar(path) as (members, _):
            return {part for member in islice(members, 3) for part in Path(member.name).parts}
    except BROKEN:
        return set()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the official archive. Raises DataError for a damaged one or one that reaches outside the folder."""
    try:
        with opened_tar(archive) as (members, _):
            total = 0
            for member in members:
                total += member.size
                if total > MOST_UNPACKED:
                    raise DataError(
                        f"{archive.name} unpacks to over {MOST_UNPACKED >> 20} MB, which the official files do not."
                    )
                members.extract(member, folder, filter="data")
    except DataError:
        raise
    except BROKEN as error:
        raise DataError(f"{archive.name} cannot be unpacked ({reason(error)}); copy or download it again.") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torchvision's prints and warnings off the screen."""
    sink = io.StringIO()
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
