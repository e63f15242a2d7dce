"""In which order a store was written, whatever the clocks said that dated its runs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from cifar_ablations.ablations.record import ParentRecord, RecordError, from_tags
from cifar_ablations.reports.reading.stored import Stored

DAY = 24 * 60 * 60 * 1000.0
"""In milliseconds, as all times here: since 1970, where they are not spans."""


def now() -> float:
    """By this machine's clock."""
    return time.time() * 1000


@dataclass(frozen=True)
class Moment:
    """When an invocation was logged by the order of the store, what was added to its clock for that, and when the next
    one was logged."""

    at: int
    added: int = 0
    next: float = math.inf

    def ended(self, clock: int | None) -> float:
        """When a run of the invocation ended by that order; clock: by its own account, None while it is in training."""
        if clock is None:
            return math.nan
        was_ahead = self.added < 0 or clock > now()
        return min(clock + self.added, self.next - 1) if was_ahead else clock + self.added


UNKNOWN = Moment(0)
"""Of a run whose invocation is not in the store."""


def moments(invocations: Sequence[Stored]) -> dict[str, Moment]:
    """When each was logged, by run id: after those with a lower number, and before those with a higher.

    Clocks may be wrong. One that was ahead of now is set back behind the next invocation, one that was behind is set
    forward. Those of earlier versions have no number and keep their time, unless it is ahead of now.
    """
    today = now()
    numbers = {run.run_id: number(run.tags) for run in invocations}
    told = [run for run in invocations if numbers[run.run_id] or run.started > today]
    told.sort(key=lambda run: (numbers[run.run_id], run.started, run.run_id))
    at = [run.started for run in told]
    for i in reversed(range(len(at) - 1)):
        at[i] = min(at[i], at[i + 1] - 1) if at[i] > today else at[i]
    for i in range(1, len(at)):
        at[i] = max(at[i], at[i - 1] + 1)
    placed = {
        run.run_id: Moment(begun, begun - run.started, following)
        for run, begun, following in zip(told, at, [*at, math.inf][1:], strict=True)
    }
    return {run.run_id: Moment(run.started) for run in invocations} | placed


def number(tags: Mapping[str, str]) -> int:
    """The number of an invocation with these tags; 0 where it has none that can be read."""
    with suppress(RecordError):
        return from_tags(ParentRecord, tags, "", "").number
    return 0


def ahead(times: Iterable[float]) -> str:
    """A sentence where runs are dated more than a day ahead of now; "" where none is. times: NaN for none."""
    wrong = [time for time in times if time > now() + DAY]
    if not wrong:
        return ""
    last = datetime.fromtimestamp(max(wrong) / 1000, UTC)
    return (
        f"A clock was wrong: dates of runs lie more than a day ahead of now, the last {last:%Y-%m-%d %H:%M} UTC. Runs "
        "count in the order in which they were logged; their dates may be wrong."
    )
