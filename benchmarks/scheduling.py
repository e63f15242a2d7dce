"""How the scheduling of fleets scales, without training anything: `python -m benchmarks.scheduling`.

The pool of the product deals fleets to workers that are played, against a clock that is played too: they take their
time, some die, some stand still. What is measured is real: the coordinator's own seconds. What is played is how long
the whole would take, against work divided by workers. The section of `benchmarks/RESULTS.md` is written anew.
"""

from __future__ import annotations

import argparse
import heapq
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

import torch

from benchmarks.results import RESULTS, described, facts, machine, record
from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.budget import Budget, Network
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.execution.events import Done, Failed, Stalled
from cifar_ablations.study.execution.pace import Pace
from cifar_ablations.study.execution.pool import LostError, Message, Order, Report, WorkerPool
from cifar_ablations.study.execution.sizing import pack
from cifar_ablations.study.training.engine import Epoch, Outcome
from cifar_ablations.study.training.fleet import Member

FLEET = 7
EPOCH_SECONDS = 10.0
"""Of a fleet, on a worker of speed 1."""


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(eq=False)
class PlayedWorker:
    """One that takes its time; `ticks` as of the pool's workers."""

    crew: PlayedCrew
    speed: float
    ticks: int = 0
    says: list[tuple[float, Message | None]] = field(default_factory=list)
    """What it will say and when, the next last; None for its death."""

    def send(self, order: Order) -> None:
        """Have it train a fleet."""
        self.says = self.crew.course(order, self.speed)[::-1]
        self.crew.announce(self)

    def receive(self) -> Message:
        """What it says now."""
        _, message = self.says.pop()
        self.ticks += 1
        if message is None:
            raise LostError("its machine went down")
        if self.says:
            self.crew.announce(self)
        return message


class PlayedCrew:
    """Workers on a clock of their own.

    speeds: of the workers, in turn; deaths: the share of fleets whose worker dies; silent: of those whose worker stands
    still for good.
    """

    def __init__(self, clock: Clock, speeds: Sequence[float] = (1.0,), deaths: float = 0.0, silent: float = 0.0):
        self._clock, self._speeds, self._deaths, self._silent = clock, speeds, deaths, silent
        self._random, self._started, self._order = Random(0), count(), count()
        self._next: list[tuple[float, int, PlayedWorker]] = []

    def start(self) -> PlayedWorker:
        """A worker at rest."""
        return PlayedWorker(self, self._speeds[next(self._started) % len(self._speeds)])

    def announce(self, worker: PlayedWorker) -> None:
        """Note when a worker speaks next."""
        if worker.says:
            heapq.heappush(self._next, (worker.says[-1][0], next(self._order), worker))

    def wait(self, workers: Collection[PlayedWorker], seconds: float) -> list[PlayedWorker]:
        """Those that speak next, with the clock moved there; after so many seconds, none."""
        until = self._clock.now + seconds
        while self._next:
            at, _, worker = self._next[0]
            if worker not in workers or not worker.says or worker.says[-1][0] != at:
                heapq.heappop(self._next)  # it was ended
                continue
            if at > until:
                break
            heapq.heappop(self._next)
            self._clock.now = max(self._clock.now, at)
            return [worker]
        self._clock.now = until
        return []

    def end(self, workers: Sequence[PlayedWorker]) -> None:
        """They say nothing more."""
        for worker in workers:
            worker.says = []

    def course(self, order: Order, speed: float) -> list[tuple[float, Message | None]]:
        """What a worker of this speed says of a fleet, and when."""
        now, epochs = self._clock.now, order.members[0].recipe.sized.budget.epochs
        each = EPOCH_SECONDS / speed * len(order.members) / FLEET
        said: list[tuple[float, Message | None]] = [
            (now + epoch * each, Epoch(member, epoch, {})) for epoch in range(1, epochs + 1) for member in order.members
        ]
        end = now + epochs * each
        said += [(end, Outcome(member, schema.FINISHED, epochs, {})) for member in order.members]
        said.append((end, Report()))
        drawn = self._random.random()
        if drawn < self._deaths + self._silent:
            said = said[: self._random.randrange(len(said))]
            if drawn < self._deaths:
                said.append((said[-1][0] if said else now, None))
        return said


@dataclass(frozen=True)
class Played:
    """What came of a plan."""

    runs: int
    workers: int
    seconds: float
    """Of the played clock, from the beginning to the end."""
    ideal: float
    """The work divided by the workers' speed."""
    own_seconds: float
    """Of the processor, in the pool and in what follows how fast it goes."""
    stalled: int
    failed: int


def play(runs: int, workers: int, speeds: Sequence[float] = (1.0,), deaths: float = 0.0, silent: float = 0.0) -> Played:
    """A plan of so many trainings on so many workers."""
    recipe = Recipe(Network(), Budget(epochs=5), catalog.notebook_recipe().techniques)
    fleets = pack([Member(recipe, seed) for seed in range(runs)], workers, FLEET)
    clock = Clock()
    crew = PlayedCrew(clock, speeds, deaths, silent)
    pace = Pace(workers, clock)
    ended, stalled, failed = set[Member](), 0, 0
    began = time.process_time()
    pace.expect(fleets, {}, None, True)
    with WorkerPool(crew, workers, clock=clock) as pool:
        for event in pool.train(fleets):
            pace.hear(event)
            match event:
                case Outcome():
                    assert event.member not in ended, "an end is told once"
                    ended.add(event.member)
                case Stalled():
                    stalled += 1
                case Failed():
                    failed += len(event.members)
                case Done():
                    pass
    own = time.process_time() - began
    assert len(ended) + failed == runs, "nothing is lost"
    total = sum(speeds[n % len(speeds)] for n in range(workers))
    ideal = runs / FLEET * 5 * EPOCH_SECONDS / total
    return Played(runs, workers, clock.now, ideal, own, stalled, failed)


CASES = (
    (1_000, 4, (1.0,), 0.0, 0.0),
    (1_000, 4, (1.0, 1.0, 0.5, 0.5), 0.0, 0.0),
    (10_000, 100, (1.0,), 0.0, 0.0),
    (10_000, 100, (1.0,), 0.02, 0.01),
    (100_000, 1_000, (1.0,), 0.0, 0.0),
    (100_000, 1_000, (1.0, 0.5), 0.0, 0.0),
    (100_000, 1_000, (1.0,), 0.02, 0.01),
)


def main() -> None:
    """Play all cases and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows = []
    for case in CASES:
        played = play(*case)
        runs, workers, speeds, deaths, silent = case
        kind = "alike" if len(set(speeds)) == 1 else "half of them half as fast"
        rows.append(
            f"| {runs:,} | {workers:,} | {kind} | {deaths:.0%}, {silent:.0%} | {played.ideal / played.seconds:.1%} | "
            f"{1000 * played.own_seconds / runs:.2f} | {played.stalled:,} | {played.failed:,} |"
        )
        print(rows[-1], flush=True)
    table = (
        "| trainings | workers | workers are | fleets whose worker dies, stands still | work / (workers × time) | "
        "coordinator's ms a training | fleets given to another | trainings that lost two workers |\n"
        "|---|---|---|---|---|---|---|---|\n" + "\n".join(rows)
    )
    here = facts(torch.device("cpu"), 1)
    record(
        arguments.results,
        f"Scheduling, played: {machine(here)}",
        f"{described(here)}\n\nFleets of {FLEET}, five epochs of {EPOCH_SECONDS:g} s each on a worker of speed 1; what "
        f"is played and what is measured: [README](README.md).\n\n{table}",
    )


if __name__ == "__main__":
    main()
