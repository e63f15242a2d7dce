"""The tables of a report, as frames of plain numbers: what the page formats and the CSV files keep."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ablations import schema
from reports import statistics, wording

VERDICT_COLUMNS = [
    "family",
    "technique",
    "statement",
    "verdict",
    "negligible",
    "exploratory",
    "metric",
    "treatment",
    "control",
    "n",
    "planned",
    "treatment_mean",
    "treatment_std",
    "control_mean",
    "control_std",
    "treatment_diverged",
    "control_diverged",
    "difference",
    "low",
    "high",
    "sd",
    "correlation",
    "p",
    "p_holm",
    "sign_flip_p",
    "tost_p",
    "tost_p_holm",
    "margin",
    "detectable",
    "seeds_needed",
    "sentence",
    "source",
]


def verdict_table(verdicts: pd.DataFrame, plan: Mapping[str, Any]) -> pd.DataFrame:
    """The verdicts with the budget they hold for. Accuracies, gaps and differences are fractions, not per cent."""
    table = verdicts.reindex(columns=VERDICT_COLUMNS)
    return table.assign(
        budget=plan.get("budget", ""),
        model=plan.get("model", ""),
        data=plan.get("data", {}).get("name", ""),
        plan_digest=plan.get("digest", ""),
    )


def arm_table(plan: Mapping[str, Any], runs: pd.DataFrame) -> pd.DataFrame:
    """One row per arm of the plan, in its order, from the frame of `load.runs_of`; NaN where there is no run yet.

    Accuracies and gaps are fractions; `seconds` is the mean training time of a run; `low` and `high` bound the t
    interval of the mean accuracy, `diverged_low` and `diverged_high` the Clopper-Pearson interval of the share that
    diverged. `converged_accuracy` is the secondary figure, of converged runs only.
    """
    confidence = 1 - plan["rule"]["alpha"]
    rows = []
    for arm in plan["arms"]:
        of_arm = runs[runs["arm"] == arm["name"]]
        accuracy = statistics.mean_interval(of_arm[schema.TEST_ACCURACY].dropna().to_numpy(), confidence)
        gap = statistics.mean_interval(of_arm[schema.GENERALISATION_GAP].dropna().to_numpy(), confidence)
        diverged = int((~of_arm["converged"]).sum())
        low, high = statistics.proportion_interval(diverged, len(of_arm), confidence)
        rows.append(
            {
                "arm": arm["name"],
                "n": len(of_arm),
                "planned": len(plan["seeds"]),
                "accuracy": accuracy.mean,
                "accuracy_std": accuracy.std,
                "low": accuracy.low,
                "high": accuracy.high,
                "gap": gap.mean,
                "gap_std": gap.std,
                "diverged": diverged,
                "diverged_low": low,
                "diverged_high": high,
                "converged_accuracy": of_arm.loc[of_arm["converged"], schema.TEST_ACCURACY].mean(),
                "seconds": of_arm[schema.SECONDS].mean(),
                "digest": arm["digest"],
            }
        )
    return pd.DataFrame(rows)


def run_table(plan: Mapping[str, Any], runs: pd.DataFrame) -> pd.DataFrame:
    """One tidy row per run: arm, seed, the level of every technique, outcome, every metric, and where it is stored.

    Accuracies and gaps are fractions; a diverged run has them at chance and zero, as the verdicts count it.
    """
    levels = pd.DataFrame({arm["name"]: arm["levels"] for arm in plan["arms"]}).T.add_prefix("level_")
    named = runs.rename(columns=lambda name: name.replace("/", "_"))
    first = [name for name in ("arm", "seed", "outcome", "converged") if name in named]
    return named[first].join(levels, on="arm").join(named.drop(columns=first))


def short_verdicts(verdicts: pd.DataFrame) -> pd.DataFrame:
    """The verdicts as a paper would print them: five columns of text."""
    rows = [
        {
            "Claim": row["statement"],
            "Seeds": str(row["n"]),
            "Difference": wording.effect(row),
            "p (Holm)": wording.p_value(row["p_holm"]).removeprefix("= "),
            "Verdict": row["verdict"] + (", negligible" if row["negligible"] else ""),
        }
        for row in verdicts.to_dict("records")
    ]
    return pd.DataFrame(rows, columns=["Claim", "Seeds", "Difference", "p (Holm)", "Verdict"])


def as_markdown(table: pd.DataFrame) -> str:
    """A table of text as Markdown; nothing in a cell can end it."""
    lines: list[list[Any]] = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    escaped = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "−": "$-$",
    "±": r"$\pm$", "→": r"$\to$", "×": r"$\times$", "₁₀": r"$_{10}$", "–": "--",
}  # fmt: skip


def as_latex(table: pd.DataFrame) -> str:
    """A table of text as LaTeX for the package booktabs."""

    def escaped(text: object) -> str:
        found = re.sub("₁₀|.", lambda match: LATEX.get(match[0], match[0]), str(text), flags=re.DOTALL)
        return found.replace("\n", " ")

    cells: list[list[Any]] = [list(table.columns), *table.to_numpy().tolist()]
    lines = [" & ".join(escaped(cell) for cell in line) + r" \\" for line in cells]
    head, *body = lines
    parts = [r"\begin{tabular}{lr" + "l" * (len(table.columns) - 2) + "}", r"\toprule", head, r"\midrule", *body]
    return "\n".join([*parts, r"\bottomrule", r"\end{tabular}"]) + "\n"
