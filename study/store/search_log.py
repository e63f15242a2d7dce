"""What a search writes to MLflow, and reads back: its parent run, its trials, what it found."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Param
from mlflow.exceptions import MlflowException

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import (
    ProvenanceRecord,
    SearchOutcomeRecord,
    SearchParentRecord,
    SearchRecord,
    TrialRecord,
    Value,
    from_json,
    from_tags,
    to_json,
    to_tags,
)
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.store import views
from cifar_ablations.study.store.tracking import Store, metrics_at

SEARCH_VIEW = views.grouped(schema.KIND_TRIAL, schema.STUDY, (schema.OBJECTIVE, schema.EPOCHS, schema.SECONDS))


@dataclass(frozen=True)
class Parent:
    """The run that carries a search, in its experiment."""

    experiment: str
    run_id: str
    record: SearchRecord


@dataclass(frozen=True)
class Ended:
    """A search that has ended: what was asked, what it came to, and the run and the commit that it ended in."""

    asked: SearchRecord
    outcome: SearchOutcomeRecord
    run_id: str
    commit: str


class SearchLog:
    """The searches of a store."""

    def __init__(self, store: Store):
        self._store = store

    def experiment(self, name: str, data: Dataset) -> str:
        """The id of the experiment that holds the trials of a search on a data set."""
        return self._store.experiment(f"search {name}", data, SEARCH_VIEW)

    def open(self, experiment: str, record: SearchRecord, facts: ProvenanceRecord) -> Parent:
        """A new parent run that carries the search: to be called before the first trial."""
        begun = SearchParentRecord(
            search=record.name,
            search_digest=record.digest,
            profile=record.profile.name,
            data=record.data.name,
            data_digest=record.data.digest,
            stand_in=record.data.stand_in,
            note=f"**{record.question}**\n\n{record.model}; {record.budget}.",
        )
        tags = {schema.KIND: schema.KIND_SEARCH, **to_tags(begun), **to_tags(facts, schema.PROVENANCE)}
        run_id = self._store.create_run(experiment, f"{record.name} ({record.profile.name})", tags)
        self._store.client.log_dict(run_id, to_json(record), schema.SEARCH_FILE)
        return Parent(experiment, run_id, record)

    def start_trial(self, parent: Parent, study: str, number: int, sampled: Mapping[str, Value], recipe: Recipe) -> str:
        """The id of a new child run for one trial, with all its knobs."""
        asked = parent.record
        begun = TrialRecord(
            search_digest=asked.digest,
            study=study,
            trial=number,
            digest=recipe.digest(),
            data_digest=asked.data.digest,
            data=asked.data.name,
            stand_in=asked.data.stand_in,
            search=asked.name,
            profile=asked.profile.name,
            sampled=sampled,
            parent=parent.run_id,
        )
        tags = {schema.KIND: schema.KIND_TRIAL, **to_tags(begun)}
        run_id = self._store.create_run(parent.experiment, f"{study}, trial {number}", tags)
        params = [Param(name, str(value)) for name, value in recipe.knobs().items()]
        seeds = ", ".join(map(str, asked.seeds))
        self._store.client.log_batch(run_id, params=[*params, Param("seeds", seeds)])
        return run_id

    def rung(self, run_id: str, step: int, value: float) -> None:
        """Write where a trial stood when the pruner was asked."""
        self._store.client.log_batch(run_id, metrics=metrics_at({schema.RUNG: value}, step))

    def end_trial(self, run_id: str, outcome: str, metrics: Mapping[str, float], why: str) -> None:
        """Write what a trial ended as: finished, killed by its pruner, or failed, as MLflow calls it."""
        self._store.close(run_id, outcome, why, metrics_at(metrics, int(metrics.get(schema.EPOCHS, 0))))

    def close(self, parent: Parent, outcome: SearchOutcomeRecord, failures: bool) -> None:
        """Write what a search found and end its parent run."""
        self._store.client.log_dict(parent.run_id, to_json(outcome), schema.OUTCOME_FILE)
        self._store.client.set_terminated(parent.run_id, "FAILED" if failures else "FINISHED")

    def has_ended(self, search_digest: str) -> bool:
        """Whether a call of this very search came to its end."""
        return any(
            run.info.status in ("FINISHED", "FAILED")
            for run in self._store.search_runs(
                f"tags.{schema.SEARCH_DIGEST} = '{search_digest}' and tags.{schema.KIND} = '{schema.KIND_SEARCH}'"
            )
        )

    def interrupted(self, search_digest: str) -> set[str]:
        """The run ids of a search's trials that are marked interrupted."""
        runs = self._store.search_runs(
            f"tags.{schema.SEARCH_DIGEST} = '{search_digest}' and tags.{schema.KIND} = '{schema.KIND_TRIAL}' "
            f"and tags.{schema.OUTCOME} = '{schema.INTERRUPTED}'"
        )
        return {run.info.run_id for run in runs}

    def newest_ended(self, search: str, data: Dataset) -> Ended | None:
        """The newest search of that name on this data that has ended. Raises RecordError where it cannot be read."""
        runs = self._store.search_runs(
            f"tags.{schema.KIND} = '{schema.KIND_SEARCH}' and tags.{schema.SEARCH} = '{search}' "
            f"and tags.{schema.DATA_DIGEST} = '{data.digest}'"
        )
        for run in sorted(runs, key=lambda r: r.info.start_time, reverse=True):
            run_id = run.info.run_id
            with tempfile.TemporaryDirectory() as folder:
                try:
                    asked, outcome = (
                        Path(self._store.client.download_artifacts(run_id, name, folder)).read_bytes()
                        for name in (schema.SEARCH_FILE, schema.OUTCOME_FILE)
                    )
                except (MlflowException, OSError):
                    continue  # was stopped before it had an outcome
            return Ended(
                from_json(SearchRecord, asked, f"{schema.SEARCH_FILE} of run {run_id}"),
                from_json(SearchOutcomeRecord, outcome, f"{schema.OUTCOME_FILE} of run {run_id}"),
                run_id,
                from_tags(ProvenanceRecord, run.data.tags, schema.PROVENANCE, f"run {run_id}").commit or "unknown",
            )
        return None
