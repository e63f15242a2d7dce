"""What a search writes to MLflow, and reads back: its parent run, its trials, what it found."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mlflow.entities import ViewType

from cifar_ablations.ablations import paging, schema
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import (
    ProvenanceRecord,
    RecordError,
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

SEARCH_VIEW = views.of_search()


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


@dataclass(frozen=True)
class LoggedTrial:
    """A run of a trial: whether it was deleted, what it says of itself, and its last metrics."""

    run_id: str
    is_deleted: bool
    about: TrialRecord
    metrics: Mapping[str, float]


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
            number=self._store.next_number(),
        )
        tags = {schema.KIND: schema.KIND_SEARCH, **to_tags(begun), **to_tags(facts, schema.PROVENANCE)}
        run_id = self._store.create_run(experiment, f"{record.name} ({record.profile.name})", tags)
        self._store.log_json(run_id, {schema.SEARCH_FILE: to_json(record)})
        return Parent(experiment, self._store.created(run_id), record)

    def start_trial(
        self, parent: Parent, study: str, number: int, sampled: Mapping[str, Value], recipe: Recipe, origin: str = ""
    ) -> str:
        """The id of a new child run for one trial, with all its knobs; origin: where it was trained, if not here."""
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
            origin=origin,
            parent=parent.run_id,
        )
        tags = {schema.KIND: schema.KIND_TRIAL, **to_tags(begun)}
        run_id = self._store.create_run(parent.experiment, f"{study}, trial {number}", tags)
        self._store.log(run_id, params={**recipe.knobs(), "seeds": ", ".join(map(str, asked.seeds))})
        return run_id

    def rung(self, run_id: str, step: int, value: float) -> None:
        """Write where a trial stood when the pruner was asked."""
        self._store.log(run_id, metrics_at({schema.RUNG: value}, step))

    def end_trial(self, run_id: str, outcome: str, metrics: Mapping[str, float], why: str) -> None:
        """Write what a trial ended as: finished, killed by its pruner, or failed, as MLflow calls it."""
        self._store.close(run_id, outcome, why, metrics_at(metrics, int(metrics.get(schema.EPOCHS, 0))))

    def close(self, parent: Parent, outcome: SearchOutcomeRecord, failures: bool) -> None:
        """Write what a search found and end its parent run."""
        self._store.log_json(parent.run_id, {schema.OUTCOME_FILE: to_json(outcome)})
        self._store.close_invocation(parent.run_id, int(failures))

    def outcome(self, search_digest: str) -> SearchOutcomeRecord | None:
        """What the newest ended call of this very search came to; None where there is none, or it cannot be read."""
        for run in self._newest(f"tags.{schema.SEARCH_DIGEST} = '{search_digest}'"):
            if run.info.status not in ("FINISHED", "FAILED"):
                continue
            try:
                logged = self._store.content(run, schema.OUTCOME_FILE)
                if logged and self._store.content(run, schema.SEARCH_FILE):  # no page has one without the other
                    return from_json(SearchOutcomeRecord, logged, f"{schema.OUTCOME_FILE} of run {run.info.run_id}")
            except RecordError:
                return None
        return None

    def trials(self, search_digest: str) -> list[LoggedTrial]:
        """Every run of ours of a trial of a search that can be read, those too that a person deleted."""
        ask, client = self._store.client.search_experiments, self._store.client
        everywhere = [e.experiment_id for e in paging.entries(lambda t: ask(view_type=ViewType.ALL, page_token=t))]
        if not everywhere:
            return []
        wanted = f"tags.{schema.SEARCH_DIGEST} = '{search_digest}' and tags.{schema.KIND} = '{schema.KIND_TRIAL}'"
        found = []
        for run in paging.entries(
            lambda token: client.search_runs(everywhere, wanted, ViewType.ALL, max_results=1_000, page_token=token)
        ):
            run_id = run.info.run_id
            if not schema.is_ours(run.data.tags):
                continue
            with suppress(RecordError):
                about = from_tags(TrialRecord, run.data.tags, "", f"run {run_id}")
                found.append(LoggedTrial(run_id, run.info.lifecycle_stage != "active", about, run.data.metrics))
        return found

    def rungs(self, run_id: str) -> dict[int, float]:
        """What a trial reported to the pruner, by step."""
        return {metric.step: metric.value for metric in self._store.client.get_metric_history(run_id, schema.RUNG)}

    def _newest(self, wanted: str) -> list[Any]:
        """The parent runs of searches for which MLflow's filter holds, the newest first."""
        runs = self._store.search_runs(f"tags.{schema.KIND} = '{schema.KIND_SEARCH}' and {wanted}")
        return sorted(runs, key=_order, reverse=True)

    def newest_ended(self, search: str, data: Dataset, digest: str = "") -> Ended | None:
        """The newest search of that name on this data that has ended; digest: of a very one.

        Raises RecordError where it cannot be read.
        """
        very = f" and tags.{schema.SEARCH_DIGEST} = '{digest}'" if digest else ""
        wanted = f"tags.{schema.SEARCH} = '{search}' and tags.{schema.DATA_DIGEST} = '{data.digest}'"
        for run in self._newest(wanted + very):
            run_id = run.info.run_id
            asked, outcome = (self._store.content(run, name) for name in (schema.SEARCH_FILE, schema.OUTCOME_FILE))
            if asked is None or outcome is None:
                continue  # was stopped before it had an outcome
            return Ended(
                from_json(SearchRecord, asked, f"{schema.SEARCH_FILE} of run {run_id}"),
                from_json(SearchOutcomeRecord, outcome, f"{schema.OUTCOME_FILE} of run {run_id}"),
                run_id,
                from_tags(ProvenanceRecord, run.data.tags, schema.PROVENANCE, f"run {run_id}").commit or "unknown",
            )
        return None


def _order(run: Any) -> tuple[int, int]:
    """What sorts parent runs as they were logged: their number, and of versions without, when they began."""
    with suppress(RecordError):
        return from_tags(SearchParentRecord, run.data.tags, "", "").number, run.info.start_time
    return 0, run.info.start_time
