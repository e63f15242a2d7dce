"""The clock is set while a command runs: back or ahead, by minutes to decades. The monotonic clock goes on as ever."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from random import Random

from benchmarks.torture import kills
from benchmarks.torture.command import replaced
from benchmarks.torture.ground import Attempt, Ground

KIND = "clocks"
TITLE = "The clock is set back or ahead in the middle (`time.time`, `time.time_ns`)"
CHECKED = "exit code 0; then as above"
MOST = 2
HOUR, MONTH, YEAR = 3_600.0, 30 * 86_400.0, 365 * 86_400.0
STEPS = (-HOUR, HOUR, -MONTH, MONTH, -YEAR, 60 * YEAR, -60.0, 60.0)


def attempt(ground: Ground, rng: Random, folder: Path) -> Attempt:
    """Set the clock while a command runs, let it go through, and look at what is there."""
    words = ground.pick(rng)
    kills.begin_with(ground, words, rng, folder)
    done = Attempt(f"{words[0]}:")
    for _ in range(ground.chain(rng, MOST)):
        steps = [(rng.randint(1, 60), rng.choice(STEPS)) for _ in range(rng.randint(1, 4))]
        to_1970 = rng.random() < 0.2
        ended = ground.call(words, folder, partial(arm, steps, to_1970)).end()
        done.faults += 1
        done.what += (
            f" {'from 1970, ' * to_1970}{', '.join(f'{step / HOUR:+,.1f} h at look {at}' for at, step in steps)};"
        )
        done.note(ended.unseemly((0,)))
    kills.finish(ground, words, folder, done)
    return done


def arm(steps: list[tuple[int, float]], to_1970: bool) -> None:
    """Set this process' clock, and those of processes forked from it, at the n-th look at it."""
    real, looks = time.time, 0
    offset = -real() + 1_000 if to_1970 else 0.0

    def now() -> float:
        nonlocal looks, offset
        looks += 1
        offset += sum(step for at, step in steps if at == looks)
        return max(1.0, real() + offset)

    replaced("time:time", lambda real: now)
    replaced("time:time_ns", lambda real: lambda: int(now() * 1e9))
