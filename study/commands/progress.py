"""How far a plan or a search has come, while it is trained: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column

from cifar_ablations.ablations.durations import duration
from cifar_ablations.study.commands import terminal
from cifar_ablations.study.execution.fleets import Progress

LINE_EVERY_SECONDS = 30.0
REFRESH_SECONDS = 0.5
"""Between two times that the words beside the bar are made anew."""
WORDS_COLUMNS = 46
"""Room for the words beside the bar; they go on in a second line where there are more."""
FEW_SECONDS = 10.0
"""Below that it is not counted how many are left."""


@contextmanager
def progress_shown(workers: int, at_once: bool = False, starting: str = "") -> Iterator[Callable[[Progress], None]]:
    """Yields a function that shows progress as often as it should be seen.

    Without a terminal: a line at the start, one as soon as training has begun, and then one every half minute.
    at_once: whether it is known that there is something to train; else the first line waits for the first fleet.
    starting: what that line says (default: how many workers start).
    """
    began = time.monotonic()
    starting = starting or f"starting {workers} worker{'s' * (workers > 1)}"
    if not terminal.is_live():
        lines = _Lines(began, starting)
        if at_once:
            lines.start()
        yield lines
        return
    console = Console()
    columns = (
        BarColumn(bar_width=max(10, min(40, console.width - WORDS_COLUMNS - 1))),
        TextColumn("{task.fields[words]}", markup=False, table_column=Column(no_wrap=False)),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=None, words=terminal.writable(starting))
        last = -math.inf

        def move_bar(progress: Progress) -> None:
            nonlocal last
            if not progress.epochs_done or time.monotonic() - last < REFRESH_SECONDS:
                return
            last = time.monotonic()
            words = terminal.writable(in_words(progress, last - began))
            bars.update(task, total=progress.epochs_total, completed=progress.epochs_done, words=words)

        yield move_bar


class _Lines:
    """Shows progress line by line."""

    def __init__(self, began: float, starting: str):
        self._began, self._starting = began, starting
        self._next = -math.inf
        self._trained = False

    def start(self) -> None:
        """Say that workers start."""
        print(terminal.writable(f"  {self._starting}"), flush=True)
        self._next = time.monotonic() + LINE_EVERY_SECONDS

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if self._next == -math.inf:
            self.start()
        elif now >= self._next or (progress.epochs_done and not self._trained):
            self._trained |= progress.epochs_done > 0
            print(terminal.wrapped(terminal.writable(f"  {in_words(progress, now - self._began)}")), flush=True)
            self._next = now + LINE_EVERY_SECONDS


def in_words(progress: Progress, elapsed: float) -> str:
    """What is done, the pace, the time left, the best so far, and counts of what went wrong; elapsed: in seconds."""
    ended = progress.done + len(progress.failed) >= progress.total
    share = math.floor(100 * progress.epochs_done / progress.epochs_total) if progress.epochs_total else 0
    share = share if ended else min(share, 99)  # after its last epoch a training is still measured
    said = f"{progress.done}/{progress.total} {progress.unit} done ({share} %) in {duration(elapsed)}"
    if not ended:
        left, pace = progress.seconds_left(), progress.per_second()
        said += f", {_pace(pace)}" if pace and left is not None else ""
        said += f", {time_left(left)}" + (f" at {progress.part}" if progress.part else "")
    if progress.waiting_for:
        said += f", waiting for {', '.join(progress.waiting_for)} to end the rest"
    if progress.best is not None:
        said += f", best so far {100 * progress.best:.2f} % on validation images"
    if progress.leading is not None:
        arm, mean, seeds = progress.leading
        of = f"mean of {seeds} seeds" if seeds > 1 else "1 seed"
        said += f", highest so far {100 * mean:.1f} % ({arm}; {of}, not tested)"
    counts = {"pruned": progress.pruned, "diverged": progress.diverged, "stalled": len(progress.stalled)}
    said += "".join(f", {count} {what}" for what, count in counts.items() if count)
    return said + (f", {len(progress.failed)} FAILED" if progress.failed else "")


def time_left(seconds: float | None) -> str:
    """The time left, as exactly as it is known."""
    if seconds is None:
        return "time left not known yet"
    if seconds < FEW_SECONDS:
        return "a few seconds left"
    return f"about {duration(5 * round(seconds / 5) if seconds < 117.5 else seconds)} left"


def _pace(per_second: float) -> str:
    for seconds, name in ((60, "min"), (3600, "h")):
        if per_second * seconds >= 1:
            return f"{per_second * seconds:.1f}/{name}"
    return f"{per_second * 24 * 3600:.1f}/day"
