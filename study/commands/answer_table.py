"""The answer, last on the terminal: a table of a plan's effects, statements or arms, or of a search's best trials."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cifar_ablations.ablations.record import SearchOutcomeRecord, StudyRecord, Value
from cifar_ablations.study.commands import terminal

if TYPE_CHECKING:
    from cifar_ablations.reports.pages.findings import Findings
    from cifar_ablations.reports.wording.outcome_lines import ArmLine, Line

MOST_LINES = 20
"""Of a table, its head and what it says of the rest included."""
GAP = 2
"""Between two columns."""
LEAST_BAR, MOST_BAR = 15, 41
"""Columns of a bar; where there is no room for the least, there is none."""
COLOURS = {"helps": "green", "hurts": "red"}

Limits = tuple[float, float, float]
"""The low end of an interval, what it is the interval of, and its high end."""

Shown = TypeVar("Shown")


def show_answer(results: Findings) -> None:
    """Print what came of a plan: claims about test accuracy, else all of its claims, else its arms by their means."""
    from cifar_ablations.reports.wording import outcome_lines
    from cifar_ablations.reports.wording.phrases import REHEARSED

    plan, verdicts = results.plan, results.verdicts
    rehearsed = REHEARSED if plan.data.stand_in else ""
    if plan.layout != "ledger" and (lines := outcome_lines.of_techniques(plan, verdicts)):
        level = f"{100 * verdicts['confidence'].iloc[0]:.3g} %"
        _print(lines, outcome_lines.most_telling, lambda c, some: _techniques(c, some, level, rehearsed))
    elif statements := outcome_lines.of_statements(verdicts):
        _print(statements, outcome_lines.most_telling, lambda c, some: _statements(c, some, rehearsed))
    elif arms := outcome_lines.of_arms(results.arms):
        _print(arms, lambda ranked, room: ranked[:room], lambda c, some: _arms(some, len(arms), rehearsed))
    else:
        print("No training has ended yet.")


def show_search(outcome: SearchOutcomeRecord) -> None:
    """Print the best trial of each study of a search, and what the best of all changes."""
    _print(list(outcome.studies), _best_studies, lambda c, some: _studies(some))
    if winner := outcome.winner:
        changes = ", ".join(f"{name} {short(now)}" for name, _, now in winner.changes) or "nothing"
        print(terminal.wrapped(f"Best: trial {winner.trial} of {winner.study}; it changes {changes}."))


def show_rows(head: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """Print a table of all of these rows, its cells broken between words where the terminal is narrow."""
    table = _table(*head)
    for row in rows:
        _row(table, *row)
    terminal.console().print(table)


def short(value: Value) -> str:
    """A setting with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def bar(limits: Limits, scale: tuple[float, float], columns: int) -> str:
    """An interval in so many columns: a dot for the effect, a line for its interval, an upright where zero is.

    scale: the least and the largest value that the columns stand for; zero lies between them. Nothing for NaN.
    """
    if any(math.isnan(limit) for limit in limits):
        return ""
    low, middle, high, zero = (
        round((min(max(value, scale[0]), scale[1]) - scale[0]) / (scale[1] - scale[0]) * (columns - 1))
        for value in (*limits, 0.0)
    )
    drawn = ["─" if low <= place <= high else " " for place in range(columns)]
    drawn[zero] = "│"
    drawn[middle] = "●"
    return "".join(drawn)


def _print(
    lines: Sequence[Shown],
    choose: Callable[[Sequence[Shown], int], Sequence[Shown]],
    table_of: Callable[[Console, Sequence[Shown]], Table],
) -> None:
    """Print a table of as many lines as fit, and how many are left out; choose: so many of them."""
    console = terminal.console()
    for room in range(min(len(lines), MOST_LINES), 0, -1):
        table = table_of(console, choose(lines, room))
        height = len(console.render_lines(table, pad=False)) + (room < len(lines))
        if height <= MOST_LINES:
            break
    console.print(table)
    if room < len(lines):
        console.print(terminal.writable(f"… and {len(lines) - room} more on the page"))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold", show_edge=False)
    for column in columns:
        table.add_column(terminal.writable(column), vertical="top")
    return table


def _row(table: Table, *cells: str | Text) -> None:
    table.add_row(*(cell if isinstance(cell, Text) else Text(terminal.writable(cell)) for cell in cells))


def _techniques(console: Console, lines: Sequence[Line], level: str, rehearsed: str) -> Table:
    """A row for each claim, under the place where it holds: with accuracies and reasons, where there is room."""
    head = [f"Test accuracy{rehearsed}", "without", "with", f"effect, pp [{level}]", ""]
    rows: list[tuple[str, ...]] = [
        (
            f"{'  ' * bool(line.place)}{line.what.removeprefix('the ')}",
            _percent(line.without),
            _percent(line.with_it),
            line.effect,
            line.said,
        )
        for line in lines
    ]
    room = console.width - _width([head, *rows])
    if room < 0:
        head = [head[0], "effect, pp", ""]
        rows = [(what, effect, line.outcome) for line, (what, _, _, effect, _) in zip(lines, rows, strict=True)]
    scale = _scale([(line.low, line.difference, line.high) for line in lines])
    columns = min(room - GAP, MOST_BAR) if scale and room - GAP >= LEAST_BAR else 0
    table = _table(*head[:-1], *([""] if columns else []), "")
    for column in table.columns[1:]:
        column.no_wrap = True
    for place, of_place in groupby(zip(lines, rows, strict=True), key=lambda one: one[0].place):
        if place:
            _row(table, place)
        for line, (*cells, verdict) in of_place:
            drawn = [bar((line.low, line.difference, line.high), scale, columns)] if scale and columns else []
            said = Text(terminal.writable(verdict), style=COLOURS.get(line.way, ""))
            _row(table, *cells, *drawn, said)
    return table


def _width(rows: Sequence[Sequence[str]]) -> int:
    """The columns that a table of these rows takes."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return sum(widths) + GAP * (len(widths) - 1)


def _scale(spans: Sequence[Limits]) -> tuple[float, float] | None:
    """What the bars span: all intervals, and zero; None where there is none."""
    known = [limits for limits in spans if not any(math.isnan(limit) for limit in limits)]
    if not known:
        return None
    low, high = min(0.0, *(limits[0] for limits in known)), max(0.0, *(limits[2] for limits in known))
    return (low, high) if low < high else None


def _statements(console: Console, lines: Sequence[Line], rehearsed: str) -> Table:
    """A row for each statement, cut where it is long."""
    table = _table(f"Statement{rehearsed}", "effect", "")
    room = console.width - 2 - max(len(line.effect) + 2 + len(line.outcome) + 2 for line in lines)
    for line in lines:
        style = {"supported": "green", "opposite found": "red"}.get(line.outcome, "")
        verdict = Text(terminal.writable(line.outcome), style=style)
        _row(table, _cut(line.what, room), line.effect, verdict)
    return table


def _cut(text: str, room: int) -> str:
    """As many whole words as fit, with an ellipsis where some are left out."""
    if len(text) <= room:
        return text
    return f"{text[: max(1, room - 1)].rpartition(' ')[0] or text[: max(1, room - 1)]}…"


def _arms(ranked: Sequence[ArmLine], of: int, rehearsed: str) -> Table:
    """A row for each arm, the highest mean first."""
    known = [arm for arm in ranked if not math.isnan(arm.accuracy)]
    selected = " (highest of several: not tested)" if of > 1 else ""
    table = _table(f"Arm{rehearsed}", "test accuracy", "interval", "")
    table.columns[1].no_wrap = table.columns[2].no_wrap = True
    for arm in ranked:
        first = selected if known and arm is known[0] else ""
        limits = "" if math.isnan(arm.low) else f"[{100 * arm.low:.1f}, {100 * arm.high:.1f}]"
        spread = "" if math.isnan(arm.std) else f" ± {100 * arm.std:.1f}"
        count = f"{arm.n} run{'s' * (arm.n > 1)}" + (f", {arm.diverged} diverged" if arm.diverged else "")
        _row(table, arm.arm, f"{_percent(arm.accuracy)}{spread}", limits, f"{count}{first}")
    return table


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def _best_studies(studies: Sequence[StudyRecord], room: int) -> Sequence[StudyRecord]:
    """So many studies, in their order: those with the best values."""
    ranked = sorted(studies, key=lambda study: -study.best.value if study.best else math.inf)[:room]
    return [study for study in studies if study in ranked]


def _studies(studies: Sequence[StudyRecord]) -> Table:
    """A row for each study, with what its best trial sampled."""
    values = [study.best.value for study in studies if study.best]
    table = _table("Best of each study", "validation accuracy", "with")
    table.columns[1].no_wrap = True
    for study in studies:
        if study.best is None:
            _row(table, study.name, "–", "every trial diverged" if study.diverged else "no trial came to an end")
            continue
        edge = f" (at the edge: {', '.join(study.edge)})" if study.edge else ""
        style = "bold" if study.best.value == max(values) else ""
        value = Text(f"{100 * study.best.value:.2f} %", style=style)
        _row(table, Text(study.name, style=style), value, f"{_knobs(study.best.sampled)}{edge}")
    return table


def _knobs(sampled: Mapping[str, Value]) -> str:
    return ", ".join(f"{name} {short(value)}" for name, value in sampled.items())
