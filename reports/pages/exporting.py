"""What a paper takes from a plan: its table of arms as text, and its figure as a vector file at a column's width."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.reports.pages import findings, rendering
from cifar_ablations.reports.pages.findings import Findings
from cifar_ablations.reports.reading import load
from cifar_ablations.reports.reading.load import Invocation
from cifar_ablations.reports.wording import paper_table, tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = {"latex": ".tex", "markdown": ".md", "csv": ".csv", "pdf": ".pdf", "svg": ".svg"}
"""By format, how a file's name ends."""
FIGURES = ("pdf", "svg")
"""The formats that are of the figure; the others are of the table."""
COLUMN = 3.3
"""The width of a paper's column, in inches."""
WIDTHS = (3.0, 20.0)
"""The least and the largest width of a figure, in inches."""
ROOMY = 7.0
"""From this width on, in inches, names and numbers stand beside the intervals, and not above them."""
SMALL = 0.8
"""Text and lines of a figure less wide than that, of what they are on a screen: print is read from nearer."""


@dataclass(frozen=True)
class Exported:
    """A file for a paper: what it is called, and what is in it."""

    name: str
    content: bytes


def export(
    tracking_uri: str,
    plan: str,
    to: str,
    *,
    style: str | None = None,
    spread: str = paper_table.STD,
    width: float = COLUMN,
    tell: Callable[[str], None] | None = None,
) -> Exported:
    """The table or figure of a plan's newest invocation, in one of the formats of ENDINGS.

    style, spread: of the table, as `paper_table` has them; width: of the figure, in inches. `tell` is given which
    invocation it is of, where there are several, that its images were drawn, and what of the store cannot be read.
    Raises AblateError for a format, style, spread or width that is not known, where the store does not exist, and for
    a plan without runs.
    """
    _known("format", to, ENDINGS)
    _known("spread", spread, paper_table.SPREADS)
    if style is not None:
        _known("style", style, paper_table.STYLES)
    if not WIDTHS[0] <= width <= WIDTHS[1]:  # NaN neither
        raise AblateError(f"the width must lie between {WIDTHS[0]:g} and {WIDTHS[1]:g} inches, not at {width:g}")
    tell = tell or (lambda _: None)
    unreadable: list[str] = []
    known = load.invocations(tracking_uri, unreadable)
    stem, invocation = _newest(plan, known, unreadable, tell)
    with rendering.uncollected():
        results = findings.of_invocation(load.connect(tracking_uri), invocation, known, unreadable)
        for sentence in dict.fromkeys(unreadable):
            tell(f"Left out: {sentence}.")
        if results.runs.empty:
            raise AblateError(f"no run of plan {plan!r} has ended yet, so there is nothing to export")
        content = _drawn(results, to, width, stem) if to in FIGURES else _table(results, to, stem, style, spread)
    if invocation.stand_in:
        tell(tables.NOTE)
    return Exported(stem + ENDINGS[to], content)


def _known(what: str, name: str, names: Collection[str]) -> None:
    if name not in names:
        raise AblateError(f"no {what} {name!r}{did_you_mean(name, names)}")


def _newest(
    plan: str, known: Sequence[Invocation], unreadable: Sequence[str], tell: Callable[[str], None]
) -> tuple[str, Invocation]:
    """The newest invocation of a plan, and what its files are called; known: all invocations, newest first."""
    of_plan = [(stem, one) for stem, one in rendering.newest(known).items() if one.name == plan]
    if not of_plan:
        left_out = rendering.left_out(unreadable)
        raise AblateError(f"no runs of plan {plan!r} yet; `ablate run {plan}` trains them{left_out}")
    stem, invocation = max(of_plan, key=lambda named: (named[1].started, named[1].run_id))
    if len(of_plan) > 1:
        overrides = [f"with {', '.join(invocation.overrides)}"] if invocation.overrides else []
        settings = ", ".join([f"{invocation.data_name}, profile {invocation.profile}", *overrides])
        asked = f"{invocation.started:%Y-%m-%d %H:%M} UTC"
        tell(f"Plan '{plan}' was asked in {len(of_plan)} ways; this is the newest: {settings}, of {asked}.")
    return stem, invocation


def _table(results: Findings, to: str, stem: str, style: str | None, spread: str) -> bytes:
    plan = results.plan
    style = paper_table.style_of(plan, style)
    if to == "csv":
        if style == paper_table.STATEMENTS:
            frame = tables.verdict_table(results.verdicts, plan)
        else:
            frame = paper_table.tidy(plan, results.arms, results.verdicts)
        return rendering.csv(tables.labelled(frame, plan))
    table = paper_table.printed(plan, results.arms, results.verdicts, style, spread)
    text = paper_table.as_latex(table, stem) if to == "latex" else paper_table.as_markdown(table)
    return text.encode()


def _drawn(results: Findings, to: str, width: float, stem: str) -> bytes:
    """The figure as a file whose text needs no font of the reader's machine, and which has no date in it."""
    import matplotlib as mpl

    from cifar_ablations.reports.figures import theme

    figure, file = _figure(results, width), io.BytesIO()
    nothing = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}[to]
    with theme.styled(), mpl.rc_context({"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": stem}):
        theme.without_mathematics(figure).savefig(file, format=to, metadata=nothing)
    return file.getvalue()


def _figure(results: Findings, width: float) -> Figure:
    """The effects that a plan claims, else the accuracy of its arms. A ledger's claims are about too much for one."""
    from cifar_ablations.reports.figures import forest, seeds

    plan, narrow = results.plan, width < ROOMY
    effects = forest.data(results.verdicts, plan, results.runs)
    if plan.layout != "ledger" and not effects.empty:
        figure, size = forest.draw(effects, narrow=narrow), min(1.0, width / forest.NARROW)
    else:
        figure, size = seeds.draw(seeds.data(results.runs, plan)), 1.0
        figure.axes[0].locator_params(axis="x", nbins=4 if narrow else 8)
    return _resized(figure, width, SMALL * size if narrow else 1.0)


def _resized(figure: Figure, width: float, size: float) -> Figure:
    """The figure at a width in inches, with its text and its height times a factor."""
    from matplotlib.text import Text

    figure.set_size_inches(width, figure.get_figheight() * size)
    if size < 1:
        for text in figure.findobj(Text):
            assert isinstance(text, Text)
            text.set_fontsize(size * float(text.get_fontsize()))
        for axes in figure.axes:
            axes.tick_params(labelsize=size * 9)
    return figure
