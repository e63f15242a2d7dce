"""A store that keeps a command waiting: another program holds its database for seconds, or each call takes long."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.torture import kills
from benchmarks.torture.calls import places
from benchmarks.torture.command import replaced
from benchmarks.torture.ground import RUN, TUNE, Attempt, Ground

KIND = "waits"
TITLE = "Another program holds the database for 1 to 10 s, or each call of the store takes up to 1 s"
CHECKED = "exit code 0; held from the start, it says what it waits for; then as above"
HELD = (1.0, 4.0, 10.0)
"""Seconds for which another program holds the database; MLflow itself waits for five."""
SLOW = (0.1, 0.3, 1.0)
"""Seconds that each call of the store takes longer."""
WITHIN = 3.0
"""Seconds from a command's start in which the database is taken from it."""


def attempt(ground: Ground, rng: Random, folder: Path) -> Attempt:
    """Keep a command waiting, and look at what is there when it has gone through."""
    words = RUN if ground.short else rng.choice([RUN, TUNE])
    ground.copied(ground.empty, folder)
    done = Attempt(f"{words[0]}:", faults=1)
    if rng.random() < 0.4:
        seconds = rng.choice(SLOW)
        ended = ground.call(words, folder, partial(arm, seconds)).end()
        done.what += f" {seconds:g} s a call,"
    else:
        seconds, after = rng.choice(HELD), rng.choice([0.0, rng.uniform(0.0, WITHIN)])
        file = folder / "out" / "mlflow.db"
        holder = hold(file, seconds) if not after else 0
        command = ground.call(words, folder)
        if after:
            time.sleep(after)
            holder = hold(file, seconds)
        ended = command.end()
        os.waitpid(holder, 0)
        done.what += f" held for {seconds:g} s after {after:.1f} s,"
        if not after and seconds > WITHIN and "waiting for it" not in f"{ended.out}{ended.err}":
            done.note(["it does not say what it waits for"])
    done.note(ended.unseemly((0,)))
    kills.finish(ground, words, folder, done)
    return done


def arm(seconds: float) -> None:
    """Have every call of MLflow's client take so many seconds longer."""

    def slow(real: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            time.sleep(seconds)
            return real(*arguments, **named)

        return called

    for place in places():
        replaced(place, slow)


def hold(file: Path, seconds: float) -> int:
    """Have another process hold a database for so many seconds; returns its id once it does."""
    told, tell = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            with closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as database:
                database.execute("BEGIN EXCLUSIVE")
                os.write(tell, b"held")
                time.sleep(seconds)
        finally:
            os._exit(0)
    os.close(tell)
    os.read(told, 4)
    os.close(told)
    return pid
