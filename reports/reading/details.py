"""Arrays that a training keeps beside its metrics: which images it answered rightly, its mistakes, its depth."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Collection, Mapping
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cifar_ablations.ablations import schema
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


UNREADABLE = (OSError, EOFError, KeyError, ValueError, struct.error, zipfile.BadZipFile, zlib.error)
"""What is raised for a file of arrays that is missing or damaged."""


def _read(client: MlflowClient, run_id: str, place: str, names: Collection[str]) -> dict[str, np.ndarray]:
    kept = stored.content(client, run_id, place, schema.DETAILS_FILE)
    if kept is None:
        raise FileNotFoundError(schema.DETAILS_FILE)
    with zipfile.ZipFile(io.BytesIO(kept)) as archive:
        files = set(archive.namelist())
        return {name: _array(archive.read(f"{name}.npy")) for name in names if f"{name}.npy" in files}


def _array(content: bytes) -> np.ndarray:
    """An array as numpy's files have it, without pickle; one that cannot be written to.

    As `numpy.load` reads it, in a third of the time: of a plan's runs nearly all headers are alike.
    """
    start = 10 + int.from_bytes(content[8:10], "little")
    version, (shape, by_column, dtype) = content[6:8], _header(content[:start])
    if version != b"\x01\x00" or by_column or dtype.hasobject:
        read: np.ndarray = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        return read
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


@cache
def _header(text: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns come first, and type of an array, from the beginning of its file in format 1.0."""
    opened = io.BytesIO(text)
    np.lib.format.read_magic(opened)
    return np.lib.format.read_array_header_1_0(opened)


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
