"""What `ablate judge` does: the suite's statistics for runs of any program, at the terminal and as a page."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.secrets import without_password
from cifar_ablations.study.commands import answer_table, terminal
from cifar_ablations.study.data.typed import program
from cifar_ablations.study.store.home import Home

if TYPE_CHECKING:
    from cifar_ablations.ablations.record import CommandPlanRecord
    from cifar_ablations.reports.pages.command_page import Written
    from cifar_ablations.reports.pages.judged_page import Judged
    from cifar_ablations.reports.reading.outside import Source
    from cifar_ablations.reports.wording.outcome_lines import Line

Say = Callable[[str], None]
STYLES = {"supported": "green", "opposite found": "red"}
LEAST_NAME = 12
"""Columns that the name of an arm has in any case."""


@dataclass(frozen=True)
class Question:
    """What was typed: a file or an experiment, its columns, and what is asked of them; None where nothing was."""

    file: Path | None
    experiment: str | None
    tracking_uri: str | None
    arm: str
    seed: str | None
    metric: str | None
    control: str | None
    better: str | None
    expect: str | None
    margin: float | None
    paired: bool
    output: Path | None

    @property
    def command(self) -> str:
        """The command that asks the same, without where its page goes."""
        words = [program(), "judge", *([str(self.file)] if self.file else [])]
        address = without_password(self.tracking_uri) if self.tracking_uri else None
        for option, value in (
            ("--experiment", self.experiment),
            ("--tracking-uri", address),
            ("--arm", self.arm),
            ("--seed", self.seed),
            ("--metric", self.metric),
            ("--control", self.control),
            ("--better", self.better),
            ("--expect", self.expect),
            ("--margin", None if self.margin is None else f"{self.margin:g}"),
        ):
            words += [option, value] if value is not None else []
        return shlex.join([*words, *(["--paired"] if self.paired else [])])


def judge_runs(home: Home, asked: Question, say: Say) -> tuple[Judged, Path]:
    """Judge the runs, print what came of them, and write their page; returns both.

    Raises AblateError for what cannot be judged, or written there.
    """
    from cifar_ablations.reports.pages import guide, index_page, judged_page, rendering

    source, name = _source(home, asked)
    judged = judged_page.judged(
        source,
        asked.arm,
        asked.seed,
        asked.metric,
        asked.control,
        better=asked.better,
        expect=asked.expect,
        margin=asked.margin,
        paired=asked.paired,
    )
    show(judged, say)
    path = asked.output
    if path is None:
        home.check_writable(home.reports)
        guide.write_guide(home.reports)
        path = home.reports / f"judged-{rendering.slug(name)[: rendering.LONGEST]}.html"
    elif path.is_dir():
        raise AblateError(f"--output {path} is a folder; name a file")
    try:
        judged.save(path, asked.command)
    except OSError as error:
        raise AblateError(f"--output {path}: {error.strerror or error}") from None
    if asked.output is None and home.has_store:
        index_page.write_index(home.tracking_uri, home.reports)
    say(f"Report: {home.shown(path)}")
    return judged, path


def as_facts(judged: Judged, page: Path) -> dict[str, Any]:
    """What came of the runs, for a program."""
    from cifar_ablations.reports.wording import headlines, phrases
    from cifar_ablations.reports.wording.tables import VERDICT_COLUMNS

    found, rule = judged.outside, judged.plan.rule
    claims = [
        {
            "number": number,
            **{name: row.get(name) for name in VERDICT_COLUMNS},
            "metric": found.column,
            "outcome": phrases.outcome(row),
            "seeds_to_settle": headlines.seeds_to_settle(row),
        }
        for number, row in enumerate(judged.verdicts.to_dict("records"), 1)
    ]
    return {
        "source": found.source,
        "rehearsal": found.rehearsal,
        "metric": {
            "name": found.column,
            "better": {1: "higher", -1: "lower"}[found.metric.better],
            "share": found.metric.share,
            "scale": found.scale,
        },
        "control": found.arms[0],
        "runs": len(found.runs),
        "rule": {"test": rule.test, "correction": rule.correction, "alpha": rule.alpha, "margin": rule.margin},
        "pairing": found.pairing,
        "error_rate": judged.error_rate,
        "answer": [f"{line.label}: {line.text}." for line in judged.lines],
        "notes": [judged.pairing_sentence, *judged.caveats, *judged.strength],
        "claims": claims,
        "arms": judged.arms.to_dict("records"),
        "page": page,
    }


def of_commands(written: Written) -> dict[str, Any]:
    """What came of a plan of commands, for a program: the plan, what was fixed when, and as of `as_facts`."""
    return {
        "plan": plan_of_commands(written.invocation.plan),
        "fixed": written.judged.fixed,
        "judged": as_facts(written.judged, written.page),
    }


def plan_of_commands(plan: CommandPlanRecord) -> dict[str, Any]:
    """A plan of commands, for a program, without its arms."""
    names = ("name", "question", "digest", "metric", "control", "seeds", "test", "correction", "alpha", "margin")
    about = {name: getattr(plan, name) for name in (*names, "timeout_seconds", "code", "folder", "command")}
    return {**about, "better": plan.better or None}


def _source(home: Home, asked: Question) -> tuple[Source, str]:
    """The table of runs, and what its page is called after."""
    from cifar_ablations.reports.reading import outside

    if (asked.file is None) == (asked.experiment is None):
        raise AblateError("name either a CSV or Parquet file or, with --experiment NAME, an experiment in MLflow")
    if asked.file is not None:
        if asked.tracking_uri is not None:
            raise AblateError("--tracking-uri is for --experiment; a file needs none")
        return outside.of_file(asked.file, (asked.arm, asked.seed)), asked.file.stem
    assert asked.experiment is not None
    address = asked.tracking_uri or home.tracking_uri
    found = outside.of_experiment(asked.experiment, address, asked.arm, asked.seed, asked.metric)
    return found, asked.experiment


def show(judged: Judged, say: Say) -> None:
    """Print the table of arms, of at most `answer_table.MOST_LINES` lines, and what a reader must know beside it."""
    from cifar_ablations.reports.wording.outcome_lines import most_telling

    lines = judged.rows
    room = answer_table.MOST_LINES - 2  # the head, and the control
    if len(lines) > room:
        lines = most_telling(lines, room - 1)
    console, left = terminal.console(), len(judged.rows) - len(lines)
    console.print(_table(console.width, judged, lines))
    if left:
        console.print(terminal.writable(f"… and {left} more on the page"))
    for sentence in [judged.pairing_sentence, *judged.caveats, *judged.strength]:
        say(sentence)
    for line in judged.lines:
        if line.label == "Open" and (settled := re.search(r"about [\d,]+ seeds would settle .*", line.text)):
            say(f"Open: {settled[0]}.")


def _table(width: int, judged: Judged, lines: Sequence[Line]) -> Table:
    """A row for each arm: its mean, where there is room, its effect, a bar, and the verdict."""
    from cifar_ablations.reports.wording.phrases import REHEARSED

    unit = ", pp" if judged.outside.metric.share else ""
    level = f"{100 * judged.verdicts['confidence'].iloc[0]:.3g} %"
    rehearsed = REHEARSED if judged.outside.rehearsal else ""
    head = [f"Arm{rehearsed}", judged.outside.column, f"effect{unit} [{level}]", ""]
    control = judged.arms.iloc[0]
    rows = [[f"{control['arm']} (control)", _mean(judged, control["mean"]), "", ""]]
    rows += [[line.what, _mean(judged, line.with_it), line.effect, line.said] for line in lines]
    widths = [max(map(cell_len, column)) for column in zip(head, *rows, strict=True)]
    gaps = answer_table.GAP * (len(widths) - 1)
    means = LEAST_NAME + sum(widths[1:]) + gaps <= width
    if not means:
        widths[1] = -answer_table.GAP
    names = max(LEAST_NAME, min(widths[0], width - sum(widths[1:]) - gaps))
    spare = width - names - sum(widths[1:]) - gaps - answer_table.GAP
    scale = _scale(lines)
    columns = min(spare, answer_table.MOST_BAR) if scale and spare >= answer_table.LEAST_BAR else 0
    table = Table(box=None, pad_edge=False, padding=(0, answer_table.GAP, 0, 0), header_style="bold", show_edge=False)
    for title in [head[0], *(head[1:2] if means else []), head[2], *([""] if columns else []), ""]:
        table.add_column(terminal.writable(title), no_wrap=True, overflow="ellipsis")
    table.columns[0].max_width = names
    for line, (name, mean, effect, said) in zip([None, *lines], rows, strict=True):
        limits = (math.nan,) * 3 if line is None else (line.low, line.difference, line.high)
        drawn = [answer_table.bar(limits, scale, columns)] if scale and columns else []
        style = "" if line is None else STYLES.get(said, answer_table.COLOURS.get(line.way, ""))
        cells = [name, *([mean] if means else []), effect, *drawn]
        table.add_row(*(Text(terminal.writable(cell)) for cell in cells), Text(terminal.writable(said), style=style))
    return table


def _scale(lines: Sequence[Line]) -> tuple[float, float] | None:
    """What the bars span: all intervals, and zero; None where there is none."""
    known = [line for line in lines if not math.isnan(line.low)]
    low, high = min([0.0, *(line.low for line in known)]), max([0.0, *(line.high for line in known)])
    return (low, high) if low < high else None


def _mean(judged: Judged, value: float) -> str:
    return "–" if math.isnan(value) else judged.amount(value) + (" %" if judged.outside.metric.share else "")
