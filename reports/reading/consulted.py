"""How often the test images of a data set were consulted: which trainings of a store were measured on them.

Trials of a search are not: they are chosen by validation images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.identity import identity_of
from cifar_ablations.reports.reading import load, stored
from cifar_ablations.reports.reading.load import Invocation

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient
    from sqlalchemy import Engine


class Consulted(NamedTuple):
    """What was measured on a data set's test images, as far as the store has it."""

    trainings: int
    claims: int
    """Of different statements, which these images decide."""
    plans: int
    """That make them."""


def of_data(client: MlflowClient, digest: str, known: Sequence[Invocation]) -> Consulted:
    """For the data set of that digest; known: all invocations of the store."""
    claims = {
        (invocation.name, identity_of(claim, invocation.plan).statement)
        for invocation in known
        if invocation.data_digest == digest
        for claim in invocation.plan.claims
        if claim.metric.startswith("test/") or claim.metric == schema.GENERALISATION_GAP
    }
    engine = stored.database(client)
    trainings = _counted(engine, digest) if engine is not None else _found(client, digest)
    return Consulted(trainings, len({what for _, what in claims}), len({name for name, _ in claims}))


def _counted(engine: Engine, digest: str) -> int:
    from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLatestMetric, SqlRun, SqlTag
    from sqlalchemy import and_, func, or_, select

    measured = (
        select(func.count())
        .select_from(SqlLatestMetric)
        .join(SqlRun, SqlRun.run_uuid == SqlLatestMetric.run_uuid)
        .join(SqlExperiment, SqlExperiment.experiment_id == SqlRun.experiment_id)
        .where(SqlLatestMetric.key == schema.TEST_ACCURACY)
        .where(SqlRun.lifecycle_stage == "active", SqlExperiment.lifecycle_stage == "active")
    )
    ours = or_(SqlTag.key == schema.MARK, and_(SqlTag.key == schema.COORDINATOR, SqlTag.value.like("%/%/%/%")))
    tagged = {schema.KIND: schema.KIND_TRAINING, schema.DATA_DIGEST: digest}
    for condition in (ours, *(and_(SqlTag.key == key, SqlTag.value == value) for key, value in tagged.items())):
        measured = measured.where(SqlRun.run_uuid.in_(select(SqlTag.run_uuid).where(condition)))
    with engine.connect() as connection:
        return int(connection.execute(measured).scalar_one())


def _found(client: MlflowClient, digest: str) -> int:
    if not digest.isalnum():  # it would break out of its quotes
        return 0
    condition = f"tags.{schema.KIND} = '{schema.KIND_TRAINING}' and tags.{schema.DATA_DIGEST} = '{digest}'"
    runs = load.search(client, f"{condition} and metrics.`{schema.TEST_ACCURACY}` >= 0")
    return len(runs)
