"""What a plan came to, where MLflow shows its runs: a description, and effects beside the trainings of arms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from mlflow.entities import RunTag

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import EffectRecord, PlanRecord
from cifar_ablations.study.store import views
from cifar_ablations.study.store.tracking import Store, metrics_at

NOTE = "mlflow.note.content"
NAME = "mlflow.runName"
DIGITS = 5
"""Of an effect, as a fraction: a thousandth of a point. MLflow shows all that there are."""


def write_answer(
    store: Store, parent: str, plan: PlanRecord, page: Path, note: str, effects: Sequence[EffectRecord]
) -> None:
    """Put a page and its answer to the plan's run `parent`, and what single techniques do to runs of their arms.

    note: Markdown that stands on the run. A run of an arm has no training of its own: grouped by arm, its effect stands
    beside the means of the arm's trainings. What is there already is not written again.
    """
    run = store.client.get_run(parent)
    experiment = store.client.get_experiment(run.info.experiment_id)
    store.client.log_artifact(parent, str(page))
    if run.data.tags.get(NOTE) != note:
        store.client.set_tag(parent, NOTE, note)
    view = views.of_plan(plan)
    if experiment.tags.get(views.TAG) != view:
        store.put_view(experiment.experiment_id, view)
    _write_effects(store, experiment.experiment_id, parent, plan, effects)


def _write_effects(
    store: Store, experiment: str, parent: str, plan: PlanRecord, effects: Sequence[EffectRecord]
) -> None:
    """The runs of arms: one each for all invocations of a profile, as the view shows them together."""
    profile = plan.profile.name
    found = [
        run
        for run in store.client.search_runs([experiment], f"tags.{schema.KIND} = '{schema.KIND_ARM}'")
        if schema.is_ours(run.data.tags) and run.data.tags.get(schema.PROFILE) == profile
    ]
    known = {run.data.tags.get(schema.ARM, ""): run for run in found}
    for one in effects:
        values = {schema.EFFECT: one.effect, schema.EFFECT_LOW: one.low, schema.EFFECT_HIGH: one.high}
        metrics = {name: round(value, DIGITS) for name, value in values.items() if math.isfinite(value)}
        tags = {schema.VERDICT: one.outcome, NAME: f"{one.about}: {one.outcome}", schema.PARENT: parent}
        run = known.pop(one.arm, None)
        if run is None:
            always = {schema.KIND: schema.KIND_ARM, schema.ARM: one.arm, schema.PROFILE: profile}
            run_id = store.create_run(experiment, tags[NAME], {**always, **tags})
            store.client.log_batch(run_id, metrics=metrics_at(metrics, 0))
            store.client.set_terminated(run_id, "FINISHED")
        elif run.data.metrics != metrics or not tags.items() <= run.data.tags.items():
            said = [RunTag(name, value) for name, value in tags.items()]
            store.client.log_batch(run.info.run_id, metrics=metrics_at(metrics, 0), tags=said)
    for run in known.values():  # of claims that are made no more
        store.client.delete_run(run.info.run_id)
