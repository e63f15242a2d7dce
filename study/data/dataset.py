"""CIFAR-10, or what stands in for it, as memory-mapped uint8 tensors: decoded once, opened in an instant thereafter."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch
from torch import Tensor

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.arrays import HEADER_ERRORS
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import (
    PARTIAL,
    opened_atomically,
    parse_json,
    read_named,
    remove_left,
    sync_folder,
    write_atomically,
)
from cifar_ablations.study.data import binary_files, official_files, parquet_files, repeats
from cifar_ablations.study.data.fingerprint import fingerprint
from cifar_ablations.study.data.image_archive import read_archive
from cifar_ablations.study.data.image_folder import counted, read_folder
from cifar_ablations.study.data.images import SIDE, DataError, Images, reason, shown
from cifar_ablations.study.data.typed import image_size, program

__all__ = ["DataError", "Dataset", "closing", "expanded", "load", "load_official", "open_cached", "opening", "store"]

OFFICIAL = "cifar10"
SYNTHETIC = "synthetic"
META_FILE = "meta.json"
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
FORMAT = 1  # raise it when what is written into a cache entry changes
OWN_ARRAYS = ("validation_images", "validation_labels")  # of data sets that bring validation images
READING = "3"  # raise it when the same files are read as other images than before
DOWNLOAD_LOCK = "download.lock"
CHANNELS = ("red", "green", "blue")
NAMES = "cifar10, cifar100 or synthetic"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images for training and testing.

    Images are uint8 [N, 3, 32, 32] with channels_last strides, labels int64 [N]; both are memory-mapped copy-on-write,
    so that processes on one machine share them and none can change what is on the disk.
    """

    name: str
    """`cifar10` for the official files, `synthetic` for the stand-in, else a slug of the folder's or archive's name."""
    digest: str
    """16 hexadecimal digits (SHA-256) of the class names, labels and pixels, its own validation images included."""
    source: str
    """Its origin, as a sentence, and the notes."""
    stand_in: bool
    """True for the procedurally drawn images alone."""
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    """Per channel of the training images, in units of [0, 1], rounded to 4 digits."""
    std: tuple[float, float, float]
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    folder: Path | None = None
    """The cache entry that `open_cached` opens."""
    mirror_safe: bool = True
    """Whether a mirrored image is of the same class."""
    notes: tuple[str, ...] = ()
    """What was done to the images, and what a reader must know about them, a sentence each."""
    validation_images: Tensor | None = None
    """None where the data set has none of its own: then they are set aside from the training images."""
    validation_labels: Tensor | None = None

    @property
    def own_validation(self) -> int:
        """How many validation images the data set has of its own."""
        return 0 if self.validation_labels is None else len(self.validation_labels)

    def to(self, device: torch.device | str) -> Dataset:
        """The same data set with its tensors on a device; strides are kept."""
        return replace(self, **{name: getattr(self, name).to(device) for name in _arrays(self)})


def load(source: str | Path | None, cache: Path, *, say: Callable[[str], None] = print) -> Dataset:
    """The data set at `source`, or the best that can be had without one; `say` gets progress and `opening`'s line.

    A source is a path, or a name: `cifar10` and `cifar100` are downloaded once, `synthetic` are the drawn images.
    Without a source: CIFAR-10, if the cache holds the official files or they can be downloaded, else the drawn images.
    Other data are never taken unasked.

    A source that was read before is recognised by its content, wherever it lies now, and is not decoded again (one of
    more than a gigabyte: as `fingerprint` says). Raises DataError where the source cannot be used.
    """
    if image_size(source) not in (None, SIDE):
        raise DataError(f"--image-size must be {SIDE}, the pixels that networks take, not {image_size(source)}.")
    dataset = _loaded(source, cache, say)
    say(opening(dataset, source))
    return dataset


def _loaded(source: str | Path | None, cache: Path, say: Callable[[str], None]) -> Dataset:
    if not source:
        try:
            return _cached_or_downloaded(OFFICIAL, cache, say)
        except official_files.DownloadError as error:
            say(str(error))
            return _synthetic(cache, say)
    if source in (SYNTHETIC, *official_files.TITLES) and not Path(source).exists():
        return _synthetic(cache, say) if source == SYNTHETIC else load_official(str(source), cache, say=say)
    return _from_source(expanded(source), image_size(source), cache, say)


def expanded(source: str | Path) -> Path:
    """A path as it was typed, with the home folder of a user in place of ~. Raises DataError for no such user."""
    try:
        return Path(source).expanduser()
    except RuntimeError as error:
        raise DataError(f"{source} begins with the home folder of a user that there is not; check the path.") from error


def load_official(name: str, cache: Path, *, say: Callable[[str], None] = print) -> Dataset:
    """The official files of that name, from the cache, else downloaded. Raises DataError where neither can be."""
    try:
        return _cached_or_downloaded(name, cache, say)
    except official_files.DownloadError as error:
        raise DataError(f"{error} To bring it from elsewhere: {program()} data {name} --from PATH") from error


def _cached_or_downloaded(name: str, cache: Path, say: Callable[[str], None]) -> Dataset:
    if held := _named(name, cache):
        return held
    source = f"The official {official_files.TITLES[name]} files, downloaded."
    with _download_lock(cache, say):
        if held := _named(name, cache):  # another process has downloaded it meanwhile
            return held
        archive = official_files.download(name, cache, say)
        with _partial_folder(cache) as folder:
            official_files.unpack(archive, folder)
            images = official_files.read(name, folder / official_files.FOLDERS[name])
        dataset = store(images, cache / f"{name}-download", name=name, source=source)
        archive.unlink()
    return dataset


def opening(dataset: Dataset, source: str | Path | None = None) -> str:
    """A line that names the data set, to stand before all else, with its notes; source: as it was asked for."""
    title = schema.REHEARSAL if dataset.stand_in else official_files.TITLES.get(dataset.name, dataset.name)
    own = f", {dataset.own_validation:,} validation" if dataset.own_validation else ""
    counts = f"{len(dataset.train_labels):,} training{own} and {len(dataset.test_labels):,} test images"
    line = "\n  ".join((f"Data: {title}, {counts}, digest {dataset.digest}", *dataset.notes))
    if not dataset.stand_in or source == SYNTHETIC:
        return line
    return f"{line}. {_advice()}\n  What is found on them is not about photographs. For other images: --data PATH."


def closing(dataset: Dataset, source: str | Path | None = None) -> str | None:
    """The last line of a command on drawn images; None for other ones. source: as it was asked for."""
    if not dataset.stand_in:
        return None
    line = f"A {schema.REHEARSAL}: what is found is not about photographs."
    return line if source == SYNTHETIC else f"{line} {_advice()}"


def _advice() -> str:
    return f"For CIFAR-10: {program()} data cifar10 --from PATH (without --from, it is downloaded)"


def open_cached(folder: Path) -> Dataset:
    """Memory-map a cache entry. Raises DataError if the folder is not a whole one."""
    try:
        meta = parse_json(read_named(folder / META_FILE))
        names = (*ARRAYS, *(OWN_ARRAYS if meta.pop("own_validation", False) else ()))
        # Mode "c" is copy-on-write: torch accepts it without a warning, and the files stay as they are.
        arrays = {name: torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in names}
        if meta.pop("format") != FORMAT:
            raise AblateError("it was written by another version")
        if not all(meta["std"]):
            raise AblateError("a channel has no spread")
        for name in {"classes", "mean", "std", "notes"} & meta.keys():  # earlier entries have no notes
            meta[name] = tuple(meta[name])
        for name in (name for name in names if name.endswith("_images")):
            arrays[name] = arrays[name].permute(0, 3, 1, 2)
        return Dataset(**(meta | arrays), folder=folder)
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, *HEADER_ERRORS) as error:
        raise DataError(
            f"{folder.name} is not a usable cache entry ({error}); remove it and give the data again."
        ) from error


def checked(dataset: Dataset) -> Dataset:
    """The data set, whose pixels and labels are those that its digest names. Raises DataError where they are not.

    Of CIFAR-10 it takes 0.13 s of a core, and no run is reported under a digest that is not its data's.
    """
    found = _digest(dataset)
    if found != dataset.digest:
        where = dataset.folder.name if dataset.folder else dataset.name
        raise DataError(
            f"{where} is not a usable cache entry (its images have the digest {found}, and not {dataset.digest}); "
            "remove it and give the data again."
        )
    return dataset


def store(images: Images, entry: Path, *, name: str, source: str, stand_in: bool = False) -> Dataset:
    """Write a cache entry and open it. Processes that write the same entry at once all end with a whole one."""
    mean, std = _mean_and_std(images.train_images)
    constant = [channel for channel, spread in zip(CHANNELS, std, strict=True) if not spread]
    std = tuple(spread or 1.0 for spread in std)
    notes = () if stand_in else (*_of_constant(constant), *images.notes, *repeats.notes(images))
    arrays = _arrays(images)
    meta: dict[str, Any] = {
        "format": FORMAT,
        "name": name,
        "digest": _digest(images),
        "source": " ".join((source, *notes)),
        "stand_in": stand_in,
        "classes": images.classes,
        "mean": mean,
        "std": std,
        "mirror_safe": images.mirror_safe,
        "notes": notes,
    }
    if arrays != ARRAYS:
        meta["own_validation"] = True
    try:
        with _partial_folder(entry.parent) as partial:
            for array in arrays:
                with opened_atomically(partial / f"{array}.npy") as file:
                    np.save(file, np.ascontiguousarray(getattr(images, array)))
            write_atomically(partial / META_FILE, json.dumps(meta, indent=1).encode())
            _move_into_place(partial, entry)
            sync_folder(entry.parent)
    except OSError as error:
        raise _unwritable(entry, error) from error
    return open_cached(entry)


def put_entry(files: Mapping[str, bytes], entry: Path) -> Dataset:
    """Write a cache entry that another machine has, by its files' names, and open it; processes that do so at once all
    end with a whole one. Raises DataError where the images are not those of its digest, or cannot be written.
    """
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with _partial_folder(entry.parent) as partial:
            for name, content in files.items():
                write_atomically(partial / name, content)
            _move_into_place(partial, entry)
            sync_folder(entry.parent)
    except OSError as error:
        raise _unwritable(entry, error) from error
    return checked(open_cached(entry))


def _of_constant(channels: list[str]) -> Iterator[str]:
    """What a reader must know of channels that have one value in all training images."""
    if channels:
        yield f"All training images have the same value in {', '.join(channels)}, which tells networks nothing."


def _unwritable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be written ({reason(error)}); make room or move the cache.")


def _move_into_place(partial: Path, entry: Path) -> None:
    try:
        os.replace(partial, entry)
    except OSError:  # something stands there: another process's entry, or a damaged one
        try:
            checked(open_cached(entry))
        except DataError:
            shutil.rmtree(entry, ignore_errors=True)
            os.replace(partial, entry)


@contextlib.contextmanager
def _partial_folder(cache: Path) -> Iterator[Path]:
    """A folder beside the cache entries that goes away at the end; those of killed processes go with it."""
    remove_left(cache)
    folder = cache / f"{PARTIAL}{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise _unwritable(cache, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class _Source:
    """Files, and how they are read."""

    name: str
    """The name of the data set."""
    content: str
    place: Path
    files: tuple[str, ...]
    """The names, in the place, of all files and folders that count."""
    read: Callable[[], Images]


def _from_source(source: Path, size: int | None, cache: Path, say: Callable[[str], None]) -> Dataset:
    try:
        if not source.exists():
            why = "is a link that leads nowhere, or a loop of links" if source.is_symlink() else "does not exist"
            raise DataError(f"{shown(str(source))} {why}; give a folder or an archive of images, or {NAMES}.")
        if not source.is_dir() and not source.is_file():
            raise DataError(
                f"{shown(str(source))} is no file but a pipe or a device; give a folder or an archive of images."
            )
        found = _found(source.absolute(), size, cache)
        called = shown(source.resolve().name)
        content = fingerprint(found.place, found.files)
        entry = cache / f"{found.name}-{_key(READING, content, called, str(size))}"
        with contextlib.suppress(DataError):
            return checked(open_cached(entry))
        say(f"Reading {called} (once; later runs open the cache)…")
        images = found.read()
        if fingerprint(found.place, found.files) != content:
            raise DataError(f"{called} was changed while it was read; give it again once it is whole.")
    except DataError:
        official_files.refuse_other_versions(source, ("Matlab",))
        raise
    except OSError as error:
        raise DataError(
            f"{shown(str(error.filename or source))} cannot be read ({reason(error)}); check the path."
        ) from error
    resized = f", {images.resized}" if images.resized else ""
    return store(images, entry, name=found.name, source=f"{found.content} in {called}{resized}.")


def _found(source: Path, size: int | None, cache: Path) -> _Source:
    """What a source is. A link may be named as the official folder is, or lead to it."""
    resolved = source.resolve()
    if official := official_files.find(source) or official_files.find(resolved):
        name, folder = official
        content = f"The official {official_files.TITLES[name]} files"
        return _Source(
            name, content, folder, tuple(sorted(os.listdir(folder))), partial(official_files.read, *official)
        )
    slug = _slug(resolved)
    if binary := binary_files.find(source) or binary_files.find(resolved):
        files = tuple(binary_files.files(binary))
        return _Source(slug, binary_files.title(binary), binary, files, partial(binary_files.read, binary))
    if not resolved.is_dir():
        name, content, read = _packed(resolved, size, cache)
        return _Source(name or slug, content, resolved.parent, (resolved.name,), read)
    if tables := parquet_files.find(resolved):
        files = (*parquet_files.declarations(resolved), *tables)
        return _Source(slug, "Images", resolved, files, partial(parquet_files.read, resolved, tables, size))
    return _Source(slug, "Images", resolved, tuple(counted(resolved)), partial(read_folder, resolved, size))


def _packed(archive: Path, size: int | None, cache: Path) -> tuple[str, str, Callable[[], Images]]:
    """The name of the data set that an archive holds, if it has one of its own, its content, and how it is read."""
    if archive.suffix == ".parquet":
        raise DataError(f"{shown(archive.name)} is one table; give the folder that holds those of train and of test.")
    inside = official_files.archived(archive)
    if inside is None:
        return "", "Images", partial(read_archive, archive, size)
    name = next((name for name, folder in official_files.FOLDERS.items() if folder == inside), "")

    def read() -> Images:
        with _partial_folder(cache) as folder:
            official_files.unpack(archive, folder)
            unpacked = next(folder.rglob(inside))
            return official_files.read(name, unpacked) if name else binary_files.read(unpacked)

    content = f"The official {official_files.TITLES[name]} files" if name else binary_files.title(Path(inside))
    return name, content, read


def _synthetic(cache: Path, say: Callable[[str], None]) -> Dataset:
    from cifar_ablations.study.data import synthetic

    entry = cache / f"{SYNTHETIC}-{synthetic.VERSION}"
    with contextlib.suppress(DataError):
        return checked(open_cached(entry))
    say("Drawing images (once; later runs open the cache)…")
    images = Images(synthetic.CLASSES, *synthetic.draw("train"), *synthetic.draw("test"))
    source = "Procedurally drawn shapes and textures that stand in for photographs."
    return store(images, entry, name=SYNTHETIC, source=source, stand_in=True)


def _named(name: str, cache: Path) -> Dataset | None:
    """The official files of that name, if the cache holds them."""
    for meta_file in sorted(cache.glob(f"{name}-*/{META_FILE}")):
        with contextlib.suppress(DataError):
            dataset = open_cached(meta_file.parent)
            if dataset.name == name:
                return checked(dataset)
    return None


@contextlib.contextmanager
def _download_lock(cache: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Held by one process at a time, since two must not write one partial file; the second waits, saying so."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(cache / DOWNLOAD_LOCK)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            say("Another process is downloading; waiting for it to end (Ctrl-C to stop waiting).")
            lock.acquire()
    except OSError as error:
        raise _unwritable(cache, error) from error
    try:
        yield
    finally:
        lock.release()


def _slug(source: Path) -> str:
    """A name from a file's or folder's name, without the endings of archives."""
    stem = re.sub(r"(\.(tar|tgz|tbz2?|txz|tzst|zip|gz|bz2|xz|lzma|zst|lz4))+$", "", source.name.lower())
    slug = re.sub(r"[^a-z0-9]+", "-", stem).strip("-") or "images"
    return f"{slug}-images" if slug in (SYNTHETIC, *official_files.TITLES) else slug


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _digest(images: Images | Dataset) -> str:
    arrays = [_as_stored(getattr(images, name)) for name in _arrays(images)]
    header: list[Any] = [images.classes, [[str(a.dtype.newbyteorder("<")), a.shape] for a in arrays]]
    total = hashlib.sha256(json.dumps(header).encode())
    for array in arrays:
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()[:16]


def _as_stored(array: np.ndarray | Tensor) -> np.ndarray:
    """An array as a cache entry has it: of images the channels last."""
    if isinstance(array, Tensor):
        array = (array.permute(0, 2, 3, 1) if array.ndim == 4 else array).numpy()
    return array


def _arrays(images: Images | Dataset) -> tuple[str, ...]:
    """The names of the arrays that there are."""
    return ARRAYS if images.validation_labels is None else (*ARRAYS, *OWN_ARRAYS)


def _mean_and_std(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per-channel mean and population standard deviation over all pixels, in [0, 1], rounded to 4 digits.

    From the exact count of each of the 256 values, so that every machine gets the same digits.
    """
    counts = np.zeros((3, 256), np.int64)
    for chunk in np.array_split(images, max(1, len(images) // 1000)):  # bincount needs eight times the memory
        for channel in range(3):
            counts[channel] += np.bincount(chunk[..., channel].reshape(-1), minlength=256)
    share = counts / counts.sum(axis=1, keepdims=True)
    values = np.arange(256) / 255
    mean = (share * values).sum(axis=1)
    std = np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1))
    return tuple(mean.round(4).tolist()), tuple(std.round(4).tolist())
