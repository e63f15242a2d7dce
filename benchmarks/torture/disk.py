"""The disk is full, read-only or broken from the n-th write on, for a while or until the end of the command.

Writes of Python are failed in the process itself, in each of the command's processes; those of SQLite by a limit on the
database's pages; both by the system's limit on a file's size, and, where this may mount, by a file system that is full.
"""

from __future__ import annotations

import errno
import io
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.torture import kills
from benchmarks.torture.command import replaced
from benchmarks.torture.ground import Attempt, Ground

KIND = "disk"
TITLE = "Disk full, read-only or broken at the n-th write"
CHECKED = "a sentence and exit code 1 or 2, or it goes on; then as above"
ERRORS = (errno.ENOSPC, errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT)
MOST = 4
TAKES_ROOM = ("replace", "rename", "mkdir", "fsync", "link")
"""Functions of `os` that a full disk fails."""
REMOVES = ("unlink", "rmdir", "truncate")
"""Those that a read-only or broken disk fails too."""
SPARE_MB = 14
"""Of the file system that is full: so much holds a store and some of its runs."""


def attempt(ground: Ground, rng: Random, folder: Path) -> Attempt:
    """Let a command meet a disk that takes no more, mend the disk, let it go through, and look at what is there."""
    words = ground.pick(rng)
    kills.begin_with(ground, words, rng, folder)
    home, done = folder / "out", Attempt(f"{words[0]}:")
    for _ in range(ground.chain(rng, MOST)):
        way = rng.choice(["write", "write", "write", "pages", "size"])
        mark = folder / "failed"
        if way == "write":
            error, number, times = rng.choice(ERRORS), 1 + int(rng.expovariate(1 / 40)), rng.choice([1, 3, 10**9])
            fault: Callable[[], None] = partial(fail_writes, home, error, number, times, mark)
            what = f"{errno.errorcode[error]} at write {number}{'' if times == 1 else ' and after'}"
        elif way == "pages":
            pages = rng.randint(0, 60)
            fault, what = partial(limit_pages, pages, mark), f"SQLite full after {pages} more pages"
        else:
            size = rng.choice([1_000, 20_000, 200_000, 600_000, 900_000])
            fault, what = partial(limit_size, size, mark), f"no file may exceed {size:,} bytes"
        ended = ground.call(words, folder, fault).end()
        if mark.exists():
            mark.unlink()
            done.faults += 1
            done.what += f" {what},"
        done.note(ended.unseemly((0, 1, 2)))
    if os.geteuid() == 0 and rng.random() < 0.15:
        _on_a_small_disk(ground, words, rng, folder, done)
    kills.finish(ground, words, folder, done)
    return done


def fail_writes(home: Path, error: int, number: int, times: int, mark: Path) -> None:
    """Fail so many of this process' writes below a folder, from that number on; mark: where that is noted."""
    count, inside, note = 0, os.fspath(home), os.open(mark.parent, os.O_RDONLY)
    opened_before = os.open

    def check(place: Any) -> None:
        nonlocal count
        if not isinstance(place, int) and not os.path.abspath(os.fsdecode(place)).startswith(inside):
            return
        count += 1
        if number <= count < number + times:
            os.close(opened_before(mark.name, os.O_CREAT | os.O_WRONLY, dir_fd=note))
            raise OSError(error, os.strerror(error), None if isinstance(place, int) else os.fsdecode(place))

    def checked(real: Callable[..., Any]) -> Callable[..., Any]:
        def called(place: Any, *arguments: Any, **named: Any) -> Any:
            if named.get("dir_fd") is None:
                check(place)
            return real(place, *arguments, **named)

        return called

    class Raw(io.FileIO):
        def write(self, data: Any) -> int:
            check(self.name)
            return super().write(data)

    def opened(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: Any = None,
        errors: Any = None,
        newline: Any = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        text = encoding, errors, newline
        if isinstance(file, int) or not set(mode) & set("wax+"):
            return real_open(file, mode, buffering, *text, closefd, opener)
        check(file)
        raw = Raw(file, mode.replace("b", "").replace("t", ""), opener=opener)
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, *text, line_buffering=buffering == 1)

    real_open = io.open
    for place in ("builtins:open", "io:open"):
        replaced(place, lambda real: opened)
    full = error in (errno.ENOSPC, errno.EDQUOT)
    for name in TAKES_ROOM if full else (*TAKES_ROOM, *REMOVES):
        replaced(f"os:{name}", checked)
    replaced("os:open", lambda real: _checked_open(real, check))


def _checked_open(real: Callable[..., int], check: Callable[[Any], None]) -> Callable[..., int]:
    def called(place: Any, flags: int, *arguments: Any, **named: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and named.get("dir_fd") is None:
            check(place)
        return real(place, flags, *arguments, **named)

    return called


def limit_pages(more: int, mark: Path) -> None:
    """Let databases of SQLAlchemy grow by so many pages; SQLite itself then says that the disk is full."""
    from sqlalchemy import Engine, event

    def limit(connection: Any, _: Any) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        if pages:
            limits.setdefault("pages", pages + more)
            connection.execute(f"PRAGMA max_page_count = {limits['pages']}")

    def failed(context: Any) -> None:
        if "full" in str(context.original_exception):
            mark.touch()

    limits: dict[str, int] = {}
    event.listen(Engine, "connect", limit)
    event.listen(Engine, "handle_error", failed)


def limit_size(size: int, mark: Path) -> None:
    """Have the system refuse to let a file grow beyond a size, in this process and all that come of it."""
    mark.touch()
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def _on_a_small_disk(ground: Ground, words: list[str], rng: Random, folder: Path, done: Attempt) -> None:
    """The same on a file system of its own with hardly any room, or a read-only one, where this may mount."""
    apart, home = folder / "disk", folder / "out"
    with _mounted(apart, SPARE_MB) as mounted:
        if not mounted:
            return
        small = apart / "out"
        subprocess.run(["cp", "-R", str(home), str(small)], check=False, capture_output=True)
        free = os.statvfs(small).f_bavail * os.statvfs(small).f_frsize
        left = rng.choice([0, 4_096, 40_000, 300_000])
        read_only = rng.random() < 0.3
        if read_only:
            subprocess.run(["mount", "-o", "remount,ro", str(apart)], check=True, capture_output=True)
        else:
            (apart / "ballast").write_bytes(bytes(max(0, free - left)))
        ended = ground.call(words, folder, partial(_elsewhere, small)).end()
        done.faults += 1
        done.what += " a file system that is read-only," if read_only else f" a file system with {left:,} bytes left,"
        done.note(ended.unseemly((0, 1, 2)))
        if not read_only:  # what is there now must be gone on with
            (apart / "ballast").unlink()
            subprocess.run(["rm", "-r", str(home)], check=True)
            subprocess.run(["cp", "-R", str(small), str(home)], check=True)


def _elsewhere(home: Path) -> None:
    os.environ["ABLATE_HOME"] = str(home)


@contextmanager
def _mounted(place: Path, megabytes: int) -> Iterator[bool]:
    """A file system in memory; yields whether it could be mounted."""
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
    mounted = subprocess.run(words, check=False, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(place)], check=True)
