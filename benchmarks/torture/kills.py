"""Kills at random moments: signals to a command, to one of its workers, to all of its processes.

A case is a chain: the same command is started and killed until it is let go through.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from random import Random

from benchmarks.torture import ground
from benchmarks.torture.command import Command, Ended
from benchmarks.torture.ground import Attempt, Ground

KIND = "kills"
TITLE = "Killed at a random moment (KILL, INT, TERM, HUP; the command, a worker, all processes)"
CHECKED = (
    "each training and trial once, every metric equal in every bit to an undisturbed call's, nothing RUNNING, no "
    "process and no temporary or partial file left, pages whole, `PRAGMA integrity_check`, no traceback"
)
MOST = 8
"""Kills in a chain, at most."""
TYPICAL = {"run": 4.0, "tune": 5.0, "report": 3.0, "foundations": 2.0, "adopt": 0.5}
"""Seconds that each command takes; replaced by what the last one took."""
GENTLE = (signal.SIGINT, signal.SIGTERM)
OF_MULTIPROCESSING = "pymp-"
"""Begins the name of the folder of a socket, which a process that is killed outright cannot remove."""


def attempt(ground_: Ground, rng: Random, folder: Path) -> Attempt:
    """Start and kill a command until it has been killed often enough, let it go through, and look at what is there."""
    words = ground_.pick(rng)
    begin_with(ground_, words, rng, folder)
    done = Attempt(f"{words[0]}:")
    for _ in range(ground_.chain(rng, MOST)):
        command = ground_.call(words, folder)
        number, victim = rng.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP]), _victim(rng)
        time.sleep(ground.moment(rng, TYPICAL[words[0]]))
        hit = _kill(command, number, victim, rng)
        ended = command.end()
        done.faults += hit
        if hit:
            done.what += f" {signal.Signals(number).name} to {victim} after {ended.seconds:.1f} s,"
        _look(ended, command, number if hit else None, victim, done)
        if not hit and ended.code == 0 and words[0] in ("run", "tune"):
            break  # it has gone through
    finish(ground_, words, folder, done)
    return done


def begin_with(ground_: Ground, words: list[str], rng: Random, folder: Path) -> None:
    """Give a case its output folder: for `run` and `tune` one without runs, sometimes without even a store."""
    if words[0] not in ("run", "tune"):
        ground_.copied(ground_.full, folder)
        return
    home = ground_.copied(ground_.empty, folder)
    if rng.random() < 0.15:
        (home / "mlflow.db").unlink()


def finish(ground_: Ground, words: list[str], folder: Path, done: Attempt) -> None:
    """Let the command go through, now and then twice: then there must be nothing to do. Note what is wrong."""
    ground.age(folder / "out")
    for again in (False, True):
        command = ground_.call(words, folder)
        ended = command.end()
        if ended.code == 0:
            TYPICAL[words[0]] = ended.seconds
        done.note([f"in the end: {sentence}" for sentence in ended.unseemly((0,))])
        done.note([f"in the end: {name} is left in the temporary folder" for name in _leavings(command, outright=True)])
        if words[0] == "tune" and again and "Nothing left to try" not in ended.out:
            done.note(["in the end: trials were tried again"])
        if words[0] == "run" and again and "10 already done" not in ended.out:
            done.note(["in the end: trainings were trained again"])
        if words[0] not in ("run", "tune") or ground_.short or done.faults % 3:
            break
    done.note(ground.wrong(folder / "out", ground_.full, words))


def _victim(rng: Random) -> str:
    return rng.choice(["the command", "the command", "a worker", "all of them"])


def _kill(command: Command, number: int, victim: str, rng: Random) -> bool:
    """Send the signal; returns whether there was somebody to get it."""
    if not command.alive():
        return False
    if victim == "all of them":
        with suppress(ProcessLookupError):
            os.killpg(command.pid, number)
            return True
        return False
    pids = command.workers() if victim == "a worker" else [command.pid]
    for pid in rng.sample(pids, 1) if pids else ():
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            return True
    return False


def _look(ended: Ended, command: Command, number: int | None, victim: str, done: Attempt) -> None:
    """Note what is wrong with how a command ended that got a signal, or none."""
    said = f"{ended.out}{ended.err}"
    codes: tuple[int, ...] = (0, 1) if victim == "a worker" else (0,)
    if number is not None and victim != "a worker":
        codes = (0, 130, -number) if number in GENTLE else (0, -number)
        if ended.code == -number and number in GENTLE and said.strip():
            done.note([f"{signal.Signals(number).name} ended it without a sentence"])
        if ended.code == 130 and "Stopped" not in said:
            done.note(["exit code 130 without a sentence"])
    done.note(ended.unseemly(codes))
    outright = ended.code is not None and ended.code < 0
    done.note([f"{name} is left in the temporary folder" for name in _leavings(command, outright)])


def _leavings(command: Command, outright: bool) -> list[str]:
    return [name for name in command.leavings() if not (outright and name.startswith(OF_MULTIPROCESSING))]
