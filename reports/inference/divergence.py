"""Divergence as an outcome of its own: how many runs of two arms it took, compared by an exact test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.inference import contrast, decision, statistics
from cifar_ablations.reports.inference.decision import ALPHA, DIVERGENT

SIDES = ("treatment", "control")
COLUMNS = [
    "technique",
    "treatment",
    "control",
    *(f"{side}_{what}" for side in SIDES for what in ("diverged", "n", "low", "high")),
    "p",
    "p_page",
    "verdict",
]
MORE, LESS, OPEN = "diverges more", "diverges less", "inconclusive"


def table(plan: PlanRecord, runs: pd.DataFrame, verdicts: pd.DataFrame) -> pd.DataFrame:
    """One row per two sides that a plan's claims compare, of one arm each or of many.

    From the frames of `load.runs_of` and `verdict.judge`. Runs of each side that diverged, of `n` with a result, with
    Clopper-Pearson limits of the share; p of Fisher's exact test, and `p_page`, which shares an error of its own,
    `DIVERGENT`, with all rows (Tarone and Holm), on a scale on which ALPHA is the line. Where a claim was decided by
    the same test, its counts stand, and its p if that is less. `verdict` is of the treatment: MORE, LESS or OPEN. Empty
    where the plan claims nothing.
    """
    decided = {
        (row["treatment"], row["control"]): row
        for row in verdicts.to_dict("records")
        if row["counted"] and row["verdict"] != "inconclusive"
    }
    confidence, rows = decision.confidence(plan.rule), []
    compared = {(c.technique, c.treatment, c.control): c for c in plan.claims if not c.beyond}
    for (technique, treatment, control), claim in compared.items():
        called = decided.get((treatment, control))
        sides = [(side.diverged, side.ended) for side in contrast.tally(claim, runs)]
        if called is not None:  # by the counts of the look that called it
            sides = [(int(called[f"{name}_diverged"]), int(called[f"{name}_ended"])) for name in SIDES]
        row: dict[str, Any] = {"technique": technique, "treatment": treatment, "control": control}
        for name, (diverged, ended) in zip(SIDES, sides, strict=True):
            low, high = statistics.proportion_interval(diverged, ended, confidence)
            row |= {f"{name}_diverged": diverged, f"{name}_n": ended, f"{name}_low": low, f"{name}_high": high}
        counts = [count for side in sides for count in side]
        row |= {"p": statistics.fisher_p(*counts), "least": statistics.fisher_least_p(*counts)}
        rows.append(row | {"called_p": 1.0 if called is None else called["p_page"]})
    if not rows:
        return pd.DataFrame(columns=COLUMNS)
    frame = pd.DataFrame(rows)
    looks = max(1, len(plan.rule.looks))
    adjusted = np.array(statistics.tarone_holm(frame["p"].to_list(), frame["least"].to_list()))
    frame["p_page"] = np.minimum(frame["called_p"], np.minimum(1, adjusted * looks * ALPHA / DIVERGENT))
    more = frame["treatment_diverged"] / frame["treatment_n"] > frame["control_diverged"] / frame["control_n"]
    frame["verdict"] = np.where(frame["p_page"] <= ALPHA, np.where(more, MORE, LESS), OPEN)
    return frame[COLUMNS]
