"""How long what is left will take, against schedules whose length is known."""

from __future__ import annotations

import heapq
import random
import time
from dataclasses import replace
from statistics import median

import pytest

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.profiles import profile
from cifar_ablations.study.execution import fleets as fleets_module
from cifar_ablations.study.execution.events import Done, Failed, Stalled, Started
from cifar_ablations.study.execution.fleets import TRAININGS, TRIALS, Progress
from cifar_ablations.study.execution.pace import Pace, ending_images, epoch_images
from cifar_ablations.study.execution.sizing import pack
from cifar_ablations.study.training.engine import Epoch, Outcome
from cifar_ablations.study.training.fleet import Member

QUICK = profile("quick")
RECIPE = QUICK.apply(catalog.notebook_recipe())
EPOCHS = RECIPE.sized.budget.epochs


def members(count: int) -> list[Member]:
    return [Member(RECIPE, seed) for seed in range(count)]


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def simulated(
    count: int, workers: int, seed: int, *, start: float = 3.0, drift: float = 0.0, noise: float = 0.1
) -> list[tuple[float, object]]:
    """What the workers would report, and when: fleets of seven, each of its own pace, dealt to whoever is free.

    start: seconds until a worker is there; drift: by what share the machine is slower at the end of an hour.
    """
    draw = random.Random(seed)
    queue = [tuple(fleet) for fleet in pack(members(count), workers, 7)]
    free = [(0.0, worker) for worker in range(workers)]
    heapq.heapify(free)
    told: list[tuple[float, object]] = []
    begun: set[int] = set()
    budget = RECIPE.sized.budget
    for fleet in queue:
        now, worker = heapq.heappop(free)
        told.append((now, Started(fleet)))
        if worker not in begun:
            now += start
            begun.add(worker)
        own = 0.6 * draw.uniform(0.85, 1.15) * len(fleet) / epoch_images(budget)
        for epoch in range(1, EPOCHS + 1):
            slower = 1 + drift * now / 3600
            now += own * slower * epoch_images(budget) * max(0.2, draw.gauss(1, noise))
            told += [(now, Epoch(member, epoch, {})) for member in fleet]
        now += own * (1 + drift * now / 3600) * ending_images(budget)
        told += [(now, Outcome(member, "finished", EPOCHS)) for member in fleet]
        told.append((now, Done(fleet)))
        heapq.heappush(free, (now, worker))
    return sorted(told, key=lambda one: one[0])


def errors(told: list[tuple[float, object]], count: int, workers: int) -> list[float]:
    """Once a second, by what share the time left is wrong, from when something is said on."""
    clock = Clock()
    pace = Pace(workers, clock)
    pace.expect(pack(members(count), workers, 7), {}, None, True)
    end, began, found = told[-1][0], clock.now, []
    second = 0.0
    for when, event in told:
        while second < when:
            clock.now = began + second
            left = pace.seconds_left()
            if left is not None and end - second > 5:
                assert left > 0, "there is work left"
                found.append(abs(left - (end - second)) / (end - second))
            second += 1
        clock.now = began + when
        pace.hear(event)  # type: ignore[arg-type]
    assert not pace.seconds_left()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("count", "workers", "start", "drift"),
    [(84, 2, 3.0, 0.0), (28, 2, 15.0, 0.0), (12, 2, 3.0, 0.0), (84, 3, 3.0, 1.0)],
)
def test_the_median_error_is_at_most_fifteen_percent(
    count: int, workers: int, start: float, drift: float, seed: int
) -> None:
    found = errors(simulated(count, workers, seed, start=start, drift=drift), count, workers)
    assert len(found) > 20
    assert median(found) <= 0.15
    assert median(found[:20]) <= 0.25, "soon after the start, too"


def test_nothing_is_said_before_the_pace_is_known_and_the_start_is_no_part_of_it() -> None:
    clock, fleet = Clock(), tuple(members(7))
    pace = Pace(1, clock)
    pace.expect([fleet], {}, None, True)
    assert pace.seconds_left() is None
    pace.hear(Started(fleet))
    clock.now += 60
    pace.hear(Epoch(fleet[0], 1, {}))
    assert pace.seconds_left() is None
    clock.now += 4
    pace.hear(Epoch(fleet[0], 2, {}))
    budget = RECIPE.sized.budget
    ending = 4 * ending_images(budget) / epoch_images(budget)
    assert pace.seconds_left() == pytest.approx(4 * (EPOCHS - 2) + ending)
    clock.now += 3
    assert pace.seconds_left() == pytest.approx(4 * (EPOCHS - 2) + ending - 3)
    clock.now += 100
    assert pace.seconds_left() == pytest.approx(4 * (EPOCHS - 3) + ending), "what follows the late epoch is still to do"


def test_workers_that_run_out_of_fleets_are_foreseen() -> None:
    """Two workers, three fleets: the third has one to itself, and takes as long as a whole one."""
    clock, three = Clock(), [tuple(members(21)[7 * i : 7 * i + 7]) for i in range(3)]
    pace = Pace(2, clock)
    pace.expect(three, {}, None, False)
    for fleet in three[:2]:
        pace.hear(Started(fleet))
    for epoch in (1, 2):
        clock.now += 10
        for fleet in three[:2]:
            pace.hear(Epoch(fleet[0], epoch, {}))
    assert pace.seconds_left() == pytest.approx(10 * (EPOCHS - 2) + 10 * EPOCHS)


def test_epochs_of_a_checkpoint_are_neither_work_nor_left() -> None:
    clock, fleet = Clock(), tuple(members(2))
    pace = Pace(1, clock)
    pace.expect([fleet], dict.fromkeys(fleet, 20), None, False)
    pace.hear(Started(fleet))
    for epoch in range(1, 21):
        pace.hear(Epoch(fleet[0], epoch, {}, past=True))
    for epoch in (21, 22):
        clock.now += 5
        pace.hear(Epoch(fleet[0], epoch, {}))
    assert pace.seconds_left() == pytest.approx(5 * (EPOCHS - 22))


def test_what_ended_early_failed_or_stood_still_is_counted_as_such() -> None:
    clock, all_of_them = Clock(), members(6)
    one, two = tuple(all_of_them[:4]), tuple(all_of_them[4:])
    pace = Pace(1, clock)
    pace.expect([one, two], {}, None, False)
    pace.hear(Started(one))
    for epoch in (1, 2):
        clock.now += 8
        pace.hear(Epoch(one[0], epoch, {}))
    pace.hear(Outcome(one[3], "diverged", 2))
    assert pace.seconds_left() == pytest.approx(2 * (3 * (EPOCHS - 2) + 2 * EPOCHS)), "two seconds for each epoch"
    pace.hear(Stalled(one[:3], "it stood still"))
    assert pace.seconds_left() == pytest.approx(2 * (3 * EPOCHS + 2 * EPOCHS)), "three begin again"
    pace.hear(Started(one[:3]))
    clock.now += 500
    pace.hear(Epoch(one[0], 1, {}))
    clock.now += 6
    pace.hear(Epoch(one[0], 2, {}))
    assert pace.seconds_left() == pytest.approx(2 * (3 * (EPOCHS - 2) + 2 * EPOCHS)), "a worker's start is not counted"
    pace.hear(Failed(one[:3], "an error"))
    assert pace.seconds_left() == pytest.approx(2 * 2 * EPOCHS)


def test_a_fleet_that_is_told_to_have_ended_without_more_work_leaves_the_pace_as_it_was() -> None:
    """Of trials, which nobody measures on test images, each trained for one epoch."""
    clock, fleets = Clock(), [(member,) for member in members(4)]
    pace = Pace(1, clock)
    pace.expect(fleets, {}, 1, False)
    for fleet in fleets[:3]:
        pace.hear(Started(fleet))
        clock.now += 8
        pace.hear(Epoch(fleet[0], 1, {}))
        pace.hear(Outcome(fleet[0], "diverged", 1))
        pace.hear(Done(fleet))
        pace.seconds_left()
    assert pace.seconds_left() == pytest.approx(8)


def test_networks_of_other_sizes_have_a_pace_of_their_own() -> None:
    large = replace(RECIPE, model=replace(RECIPE.model, width=1.0))
    small, big = (Member(RECIPE, 0),), [(Member(large, seed),) for seed in range(2)]
    clock = Clock()
    pace = Pace(1, clock)
    pace.expect([small, *big], {}, None, False)
    pace.hear(Started(small))
    for epoch in range(1, EPOCHS + 1):
        clock.now += 1
        pace.hear(Epoch(small[0], epoch, {}))
    pace.hear(Outcome(small[0], "finished", EPOCHS))
    pace.hear(Done(small))
    assert pace.seconds_left() == pytest.approx(2 * EPOCHS), "until one has been seen, as the others"
    pace.hear(Started(big[0]))
    for epoch in (1, 2, 3):
        clock.now += 10
        pace.hear(Epoch(big[0][0], epoch, {}))
    assert pace.seconds_left() == pytest.approx(10 * (EPOCHS - 3) + 10 * EPOCHS)


def test_trials_are_estimated_from_the_whole_search(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(fleets_module, "time", type("Time", (), {"monotonic": clock}))
    pace = Pace(1, clock)
    progress = Progress(TRIALS, total=8, epochs_total=80, pace=pace, began=clock.now)
    assert (progress.per_second(), progress.seconds_left()) == (None, None)
    fleet = tuple(members(2))
    pace.expect([fleet], {}, 3, False)
    pace.hear(Started(fleet))
    for epoch in (1, 2):
        clock.now += 10
        pace.hear(Epoch(fleet[0], epoch, {}))
    progress.epochs_done, progress.done = 20, 2
    assert progress.per_second() == pytest.approx(2 / 20)
    assert progress.seconds_left() == pytest.approx(60)
    progress.epochs_done = 79
    assert progress.seconds_left() == pytest.approx(10), "the epoch in flight at least"
    assert time.monotonic() != clock.now


def test_the_seconds_left_of_trainings_are_their_paces() -> None:
    assert Progress(TRAININGS, total=3).seconds_left() is None
