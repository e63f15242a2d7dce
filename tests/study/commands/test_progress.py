"""How far a plan or a search has come is seen soon, often enough, and never as nothing left while there is work."""

from __future__ import annotations

import io
import sys
import time
from typing import Any

import pytest
from rich.progress import Progress as Bars
from rich.progress import ProgressColumn
from rich.text import Text

from cifar_ablations.study.commands import progress as shown_by
from cifar_ablations.study.commands.progress import in_words, progress_shown, time_left
from cifar_ablations.study.execution.fleets import TRAININGS, TRIALS, Progress


class Pace:
    """In place of a real one: so many seconds are left."""

    def __init__(self, seconds: float | None):
        self._seconds = seconds

    def seconds_left(self) -> float | None:
        return self._seconds


def training(done: int, epochs_done: int, left: float | None = None, **others: object) -> Progress:
    return Progress(TRAININGS, 14, done, 280, epochs_done, pace=Pace(left), **others)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (training(0, 0), "0/14 trainings done (0 %) in 60 s, time left not known yet"),
        (training(0, 30, 300.0), "0/14 trainings done (10 %) in 60 s, about 5.0 min left"),
        (training(13, 279, 0.4), "13/14 trainings done (99 %) in 60 s, a few seconds left"),
        (training(7, 280, 12.0), "7/14 trainings done (99 %) in 60 s, about 10 s left"),
        (
            training(7, 140, 12.0, part="1 in 16 images"),
            "7/14 trainings done (50 %) in 60 s, about 10 s left at 1 in 16 images",
        ),
        (
            training(7, 140, 12.0, waiting_for=["process 7 on node2"]),
            "7/14 trainings done (50 %) in 60 s, about 10 s left, waiting for process 7 on node2 to end the rest",
        ),
        (training(14, 280, 0.0), "14/14 trainings done (100 %) in 60 s"),
        (training(13, 279, 0.0, failed={"a": "b"}), "13/14 trainings done (99 %) in 60 s, 1 FAILED"),
        (
            training(3, 60, 200.0, diverged=1, stalled=["c"], leading=("without augmentation", 0.521, 2)),
            "3/14 trainings done (21 %) in 60 s, about 3.3 min left, highest so far 52.1 % (without augmentation; mean "
            "of 2 seeds, not tested), 1 diverged, 1 stalled",
        ),
        (
            Progress(TRIALS, 10, 4, 40, 20, pruned=2, best=0.5),
            "4/10 trials done (50 %) in 60 s, time left not known yet, best so far 50.00 % on validation images, 2 "
            "pruned",
        ),
    ],
)
def test_what_is_done_is_said_with_the_time_left_and_the_best(progress: Progress, words: str) -> None:
    assert in_words(progress, 60) == words


def test_the_pace_is_in_whole_ones() -> None:
    for seconds, said in ((6, "10.0/min"), (600, "6.0/h"), (36_000, "2.4/day")):
        progress = training(1, 20, 100.0, began=time.monotonic() - seconds)
        assert f", {said}, " in in_words(progress, 60)
    assert "/min" not in in_words(training(1, 20, None, began=time.monotonic() - 6), 60), "not before it is known"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "time left not known yet"),
        (0.0, "a few seconds left"),
        (9.9, "a few seconds left"),
        (43.0, "about 45 s left"),
        (117.0, "about 115 s left"),
        (118.0, "about 118 s left"),
        (600.0, "about 10.0 min left"),
        (9_000.0, "about 2.5 h left"),
    ],
)
def test_the_time_left_is_as_exact_as_it_is_known(seconds: float | None, words: str) -> None:
    assert time_left(seconds) == words


def test_without_a_terminal_lines_come_at_once_with_the_first_epoch_and_then_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(shown_by, "time", type("Time", (), {"monotonic": staticmethod(lambda: clock[0])}))
    with progress_shown(2) as show:
        show(training(0, 0))
        assert capsys.readouterr().out == "  starting 2 workers\n"
        clock[0] = 3.0
        show(training(0, 0))
        assert capsys.readouterr().out == ""
        clock[0] = 4.0
        show(training(0, 7))
        assert capsys.readouterr().out == "  0/14 trainings done (2 %) in 4.0 s, time left not known yet\n"
        for clock[0] in (5.0, 20.0, 33.9):
            show(training(1, 30, 300.0))
        assert capsys.readouterr().out == ""
        clock[0] = 34.0
        show(training(1, 30, 300.0))
        assert capsys.readouterr().out == "  1/14 trainings done (10 %) in 34 s, about 5.0 min left\n"


def test_where_something_is_to_be_trained_the_first_line_does_not_wait(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_shown(1, at_once=True) as show:
        assert capsys.readouterr().out == "  starting 1 worker\n"
        show(training(0, 0))
    with progress_shown(1):
        pass
    assert capsys.readouterr().out == ""


def test_where_no_epoch_ends_for_long_it_is_still_alive(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(shown_by, "time", type("Time", (), {"monotonic": staticmethod(lambda: clock[0])}))
    with progress_shown(1) as show:
        for clock[0] in (0.0, 29.0, 31.0, 59.0, 61.5):
            show(training(0, 0))
    assert capsys.readouterr().out.count("\n") == 3


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [60, 80, 200])
def test_on_a_terminal_the_words_beside_the_bar_are_whole(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys, "stdout", Terminal())
    made: list[Bars] = []

    class Kept(Bars):
        def __init__(self, *columns: str | ProgressColumn, **options: Any):
            super().__init__(*columns, **options)
            made.append(self)

    monkeypatch.setattr(shown_by, "Bars", Kept)
    with progress_shown(2) as show:
        show(training(3, 60, 200.0, diverged=1, leading=("without augmentation", 0.521, 2)))
        with made[0].console.capture() as capture:
            made[0].console.print(made[0].get_renderable())
    monkeypatch.undo()
    drawn = Text.from_ansi(capture.get()).plain
    assert all(len(line) <= width for line in drawn.splitlines())
    words = " ".join(drawn.replace("━", " ").replace("╸", " ").replace("╺", " ").split())
    for part in ("3/14 trainings done (21 %) in", "about 3.3 min left", "highest so far 52.1 %", "1 diverged"):
        assert part in words
