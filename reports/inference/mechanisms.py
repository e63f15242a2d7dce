"""What happened inside, technique by technique: where a claim's arms differ beside what it claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import ClaimRecord, PlanRecord
from cifar_ablations.reports.inference import contrast

COLUMNS = ["technique", "comparison", "metric", "named", "n", "control", "treatment", "difference", "low", "high"]
MEASURED = (
    schema.WEIGHT_NORM,
    schema.GRADIENT_NORM,
    schema.UPDATE_RATIO,
    schema.FIRST_EPOCH_LOSS,
    schema.TRAIN_LOSS,
    schema.TRAIN_ACCURACY,
    schema.GENERALISATION_GAP,
    schema.ENTROPY,
    schema.CALIBRATION_ERROR,
    schema.INITIAL + schema.VARIANCE_RATIO,
    schema.INITIAL + schema.GRADIENT_RATIO,
    schema.INITIAL + schema.DEAD_UNITS,
    schema.FINAL + schema.VARIANCE_RATIO,
    schema.FINAL + schema.GRADIENT_RATIO,
    schema.FINAL + schema.DEAD_UNITS,
)
"""Metrics that are compared for every technique, beside those that it is said to act through."""


@dataclass(frozen=True)
class Comparison:
    """Two sides that claims of a technique compare."""

    technique: str
    treatment: str
    control: str
    label: str
    """In words which it is: where the technique was looked at, or else which arms are compared."""
    mechanism: tuple[str, ...]
    """All metrics that any of the claims names."""
    weights: Mapping[str, float]
    """Of arms by name: above zero on the side with the technique, below on the side without it."""


def comparisons(plan: PlanRecord) -> list[Comparison]:
    """Each comparison of a technique's claims once."""
    by_arms: dict[tuple[str, str, str], list[ClaimRecord]] = {}
    for claim in plan.claims:
        by_arms.setdefault((claim.technique, claim.treatment, claim.control), []).append(claim)
    places = {
        key: "" if plan.layout == "ledger" or claims[0].beyond else contrast.where(claims[0])
        for key, claims in by_arms.items()
    }
    # Two comparisons in one place are told apart by their arms.
    taken = Counter((technique, place) for (technique, _, _), place in places.items())
    compared = []
    for key, claims in by_arms.items():
        (technique, treatment, control), place = key, places[key]
        compared.append(
            Comparison(
                technique,
                treatment,
                control,
                label=place if place and taken[technique, place] == 1 else f"{treatment} / {control}",
                mechanism=tuple(dict.fromkeys(name for claim in claims for name in claim.mechanism)),
                weights=contrast.weights(replace(claims[0], beyond=None)),
            )
        )
    return compared


def by_arm(runs: pd.DataFrame, names: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Per metric that the runs know, its values with a row per seed and a column per arm.

    Of converged runs: one that diverged has hardly any of these numbers, and the others would be of other seeds.
    """
    known = runs[runs["converged"].astype(bool)]
    return {name: known.pivot(index="seed", columns="arm", values=name) for name in names if name in known}


def pairs(comparison: Comparison, values: pd.DataFrame) -> pd.DataFrame:
    """A metric on both sides of a comparison, columns `treatment` and `control` by seed, of the seeds that have both.

    values: of `by_arm`.
    """
    if not all(arm in values for arm in comparison.weights):
        return pd.DataFrame(columns=["treatment", "control"])
    sides = {}
    for side, sign in (("treatment", 1), ("control", -1)):
        named = {arm: abs(weight) for arm, weight in comparison.weights.items() if weight * sign > 0}
        sides[side] = values[list(named)].to_numpy() @ list(named.values())  # NaN where an arm lacks the seed
    return pd.DataFrame(sides, index=values.index).dropna()


def table(plan: PlanRecord, runs: pd.DataFrame) -> pd.DataFrame:
    """One row per technique, comparison and metric with a number in both arms, columns COLUMNS.

    `named`: whether the technique is said to act through the metric. Of runs that converged; `n`, the fewest of an arm.
    `low` and `high` bound the difference, each by itself, as the plan's rule compares arms, in the metric's own unit.
    Nothing was claimed of these, and nothing is concluded.
    """
    compared, converged = comparisons(plan), runs[runs["converged"].astype(bool)]
    if not compared:
        return pd.DataFrame(columns=COLUMNS)
    place = {arm.name: i for i, arm in enumerate(plan.arms)}
    sides = np.zeros((2, len(compared), len(plan.arms)))
    for i, one in enumerate(compared):
        for name, weight in one.weights.items():
            sides[0 if weight > 0 else 1, i, place[name]] += abs(weight)
    weights = np.concatenate([sides[0] - sides[1], sides[0], sides[1]])
    names = dict.fromkeys((*(name for one in compared for name in one.mechanism), *MEASURED))
    found = {name: contrast.estimates(plan, converged, name, weights) for name in names if name in converged}
    rows = []
    for i, one in enumerate(compared):
        for name in dict.fromkeys((*one.mechanism, *MEASURED)):
            if name not in found or found[name]["n"].iloc[i] == 0:
                continue
            rows.append(
                {
                    "technique": one.technique,
                    "comparison": one.label,
                    "metric": name,
                    "named": name in one.mechanism,
                    "n": int(found[name]["n"].iloc[i]),
                    "control": found[name]["estimate"].iloc[2 * len(compared) + i],
                    "treatment": found[name]["estimate"].iloc[len(compared) + i],
                    "difference": found[name]["estimate"].iloc[i],
                    "low": found[name]["low"].iloc[i],
                    "high": found[name]["high"].iloc[i],
                }
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def means(verdict: Mapping[Any, Any], runs: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """By mechanism metric of a verdict (a row of `verdict.judge`): its mean in the control and in the treatment.

    In the metric's own unit, over the seeds that have it in both arms; metrics that no seed has in both are left out.
    """
    values = {}
    for name in verdict["mechanism"]:
        if name not in runs:
            continue
        control, treatment = (
            runs[runs["arm"] == verdict[side]].set_index("seed")[name] for side in ("control", "treatment")
        )
        shared = (treatment - control).dropna().index
        if len(shared):
            values[name] = float(control[shared].mean()), float(treatment[shared].mean())
    return values
