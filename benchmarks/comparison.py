"""Contenders that take turns until time runs out, the cost of fleets by size, and both as tables."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch

from benchmarks.contenders import Call, Contender, free_memory, member_milliseconds
from benchmarks.deadline import Deadline, OutOfTimeError
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.training.backend import TORCH
from cifar_ablations.study.training.fleet import Member

CURVE = {"cpu": (1, 2, 4, 8, 16), "cuda": (1, 2, 4, 8, 16, 32, 64)}

MARGIN = 1.2
"""Factor on the last time of a measurement that the next one may take."""


@dataclass(frozen=True)
class Row:
    """A contender's images per second over the repeats, and its ratio to the notebook's loop within each of them."""

    size: str
    contender: str
    precision: str
    n: int
    median: float
    lowest: float
    highest: float
    ratio: float | None
    """None where the notebook's loop was not measured beside it."""
    ratio_lowest: float | None
    ratio_highest: float | None
    seconds_per_run: float
    """Of the profile's full budget, at the median rate: training alone, without evaluation."""


@dataclass
class Comparison:
    """The contenders at one network and batch size, with their rates so far and notes on them."""

    size: str
    images_per_run: int
    contenders: list[Contender]
    calls: list[Call] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rates: dict[Contender, dict[int, float]] = field(default_factory=dict)
    """By repeat, from 0."""

    def measure(
        self, repeats: int, end: Deadline, later: Deadline, say: Callable[[str], None], save: Callable[[], None]
    ) -> None:
        """Every contender once per repeat, in turn; the first one is what the others are compared with.

        The first repeat has all the time until the end; a later one takes in what will be through by `later`. A
        contender that ends in an error says so in the notes, and takes no further turns.
        """
        took: dict[Contender, float] = {}
        failed: set[Contender] = set()
        for repeat in range(repeats):
            for contender in self.contenders:
                until = later if contender in took else end
                if contender in failed or MARGIN * took.get(contender, 0.0) >= until.left:
                    continue
                name = f"{contender.name}, {contender.precision}"
                began = time.monotonic()
                try:
                    rate = contender.rate(end)
                except OutOfTimeError:
                    continue
                except Exception as error:  # whatever it is: the time is short, and the others are still to come
                    failed.add(contender)
                    self.notes.append(f"{name}: {failure(error)}")
                    say(f"  {self.size}, {self.notes[-1]}")
                else:
                    took[contender] = time.monotonic() - began
                    self.rates.setdefault(contender, {})[repeat] = rate
                    say(f"  {self.size}, repeat {repeat + 1} of {repeats}: {name}: {rate:,.0f}")
                save()
        counts = {c: len(self.rates.get(c, {})) for c in self.contenders if c not in failed}
        short = [f"{n} of {c.name}, {c.precision}" for c, n in counts.items() if n < repeats]
        if short:
            self.notes.append(f"For want of time there are fewer than {repeats} repeats: {'; '.join(short)}.")
        save()

    def rows(self) -> list[Row]:
        """A row for each contender that was measured."""
        base = self.rates.get(self.contenders[0], {})
        found = []
        for contender in self.contenders:
            rates = self.rates.get(contender, {})
            if not rates:
                continue
            ratios = [rate / base[repeat] for repeat, rate in rates.items() if repeat in base]
            median = statistics.median(rates.values())
            found.append(
                Row(
                    size=self.size,
                    contender=contender.name,
                    precision=contender.precision,
                    n=len(rates),
                    median=median,
                    lowest=min(rates.values()),
                    highest=max(rates.values()),
                    ratio=statistics.median(ratios) if ratios else None,
                    ratio_lowest=min(ratios, default=None),
                    ratio_highest=max(ratios, default=None),
                    seconds_per_run=self.images_per_run / median,
                )
            )
        return found

    def said(self) -> list[str]:
        """The notes as list items of Markdown, after the cost of the calls of the workers."""
        found = list(self.notes)
        if self.calls:
            first = statistics.median(call.first_step for call in self.calls)
            known = [call.memory for call in self.calls if call.memory is not None]
            memory = f", peak memory {max(known):.2f} GiB per worker" if known else ""
            found.insert(0, f"{first:.1f} s from hiring the workers to the first step{memory}.")
        if any(call.halved for call in self.calls):
            found.append("A fleet did not fit into memory and was halved; its rate is that of its halves in turn.")
        return [f"- {self.size}: {sentence}" for sentence in found]


@dataclass
class Curve:
    """Milliseconds per member and step by fleet size, of one kind of fleet."""

    name: str
    members: Sequence[Member]
    """As many as the largest fleet has; a smaller one has the first of them."""
    backend: str = TORCH
    points: dict[int, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def measure(self, data: Dataset, device: torch.device, end: Deadline, save: Callable[[], None]) -> None:
        """Double the fleet for as long as it fits into memory and time."""
        sizes = [size for size in CURVE[device.type] if size <= len(self.members)]
        took = 0.0
        for size in sizes:
            began = time.monotonic()
            try:
                if 2 * MARGIN * took >= end.left:
                    raise OutOfTimeError
                self.points[size] = member_milliseconds(self.members[:size], data, device, self.backend, end)
            except OutOfTimeError:
                left = [f"K = {s}" for s in sizes if s not in self.points]
                self.notes.append(f"- {self.name}: left out for want of time: {', '.join(left)}.")
                break
            except Exception as error:  # as in a comparison
                self.notes.append(f"- {self.name}, K = {size}: {failure(error)}")
                break
            finally:
                took = time.monotonic() - began
                free_memory(device)
                save()


def failure(error: Exception) -> str:
    """An error as one sentence: its type and its message."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:300] or 'no reason given'}".rstrip(".") + "."


def table(rows: Iterable[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| network | contender | arithmetic | n | training images per second | ratio to the notebook's loop "
        "| seconds per run |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        ratio = "" if r.ratio is None else f"{r.ratio:.2f} ({r.ratio_lowest:.2f} to {r.ratio_highest:.2f})"
        lines.append(
            f"| {r.size} | {r.contender} | {r.precision} | {r.n} "
            f"| {r.median:,.0f} ({r.lowest:,.0f} to {r.highest:,.0f}) | {ratio} | {rounded(r.seconds_per_run)} |"
        )
    return "\n".join(lines)


def curve_table(found: Sequence[Curve]) -> str:
    """Milliseconds per member and step by fleet size, as Markdown; empty where nothing was measured."""
    sizes = sorted({size for curve in found for size in curve.points})
    if not sizes:
        return ""
    lines = ["| fleet | " + " | ".join(f"K = {s}" for s in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]
    for curve in found:
        cells = [rounded(curve.points[size]) if size in curve.points else "" for size in sizes]
        lines.append(f"| {curve.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def rounded(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
