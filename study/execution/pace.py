"""How fast fleets train, from what they report, and how long those that are still to train will take.

A fleet's work is counted in images that are learned from. One in training goes on at its own pace, the others at that
of all before them, each in the latest half of its work so far, so that how a machine began is forgotten. Fleets that
wait are dealt to the workers as they will be, so that the end, when workers run out of them, is foreseen.
"""

from __future__ import annotations

import heapq
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cifar_ablations.ablations.budget import Budget
from cifar_ablations.study.execution.events import Done, Elsewhere, Event, Failed, Stalled, Started
from cifar_ablations.study.training.engine import Epoch, Outcome, Shape, same_shape
from cifar_ablations.study.training.fleet import Member

LOOKING = 1 / 3
"""What an image costs that is looked at without learning from it, in images that are learned from."""


def epoch_images(budget: Budget) -> float:
    """The work of one epoch of a training."""
    return budget.train_images + LOOKING * budget.validation_images


def ending_images(budget: Budget) -> float:
    """The work of measuring a training at its end."""
    return LOOKING * (budget.test_images + min(budget.train_images, 10_000))


class _Seen:
    """Work and a worker's seconds for it, both added up."""

    def __init__(self) -> None:
        self._sums = [(0.0, 0.0)]

    def add(self, work: float, seconds: float) -> None:
        if not work:  # as of an epoch that is told when all of its members have ended
            return
        self._sums.append((self._sums[-1][0] + work, self._sums[-1][1] + seconds))

    @property
    def rate(self) -> float | None:
        """Seconds for one image in the latest half of the work; None before there was any."""
        work, seconds = self._sums[-1]
        if not work:
            return None
        before = self._sums[min(bisect_left(self._sums, (work / 2, 0.0)), len(self._sums) - 2)]
        return (seconds - before[1]) / (work - before[0])


@dataclass(eq=False)
class _Fleet:
    members: tuple[Member, ...]
    until: int
    """The last epoch that it is trained to."""
    measured: bool
    """Whether its members are measured on test images when they end."""
    epoch: int
    ended: int = 0
    """Members that have ended."""
    unnoted: int = 0
    """Those of them whose measuring has not been noted as work."""
    heard: float = 0.0
    cold: bool = False
    """Whether its worker is still starting: the time to its first epoch says nothing."""
    seen: _Seen = field(default_factory=_Seen)

    @property
    def shape(self) -> Shape:
        return same_shape(self.members[0].recipe)

    @property
    def epoch_work(self) -> float:
        return (len(self.members) - self.ended) * epoch_images(self.shape.budget)

    @property
    def ending_work(self) -> float:
        """Of one member."""
        return ending_images(self.shape.budget) if self.measured else 0.0

    @property
    def work_left(self) -> float:
        ending = self.ending_work if self.until == self.shape.budget.epochs else 0.0
        return max(0, self.until - self.epoch) * self.epoch_work + (len(self.members) - self.ended) * ending


class Pace:
    """The fleets of one call after another, on so many workers; clock: in seconds."""

    def __init__(self, workers: int, clock: Callable[[], float] = time.monotonic):
        self._workers, self._clock = workers, clock
        self._cold = workers
        """Fleets that will begin on a worker that has trained nothing yet."""
        self._waiting: list[_Fleet] = []
        self._in_flight: dict[Member, _Fleet] = {}
        self._all = _Seen()
        self._by_shape: dict[Shape, _Seen] = {}

    def expect(
        self, fleets: Sequence[Sequence[Member]], behind: Mapping[Member, int], until: int | None, measured: bool
    ) -> None:
        """Note the fleets of a call, in the order in which they will begin.

        behind: the epochs that members need not train again; until: the epoch that they are trained to, if not to
        their end.
        """
        self._in_flight, self._waiting = {}, []
        for fleet in fleets:
            epochs = fleet[0].recipe.sized.budget.epochs
            last = epochs if until is None else min(until, epochs)
            self._waiting.append(_Fleet(tuple(fleet), last, measured, behind.get(fleet[0], 0)))

    def hear(self, event: Event | None) -> None:
        """Note what a fleet reports."""
        match event:
            case Started():
                self._begin(event.members)
            case Epoch() if fleet := self._in_flight.get(event.member):
                if event.past:
                    fleet.epoch, fleet.heard = max(fleet.epoch, event.epoch), self._clock()
                elif event.epoch > fleet.epoch:  # the first of the fleet to report it
                    self._note(fleet, (event.epoch - fleet.epoch) * fleet.epoch_work)
                    fleet.epoch = event.epoch
            case Outcome() if fleet := self._in_flight.get(event.member):
                fleet.ended += 1
                fleet.unnoted += 1
            case Done() | Failed() | Stalled():
                self._end(event)
            case Elsewhere():
                self._leave(event.members)

    def seconds_left(self) -> float | None:
        """About how long the fleets that are left will take; None before the pace is known."""
        if self._all.rate is None:
            return None
        now, free = self._clock(), list[float]()
        for fleet in set(self._in_flight.values()):
            rate, left = self._rate(fleet), fleet.work_left
            # What is due may be late; what comes after it takes its time all the same.
            after = max(0.0, left - (fleet.epoch_work if fleet.epoch < fleet.until else left))
            free.append(max((now if fleet.cold else fleet.heard) + left * rate, now + after * rate))
        free += [now] * (self._workers - len(free))
        heapq.heapify(free)
        for fleet in self._waiting:
            heapq.heappush(free, heapq.heappop(free) + fleet.work_left * self._rate(fleet))
        return max(free) - now

    def _begin(self, members: Sequence[Member]) -> None:
        fleet = next((fleet for fleet in self._waiting if members[0] in fleet.members), None)
        if fleet is None:
            return
        self._waiting.remove(fleet)
        self._in_flight |= dict.fromkeys(fleet.members, fleet)
        fleet.heard, fleet.cold = self._clock(), self._cold > 0
        self._cold -= 1

    def _leave(self, members: Sequence[Member]) -> None:
        """Members of a fleet that waits are not trained here."""
        fleet = next((fleet for fleet in self._waiting if members[0] in fleet.members), None)
        if fleet is None:
            return
        fleet.members = tuple(member for member in fleet.members if member not in set(members))
        if not fleet.members:
            self._waiting.remove(fleet)

    def _end(self, event: Done | Failed | Stalled) -> None:
        """Forget a fleet that is through; what is left of one whose worker stood still begins again, on a new one."""
        fleet = self._in_flight.get(event.members[0])
        if fleet is None:
            return
        for member in fleet.members:
            del self._in_flight[member]
        if isinstance(event, Done) and fleet.unnoted:
            self._note(fleet, 0.0)
        elif isinstance(event, Stalled):
            self._cold = max(0, self._cold) + 1
            self._waiting.insert(0, _Fleet(event.members, fleet.until, fleet.measured, 0))

    def _note(self, fleet: _Fleet, work: float) -> None:
        """Note work that a fleet has done since it was last heard of."""
        now = self._clock()
        work += fleet.unnoted * fleet.ending_work
        seconds, fleet.heard, fleet.unnoted = now - fleet.heard, now, 0
        if fleet.cold:
            fleet.cold = False
            return
        for seen in (self._all, self._by_shape.setdefault(fleet.shape, _Seen()), fleet.seen):
            seen.add(work, seconds)

    def _rate(self, fleet: _Fleet) -> float:
        """Seconds of its worker for one image: its own, else as of others of its shape, else as of all."""
        of_shape = self._by_shape.get(fleet.shape)
        return fleet.seen.rate or (of_shape.rate if of_shape else None) or self._all.rate or 0.0
