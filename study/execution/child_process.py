"""A command as a child process: run by no shell, in a group of its own, and ended with all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

TICK_SECONDS = 0.1
"""Between two looks at a process."""
GRACE_SECONDS = 3.0
"""What a process that is asked to end has for it, before it is killed."""


def run_child(
    words: Sequence[str],
    folder: Path,
    variables: Mapping[str, str],
    output: Path,
    timeout_seconds: float | None,
    started: Callable[[int], None],
    tick: Callable[[], None],
) -> int | None:
    """Run a command to its end; returns its exit code, less than zero for a signal, or None where its time was up.

    folder: where it is run; variables: added to the environment; output: the file that takes all that it prints;
    started: is given the process's number; tick: is called several times a second, and what it raises ends the command.
    However this returns, what the command has started in its group is gone. Raises OSError where there is no such
    program.
    """
    with output.open("wb") as file:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    try:
        started(process.pid)
        while True:
            with suppress(subprocess.TimeoutExpired):
                left = TICK_SECONDS if end is None else max(0.0, min(TICK_SECONDS, end - time.monotonic()))
                return process.wait(left)
            tick()
            if end is not None and time.monotonic() >= end:
                return None
    finally:
        end_group(process.pid)
        process.wait()


def end_group(leader: int) -> None:
    """End a process, the group that it leads, and all that descends from it: politely, then by force.

    Where a second Ctrl-C does not wait for that, by force at once.
    """
    try:
        _end(_members(leader), leader)
    except BaseException:
        with suppress(OSError):
            os.killpg(leader, signal.SIGKILL)
        raise


def _end(members: list[psutil.Process], leader: int) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in members:
            with suppress(psutil.Error):
                process.send_signal(number)
        until = time.monotonic() + GRACE_SECONDS
        while any(map(_is_alive, members)) and time.monotonic() < until:
            time.sleep(TICK_SECONDS / 5)
        members = [*filter(_is_alive, members), *_members(leader)]  # some may have been started since
        if not members:
            return


def _members(leader: int) -> list[psutil.Process]:
    """The living processes of a group, and those that its leader has started in groups of their own."""
    found = list[psutil.Process]()
    with suppress(psutil.Error):
        found = [psutil.Process(leader)]
        found += found[0].children(recursive=True)
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return []
    except PermissionError:  # of another user's, as behind sudo
        pass
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            found += [process] if os.getpgid(process.pid) == leader else []
    return [process for process in dict.fromkeys(found) if _is_alive(process)]


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
