"""How fleets are dealt, whoever the workers are: these are played, on a clock of their own."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scheduling import EPOCH_SECONDS, Clock, PlayedCrew, play
from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.budget import Budget, Network
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.execution.events import Done, Elsewhere, Event, Failed, Stalled, Started
from cifar_ablations.study.execution.pool import Patience, Watch, WorkerPool
from cifar_ablations.study.execution.sizing import STORE_SECONDS, dealt
from cifar_ablations.study.training.engine import Epoch, Outcome
from cifar_ablations.study.training.fleet import Member

RECIPE = Recipe(Network(), Budget(epochs=3), catalog.notebook_recipe().techniques)


def _fleets(*sizes: int) -> list[list[Member]]:
    seeds = iter(range(sum(sizes)))
    return [[Member(RECIPE, next(seeds)) for _ in range(size)] for size in sizes]


def _epoch(number: int, *, past: bool = False) -> Epoch:
    return Epoch(Member(RECIPE, 0), number, {}, past)


def test_silence_is_measured_by_the_fleets_own_pace() -> None:
    patience = Patience(starting_seconds=100, floor_seconds=10, factor=20)

    def seconds_until_stuck(watch: Watch, silent: int) -> int:
        """How long it takes altogether, of a worker that has been silent for so many seconds already."""
        while not watch.is_stuck(0, silent):
            silent += 1
        return silent

    assert seconds_until_stuck(Watch(patience, 0, 0), 0) == 101, "it may take its time to start"
    watch = Watch(patience, 0, 0)
    watch.heard(_epoch(1, past=True))
    assert seconds_until_stuck(watch, 0) == 101, "what is told again was trained by another"
    watch = Watch(patience, 0, 0)
    watch.heard(_epoch(1))
    assert seconds_until_stuck(watch, 0) == 11
    watch = Watch(patience, 0, 0)
    assert not any(watch.is_stuck(0, second) for second in (1, 2))
    watch.heard(_epoch(1))
    assert seconds_until_stuck(watch, 2) == 2 + 41, "twenty times the longest silence so far"
    assert not watch.is_stuck(1, 44), "a tick is a sign of life"


def test_time_that_the_coordinator_slept_through_is_no_silence() -> None:
    watch = Watch(Patience(floor_seconds=10), 0, 0.0)
    watch.heard(_epoch(1))
    assert not watch.is_stuck(0, 3600.0), "a closed laptop"
    assert watch.silence <= 1


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=12),
    workers=st.integers(1, 6),
    speeds=st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=1, max_size=3),
    deaths=st.sampled_from([0.0, 0.3, 1.0]),
    silent=st.sampled_from([0.0, 0.3]),
    of_others=st.sets(st.integers(0, 47)),
)
def test_every_member_is_told_of_once_whatever_happens_to_workers(
    sizes: list[int], workers: int, speeds: list[float], deaths: float, silent: float, of_others: set[int]
) -> None:
    clock, asked = Clock(), list[Member]()

    def claim(members: tuple[Member, ...]) -> Collection[Member]:
        asked.extend(members)
        return [member for member in members if member.seed not in of_others]

    fleets = _fleets(*sizes)
    events = list[Event]()
    with WorkerPool(PlayedCrew(clock, speeds, deaths, silent), workers, Patience(60, 60), clock) as pool:
        events += [event for event in pool.train(fleets, claim=claim) if event is not None]
    members = [member for fleet in fleets for member in fleet]
    assert asked == members, "each is claimed once, also where its worker is lost"
    ended = [event.member for event in events if isinstance(event, Outcome)]
    failed = [member for event in events if isinstance(event, Failed) for member in event.members]
    elsewhere = [member for event in events if isinstance(event, Elsewhere) for member in event.members]
    assert sorted(m.seed for m in [*ended, *failed, *elsewhere]) == [member.seed for member in members]
    assert {member.seed for member in elsewhere} == of_others & set(range(len(members)))
    assert all(event.lost for event in events if isinstance(event, Failed))
    if not deaths and not silent:
        assert not failed
        assert not [event for event in events if isinstance(event, Stalled)]
    starts = sum(isinstance(event, Started) for event in events)
    assert starts == sum(isinstance(event, Done | Failed | Stalled) for event in events)


def test_fast_workers_get_more_and_all_end_together() -> None:
    alike = play(280, 4, (1.0,))
    mixed = play(280, 4, (2.0, 2.0, 1.0, 1.0))
    assert alike.seconds == pytest.approx(alike.ideal)
    assert mixed.ideal <= mixed.seconds <= mixed.ideal + 5 * EPOCH_SECONDS, "the last fleet of a slow one at most"


def test_a_thousand_trainings_cost_a_coordinator_little_and_nothing_is_lost() -> None:
    played = play(1_000, 50, deaths=0.05)
    assert played.stalled > 0
    assert played.failed < 50


@given(
    fleets=st.lists(st.floats(1, 1_000), min_size=1, max_size=40), workers=st.integers(1, 20), each=st.integers(1, 7)
)
def test_an_estimate_lies_between_the_work_shared_out_and_the_longest_fleet_on_top(
    fleets: list[float], workers: int, each: int
) -> None:
    found = dealt(fleets, workers, each * len(fleets))
    trained = max(found.seconds, 0)
    shared = sum(fleets) / workers
    stored = each * len(fleets) * STORE_SECONDS
    assert trained >= max(shared, stored, max(fleets)) * (1 - 1e-9)
    assert trained <= max(shared + max(fleets), stored) * (1 + 1e-9)
    assert found.busy == pytest.approx(shared / trained)
    assert found.by_store == (stored > shared and trained == stored)
