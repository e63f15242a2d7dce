"""Leases on trainings: one holder each, whoever asks, until it is given back or has run out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from cifar_ablations.ablations.stores import StoreError
from cifar_ablations.study.store import claims as module
from cifar_ablations.study.store.claims import Claims, process_in_words

TRAININGS = [f"data/{letter}/{seed}" for letter in "abc" for seed in range(4)]
MadeBy = Callable[..., Claims]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'claims.db'}"


@pytest.fixture
def at(url: str, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The database's time, which a test moves."""
    clock = [1_000.0]
    monkeypatch.setattr(module, "_now", lambda connection: clock[0])
    return clock


def test_what_one_holds_another_does_not_get(url: str, at: list[float]) -> None:
    here, there = Claims(url, "here"), Claims(url, "there")
    assert here.take(TRAININGS[:5]) == set(TRAININGS[:5])
    assert there.take(TRAININGS) == set(TRAININGS[5:])
    assert here.take(TRAININGS[:5]) == set(TRAININGS[:5]), "its own, once more"
    assert there.holders(TRAININGS) == dict.fromkeys(TRAININGS[:5], "here")
    assert there.taken_over == {}


def test_what_ran_out_is_anybodys_and_its_holder_is_told_of(url: str, at: list[float]) -> None:
    dead, alive, late = Claims(url, "dead", 60), Claims(url, "alive", 60), Claims(url, "late", 60)
    dead.take(TRAININGS[:2])
    alive.take(TRAININGS[2:4])
    at[0] += 50
    alive.renew()
    assert late.take(TRAININGS[:4]) == set()
    at[0] += 20
    assert late.holders(TRAININGS) == dict.fromkeys(TRAININGS[2:4], "alive")
    assert late.take(TRAININGS[:4]) == set(TRAININGS[:2])
    assert late.taken_over == dict.fromkeys(TRAININGS[:2], "dead")
    dead.renew()
    assert [dead.holds(training) for training in TRAININGS[:2]] == [False, False], "it was not dead, but too late"
    assert late.holds(TRAININGS[0])
    assert alive.holds(TRAININGS[2])


def test_what_was_given_back_is_free_and_news_to_others_once(url: str, at: list[float]) -> None:
    here, there = Claims(url, "here"), Claims(url, "there")
    here.release()
    assert not there.has_news(), "it had nothing"
    here.take(TRAININGS)
    here.release()
    assert there.has_news()
    assert not there.has_news()
    assert not here.has_news(), "its own is none"
    assert there.take(TRAININGS) == set(TRAININGS)
    assert not Claims(url, "later").has_news(), "from before it began"


def test_of_many_that_ask_at_once_one_gets_each(url: str) -> None:
    got: dict[str, set[str]] = {}

    def ask(name: str) -> None:
        got[name] = Claims(url, name).take(TRAININGS)

    threads = [threading.Thread(target=ask, args=(f"number {n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for names in got.values() for name in names) == sorted(TRAININGS)


@pytest.mark.slow
def test_leases_are_renewed_while_their_holder_lives_and_given_back_when_it_ends(url: str) -> None:
    other = Claims(url, "other")
    with Claims(url, "here", lease_seconds=2) as here:
        here.take(TRAININGS)
        time.sleep(4)
        assert other.take(TRAININGS) == set()
    assert other.take(TRAININGS) == set(TRAININGS)


@pytest.mark.slow
def test_the_clock_of_the_database_counts(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with sa.create_engine(url).begin() as connection:
        before = module._now(connection)
    assert abs(before - time.time()) < 3
    monkeypatch.setattr(time, "time", lambda: before + 3_600)
    here, fast = Claims(url, "here"), Claims(url, "a machine whose clock is an hour ahead")
    here.take(TRAININGS)
    assert fast.take(TRAININGS) == set()


def test_one_waits_for_another_and_says_for_whom(url: str, at: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = Claims(url, "node7/boot/4711/12.5"), Claims(url, "there")
    here.take(["search/x"])
    said, looks = list[str](), iter([False, False, True])
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        there.wait_for("search/x", said.append, lambda: next(looks))
    assert said == ["Process 4711 on node7 is at work on the same; waiting for it to end (Ctrl-C to stop)."]
    here.release()
    there.wait_for("search/x", said.append, lambda: False)
    assert len(said) == 1


def test_a_database_that_cannot_be_opened_is_a_sentence_without_its_password() -> None:
    with pytest.raises(
        StoreError, match=r"the claims at nosuch://me:\*\*\*@host/db cannot be opened: Can't load plugin"
    ):
        Claims("nosuch://me:secret-word@host/db", "here")


def test_a_database_that_does_not_answer_is_waited_for_and_then_given_up(
    url: str, at: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0)
    here, tries = Claims(url, "here"), list[int]()
    begin = here._engine.begin

    def away(times: int) -> Callable[[], object]:
        def connect() -> object:
            tries.append(1)
            if len(tries) <= times:
                raise sa.exc.OperationalError("SELECT", {}, Exception("the server is starting up"))
            return begin()

        return connect

    monkeypatch.setattr(here._engine, "begin", away(3))
    assert here.take(TRAININGS) == set(TRAININGS)
    assert len(tries) == 4
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0)
    tries.clear()
    monkeypatch.setattr(here._engine, "begin", away(99))
    with pytest.raises(StoreError, match="cannot be read: the server is starting up"):
        here.take(TRAININGS)


@pytest.mark.parametrize(
    ("holder", "said"), [("host/boot/12/3.5", "process 12 on host"), ("somebody", "somebody"), ("", "")]
)
def test_a_holder_is_named_as_a_person_looks_for_it(holder: str, said: str) -> None:
    assert process_in_words(holder) == said
