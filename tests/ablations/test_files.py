"""A file is the old one or the new one, whatever happens while it is written."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from cifar_ablations.ablations import files
from cifar_ablations.ablations.files import (
    PARTIAL,
    copy_folder,
    opened_atomically,
    parse_json,
    parse_toml,
    read_named,
    remove_left,
    write_atomically,
)


def test_a_file_is_written_with_its_folders_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "still" / "page.html"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["page.html"]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_atomically(path, b"old")
    with opened_atomically(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        (partial,) = set(tmp_path.iterdir()) - {path}
        assert partial.name.startswith(PARTIAL)
    assert path.read_bytes() == b"new"


def test_what_a_killed_process_had_begun_is_removed_a_day_later(tmp_path: Path) -> None:
    for name in (f"{PARTIAL}new", f"{PARTIAL}old", "page.html"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / f"{PARTIAL}folder").mkdir()
    for name in (f"{PARTIAL}old", f"{PARTIAL}folder", "page.html"):
        os.utime(tmp_path / name, (0, 0))
    remove_left(tmp_path)
    remove_left(tmp_path / "none")
    assert sorted(os.listdir(tmp_path)) == [f"{PARTIAL}new", "page.html"]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_no_part_of_the_new_one(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "page.html"
    write_atomically(path, b"old")

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["page.html"]


def test_an_interrupted_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_atomically(path, b"old")

    def interrupted() -> None:
        with opened_atomically(path) as file:
            file.write(b"ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["page.html"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_are_those_of_any_new_file(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "written", b"")
        (tmp_path / "any").touch()
    finally:
        os.umask(before)
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_content_reaches_the_disk_before_the_name_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "content")
        fsync(descriptor)

    def noted_replace(source: Path, target: Path) -> None:
        done.append("name")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_atomically(tmp_path / "page.html", b"new")
    assert done == ["content", "name", "folder"]


def test_a_file_system_that_cannot_sync_folders_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: object) -> int:
        raise OSError("invalid argument")

    monkeypatch.setattr(os, "open", cannot)
    files.sync_folder(tmp_path)


def test_a_named_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_bytes(b"x" * 100)
    assert read_named(tmp_path / "recipe.toml", most=100) == b"x" * 100


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_what_might_never_end_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="no file but a pipe or a device"):
            read_named(path)
    (tmp_path / "large").write_bytes(b"x" * 101)
    with pytest.raises(OSError, match="more than"):
        read_named(tmp_path / "large", most=100)
    with pytest.raises(IsADirectoryError):
        read_named(tmp_path)


def test_texts_that_are_nested_without_end_are_refused() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_toml(b"a = " + 100_000 * b"[")
    for key in (20_000 * b"a." + b"b = 1", 20_000 * b'"a" . ' + b"b = 1", b"[" + 20_000 * b"a." + b"b]"):
        with pytest.raises(ValueError, match="nested too deeply: a key may have 100 dots"):
            parse_toml(key)
    assert parse_toml(100 * b"a." + b"b = 1")
    with pytest.raises(ValueError, match="more than 1 MB"):
        parse_toml(b"#" * 1_100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(100_000 * "[")
    for parse in (parse_toml, parse_json):
        with pytest.raises(ValueError, match="not UTF-8 text: byte 5 is 0xff"):
            parse(b"a = '\xff'")
    for parse, text in ((parse_toml, b"a = " + b"9" * 5_000), (parse_json, "9" * 5_000)):
        with pytest.raises(ValueError, match="a number of over 4,000 digits"):
            parse(text)
    assert parse_toml(b"\xef\xbb\xbfa = 1") == {"a": 1}


def test_a_folder_is_copied_into_another(tmp_path: Path) -> None:
    (tmp_path / "one" / "within").mkdir(parents=True)
    (tmp_path / "one" / "within" / "a").write_bytes(b"1")
    (tmp_path / "one" / "b").write_bytes(b"2")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "c").write_bytes(b"3")
    copy_folder(tmp_path / "one", tmp_path / "other")
    found = {path.relative_to(tmp_path / "other").as_posix() for path in (tmp_path / "other").rglob("*")}
    assert found == {"within", "within/a", "b", "c"}
    assert (tmp_path / "other" / "within" / "a").read_bytes() == b"1"


def test_what_keeps_a_folder_from_being_copied_is_said_as_the_system_says_it(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "a").write_bytes(b"1")
    (tmp_path / "other" / "a").mkdir(parents=True)
    with pytest.raises(IsADirectoryError) as raised:
        copy_folder(tmp_path / "one", tmp_path / "other")
    assert raised.value.errno == errno.EISDIR
