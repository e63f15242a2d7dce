"""What happened inside, technique by technique: where a claim's arms differ beside what it claims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.reports.inference import contrast, statistics
from cifar_ablations.reports.wording import phrases

COLUMNS = ["technique", "comparison", "metric", "named", "n", "lacking", "having", "difference", "low", "high"]
MEASURED = (
    schema.WEIGHT_NORM, schema.GRADIENT_NORM, schema.UPDATE_RATIO, schema.FIRST_EPOCH_LOSS, schema.TRAIN_LOSS,
    schema.TRAIN_ACCURACY, schema.GENERALISATION_GAP, schema.ENTROPY, schema.CALIBRATION_ERROR,
    schema.INITIAL + schema.VARIANCE_RATIO, schema.INITIAL + schema.GRADIENT_RATIO, schema.INITIAL + schema.DEAD_UNITS,
    schema.FINAL + schema.VARIANCE_RATIO, schema.FINAL + schema.GRADIENT_RATIO, schema.FINAL + schema.DEAD_UNITS,
)  # fmt: skip
"""What is shown of every training, whatever a technique is said to act through."""


HUGE = 1e100
"""What is larger is an infinity, of which a database keeps its largest number."""


def comparisons(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each comparison of a technique's claims once, with all `mechanism` metrics that any of them names.

    `label` says in words which it is: where the technique was looked at, or else which arms are compared.
    """
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for claim in plan["claims"]:
        key = (claim["technique"], claim["treatment"], claim["control"])
        by_arms = plan.get("layout") == "ledger" or claim.get("beyond")
        place = "" if by_arms else phrases.where(claim)
        label = place or f"{claim['treatment']} / {claim['control']}"
        one = found.setdefault(key, {**claim, "beyond": None, "label": label, "mechanism": ()})
        one["mechanism"] = tuple(dict.fromkeys((*one["mechanism"], *(claim.get("mechanism") or ()))))
    # Two comparisons in one place are told apart by their arms.
    for technique in {one["technique"] for one in found.values()}:
        of_technique = [one for one in found.values() if one["technique"] == technique]
        labels = [one["label"] for one in of_technique]
        for one in of_technique:
            if labels.count(one["label"]) > 1:
                one["label"] = f"{one['treatment']} / {one['control']}"
    return list(found.values())


def by_arm(runs: pd.DataFrame, names: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Per metric that the runs know, its values with a row per seed and a column per arm.

    Of converged runs: one that diverged has hardly any of these numbers, and the others would be of other seeds.
    """
    known = runs[runs["converged"].astype(bool)]
    tables = {name: known.pivot(index="seed", columns="arm", values=name) for name in names if name in known}
    return {name: table.where(table.abs() < HUGE) for name, table in tables.items()}


def pairs(comparison: Mapping[str, Any], values: pd.DataFrame) -> pd.DataFrame:
    """A metric on both sides of a comparison, columns `having` and `lacking` by seed, of the seeds that have both.

    values: of `by_arm`.
    """
    weights = contrast.weights(comparison)
    if not all(arm in values for arm in weights):
        return pd.DataFrame(columns=["having", "lacking"])
    sides = {}
    for side, sign in (("having", 1), ("lacking", -1)):
        named = {arm: abs(weight) for arm, weight in weights.items() if weight * sign > 0}
        sides[side] = values[list(named)].to_numpy() @ list(named.values())  # NaN where an arm lacks the seed
    return pd.DataFrame(sides, index=values.index).dropna()


def table(plan: Mapping[str, Any], runs: pd.DataFrame) -> pd.DataFrame:
    """One row per technique, comparison and metric with a number in both arms, columns COLUMNS.

    `named`: whether the technique is said to act through the metric. Of seeds in which both arms converged. `low` and
    `high` bound the paired t interval of the mean difference, in the metric's own unit. Nothing was claimed of these,
    and nothing is concluded.
    """
    confidence, rows, compared = 1 - plan["rule"]["alpha"], [], comparisons(plan)
    values = by_arm(runs, dict.fromkeys((*(name for one in compared for name in one["mechanism"]), *MEASURED)))
    for one in compared:
        for name in dict.fromkeys((*one["mechanism"], *MEASURED)):
            both = pairs(one, values[name]) if name in values else pd.DataFrame()
            if both.empty:
                continue
            found = statistics.mean_interval((both["having"] - both["lacking"]).to_numpy(), confidence)
            rows.append(
                {
                    "technique": one["technique"], "comparison": one["label"], "metric": name,
                    "named": name in one["mechanism"], "n": found.n, "lacking": both["lacking"].mean(),
                    "having": both["having"].mean(), "difference": found.mean, "low": found.low, "high": found.high,
                }
            )  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)
