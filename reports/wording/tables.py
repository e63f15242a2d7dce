"""The tables of a report, as frames of plain numbers: what the page formats and the CSV files keep."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from cifar_ablations.ablations import schema
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
    named = runs.drop(columns="artifacts", errors="ignore").rename(columns=lambda name: name.replace("/", "_"))
    first = [name for name in ("arm", "seed", "outcome", "converged") if name in named]
    return named[first].join(levels, on="arm").join(named.drop(columns=first))


def short_verdicts(verdicts: pd.DataFrame) -> pd.DataFrame:
    """The verdicts as a paper would print them: five columns of text."""
    rows = [
        {
            "Claim": row["statement"],
            "Runs": phrases.runs_compared(row).removesuffix("s").removesuffix(" run"),
            "Difference": row["obstacle"] or (phrases.diverged(row) if row["counted"] else phrases.effect(row)),
            "p (page)": phrases.p_value(row["p_page"]).removeprefix("= "),
            "Verdict": row["verdict"] + (" · rehearsal" if row["rehearsal"] else ""),
        }
        for row in verdicts.to_dict("records")
    ]
    return pd.DataFrame(rows, columns=["Claim", "Runs", "Difference", "p (page)", "Verdict"])


NOTE = f"{phrases.sentence_case(schema.REHEARSAL)}: nothing here is a result on photographs."
"""Stands in the tables of text that a rehearsal writes."""


def as_markdown(table: pd.DataFrame, note: str = "") -> str:
    """A table of text as Markdown, below a note where there is one; nothing in a cell can end it."""
    lines: list[list[Any]] = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    escaped = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    above = f"**{note}**\n\n" if note else ""
    return above + "".join(f"| {' | '.join(line)} |\n" for line in escaped)


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
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "−": "$-$",
    "±": r"$\pm$",
    "→": r"$\to$",
    "×": r"$\times$",
    "₁₀": r"$_{10}$",
    "–": "--",
    "·": r"$\cdot$",
}


def as_latex(table: pd.DataFrame, note: str = "") -> str:
    """A table of text as LaTeX for the package booktabs, a note in a comment and in a row of its own."""

    def escaped(text: object) -> str:
        replaced = re.sub("₁₀|.", lambda match: LATEX.get(match[0], match[0]), str(text), flags=re.DOTALL)
        return replaced.replace("\n", " ")

    cells: list[list[Any]] = [list(table.columns), *table.to_numpy().tolist()]
    lines = [" & ".join(escaped(cell) for cell in line) + r" \\" for line in cells]
    head, *body = lines
    parts = [r"\begin{tabular}{lr" + "l" * (len(table.columns) - 2) + "}", r"\toprule", head, r"\midrule", *body]
    if note:
        across = rf"\multicolumn{{{len(table.columns)}}}{{l}}{{{escaped(note)}}} \\"
        parts = [f"% {note}", *parts, r"\midrule", across]
    return "\n".join([*parts, r"\bottomrule", r"\end{tabular}"]) + "\n"
