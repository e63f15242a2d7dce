"""Arrays that a training keeps beside its metrics: which images it answered rightly, its mistakes, its depth."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.arrays import read
from cifar_ablations.ablations.purposes import varied
from cifar_ablations.ablations.record import ClaimRecord, PlanRecord
from cifar_ablations.reports.reading import stored

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

Arrays = Mapping[str, Mapping[str, np.ndarray]]
"""By run id, arrays by their names in `schema.DETAILS_FILE`."""

CORRECT, CONFUSION = "correct", "confusion"
VARIANCES = (schema.INITIAL + "variance", schema.FINAL + "variance")
DEEP = {"initialisation", "activation"}
"""Techniques that are about what happens to a signal on its way through the layers."""


def arrays_of(client: MlflowClient, runs: pd.DataFrame, plan: PlanRecord, lost: list[str] | None = None) -> Arrays:
    """What a plan's page shows of its runs' details, each file opened once; what is not there is left out.

    The id of a run whose file is missing or damaged is appended to `lost`.

    Which images were answered rightly, of every run where the plan claims anything or varies one purpose of its draws
    alone; the confusion matrix, of the first arm; variances by depth, of the arms of `deep_claims`.
    """
    deep = {arm for claim in deep_claims(plan) for arm in (claim.treatment, claim.control)}
    judged = plan.claims or any(varied(arm.levels) for arm in plan.arms)
    found = {}
    arms_of = runs.groupby("run_id", sort=False)["arm"].agg(set)
    for run_id, place in runs[["run_id", "artifacts"]].drop_duplicates("run_id").itertuples(index=False):
        arms = arms_of[run_id]
        names = [CORRECT] if judged else []
        names += [CONFUSION] if plan.arms[0].name in arms else []
        names += VARIANCES if arms & deep else []
        try:
            found[run_id] = _read(client, run_id, place, names) if names else {}
        except UNREADABLE:
            found[run_id] = {}
            if lost is not None:
                lost.append(run_id)
    return found


UNREADABLE = (OSError, ValueError)
"""What is raised for a file of arrays that is missing or damaged."""


def _read(client: MlflowClient, run_id: str, place: str, names: Collection[str]) -> dict[str, np.ndarray]:
    kept = stored.content(client, run_id, place, schema.DETAILS_FILE)
    if kept is None:
        raise FileNotFoundError(schema.DETAILS_FILE)
    return read(io.BytesIO(kept), names)


def answers(arrays: Arrays) -> dict[str, np.ndarray]:
    """Which test images a run answered rightly, bool [test images] by run id."""
    return {run_id: kept[CORRECT] for run_id, kept in arrays.items() if CORRECT in kept}


def deep_claims(plan: PlanRecord) -> list[ClaimRecord]:
    """The plan's comparisons of two arms that are about the depth of the network, each once."""
    compared: dict[tuple[str, str, str], ClaimRecord] = {}
    for claim in plan.claims:
        if claim.technique in DEEP and not claim.over:
            compared.setdefault((claim.technique, claim.treatment, claim.control), claim)
    return list(compared.values())
