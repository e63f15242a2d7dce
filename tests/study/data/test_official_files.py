"""The official files: downloaded over networks that fail, and distinguished from what only looks like them."""

from __future__ import annotations

import gzip
import os
import shutil
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cifar_ablations.study.data import official_files
from cifar_ablations.study.data.dataset import DataError, load
from cifar_ablations.study.data.official_files import DownloadError, download, located
from tests.official_like import NOWHERE, Host, put_official, serving


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive that passes for the official one of CIFAR-10, with its folder beside it."""
    return put_official("cifar10", tmp_path / "official", monkeypatch)


@pytest.fixture
def host(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A server of that archive."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(archive.read_bytes()) as host:
        yield host


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def fetched(cache: Path, address: str, seconds: float = 5.0) -> tuple[bytes, list[str]]:
    """What a download gave, and what it said."""
    said: list[str] = []
    return download("cifar10", cache, said.append, address=address, silence_seconds=seconds).read_bytes(), said


def refused(cache: Path, address: str, seconds: float = 5.0) -> str:
    """Why a download failed."""
    with pytest.raises(DownloadError) as caught:
        fetched(cache, address, seconds)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def left(cache: Path) -> bytes:
    """The partial file."""
    (part,) = cache.iterdir()
    assert part.name == "cifar-10-python.tar.gz.part"
    return part.read_bytes()


# Over the network


def test_the_archive_is_downloaded_whole(host: Host, cache: Path) -> None:
    got, said = fetched(cache, host.address)
    assert got == host.content
    assert host.asked == [None]
    assert said == [f"Downloading CIFAR-10 (170 MB) from {host.address.split('/')[2]} …"]


def test_a_download_that_was_cut_goes_on_where_it_was(host: Host, cache: Path) -> None:
    host.sends = 1000
    assert "cut after 0.001 of 0.0" in refused(cache, host.address)
    assert "the next call goes on" in refused(cache, host.address)
    assert left(cache) == host.content[:2000]
    host.sends = len(host.content)
    got, said = fetched(cache, host.address)
    assert got == host.content
    assert host.asked == [None, "bytes=1000-", "bytes=2000-"]
    assert "going on after 0 MB" in said[0]


def test_a_server_that_sends_no_ranges_sends_all_of_it_again(host: Host, cache: Path) -> None:
    host.sends = 1000
    refused(cache, host.address)
    host.sends, host.takes_ranges = len(host.content), False
    assert fetched(cache, host.address)[0] == host.content
    assert host.asked == [None, "bytes=1000-"]


def test_another_file_is_refused_and_removed(host: Host, cache: Path) -> None:
    whole = host.content
    host.content = b"<html>Please log in</html>"
    assert "sent another file (its MD5 sum differs), now removed" in refused(cache, host.address)
    assert list(cache.iterdir()) == []
    host.content = whole
    assert fetched(cache, host.address)[0] == whole
    assert host.asked == [None, None]


@pytest.mark.parametrize("more", [0, 10])
def test_a_partial_file_that_is_long_enough_and_wrong_is_thrown_away(host: Host, cache: Path, more: int) -> None:
    cache.mkdir()
    (cache / "cifar-10-python.tar.gz.part").write_bytes(bytes(len(host.content) + more))
    assert fetched(cache, host.address)[0] == host.content
    assert host.asked == [f"bytes={len(host.content) + more}-", None]


def test_a_whole_archive_that_was_left_is_not_asked_for_again(host: Host, cache: Path) -> None:
    fetched(cache, host.address)
    assert fetched(cache, NOWHERE) == (host.content, [])


def test_a_refused_connection_is_said(archive: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert refused(cache, NOWHERE) == "CIFAR-10 could not be downloaded from 127.0.0.1:1 (Connection refused)."


def test_an_answer_that_is_an_error_is_said(host: Host, cache: Path) -> None:
    host.error = 404
    assert "(HTTP Error 404: Not Found)" in refused(cache, host.address)


@pytest.mark.parametrize("sent", [0, 1000])
def test_a_silent_server_is_not_waited_for(host: Host, cache: Path, sent: int) -> None:
    host.sends, host.silent = sent, True
    began = time.monotonic()
    assert "(no answer for 0.2 s)" in refused(cache, host.address, seconds=0.2)
    assert time.monotonic() - began < 2
    if sent:
        assert left(cache) == host.content[:sent]


def test_a_look_up_of_the_name_that_never_ends_is_not_waited_for(
    archive: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def look_up(*_: object, **__: object) -> None:
        over.wait(10)
        raise OSError("no name")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        assert "(no answer for 0.2 s)" in refused(cache, "http://cifar.invalid/x", seconds=0.2)
    finally:
        over.set()


def test_progress_is_said_now_and_then(host: Host, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official_files, "PROGRESS_SECONDS", 0)
    monkeypatch.setattr(official_files, "MEGABYTE", 1000)
    total = len(host.content) // 1000
    assert fetched(cache, host.address)[1][-1] == f"  {total} of {total} MB"


def test_a_folder_that_cannot_be_written_is_said(archive: Path, cache: Path) -> None:
    cache.write_text("a file, not a folder")
    assert "could not be downloaded" in refused(cache, NOWHERE)


# On the disk


def test_archive_and_folders_are_located(archive: Path) -> None:
    folder = archive.parent / "cifar-10-batches-py"
    assert located("cifar10", archive) == archive
    assert located("cifar10", folder) == folder
    assert located("cifar10", archive.parent) == folder
    renamed = archive.rename(archive.with_name("copy.bin"))
    assert located("cifar10", renamed) == renamed


def test_of_both_data_sets_in_a_folder_the_named_one_is_located(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_official("cifar100", archive.parent, monkeypatch)
    assert located("cifar10", archive.parent).name == "cifar-10-batches-py"
    assert located("cifar100", archive.parent).name == "cifar-100-python"


def said_of(source: Path, name: str = "cifar10") -> str:
    with pytest.raises(DataError) as caught:
        located(name, source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_path_is_named(archive: Path) -> None:
    assert "nowhere does not exist; give cifar-10-python.tar.gz or the folder cifar-10-batches-py" in said_of(
        Path("nowhere")
    )


@pytest.mark.parametrize("name", ["cifar-10-python.tar.gz", "copy.tar.gz"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_damaged_archive_is_named(archive: Path, tmp_path: Path, name: str, share: float) -> None:
    content = archive.read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    assert f"{name} is not the official archive of CIFAR-10 (its MD5 sum differs): it is damaged" in said_of(
        tmp_path / name
    )


def test_an_archive_packed_anew_is_named(archive: Path, tmp_path: Path) -> None:
    unzipped = tmp_path / "cifar-10-python.tar"
    unzipped.write_bytes(gzip.decompress(archive.read_bytes()))
    assert "packed anew; copy or download it again, or unpack it and give the folder" in said_of(unzipped)


def test_the_other_data_set_is_named(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = put_official("cifar100", tmp_path / "other", monkeypatch)
    for source in (other, other.parent, other.parent / "cifar-100-python"):
        assert f"{source.name} is CIFAR-100, not CIFAR-10; say `ablate data cifar100 --from …`" in said_of(source)
    assert "is CIFAR-10, not CIFAR-100" in said_of(archive, "cifar100")


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        (
            "cifar-10-batches-bin",
            "is the binary version of CIFAR-10; give the Python version, cifar-10-python.tar.gz, or train "
            "on this one with --data PATH",
        ),
        ("cifar-10-batches-mat", "is the Matlab version of CIFAR-10; give the Python version, cifar-10-python.tar.gz"),
        (
            "cifar-100-binary",
            "is the binary version of CIFAR-100; give the Python version, cifar-100-python.tar.gz, or train "
            "on this one with --data PATH",
        ),
        ("cifar-100-matlab", "is the Matlab version of CIFAR-100; give the Python version, cifar-100-python.tar.gz"),
    ],
)
def test_another_version_is_named(archive: Path, tmp_path: Path, folder: str, said: str) -> None:
    place = tmp_path / "given" / folder
    shutil.copytree(archive.parent / "cifar-10-batches-py", place)
    packed = tmp_path / "given.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(place, folder)
    for source in (place, place.parent, packed):
        assert f"{source.name} {said}" in said_of(source)


def test_anything_else_is_sent_to_data(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "notes.txt", tmp_path / "empty"):
        assert f"{source.name} is not the official CIFAR-10" in said_of(source)
        assert "other images are given with --data PATH" in said_of(source)


@pytest.mark.parametrize("name", ["cifar-10-batches-py", "my data"])
def test_a_link_to_the_official_folder_and_a_folder_renamed_are_that_folder(
    archive: Path, tmp_path: Path, name: str
) -> None:
    folder = archive.parent / "cifar-10-batches-py"
    expected = load(folder, tmp_path / "cache")
    moved = folder.rename(tmp_path / "elsewhere")
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / name
    link.symlink_to(moved)
    for source in (link, moved, *([link.parent] if name == "cifar-10-batches-py" else [])):
        dataset = load(source, tmp_path / "cache")
        assert (dataset.name, dataset.digest) == ("cifar10", expected.digest)
        assert dataset.source.startswith("The official CIFAR-10 files in ")
        assert located("cifar10", source).resolve() == moved


def test_a_link_to_the_official_archive_is_that_archive(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(archive)
    assert load(tmp_path / "link", tmp_path / "cache").name == "cifar10"


def test_official_files_that_were_changed_in_place_are_not_taken_from_the_cache(archive: Path, tmp_path: Path) -> None:
    folder = archive.parent / "cifar-10-batches-py"
    load(folder, tmp_path / "cache")
    file = folder / "data_batch_1"
    kept = file.stat()
    file.write_bytes(file.read_bytes()[:-2] + b"x.")
    os.utime(file, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    with pytest.raises(DataError, match="data_batch_1 is missing or not the official file"):
        load(folder, tmp_path / "cache")
