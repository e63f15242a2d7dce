"""Archives against the standard library's own, and what a folder's stamps notice."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cifar_ablations.study.data.image_archive import DataError, image_root, read_archive, reason, stamps, tar_stream

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


def test_the_images_root_is_the_folder_or_the_only_one_below_it(tmp_path: Path) -> None:
    (tmp_path / "cifar" / "train").mkdir(parents=True)
    (tmp_path / ".hidden" / "train").mkdir(parents=True)
    assert image_root(tmp_path) == tmp_path / "cifar"
    assert image_root(tmp_path / "cifar") == tmp_path / "cifar"
    (tmp_path / "other" / "test").mkdir(parents=True)
    with pytest.raises(DataError, match=r"holds several image folders \(cifar, other\)"):
        image_root(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds neither"):
        image_root(tmp_path)


def test_stamps_notice_a_changed_an_added_and_a_renamed_file(tmp_path: Path) -> None:
    place = tmp_path / "train" / "cat"
    place.mkdir(parents=True)
    (place / "a.png").write_bytes(b"1")
    seen = [list(stamps(tmp_path))]
    os.utime(place / "a.png", ns=(1, 1))
    seen.append(list(stamps(tmp_path)))
    (place / "b.png").write_bytes(b"2")
    seen.append(list(stamps(tmp_path)))
    (place / "b.png").rename(place / "c.png")
    seen.append(list(stamps(tmp_path)))
    assert seen[-1] == list(stamps(tmp_path)), "nothing has changed since"
    assert len({tuple(lines) for lines in seen}) == len(seen)


def test_an_empty_zip_archive_has_no_images(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "images.zip", "w"):
        pass
    with pytest.raises(DataError, match=r"images\.zip"):
        read_archive(tmp_path / "images.zip")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "No such file or directory", "x"), "No such file or directory"),
        (ValueError("two\n  lines."), "two lines"),
        (EOFError(), "EOFError"),
    ],
)
def test_a_reason_is_one_line_without_a_full_stop(error: Exception, said: str) -> None:
    assert reason(error) == said
