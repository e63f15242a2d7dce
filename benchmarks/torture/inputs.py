"""Generated bad input: every command, option, setting, file and variable, by the grammar of the commands themselves."""

from __future__ import annotations

import os
import re
import resource
import shlex
import socket
import sys
import time
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

from benchmarks.torture import grammar
from benchmarks.torture.command import Command, replaced
from benchmarks.torture.ground import Attempt, Ground

KIND = "inputs"
TITLE = "Bad input, generated from the commands, options, settings, files and variables that there are"
CHECKED = (
    "it ends within a minute, by exit code 0, 1, 2, 3 or 130, in a sentence; no traceback, no fault of its own, no "
    "control character, no planted secret in any output or file, no planted code run, nothing written but "
    "what was asked for"
)
SECONDS = 60.0
MEMORY = 6 << 30
"""Bytes beyond those that the process has when it starts."""
CANARY = "code-ran"
PLACES = {"ABLATE_HOME", "MLFLOW_TRACKING_URI", "ABLATE_STORAGE", "XDG_CACHE_HOME", "HOME"}
"""Variables that have files be written elsewhere."""


STOPPED = (
    "execute:run_plan",
    "execute:run_search",
    "reporting:run_told",
    "reporting:search_quietly",
    "demonstrate:run_foundations",
    "ui:serve",
)
"""Functions that would train, demonstrate or serve; nothing is looked at beyond them."""


def attempt(ground: Ground, rng: Random, folder: Path) -> Attempt:
    """Draw a command, call it, and look at what it says and leaves."""
    here = folder / "here"
    here.mkdir()
    grammar.furnish(here, rng)
    home = rng.choice([ground.full, ground.full, ground.empty, None])
    if home is not None:
        ground.copied(home, folder)
    drawn = grammar.draw(rng, here, ground.folder / "lock.json")
    environment = {**ground.environment(folder / "out"), "CANARY": str(folder / CANARY), **drawn.environment}
    known = {path.name for path in here.iterdir()}
    command = Command(drawn.words, folder, environment, partial(arm, folder, ground.folder / "cache"), SECONDS)
    ended = command.end()
    variables = " ".join(f"{name}={shlex.quote(value[:80])}" for name, value in drawn.environment.items())
    typed = " ".join(shlex.quote(word[:80]) for word in drawn.words)
    done = Attempt(
        f"{variables} ablate {typed} ({', '.join(drawn.files)}): {ended.code}".strip()
        .encode("ascii", "backslashreplace")
        .decode(),
        1,
    )
    done.note(ended.unseemly((0, 1, 2, 3, 130), verbose="--verbose" in drawn.words))
    if (folder / CANARY).exists() or (here / CANARY).exists():
        done.note(["planted code was run"])
    if (folder / "outside").exists():
        done.note([f"it wrote outside: {(folder / 'outside').read_text('utf-8', 'replace')[:300]}"])
    done.note(_secrets(folder, f"{ended.out}{ended.err}"))
    if not PLACES & drawn.environment.keys() and "sqlite" not in typed:
        new = {path.name for path in here.iterdir()} - known - {path.split("/")[0] for path in drawn.written}
        done.note([f"it wrote {name!a} into the current folder" for name in sorted(new)])
    done.note([f"it wrote {path.name}: {path.read_text()[-300:]}" for path in folder.glob("out/errors/*")])
    return done


def _secrets(folder: Path, said: str) -> list[str]:
    """Where the planted secret has come to light."""
    secret = re.compile(re.escape(grammar.SECRET).encode())
    found = ["the output has a secret"] if secret.search(said.encode("utf-8", "replace")) else []
    for path in folder.rglob("*"):
        if (
            path.is_file()
            and not path.is_symlink()
            and path.stat().st_size < 1 << 25
            and secret.search(path.read_bytes())
        ):
            found.append(f"{path.relative_to(folder)} has a secret")
        if grammar.SECRET in path.name:
            found.append(f"a file's name is a secret: {path.name}")
    return found


def arm(folder: Path, cache: Path) -> None:
    """Stop before anything is trained or served, keep the network away, and refuse and note what is written outside."""
    for place in STOPPED:
        replaced(f"cifar_ablations.study.commands.{place}", lambda real: lambda *a, **k: False)
    quick = SimpleNamespace(perf_counter=time.perf_counter, strftime=time.strftime, sleep=_no_more)
    replaced("cifar_ablations.study.commands.app:time", lambda real: quick)
    replaced("socket:socket.connect", lambda real: _refused)
    replaced("socket:getaddrinfo", lambda real: _unknown)
    sys.path.insert(0, "")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
    places = tuple(os.path.realpath(place) + os.sep for place in (folder, cache, "/dev", "/proc/self"))
    outside = os.open(folder, os.O_RDONLY)

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        for path in _written(event, arguments):
            where = os.path.realpath(os.fsdecode(path))
            if not f"{where}{os.sep}".startswith(places):
                note = os.open("outside", os.O_CREAT | os.O_WRONLY | os.O_APPEND, dir_fd=outside)
                os.write(note, f"{event} {where!a}\n".encode())
                os.close(note)
                raise PermissionError(13, "outside", where)

    sys.addaudithook(refuse)


def _written(event: str, arguments: tuple[Any, ...]) -> list[Any]:
    """The paths that an event is about to change."""
    if event == "open":
        path, _, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        return [path] if writes and not isinstance(path, int) and path != "outside" else []
    if event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod"):
        return (
            []
            if isinstance(arguments[0], int) or (arguments[-1] not in (-1, None) and event in ("os.remove", "os.rmdir"))
            else [arguments[0]]
        )
    if event in ("os.rename", "os.link", "os.symlink"):
        return [one for one in arguments[:2] if not isinstance(one, int)]
    return []


def _no_more(seconds: float) -> None:
    raise KeyboardInterrupt


def _refused(self: Any, address: Any) -> None:
    raise ConnectionRefusedError(111, "Connection refused")


def _unknown(*arguments: Any, **named: Any) -> Any:
    raise socket.gaierror(-2, "Name or service not known")
