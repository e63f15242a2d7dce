"""An output folder that was moved or copied: MLflow keeps absolute addresses, and they are brought home."""

from __future__ import annotations

from pathlib import Path

from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlExperimentTag, SqlRun, SqlTag
from sqlalchemy import Engine, or_, select, update

from cifar_ablations.ablations import addresses, schema


def bring_home(engine: Engine, artifacts: Path) -> None:
    """Have our experiments in a store keep their files in a folder of its output folder, and nowhere else.

    What lies in a copy is found there, by MLflow's UI too, and nothing is written to where it was copied from. A run
    whose files stayed where they were keeps its address. Hold the output folder's lock.
    """
    by_tag = select(SqlExperimentTag.experiment_id).where(SqlExperimentTag.key.in_([schema.MARK, schema.DATA_DIGEST]))
    by_run = select(SqlRun.experiment_id).join(SqlTag, SqlTag.run_uuid == SqlRun.run_uuid)
    by_run = by_run.where(SqlTag.key.in_([schema.MARK, schema.COORDINATOR]))
    away = select(SqlExperiment.experiment_id, SqlExperiment.artifact_location).where(
        or_(SqlExperiment.experiment_id.in_(by_tag), SqlExperiment.experiment_id.in_(by_run)),
        ~SqlExperiment.artifact_location.startswith(f"{artifacts.as_uri()}/", autoescape=True),
    )
    with engine.begin() as connection:
        for experiment, before in connection.execute(away).all():
            home = addresses.moved(before, artifacts)
            if home is None:
                continue
            theirs = select(SqlRun.run_uuid, SqlRun.artifact_uri).where(
                SqlRun.experiment_id == experiment, SqlRun.artifact_uri.startswith(f"{before}/", autoescape=True)
            )
            for run, place in connection.execute(theirs).all():
                now = home.as_uri() + place.removeprefix(before)
                if addresses.folder(now).is_dir() or not addresses.folder(place).is_dir():
                    connection.execute(update(SqlRun).where(SqlRun.run_uuid == run).values(artifact_uri=now))
            connection.execute(
                update(SqlExperiment)
                .where(SqlExperiment.experiment_id == experiment)
                .values(artifact_location=home.as_uri())
            )
