"""Runs as a store keeps them, with tags, last metrics, histories and files: many at once, from any kind of store.

A database is asked a few questions for all runs together, in MLflow's own tables: its interface makes objects of all
that a run has, a millisecond each, and cannot be asked for less. A tracking server is asked through that interface.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cifar_ablations.ablations import addresses, checksums, paging, schema

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient
    from sqlalchemy import Engine

MOST_IDS = 5_000
"""Run ids named in one question; databases have a limit."""
ROWS_AT_ONCE = 50_000
HISTORY_COLUMNS = ["run", "metric", "epoch", "timestamp", "value"]


@dataclass(frozen=True)
class Stored:
    """A run. Times are in milliseconds since 1970; `artifacts` says where its files lie."""

    run_id: str
    experiment_id: str
    status: str
    started: int
    ended: int | None
    artifacts: str
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    """The last value of each."""


def find(client: MlflowClient, tags: Mapping[str, str]) -> list[Stored]:
    """Our runs that have all of these tags, in any experiment, neither deleted nor set aside; the newest first."""
    return [run for run in every(client, tags) if schema.counts(run.tags)]


def every(client: MlflowClient, tags: Mapping[str, str], *, deleted: bool = False) -> list[Stored]:
    """As `find`, with those that were set aside; deleted: those instead of which they or their experiment was."""
    engine = database(client)
    found = _in_database(engine, tags, deleted) if engine is not None else _on_server(client, tags, deleted)
    return [run for run in found if schema.is_ours(run.tags)]


def run_ids(engine: Engine) -> set[str]:
    """The ids of all runs in a database, whoever made them, deleted ones too."""
    from mlflow.store.tracking.dbmodels.models import SqlRun
    from sqlalchemy import select

    with engine.connect() as connection:
        return set(connection.execute(select(SqlRun.run_uuid)).scalars())


def database(client: MlflowClient) -> Engine | None:
    """What a store keeps its runs in, if that is a database and all in it may be seen."""
    store = client._tracking_client.store
    engine: Engine | None = getattr(store, "engine", None)
    if engine is None:
        return None
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    return engine if type(store) is SqlAlchemyStore else None  # others divide their tables among workspaces


def _in_database(engine: Engine, tags: Mapping[str, str], deleted: bool) -> list[Stored]:
    from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLatestMetric, SqlRun, SqlTag
    from sqlalchemy import and_, not_, select

    active = and_(SqlRun.lifecycle_stage == "active", SqlExperiment.lifecycle_stage == "active")
    wanted = select(SqlRun.run_uuid).join(SqlExperiment, SqlRun.experiment_id == SqlExperiment.experiment_id)
    wanted = wanted.where(not_(active) if deleted else active)
    for key, value in tags.items():
        tagged = select(SqlTag.run_uuid).where(SqlTag.key == key, SqlTag.value == value)
        wanted = wanted.where(SqlRun.run_uuid.in_(tagged))
    about = select(
        SqlRun.run_uuid, SqlRun.experiment_id, SqlRun.status, SqlRun.start_time, SqlRun.end_time, SqlRun.artifact_uri
    )
    about = about.where(SqlRun.run_uuid.in_(wanted)).order_by(SqlRun.start_time.desc(), SqlRun.run_uuid)
    said = select(SqlTag.run_uuid, SqlTag.key, SqlTag.value).where(SqlTag.run_uuid.in_(wanted))
    measured = select(SqlLatestMetric.run_uuid, SqlLatestMetric.key, SqlLatestMetric.value, SqlLatestMetric.is_nan)
    measured = measured.where(SqlLatestMetric.run_uuid.in_(wanted))
    # While trainings go on, a run that says that it has ended must have its metrics: tags are read before them.
    with engine.connect() as connection:
        found = {
            run_id: Stored(run_id, str(experiment), status, started, ended, place)
            for run_id, experiment, status, started, ended, place in connection.execute(about).all()
        }
        for run_id, key, text in connection.execute(said).all():
            if run_id in found:
                found[run_id].tags[key] = text
        for run_id, key, number, unknown in connection.execute(measured).all():
            if run_id in found:
                found[run_id].metrics[key] = math.nan if unknown else number
    return list(found.values())


def _on_server(client: MlflowClient, tags: Mapping[str, str], deleted: bool) -> list[Stored]:
    from mlflow.entities import ViewType

    # What is asked narrows the search, and must not break out of its quotes; the answer is compared anyway.
    asked = " and ".join(f"tags.{key} = '{value}'" for key, value in tags.items() if value.isalnum())
    seen = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
    ask = client.search_experiments
    experiments = [e.experiment_id for e in paging.entries(lambda token: ask(view_type=seen, page_token=token))]
    if not experiments:
        return []
    # The runs of an experiment that was deleted are deleted with it.
    chosen = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
    runs: Iterator[Run] = paging.entries(
        lambda token: client.search_runs(experiments, asked, chosen, max_results=2_000, page_token=token)
    )
    return [
        Stored(
            run.info.run_id,
            run.info.experiment_id,
            run.info.status,
            run.info.start_time,
            run.info.end_time,
            run.info.artifact_uri,
            run.data.tags,
            run.data.metrics,
        )
        for run in runs
        if tags.items() <= run.data.tags.items()
    ]


def histories(client: MlflowClient, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Every value that was logged of some metrics of some runs, columns HISTORY_COLUMNS.

    `run` and `metric` are places in what is asked for. Of an epoch that was logged twice, as of a resumed run, the
    later value stands. Sorted by run, metric and epoch.
    """
    engine = database(client)
    parts = _logged(engine, run_ids, metrics) if engine is not None else _told(client, run_ids, metrics)
    kinds = (np.int64, np.int64, np.int64, np.int64, float)
    columns = ([np.asarray(column, kind) for column, kind in zip(part, kinds, strict=True)] for part in parts)
    run, metric, epoch, timestamp, value = (
        np.concatenate(pieces) for pieces in zip(*([np.empty(0, kind) for kind in kinds], *columns), strict=True)
    )
    order = np.lexsort((value, timestamp, epoch, metric, run))
    places = [run[order], metric[order], epoch[order]]
    last = np.ones(len(order), dtype=bool)
    last[:-1] = np.any([place[1:] != place[:-1] for place in places], axis=0)
    kept = order[last]
    return pd.DataFrame(
        {"run": run[kept], "metric": metric[kept], "epoch": epoch[kept], "timestamp": timestamp[kept]}
        | {"value": value[kept]}
    )


Logged = tuple[Sequence[int], Sequence[int], Sequence[int], Sequence[int], Sequence[float | None]]
"""Values by columns: run, metric, epoch, timestamp, and the number (None for NaN)."""


def _logged(engine: Engine, run_ids: Sequence[str], metrics: Sequence[str]) -> Iterator[Logged]:
    from mlflow.store.tracking.dbmodels.models import SqlMetric
    from sqlalchemy import case, select

    runs, names = ({name: i for i, name in enumerate(asked)} for asked in (run_ids, metrics))
    number = case((SqlMetric.is_nan, None), else_=SqlMetric.value)
    question = select(SqlMetric.run_uuid, SqlMetric.key, SqlMetric.step, SqlMetric.timestamp, number)
    question = question.where(SqlMetric.key.in_(metrics))
    parts = [list(run_ids[start : start + MOST_IDS]) for start in range(0, len(run_ids), MOST_IDS)]
    questions = [question.where(SqlMetric.run_uuid.in_(part)) for part in parts]
    # SQLite goes through all values of a metric for each question, whatever runs it names: there is one for many runs.
    if len(parts) > 1 and engine.dialect.name == "sqlite":
        questions = [question]
    with engine.connect().execution_options(yield_per=ROWS_AT_ONCE) as connection:
        for asked in questions:
            for rows in connection.execute(asked).partitions():
                mine = rows if asked is not question else [row for row in rows if row[0] in runs]
                if mine:
                    ids, keys, steps, timestamps, values = zip(*mine, strict=True)
                    yield [runs[run_id] for run_id in ids], [names[key] for key in keys], steps, timestamps, values


def _told(client: MlflowClient, run_ids: Sequence[str], metrics: Sequence[str]) -> Iterator[Logged]:
    for run, run_id in enumerate(run_ids):
        for metric, name in enumerate(metrics):
            points = client.get_metric_history(run_id, name)
            n = len(points)
            yield (
                [run] * n,
                [metric] * n,
                [point.step for point in points],
                [point.timestamp for point in points],
                [point.value for point in points],
            )


def checked(client: MlflowClient, run: Stored, name: str) -> bytes | None:
    """As `content`. Raises RecordError for a file that is not as it was logged."""
    found = content(client, run.run_id, run.artifacts, name)
    where = f"{name} of run {run.run_id}"
    return None if found is None else checksums.check(found, run.tags, name, where)


def content(client: MlflowClient, run_id: str, place: str, name: str) -> bytes | None:
    """What is in a file of a run; None where there is no such file. place: where the run's files lie, "" if unknown."""
    if here := addresses.folders(place, client.tracking_uri):
        for folder in here:
            with suppress(OSError):
                return (folder / name).read_bytes()
        return None
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as copy:
        try:
            return Path(client.download_artifacts(run_id, name, copy)).read_bytes()
        except (MlflowException, OSError):
            return None
