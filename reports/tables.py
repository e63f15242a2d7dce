"""The tables of a report, as frames of plain numbers: what the page formats and the CSV files keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ablations import schema
from reports import statistics

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
