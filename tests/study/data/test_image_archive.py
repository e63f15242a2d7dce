"""Archives as people make them, against the standard library's own."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest

from cifar_ablations.study.data.image_archive import read_archive, tar_stream
from cifar_ablations.study.data.images import DataError
from tests.image_sets import as_folder, as_tar, encoded, picture, read, small_set

CONTENT = bytes(range(256)) * 64


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_stream_is_decompressed_by_what_it_begins_with(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    file = tmp_path / "images.anything"
    file.write_bytes(compress(CONTENT))
    with tar_stream(file) as stream:
        assert stream.read() == CONTENT


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_one_that_is_cut_short_does_not_pass_for_a_smaller_one(
    compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    file = tmp_path / "images.tar"
    file.write_bytes(compress(CONTENT)[:-6])
    with tar_stream(file) as stream, pytest.raises(EOFError):
        stream.read()


def test_an_empty_zip_archive_has_no_images(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w"):
        pass
    with pytest.raises(DataError, match=r"images\.zip"):
        read_archive(tmp_path / "images.zip")


def _packed_with(words: list[str], folder: Path, archive: Path) -> Path:
    subprocess.run(["tar", *words[:1], str(archive), *words[1:]], cwd=folder, check=True)
    return archive


@pytest.mark.parametrize(
    "words",
    [
        ["-cf", "-C", ".", "."],
        ["-czf", "."],
        ["-cJf", "train", "test"],
        ["-cPf", "{here}"],
        ["-cjf", "./train", "./test"],
    ],
)
def test_an_archive_that_tar_made_is_as_the_folder(words: list[str], tmp_path: Path) -> None:
    folder = as_folder(small_set(), tmp_path / "data")
    archive = _packed_with([word.format(here=folder) for word in words], folder, tmp_path / "d.tar")
    assert read(archive, tmp_path).digest == read(folder, tmp_path).digest


@pytest.mark.parametrize("kind", ["zstd", "lz4"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_zstandard_is_read_and_one_that_is_cut_short_is_refused(kind: str, share: float, tmp_path: Path) -> None:
    plain = as_tar(small_set(train=5), tmp_path / "plain.tar")
    packed = tmp_path / "images.tar.zst"
    with pyarrow.output_stream(str(packed), compression=kind) as stream:
        stream.write(plain.read_bytes())
    dataset = read(packed, tmp_path)
    assert (dataset.name, dataset.digest) == ("images", read(plain, tmp_path).digest)
    content = packed.read_bytes()
    packed.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"images\.tar\.zst is not a readable tar or zip archive, or is cut short"):
        read(packed, tmp_path)


@pytest.mark.parametrize(
    ("start", "kind"), [(b"7z\xbc\xaf\x27\x1c", "7z"), (b"Rar!\x1a\x07", "RAR"), (b"\x1f\x9d", "compress")]
)
def test_archives_that_are_not_read_are_named(start: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "images.any").write_bytes(start + bytes(2000))
    with pytest.raises(DataError, match=rf"images\.any is a {kind} archive, which is not read; unpack it"):
        read(tmp_path / "images.any", tmp_path)


def test_a_zip_from_windows_is_read(tmp_path: Path) -> None:
    """With backslashes, and entries for folders that end in one."""
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for folder in ("data\\", "data\\train\\", "data\\train\\cat\\"):
            packed.writestr(zipfile.ZipInfo(folder), b"")
        for path, content in small_set().items():
            packed.writestr("data\\" + path.replace("/", "\\"), content)
        packed.writestr("data\\Thumbs.db", b"junk")
    assert read(archive, tmp_path).digest == read(as_folder(small_set(), tmp_path / "plain"), tmp_path).digest


def test_a_zip_from_macos_is_read(tmp_path: Path) -> None:
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("data/", b"")
        for path, content in small_set().items():
            packed.writestr(f"data/{path}", content)
            head, _, tail = path.rpartition("/")
            packed.writestr(f"__MACOSX/data/{head}/._{tail}", b"\0\5\26\7")
        for junk in ("data/.DS_Store", "data/train/.DS_Store", "__MACOSX/._data", "data/train/cat/Icon\r"):
            packed.writestr(junk, b"junk")
    assert read(archive, tmp_path).digest == read(as_folder(small_set(), tmp_path / "plain"), tmp_path).digest


def test_a_backslash_in_the_name_of_a_file_on_linux_is_no_folder(tmp_path: Path) -> None:
    files = small_set() | {"train/cat/a\\b.png": encoded(picture(9))}
    packed, folder = as_tar(files, tmp_path / "a.tar"), as_folder(files, tmp_path / "plain")
    assert read(packed, tmp_path).digest == read(folder, tmp_path).digest


def test_links_in_an_archive_are_named_together_with_what_to_do(tmp_path: Path) -> None:
    folder = as_folder(small_set(), tmp_path / "data")
    (folder / "train/cat/7.png").symlink_to("0.png")
    os.link(folder / "train/dog/0.png", folder / "train/dog/7.png")
    archive = _packed_with(["-cf", "train", "test"], folder, tmp_path / "d.tar")
    with pytest.raises(DataError, match=r"2 files or folders in d\.tar cannot be used.*--dereference --hard-derefer"):
        read(archive, tmp_path)
    packed = _packed_with(["-cf", "--dereference", "--hard-dereference", "."], folder, tmp_path / "whole.tar")
    assert read(packed, tmp_path).digest == read(folder, tmp_path).digest


def test_an_archive_that_is_exchanged_in_place_is_read_anew(tmp_path: Path) -> None:
    archive = as_tar(small_set(), tmp_path / "a.tar")
    when = archive.stat()
    before = read(archive, tmp_path).digest
    files = dict(zip(small_set(), reversed(small_set().values()), strict=True))
    as_tar(files, archive)
    os.utime(archive, ns=(when.st_atime_ns, when.st_mtime_ns))
    assert archive.stat().st_size == when.st_size
    assert read(archive, tmp_path).digest != before


def test_an_archive_that_was_read_is_known_wherever_it_lies(tmp_path: Path) -> None:
    archive = as_tar(small_set(), tmp_path / "a.tar")
    before = read(archive, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    moved = archive.rename(tmp_path / "elsewhere" / "a.tar")
    assert read(moved, tmp_path).folder == before.folder
