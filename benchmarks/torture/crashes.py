"""A process is gone at the n-th call of some function: between any two writes, as a power cut would have it.

Nothing is put in order: no `finally`, no exit handler. The other processes of the command go on until they notice.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.torture import kills
from benchmarks.torture.command import CRASHED, replaced
from benchmarks.torture.ground import Attempt, Ground

KIND = "crashes"
TITLE = "Gone at the n-th call of a function, before or after it"
CHECKED = "as above"
MOST = 8
PLACES = (
    "mlflow:MlflowClient.create_run",
    "mlflow:MlflowClient.create_experiment",
    "mlflow:MlflowClient.log_batch",
    "mlflow:MlflowClient.log_dict",
    "mlflow:MlflowClient.log_inputs",
    "mlflow:MlflowClient.set_tag",
    "mlflow:MlflowClient.set_terminated",
    "mlflow:MlflowClient.search_runs",
    "os:replace",
    "os:fsync",
    "os:unlink",
    "os:mkdir",
    "numpy:savez_compressed",
    "optuna.storages.journal:JournalFileBackend.append_logs",
    "sqlalchemy.engine.default:DefaultDialect.do_commit",
    "sqlalchemy.engine.default:DefaultDialect.do_execute",
)
"""Functions between whose calls a command may end, by module and name."""
IN_WORKERS = {"numpy:savez": 4}
"""Functions that workers call, and about how often one of them does."""


def attempt(ground: Ground, rng: Random, folder: Path) -> Attempt:
    """Start a command until it has crashed often enough, let it go through, and look at what is there."""
    words = ground.pick(rng)
    kills.begin_with(ground, words, rng, folder)
    done = Attempt(f"{words[0]}:")
    for _ in range(ground.chain(rng, MOST)):
        known = {place: count for place, count in ground.calls[words[0]].items() if place in PLACES}
        known |= IN_WORKERS if words[0] in ("run", "tune") else {}
        place = rng.choice(sorted(known))
        number, after = rng.randint(1, known[place]), rng.random() < 0.5
        mark = folder / "crashed"
        ended = ground.call(words, folder, partial(arm, place, number, after, mark)).end()
        if mark.exists():
            mark.unlink()
            done.faults += 1
            done.what += f" {'after' if after else 'before'} call {number} of {place.partition(':')[2]},"
            done.note(ended.unseemly((0, 1, CRASHED)))
        else:
            done.note(ended.unseemly((0,)))
    kills.finish(ground, words, folder, done)
    return done


def arm(place: str, number: int, after: bool, mark: Path) -> None:
    """Have this process end at a call of that function; mark: the file that tells that it has happened."""
    calls = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            now = calls == number and not mark.exists()  # one process is gone, not each that takes its place
            if now and not after:
                _crash(mark)
            result = real(*arguments, **named)
            if now:
                _crash(mark)
            return result

        return called

    replaced(place, counted)


def _crash(mark: Path) -> None:
    os.close(os.open(mark, os.O_CREAT | os.O_WRONLY))
    os._exit(CRASHED)
