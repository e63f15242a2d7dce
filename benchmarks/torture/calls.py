"""Calls of the store that raise: the database is locked, the server is gone, the network is slow, or MLflow has a bug.

The error comes before the call has done anything, or after it has done all of it, which its caller cannot know.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR, TEMPORARILY_UNAVAILABLE
from sqlalchemy.exc import OperationalError

import cifar_ablations
from benchmarks.torture import kills
from benchmarks.torture.command import replaced
from benchmarks.torture.ground import Attempt, Ground

KIND = "calls"
TITLE = "A call of the store raises, before or after it has done its work"
CHECKED = "a sentence and exit code 1 or 2, or it goes on; then as above"
MOST = 6


def errors() -> dict[str, Exception]:
    """What is raised, by how it is called."""
    locked = sqlite3.OperationalError("database is locked")
    return {
        "MlflowException (unavailable)": MlflowException("the server is not there", TEMPORARILY_UNAVAILABLE),
        "MlflowException (internal)": MlflowException("something went wrong", INTERNAL_ERROR),
        "MlflowException (request)": MlflowException("API request to http://x failed with error code 500", BAD_REQUEST),
        "ConnectionError": ConnectionError("Connection refused"),
        "ConnectionError of requests": requests.exceptions.ConnectionError("Connection aborted."),
        "OperationalError": OperationalError("INSERT INTO runs", {}, locked),
    }


@cache
def places() -> tuple[str, ...]:
    """The methods of MLflow's client that the suite calls, as its sources have them, by module and name."""
    found = set()
    for place in cifar_ablations.__path__:
        for package in ("study", "reports"):
            for file in (Path(place) / package).resolve().rglob("*.py"):
                found |= set(re.findall(r"client\.([a-z_]+)\(", file.read_text("utf-8")))
    return tuple(f"mlflow:MlflowClient.{name}" for name in sorted(found) if hasattr(MlflowClient, name))


def attempt(ground: Ground, rng: Random, folder: Path) -> Attempt:
    """Have calls of a command raise, let it go through, and look at what is there."""
    words = ground.pick(rng)
    kills.begin_with(ground, words, rng, folder)
    done, mark = Attempt(f"{words[0]}:"), folder / "raised"
    for _ in range(ground.chain(rng, MOST)):
        known = {place: count for place, count in ground.calls[words[0]].items() if place in places()}
        place, after = rng.choice(sorted(known)), rng.random() < 0.5
        number, times = rng.randint(1, known[place]), rng.choice([1, 1, 4])
        method = place.rpartition(".")[2]
        name, error = rng.choice(list(errors().items()))
        ended = ground.call(words, folder, partial(arm, place, number, times, error, after, mark)).end()
        if mark.exists():
            mark.unlink()
            done.faults += 1
            done.what += (
                f" {name} {'after' if after else 'before'} {method} {number}{f', {times} times' * (times > 1)},"
            )
        done.note(ended.unseemly((0, 1, 2)))
    kills.finish(ground, words, folder, done)
    return done


def arm(place: str, number: int, times: int, error: Exception, after: bool, mark: Path) -> None:
    """Have a method of MLflow's client raise so many times, from its n-th call on."""
    calls = 0

    def raising(real: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            planted = number <= calls < number + times
            if planted:
                mark.touch()
            if planted and not after:
                raise error
            result = real(*arguments, **named)
            if planted:
                raise error
            return result

        return called

    replaced(place, raising)
