"""The MLflow store as tidy data: which plans were invoked, what their runs ended as, and how they got there."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.metrics import EPOCHS_TO_TARGET, REACHED_TARGET

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

# Read by mlflow when it is first imported, which is below, and late: it takes seconds.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

PARENT = "mlflow.parentRunId"
RUN_COLUMNS = [
    "arm", "seed", "digest", "outcome", "run_id", "experiment_id", "parent_run_id", "artifacts", "ended", "converged",
]  # fmt: skip
METRIC_COLUMNS = [*schema.ENDINGS, *schema.STATES, *schema.CURVES]
"""Of a curve the last epoch's value."""
CURVE_COLUMNS = ["arm", "seed", "epoch", "metric", "value"]


@dataclass(frozen=True)
class Invocation:
    """One invocation of a plan: the parent run's tags and the plan it fixed before its first run."""

    run_id: str
    experiment_id: str
    started: datetime
    running: bool
    tags: dict[str, str]
    plan: dict[str, Any]

    @property
    def name(self) -> str:
        """The plan's name."""
        return self.plan["name"]

    @property
    def digest(self) -> str:
        """The hash of all that the plan fixes."""
        return self.plan.get("digest") or self.tags.get(schema.PLAN_DIGEST, "")

    @property
    def profile(self) -> str:
        """The profile's name."""
        return self.tags.get(schema.PROFILE) or self.plan.get("profile", {}).get("name", "")

    @property
    def data_name(self) -> str:
        """The data set's name."""
        return self.plan.get("data", {}).get("name") or self.tags.get(schema.DATA, "")

    @property
    def data_digest(self) -> str:
        """The hash of the images and labels."""
        return self.tags.get(schema.DATA_DIGEST) or self.plan.get("data", {}).get("digest", "")

    @property
    def stand_in(self) -> bool:
        """Whether the images are the procedurally drawn ones."""
        return bool(self.plan.get("data", {}).get("stand_in"))

    @property
    def overrides(self) -> tuple[str, ...]:
        """What the command changed of the recipe, such as 'dropout.p=0.3'."""
        return tuple(self.plan.get("overrides") or ())

    @property
    def chance(self) -> float:
        """The accuracy of guessing."""
        return chance(self.plan)

    @property
    def provenance(self) -> dict[str, str]:
        """What produced the invocation: commit, versions, device, …"""
        return {
            key.removeprefix(schema.PROVENANCE): value
            for key, value in sorted(self.tags.items())
            if key.startswith(schema.PROVENANCE)
        }


def connect(tracking_uri: str) -> MlflowClient:
    """A client of an existing store. Raises AblateError where a SQLite file is named that does not exist."""
    path, _, _ = tracking_uri.removeprefix("sqlite:///").partition("?")
    if tracking_uri.startswith("sqlite:///") and not Path(unquote(path)).is_file():
        raise AblateError(f"no runs yet: there is no store at {unquote(path)}. Start with `make ablate`.")
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri)


def invocations(tracking_uri: str) -> list[Invocation]:
    """Every invocation of every plan, newest first. One that stopped before it logged its plan is left out.

    Raises AblateError where a SQLite store does not exist yet.
    """
    client = connect(tracking_uri)
    parents = search(client, f"tags.{schema.KIND} = '{schema.KIND_PLAN}'")
    found = [invocation for run in parents if (invocation := _invocation(client, run)) is not None]
    return sorted(found, key=lambda invocation: (invocation.started, invocation.run_id), reverse=True)


def _invocation(client: MlflowClient, run: Run) -> Invocation | None:
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            path = client.download_artifacts(run.info.run_id, schema.PLAN_FILE, folder)
        except (MlflowException, OSError):
            return None
        plan = json.loads(Path(path).read_text(encoding="utf-8"))
    return Invocation(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        started=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
        running=run.info.status == "RUNNING",
        tags=dict(run.data.tags),
        plan=with_kind_of_data(plan, run.data.tags),
    )


def with_kind_of_data(asked: dict[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
    """A plan or search as logged, whose `data` says that images were drawn also where its run's tags alone do."""
    if tags.get(schema.STAND_IN) != "true":
        return asked
    return asked | {"data": asked.get("data", {}) | {"stand_in": True}}


def gallery_of(client: MlflowClient, invocation: Invocation) -> dict[str, Any]:
    """What some training images looked like, as `schema.GALLERY_FILE` has it; empty where nothing was kept."""
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            if all(found.path != schema.GALLERY_FILE for found in client.list_artifacts(invocation.run_id)):
                return {}
            path = client.download_artifacts(invocation.run_id, schema.GALLERY_FILE, folder)
            return json.loads(Path(path).read_text(encoding="utf-8"))
        except (MlflowException, OSError, ValueError):  # not there, or not whole
            return {}


def matching_runs(client: MlflowClient, plan: Mapping[str, Any]) -> pd.DataFrame:
    """Every training of the plan's arms, seeds and data, whatever became of it and whichever invocation made it.

    plan: as logged, with `data` in it; where its `seeds` are None, all seeds there are. Columns RUN_COLUMNS
    and METRIC_COLUMNS, in the order of the plan; `outcome` is "" while a run is training. `seed` is the plan's: an arm
    with a `seed_offset` was trained with that much more.
    """
    arms, data_digest = plan["arms"], plan["data"]["digest"]
    # Two arms may be the same recipe under two names: both get the run.
    named: dict[str, list[tuple[str, int]]] = {}
    for arm in arms:
        named.setdefault(arm["digest"], []).append((arm["name"], arm.get("seed_offset", 0)))
    seeds = None if plan["seeds"] is None else {int(seed) for seed in plan["seeds"]}
    rows = []
    for run in search(client, f"tags.{schema.KIND} = '{schema.KIND_TRAINING}'", data_digest):
        tags = run.data.tags
        digest, trained_seed = tags.get(schema.DIGEST, ""), integer(tags.get(schema.SEED))
        if trained_seed is None or tags.get(schema.DATA_DIGEST) != data_digest:
            continue
        ending = {metric: run.data.metrics.get(metric) for metric in METRIC_COLUMNS}
        about = {
            "digest": digest,
            "outcome": tags.get(schema.OUTCOME, ""),
            "run_id": run.info.run_id,
            "experiment_id": run.info.experiment_id,
            "parent_run_id": tags.get(PARENT, ""),
            "artifacts": run.info.artifact_uri,
            "ended": run.info.end_time,
            "converged": tags.get(schema.OUTCOME) in schema.CONVERGED,
        }
        rows += [
            {"arm": name, "seed": trained_seed - offset, **about, **ending}
            for name, offset in named.get(digest, ())
            if (trained_seed >= offset if seeds is None else trained_seed - offset in seeds)
        ]
    frame = pd.DataFrame(rows, columns=[*RUN_COLUMNS, *METRIC_COLUMNS])
    frame = frame.astype(dict.fromkeys([*METRIC_COLUMNS, "ended"], float) | {"seed": int, "converged": bool})
    order = {arm["name"]: i for i, arm in enumerate(arms)}
    frame = frame.sort_values(["arm", "seed", "ended", "run_id"], key=lambda c: c.map(order) if c.name == "arm" else c)
    return frame.reset_index(drop=True)


def runs_of(client: MlflowClient, plan: Mapping[str, Any]) -> pd.DataFrame:
    """One row per (arm, seed) with a result: the earliest, where a run was trained twice.

    Columns as `matching_runs`. Accuracies and the gap are fractions. A diverged run counts as guessing: accuracy
    1 / classes and gap 0 (intention to treat); `converged` tells it from the others.
    """
    return results_among(matching_runs(client, plan), chance(plan))


def chance(plan: Mapping[str, Any]) -> float:
    """The accuracy of guessing on a plan's data."""
    return 1 / (len(plan.get("data", {}).get("classes") or ()) or 10)


def results_among(matching: pd.DataFrame, chance: float) -> pd.DataFrame:
    """`runs_of` from the frame of `matching_runs`, which is sorted by the time of ending within (arm, seed)."""
    done = matching[matching["outcome"].isin(schema.RESULTS)]
    done = done.drop_duplicates(["arm", "seed"], keep="first").reset_index(drop=True)
    diverged = ~done["converged"]
    done.loc[diverged, [schema.TEST_ACCURACY, schema.TRAIN_ACCURACY]] = chance
    done.loc[diverged, schema.GENERALISATION_GAP] = 0.0
    return done


def with_epochs_to_target(client: MlflowClient, runs: pd.DataFrame, plan: Mapping[str, Any]) -> pd.DataFrame:
    """The runs with the first epoch whose validation accuracy reached the plan's target, and whether one did.

    One that never did counts as one epoch more than the longest run of its arm had; a run that held nothing out has
    NaN. The columns are left out where no claim of the plan asks for it.
    """
    asked = [name for claim in plan["claims"] for name in (claim["metric"], *(claim.get("mechanism") or ()))]
    if EPOCHS_TO_TARGET not in asked or runs.empty:
        return runs
    curves = curves_of(client, runs, [schema.VALIDATION_ACCURACY])
    there = curves[curves["value"] >= plan["rule"]["target"]].groupby(["arm", "seed"])["epoch"].min()
    known = curves.groupby(["arm", "seed"])["epoch"].max()
    missed = known.groupby("arm").transform("max") + 1
    epochs = there.reindex(known.index)
    found = pd.DataFrame({EPOCHS_TO_TARGET: epochs.fillna(missed), REACHED_TARGET: epochs.notna().astype(float)})
    return runs.join(found, on=["arm", "seed"])


def fetched(client: MlflowClient, run_id: str, place: str, folder: str) -> Path | None:
    """A run's file of details: where it lies, if that is on this machine, else downloaded into the folder."""
    from mlflow.exceptions import MlflowException

    if place.startswith("file://"):
        path = Path(unquote(urlparse(place).path)) / schema.DETAILS_FILE
        return path if path.is_file() else None
    try:
        return Path(client.download_artifacts(run_id, schema.DETAILS_FILE, folder))
    except (MlflowException, OSError):
        return None


def curves_of(
    client: MlflowClient, runs: pd.DataFrame, metrics: Sequence[str] = (schema.VALIDATION_ACCURACY, schema.TRAIN_LOSS)
) -> pd.DataFrame:
    """Per-epoch metrics of the runs of `runs_of`, long: columns CURVE_COLUMNS, one row per (arm, seed, epoch, metric).

    Where an epoch was logged twice (a resumed run), the later value stands.
    """
    rows: list[tuple[str, str, int, int, float]] = []
    for metric in metrics:
        rows += _histories(client, list(dict.fromkeys(runs["run_id"])), metric)
    curves = pd.DataFrame(rows, columns=["run_id", "metric", "epoch", "timestamp", "value"])
    curves = curves.sort_values(["run_id", "metric", "epoch", "timestamp"], kind="stable")
    curves = curves.drop_duplicates(["run_id", "metric", "epoch"], keep="last")
    merged = runs[["arm", "seed", "run_id"]].merge(curves, on="run_id", how="inner")
    return merged[CURVE_COLUMNS].reset_index(drop=True)


def _histories(client: MlflowClient, run_ids: list[str], metric: str) -> Iterator[tuple[str, str, int, int, float]]:
    # One query for many runs takes a thirtieth of the time of one query per run, but only the database store has it;
    # a server is asked run by run.
    bulk = getattr(client._tracking_client.store, "get_metric_history_bulk", None)
    if bulk is not None:
        for chunk in _chunks(run_ids, 200):
            for found in bulk(chunk, metric, 10_000_000):
                yield found.run_id, metric, found.step, found.timestamp, found.value
        return
    for run_id in run_ids:
        for point in client.get_metric_history(run_id, metric):
            yield run_id, metric, point.step, point.timestamp, point.value


def search(client: MlflowClient, condition: str, data_digest: str = "") -> list[Run]:
    if data_digest.isalnum():  # narrows the search; the caller compares anyway
        condition += f" and tags.{schema.DATA_DIGEST} = '{data_digest}'"
    experiments = [e.experiment_id for e in _pages(lambda token: client.search_experiments(page_token=token))]
    if not experiments:
        return []
    return list(_pages(lambda token: client.search_runs(experiments, condition, max_results=2_000, page_token=token)))


def _pages(ask: Any) -> Iterator[Any]:
    token = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return


def _chunks(items: list[str], size: int) -> Iterable[list[str]]:
    return (items[i : i + size] for i in range(0, len(items), size))


def integer(text: str | None) -> int | None:
    return int(text) if text is not None and text.lstrip("-").isdigit() else None
