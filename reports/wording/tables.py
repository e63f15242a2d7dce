"""The tables of a report, as frames of plain numbers: what the page formats and the CSV files keep."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.metrics import EPOCHS_TO_TARGET, REACHED_TARGET
from cifar_ablations.ablations.record import ClaimRecord, PlanRecord
from cifar_ablations.reports.inference import contrast, health, statistics
from cifar_ablations.reports.reading import load
from cifar_ablations.reports.wording import phrases

VERDICT_COLUMNS = [
    "family",
    "technique",
    "statement",
    "verdict",
    "negligible",
    "exploratory",
    "late",
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
    "images_low",
    "images_high",
    "sd",
    "correlation",
    "improved",
    "improved_low",
    "improved_high",
    "look",
    "level",
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


def verdict_table(verdicts: pd.DataFrame, plan: PlanRecord) -> pd.DataFrame:
    """The verdicts with the budget they hold for. Accuracies, gaps and differences are fractions, not per cent."""
    table = verdicts.reindex(columns=VERDICT_COLUMNS)
    return table.assign(budget=plan.budget, model=plan.model, data=plan.data.name, plan_digest=plan.digest)


def labelled(table: pd.DataFrame, plan: PlanRecord) -> pd.DataFrame:
    """A table as a file keeps it: every row says whether it is a rehearsal on drawn images."""
    return table.assign(data_kind=load.data_kind(plan))


def arm_table(plan: PlanRecord, runs: pd.DataFrame) -> pd.DataFrame:
    """One row per arm of the plan, in its order, from the frame of `load.runs_of`; NaN where there is no run yet.

    Accuracies and gaps are fractions; `seconds` is the mean training time of a run; `low` and `high` bound the t
    interval of the mean accuracy, `std_low` and `std_high` the χ² interval of its standard deviation, and
    `diverged_low` and `diverged_high` the Clopper-Pearson interval of the share that diverged.
    `converged_accuracy` is the secondary figure, of converged runs only. `train_accuracy` and its `train_std` are of
    converged runs too, and `fit` says whether they have learned, as `inference.health` has it. `rank` is the mean
    rank in accuracy among the arms, 1 the best, over the seeds that have all of them. Where the runs know of epochs to
    a target: the `reached` share, and the median of `epochs_to_target` over runs, infinite where half missed it.
    """
    confidence = 1 - plan.rule.alpha
    rows, ranks = [], mean_ranks(plan, runs)
    for arm, trained in zip(plan.arms, health.of_plan(plan, runs), strict=True):
        of_arm = runs[runs["arm"] == arm.name]
        accuracy = statistics.mean_interval(of_arm[schema.TEST_ACCURACY].dropna().to_numpy(), confidence)
        gap = statistics.mean_interval(of_arm[schema.GENERALISATION_GAP].dropna().to_numpy(), confidence)
        spread = statistics.sd_interval(accuracy.std, accuracy.n, confidence)
        diverged = int((~of_arm["converged"]).sum())
        low, high = statistics.proportion_interval(diverged, len(of_arm), confidence)
        rows.append(
            {
                "arm": arm.name,
                "n": len(of_arm),
                "planned": len(plan.seeds),
                "accuracy": accuracy.mean,
                "accuracy_std": accuracy.std,
                "low": accuracy.low,
                "high": accuracy.high,
                "std_low": spread[0],
                "std_high": spread[1],
                "train_accuracy": trained.accuracy,
                "train_std": trained.std,
                "fit": trained.fit,
                "rank": ranks.get(arm.name, math.nan),
                "gap": gap.mean,
                "gap_std": gap.std,
                "diverged": diverged,
                "diverged_low": low,
                "diverged_high": high,
                "converged_accuracy": of_arm.loc[of_arm["converged"], schema.TEST_ACCURACY].mean(),
                "seconds": of_arm[schema.SECONDS].mean(),
                **_target(of_arm),
                "digest": arm.digest,
            }
        )
    return pd.DataFrame(rows)


def _target(of_arm: pd.DataFrame) -> dict[str, float]:
    """How many runs reached the target, and after how many epochs half of them had; a miss takes for ever."""
    if EPOCHS_TO_TARGET not in of_arm or of_arm[EPOCHS_TO_TARGET].isna().all():
        return {}
    known = of_arm.dropna(subset=[EPOCHS_TO_TARGET])
    reached = known[REACHED_TARGET].astype(bool)
    epochs = known[EPOCHS_TO_TARGET].where(reached, math.inf)
    return {"reached": float(reached.mean()), "epochs_to_target": float(epochs.median())}


def stacked(parts: Iterable[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """Frames one below the other, with these columns; what is empty would spoil the others' types."""
    found = [part for part in parts if len(part)]
    return pd.concat(found, ignore_index=True)[list(columns)] if found else pd.DataFrame(columns=list(columns))


def mean_ranks(plan: PlanRecord, runs: pd.DataFrame) -> pd.Series:
    """The mean rank of each arm in test accuracy, 1 the best, over the seeds that have every arm."""
    names = [arm.name for arm in plan.arms]
    table = runs.pivot(index="seed", columns="arm", values=schema.TEST_ACCURACY).reindex(columns=names).dropna()
    return table.rank(axis=1, ascending=False).mean()


def alike(plan: PlanRecord, runs: pd.DataFrame) -> dict[str, float]:
    """Friedman's test that a plan's arms rank alike: `arms`, `seeds`, `chi2`, `f` and `p`."""
    names = [arm.name for arm in plan.arms]
    seeds = runs.pivot(index="seed", columns="arm", values=schema.TEST_ACCURACY).reindex(columns=names).dropna()
    found = statistics.friedman(mean_ranks(plan, runs).to_numpy(), len(seeds))
    return {"arms": len(names), "seeds": len(seeds), "chi2": found.chi2, "f": found.f, "p": found.p}


def surroundings(plan: PlanRecord, runs: pd.DataFrame) -> pd.DataFrame:
    """What each technique is worth within the full recipe less what it is worth alone: a sign of interactions.

    One row per technique of which the plan claims something about test accuracy between two arms in two places:
    `within` and `alone` (the first and the second place), their `difference` with `low` and `high`, over seeds that
    have all four arms. Not a verdict: nothing was claimed of it.
    """
    confidence, rows = 1 - plan.rule.alpha, []
    by_technique: dict[str, list[ClaimRecord]] = {}
    for claim in plan.claims:
        if claim.metric == schema.TEST_ACCURACY and not claim.over and not claim.beyond:
            by_technique.setdefault(claim.technique, []).append(claim)
    for technique, claims in by_technique.items():
        if len(claims) != 2:
            continue
        sides = [contrast.sides(claim, runs) for claim in claims]
        both = pd.concat({i: s.treatment - s.control for i, s in enumerate(sides)}, axis=1).dropna()
        found = statistics.mean_interval((both[0] - both[1]).to_numpy(), confidence)
        means = [float(both[i].mean()) if len(both) else math.nan for i in (0, 1)]
        rows.append(
            {
                "technique": technique, "places": tuple(contrast.where(claim) for claim in claims), "n": found.n,
                "within": means[0], "alone": means[1], "difference": found.mean, "low": found.low, "high": found.high,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def run_table(plan: PlanRecord, runs: pd.DataFrame) -> pd.DataFrame:
    """One tidy row per run: arm, seed, the level of every technique, outcome, every metric, and where it is stored.

    Accuracies and gaps are fractions; a diverged run has them at chance and zero, as the verdicts count it.
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
            "Seeds": str(row["n"]),
            "Difference": phrases.effect(row),
            "p (Holm)": phrases.p_value(row["p_holm"]).removeprefix("= "),
            "Verdict": row["verdict"]
            + (", negligible" if row["negligible"] else "")
            + (" · rehearsal" if row["rehearsal"] else ""),
        }
        for row in verdicts.to_dict("records")
    ]
    return pd.DataFrame(rows, columns=["Claim", "Seeds", "Difference", "p (Holm)", "Verdict"])


NOTE = f"{phrases.sentence_case(schema.REHEARSAL)}: nothing here is a result on photographs."
"""Stands in the tables of text that a rehearsal writes."""


def as_markdown(table: pd.DataFrame, note: str = "") -> str:
    """A table of text as Markdown, below a note where there is one; nothing in a cell can end it."""
    lines: list[list[Any]] = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    escaped = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    above = f"**{note}**\n\n" if note else ""
    return above + "".join(f"| {' | '.join(line)} |\n" for line in escaped)


LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "−": "$-$",
    "±": r"$\pm$", "→": r"$\to$", "×": r"$\times$", "₁₀": r"$_{10}$", "–": "--",
    "·": r"$\cdot$",
}  # fmt: skip


def as_latex(table: pd.DataFrame, note: str = "") -> str:
    """A table of text as LaTeX for the package booktabs, a note in a comment and in a row of its own."""

    def escaped(text: object) -> str:
        found = re.sub("₁₀|.", lambda match: LATEX.get(match[0], match[0]), str(text), flags=re.DOTALL)
        return found.replace("\n", " ")

    cells: list[list[Any]] = [list(table.columns), *table.to_numpy().tolist()]
    lines = [" & ".join(escaped(cell) for cell in line) + r" \\" for line in cells]
    head, *body = lines
    parts = [r"\begin{tabular}{lr" + "l" * (len(table.columns) - 2) + "}", r"\toprule", head, r"\midrule", *body]
    if note:
        across = rf"\multicolumn{{{len(table.columns)}}}{{l}}{{{escaped(note)}}} \\"
        parts = [f"% {note}", *parts, r"\midrule", across]
    return "\n".join([*parts, r"\bottomrule", r"\end{tabular}"]) + "\n"
