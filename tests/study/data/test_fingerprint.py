"""A fingerprint changes with the content, whatever is done to keep size and times, and with nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cifar_ablations.study.data import fingerprint as module
from cifar_ablations.study.data.fingerprint import fingerprint
from tests.image_sets import as_folder, encoded, picture, read

NAMES = ("a/0.png", "b/0.png")
WHEN = (1_600_000_000_000_000_000, 1_600_000_000_000_000_000)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "images"
    for name, content in zip(NAMES, (b"first", b"other"), strict=True):
        (place / name).parent.mkdir(parents=True)
        (place / name).write_bytes(content)
        os.utime(place / name, ns=WHEN)
    return place


def _in_place(one: Path, other: Path) -> None:
    kept, content = one.stat(), one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    for path in (one, other):
        os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))


def _by_renaming(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def _by_copies_that_keep_the_time(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    for source, target in ((one, aside), (other, one), (aside, other)):
        subprocess.run(["cp", "-p", source, target], check=True)
    aside.unlink()


def _by_unpacking(one: Path, other: Path) -> None:
    """As `tar x` and `rsync -t` do: a new file with the old time takes the old one's place."""
    content = one.read_bytes(), other.read_bytes()
    for path, new in zip((other, one), content, strict=True):
        path.with_name("new").write_bytes(new)
        os.utime(path.with_name("new"), ns=WHEN)
        os.replace(path.with_name("new"), path)


def _by_touching(one: Path, other: Path) -> None:
    _in_place(one, other)
    subprocess.run(["touch", "-r", one, other], check=True)


EXCHANGES = [_in_place, _by_renaming, _by_copies_that_keep_the_time, _by_unpacking, _by_touching]


@pytest.mark.parametrize("bound", [module.CONTENT_BYTES, 0])
@pytest.mark.parametrize("exchange", EXCHANGES)
def test_files_that_change_places_are_noticed_though_size_and_time_are_kept(
    place: Path, monkeypatch: pytest.MonkeyPatch, exchange: Callable[[Path, Path], None], bound: int
) -> None:
    monkeypatch.setattr(module, "CONTENT_BYTES", bound)
    before = fingerprint(place, NAMES)
    assert fingerprint(place, NAMES) == before
    exchange(place / NAMES[0], place / NAMES[1])
    assert {(place / name).stat().st_mtime_ns for name in NAMES} == {WHEN[0]}, "the times do not tell"
    assert fingerprint(place, NAMES) != before


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_labels_that_are_exchanged_in_place_are_read_anew(
    tmp_path: Path, exchange: Callable[[Path, Path], None]
) -> None:
    size = max(len(encoded(picture(seed))) for seed in range(4))
    files = {
        f"{split}/{name}/0.png": encoded(picture(seed)).ljust(size, b"\0")
        for seed, (split, name) in enumerate((s, n) for s in ("train", "test") for n in ("cat", "dog"))
    }
    folder = as_folder(files, tmp_path / "images")
    for path in files:
        os.utime(folder / path, ns=WHEN)
    before = read(folder, tmp_path).digest
    exchange(folder / "train/cat/0.png", folder / "train/dog/0.png")
    assert read(folder, tmp_path).digest != before


def test_a_copy_elsewhere_and_other_times_are_the_same(place: Path, tmp_path: Path) -> None:
    before = fingerprint(place, NAMES)
    shutil.copytree(place, tmp_path / "copy")
    assert fingerprint(tmp_path / "copy", NAMES) == before
    os.utime(place / NAMES[0])
    assert fingerprint(place, NAMES) == before


def test_names_folders_and_the_border_between_name_and_content_count(place: Path) -> None:
    (place / "a/0").write_bytes(b".png")
    (place / "a/0.p").write_bytes(b"ng")
    found = [fingerprint(place, names) for names in (["a"], ["b"], ["a/0"], ["a/0.p"], ["a/0", "a/0.p"], [])]
    assert len(set(found)) == len(found)


def test_what_cannot_be_opened_counts_as_that(place: Path) -> None:
    (place / "loop").symlink_to("loop")
    assert fingerprint(place, ["loop"]) == fingerprint(place, ["loop"]) != fingerprint(place, ["gone/loop"])
