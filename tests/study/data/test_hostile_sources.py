"""Images of anybody: what is made to fill the memory, to hang or to reach out of its place is refused in a sentence."""

from __future__ import annotations

import gzip
import os
import socket
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from cifar_ablations.study.data import dataset as data
from cifar_ablations.study.data import image_archive, image_tree, official_files
from cifar_ablations.study.data.dataset import load, open_cached
from cifar_ablations.study.data.images import DataError
from tests.image_sets import as_folder, as_tar, as_zip, encoded, picture, read, small_set

MEGABYTE = 1 << 20
PETABYTE = 1 << 50


@contextmanager
def at_most(megabytes: int) -> Iterator[None]:
    """No more of Python's memory than that is taken within."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < megabytes * MEGABYTE
    finally:
        tracemalloc.stop()


def _member(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member


def _tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """An archive whose headers say what they like, and what follows them."""
    blocks = [member.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512) for member, content in members]
    return b"".join([*blocks, bytes(1024)])


@pytest.mark.parametrize("name", ["train/cat/a.png", "elsewhere", ".hidden", "cifar-10-batches-py/data_batch_1"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_tar_header_that_declares_a_petabyte(name: str, kind: bytes, tmp_path: Path) -> None:
    (tmp_path / "d.tar").write_bytes(_tar((_member(name, PETABYTE, kind), b"abc")))
    with at_most(64), pytest.raises(DataError, match=r"d\.tar"):
        read(tmp_path / "d.tar", tmp_path)


def test_a_size_below_zero(tmp_path: Path) -> None:
    content = bytearray(_tar((_member("train/cat/a.png", 3), b"abc")))
    content[124:136] = b"\xff" * 12
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    (tmp_path / "d.tar").write_bytes(content)
    with pytest.raises(DataError, match=r"d\.tar is not a readable tar or zip archive"):
        read(tmp_path / "d.tar", tmp_path)


def test_thousands_of_headers_about_one_another(tmp_path: Path) -> None:
    one = (_member("pax", 11, tarfile.XHDTYPE), b"11 path=ab\n")
    (tmp_path / "d.tar").write_bytes(_tar(*[one] * 5_000))
    with pytest.raises(DataError, match=r"d\.tar"):
        read(tmp_path / "d.tar", tmp_path)


@pytest.fixture
def little_may_be_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_archive, "FREE_BYTES", 4 * MEGABYTE)
    monkeypatch.setattr(image_archive, "MOST_BYTES", MEGABYTE)


BOMB = bytes(64 * MEGABYTE)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("little_may_be_unpacked")
@pytest.mark.parametrize("name", ["train/cat/a.png", "elsewhere", "cifar-10-batches-py/x"])
def test_a_compressed_tar_archive_that_is_a_bomb(name: str, tmp_path: Path) -> None:
    (tmp_path / "d.tar.gz").write_bytes(gzip.compress(_tar((_member(name, len(BOMB)), BOMB)), 1))
    with at_most(32), pytest.raises(DataError, match=r"d\.tar\.gz unpacks to [\d,]+ bytes or more, over 100 times"):
        read(tmp_path / "d.tar.gz", tmp_path)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("little_may_be_unpacked")
@pytest.mark.parametrize("lie", [False, True])
@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_archive_that_is_a_bomb(kind: int, lie: bool, tmp_path: Path) -> None:
    """Nor one whose headers say that it is small, of which bzip2 unpacks a piece of 4 KB at once."""
    path = tmp_path / "d.zip"
    with zipfile.ZipFile(path, "w", kind, compresslevel=1) as archive:
        archive.writestr("train/cat/a.png", BOMB)
    if lie:
        path.write_bytes(path.read_bytes().replace(len(BOMB).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    with at_most(16 if kind == zipfile.ZIP_DEFLATED else 256), pytest.raises(DataError, match=r"d\.zip"):
        read(path, tmp_path)


def test_a_file_that_is_too_large_is_named_with_the_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(image_archive, "MOST_BYTES", 5_000)
    files = {**small_set(), "train/cat/large.bmp": bytes(5_001)}
    for path in (as_tar(files, tmp_path / "a.tar"), as_zip(files, tmp_path / "a.zip")):
        with pytest.raises(
            DataError, match=r"train/cat/large\.bmp in a\.\w+ has 5,001 bytes, and .* at most 5,000 are"
        ):
            read(path, tmp_path)


def test_too_many_files_and_too_many_faults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    archive = as_zip(small_set(), tmp_path / "a.zip")
    monkeypatch.setattr(image_tree, "MOST_ENTRIES", 8)
    with pytest.raises(DataError, match=r"a\.zip holds more than 8 files and folders"):
        read(archive, tmp_path)
    monkeypatch.setattr(image_tree, "MOST_ENTRIES", 100)
    monkeypatch.setattr(image_tree, "MOST_FAULTS", 3)
    faulty = as_zip({f"train/cat/{i}.png": b"none" for i in range(50)}, tmp_path / "b.zip")
    with pytest.raises(DataError, match=r"3 files or folders in b\.zip cannot be used"):
        read(faulty, tmp_path)


@pytest.mark.parametrize("pack", [as_tar, as_zip])
@pytest.mark.parametrize("out", ["/{here}/out.png", "../../out.png", "train/../../out.png", "a/" * 5_000 + "out.png"])
def test_paths_that_lead_out_and_very_deep_ones_reach_nothing(pack: Callable, out: str, tmp_path: Path) -> None:
    path = pack({**small_set(), out.format(here=tmp_path): encoded(picture(0))}, tmp_path / "a.any")
    try:
        assert len(read(path, tmp_path).classes) == 3
    except DataError as error:
        assert "out.png" in str(error)  # noqa: PT017
    assert not list(tmp_path.rglob("out.png"))


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_pipes_devices_and_links_in_an_archive_are_named(kind: bytes, tmp_path: Path) -> None:
    path = as_tar(small_set(), tmp_path / "a.tar")
    with tarfile.open(path, "a") as archive:
        member = _member("train/cat/z.png", 0, kind)
        member.linkname = "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(DataError, match=r"train/cat/z\.png in a\.tar is a link or a device"):
        read(path, tmp_path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


ODD: dict[str, Callable[[Path], None]] = {
    "a pipe": os.mkfifo,
    "a socket": _socket,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", ["train/cat/z.png", "dataset.toml", "train/dataset.toml"])
def test_what_is_no_file_in_a_folder_is_named_and_not_waited_for(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = as_folder(small_set(), tmp_path / "d")
    monkeypatch.chdir(folder)
    ODD[kind](folder / name)
    with pytest.raises(DataError, match=rf"{Path(name).name}.*(pipe or a device|No such device|does not stand)"):
        read(folder, tmp_path)


@pytest.mark.parametrize("kind", ODD)
def test_a_source_that_is_no_file_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ODD[kind](tmp_path / "odd")
    with pytest.raises(DataError, match="odd is no file but a pipe or a device; give a folder or an archive"):
        load("odd", tmp_path / "cache")
    with pytest.raises(DataError, match="odd is no file but a pipe or a device; give cifar-10-python"):
        official_files.located("cifar10", Path("odd"))


def test_an_image_of_very_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    side = (50_000).to_bytes(4, "big")
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", side + side + b"\x08\x02\0\0\0") + chunk(b"IDAT", zlib.compress(b"x"))
    folder = as_folder({**small_set(), "train/cat/z.png": png}, tmp_path / "d")
    with at_most(32), pytest.raises(DataError, match=r"z\.png in d has more than [\d,]+ pixels, which is not decoded"):
        read(folder, tmp_path)


def _mutated(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.integers(len(changed)))
        if rng.random() < 0.5:
            changed[at] = int(rng.integers(256))
        else:
            changed[at : at + 4] = [b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff"][rng.integers(3)]
    return bytes(changed)


def _parquet(folder: Path) -> Path:
    folder.mkdir()
    for split in ("train", "test"):
        rows = [{"bytes": encoded(picture(i)), "path": None} for i in range(4)]
        pyarrow.parquet.write_table(
            pyarrow.table({"image": rows, "label": ["a", "b"] * 2}), folder / f"{split}-0.parquet"
        )
    return folder


@pytest.mark.parametrize("count", [25, pytest.param(1_000, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip", "parquet"])
def test_whatever_is_in_a_file_it_is_read_or_refused_in_a_sentence(kind: str, count: int, tmp_path: Path) -> None:
    rng, path = np.random.default_rng(3), tmp_path / f"d.{kind}"
    match kind:
        case "zip":
            as_zip(small_set(), path)
        case "parquet":
            path = _parquet(tmp_path / "d") / "train-0.parquet"
        case _:
            as_tar(small_set(), path, "w:gz" if kind == "tar.gz" else "w")
    whole = path.read_bytes()
    for _ in range(count):
        path.write_bytes(_mutated(whole, rng))
        try:
            read(path.parent if kind == "parquet" else path, tmp_path)
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("metadata", [b"[]", b"[" * 100_000, b'{"info": 5}', b'{"info": {"features": [1]}}', b"\xff"])
def test_what_a_table_says_of_itself_may_be_anything(metadata: bytes, tmp_path: Path) -> None:
    folder = _parquet(tmp_path / "d")
    file = folder / "train-0.parquet"
    pyarrow.parquet.write_table(
        pyarrow.parquet.read_table(file).replace_schema_metadata({b"huggingface": metadata}), file
    )
    with pytest.raises(DataError, match=r"train-0\.parquet"):
        read(folder, tmp_path)


def test_pixels_that_are_not_those_of_the_digest_are_read_anew(tmp_path: Path) -> None:
    """Test images that were all zeros were trained on, and reported under the digest of the real ones."""
    source = as_zip(small_set(), tmp_path / "a.zip")
    first = read(source, tmp_path)
    assert first.folder is not None
    file = first.folder / "test_images.npy"
    content = file.read_bytes()
    file.write_bytes(content[:-500] + bytes(500))
    with pytest.raises(DataError, match=rf"the digest [0-9a-f]{{16}}, and not {first.digest}"):
        data.checked(open_cached(first.folder))
    again = read(source, tmp_path)
    assert file.read_bytes() == content
    assert again.digest == first.digest
    assert data.checked(again) is again


def test_a_channel_that_is_constant_is_said_and_leaves_nothing_to_divide_by(tmp_path: Path) -> None:
    """Every run diverged, without a reason."""
    files = {}
    for seed, name in enumerate(small_set()):
        pixels = np.array(picture(seed))
        pixels[..., 2] = 7
        files[name] = encoded(Image.fromarray(pixels))
    found = read(as_zip(files, tmp_path / "a.zip"), tmp_path)
    assert found.std[2] == 1
    assert found.std[0] != 1
    assert found.notes[0] == "All training images have the same value in blue, which tells networks nothing."


def test_so_are_images_of_one_colour_alone(tmp_path: Path) -> None:
    grey = encoded(Image.fromarray(np.full((32, 32, 3), 9, np.uint8)))
    found = read(as_zip(dict.fromkeys(small_set(), grey), tmp_path / "a.zip"), tmp_path)
    assert found.std == (1, 1, 1)
    assert found.notes[0].startswith("All training images have the same value in red, green, blue, which tells")


def test_an_official_archive_that_unpacks_to_more_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official_files, "MOST_UNPACKED", 1_000)
    path = as_tar({"cifar-10-batches-py/data_batch_1": bytes(2_000)}, tmp_path / "a.tar")
    with pytest.raises(DataError, match="which the official files do not"):
        read(path, tmp_path)
    assert not list(tmp_path.rglob("data_batch_1"))
