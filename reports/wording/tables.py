"""The tables of a report, as frames of plain numbers: what the page formats and the CSV files keep."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pandas as pd
from pandas.api.types import is_numeric_dtype

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.metrics import EPOCHS_TO_TARGET
from cifar_ablations.ablations.naming import EXACT
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.reading import load
from cifar_ablations.reports.wording import phrases

VERDICT_COLUMNS = [
    "family",
    "technique",
    "statement",
    "verdict",
    "reason",
    "exploratory",
    "late",
    "seen",
    "runs",
    "metric",
    "treatment",
    "control",
    "n",
    "planned",
    "treatment_n",
    "treatment_ended",
    "treatment_diverged",
    "treatment_mean",
    "treatment_std",
    "control_n",
    "control_ended",
    "control_diverged",
    "control_mean",
    "control_std",
    "difference",
    "confidence",
    "low",
    "high",
    "images_low",
    "images_high",
    "shrunken",
    "shrunken_low",
    "shrunken_high",
    "exaggeration",
    "correlation",
    "improved",
    "improved_low",
    "improved_high",
    "look",
    "counted",
    "p",
    "p_page",
    "tost_p",
    "tost_p_page",
    "margin",
    "detectable",
    "seeds_needed",
    "sentence",
    "source",
]


def verdict_table(verdicts: pd.DataFrame, plan: PlanRecord) -> pd.DataFrame:
    """The verdicts with the budget they hold for. Accuracies, gaps and differences are fractions, not per cent."""
    table = verdicts.reindex(columns=VERDICT_COLUMNS)
    return table.assign(budget=plan.budget, model=plan.model, data=plan.data.name, plan_digest=plan.digest)


def labelled(table: pd.DataFrame, plan: PlanRecord) -> pd.DataFrame:
    """A table as a file keeps it: every row says whether it is a rehearsal on drawn images."""
    return table.assign(data_kind=load.data_kind(plan))


def stacked(parts: Iterable[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """Frames one below the other, with these columns; what is empty would spoil the others' types."""
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True)[list(columns)] if filled else pd.DataFrame(columns=list(columns))


def run_table(plan: PlanRecord, runs: pd.DataFrame) -> pd.DataFrame:
    """One tidy row per run: arm, seed, the level of every technique, outcome, every metric, and where it is stored.

    Accuracies and gaps are fractions; a run that diverged has none.
    """
    levels = pd.DataFrame({arm.name: arm.levels for arm in plan.arms}).T.add_prefix("level_")
    told = runs.drop(columns=["artifacts", "dated"], errors="ignore")
    named = told.rename(columns=lambda name: name.replace("/", "_"))
    first = [name for name in ("arm", "seed", "outcome", "converged") if name in named]
    return named[first].join(levels, on="arm").join(named.drop(columns=first))


WHOLE = ("threads", schema.EPOCHS, EPOCHS_TO_TARGET)
"""Columns of runs that are whole numbers, or empty."""


LAST = 9.2e12
"""The last time that pandas holds in nanoseconds, in milliseconds since 1970: the year 2261."""


def typed(runs: pd.DataFrame) -> pd.DataFrame:
    """A table of runs or trials with the types that a file can keep: times, whole numbers also where one is missing,
    categories.

    Text that few values are of is a category: all but what names a run.
    """
    changed: dict[str, pd.Series] = {}
    if "ended" in runs:
        possible = runs["ended"].abs() < LAST  # some versions of pandas raise for others, whatever is asked
        changed["ended"] = pd.to_datetime(runs["ended"].where(possible), unit="ms", utc=True, errors="coerce")
    for name in WHOLE:
        if (column := name.replace("/", "_")) in runs:
            numbers = pd.to_numeric(runs[column], errors="coerce")
            if (numbers.isna() | ((numbers % 1 == 0) & (numbers.abs() <= EXACT))).all():  # a person may have edited one
                changed[column] = numbers.astype("Int64")
    for key, values in runs.items():
        if key not in changed and not str(key).endswith("run_id") and not is_numeric_dtype(values):
            changed[str(key)] = values.astype("category")
    return runs.assign(**changed)


def short_verdicts(verdicts: pd.DataFrame) -> pd.DataFrame:
    """The verdicts as a paper would print them: five columns of text."""
    rows = [
        {
            "Claim": row["statement"],
            "Runs": phrases.runs_compared(row).removesuffix("s").removesuffix(" run"),
            "Difference": row["obstacle"] or (phrases.diverged(row) if row["counted"] else phrases.effect(row)),
            "p (page)": phrases.p_value(row["p_page"]).removeprefix("= "),
            "Verdict": phrases.verdict_label(row),
        }
        for row in verdicts.to_dict("records")
    ]
    return pd.DataFrame(rows, columns=["Claim", "Runs", "Difference", "p (page)", "Verdict"])


NOTE = f"{phrases.sentence_case(schema.REHEARSAL)}: nothing here is a result on photographs."
"""Stands in the tables of text that a rehearsal writes."""


FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a formula begins with for one spreadsheet or another."""
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal obeys and does not show."""


def for_spreadsheets(table: pd.DataFrame) -> pd.DataFrame:
    """A table in which no text is a formula: an apostrophe goes before what a spreadsheet could take for one.

    A carriage return becomes a line feed: it would end a row, and what follows could be a formula. What a terminal
    would obey becomes a space.
    """

    def guarded(text: object) -> object:
        if not isinstance(text, str) or not is_unsafe(text):
            return text
        return "'" * text.startswith(FORMULA) + OBEYED.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n"))

    def is_unsafe(text: object) -> bool:
        return isinstance(text, str) and (text.startswith(FORMULA) or "\r" in text or OBEYED.search(text) is not None)

    changed = {}
    for name, column in table.items():
        if not is_numeric_dtype(column):
            unsafe = column.map(is_unsafe).astype(bool)
            if unsafe.any():
                changed[name] = column.astype(object).where(~unsafe, column.map(guarded))
    return table.assign(**changed).rename(columns=guarded)  # type: ignore[arg-type]


def one_line(text: object) -> str:
    """Text on one line, with a space for all that is not printed."""
    return "".join(sign if sign.isprintable() else " " for sign in str(text))


MARKDOWN = re.compile(r"[\\`*_|$~]|<(?=[A-Za-z/!?])|&(?=[#A-Za-z])|\](?=[(\[:])")
"""Signs that begin or end something in Markdown as GitHub reads it, where they do."""


def markdown(text: object) -> str:
    """Text as Markdown that shows it as it is, on one line, and ends no cell of a table."""
    return MARKDOWN.sub(r"\\\g<0>", one_line(text))


def markdown_table(headings: Iterable[str], rows: Iterable[Iterable[str]], aligned: Iterable[str] = ()) -> str:
    """A table of cells that are Markdown already; aligned: `l`, `r` or `c` for each column, all left by default."""
    first = list(headings)
    rules = [{"l": "---", "r": "---:", "c": ":---:"}[to] for to in aligned] or ["---"] * len(first)
    return "".join(f"| {' | '.join(line)} |\n" for line in [first, rules, *rows])


def as_markdown(table: pd.DataFrame, note: str = "") -> str:
    """A table of text as Markdown, below a note where there is one; nothing in a cell can end it."""
    above = f"**{note}**\n\n" if note else ""
    rows = ([markdown(cell) for cell in row] for row in table.to_numpy().tolist())
    return above + markdown_table(map(markdown, table.columns), rows)


LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "−": "$-$",
    "±": r"$\pm$",
    "→": r"$\to$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "₁₀": r"$_{10}$",
    "–": "--",
    "—": "---",
    "·": r"$\cdot$",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\ldots{}",
    "α": r"$\alpha$",
    "ρ": r"$\rho$",
    "χ": r"$\chi$",
    "²": r"$^{2}$",
    "Δ": r"$\Delta$",
    "†": r"$^{\dagger}$",
    "‡": r"$^{\ddagger}$",
    "✓": r"$\checkmark$",
    "°": r"$^{\circ}$",
    "≈": r"$\approx$",
    "∞": r"$\infty$",
    "√": r"$\surd$",
    "÷": r"$\div$",
    "λ": r"$\lambda$",
}
"""Signs that mean something to TeX, and those that pdflatex knows by another name only."""

PLAIN = frozenset("ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿ")
"""Letters beyond ASCII that pdflatex has in every font."""


def latex(text: object) -> str:
    """Text as LaTeX that prints it as it is, on one line; a letter that pdflatex has not is printed as U+521D.

    What begins with a bracket or an asterisk is wrapped: after the end of a row they would belong to that.
    """

    def written(match: re.Match[str]) -> str:
        sign = match[0]
        return LATEX.get(sign) or (sign if sign.isascii() or sign in PLAIN else f"U+{ord(sign):04X}")

    return re.sub(r"^( *)([\[*])", r"\1{\2}", re.sub("₁₀|.", written, one_line(text)))


def as_latex(table: pd.DataFrame, note: str = "") -> str:
    """A table of text as LaTeX for the package booktabs, a note in a comment and in a row of its own."""
    styled = table.style.format(latex).format_index(latex, axis="columns").hide(axis="index")
    printed = styled.to_latex(hrules=True, column_format="lr" + "l" * (len(table.columns) - 2))
    if not note:
        return printed
    across = rf"\multicolumn{{{len(table.columns)}}}{{l}}{{{latex(note)}}} \\"
    return f"% {note}\n" + printed.replace("\\bottomrule", f"\\midrule\n{across}\n\\bottomrule")
