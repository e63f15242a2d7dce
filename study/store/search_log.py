"""What a search writes to MLflow, and reads back: its parent run, its trials, what it found."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import Param, RunTag
from mlflow.exceptions import MlflowException

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.store import views
from cifar_ablations.study.store.tracking import Store, data_tags, metrics_at

SEARCH_VIEW = views.grouped(schema.KIND_TRIAL, schema.STUDY, (schema.OBJECTIVE, schema.EPOCHS, schema.SECONDS))


class SearchLog:
    """The searches of a store."""

    def __init__(self, store: Store):
        self._store = store

    def experiment(self, name: str, data: Dataset) -> str:
        """The id of the experiment that holds the trials of a search on a data set."""
        return self._store.experiment(f"search {name}", data, SEARCH_VIEW)

    def open(self, experiment: str, described: Mapping[str, Any], facts: Mapping[str, str]) -> str:
        """The id of a new parent run that carries the search: to be called before the first trial."""
        tags = {
            schema.KIND: schema.KIND_SEARCH,
            schema.SEARCH: described["name"],
            schema.SEARCH_DIGEST: described["digest"],
            schema.PROFILE: described["profile"]["name"],
            "mlflow.note.content": f"**{described['question']}**\n\n{described['model']}; {described['budget']}.",
            **data_tags(described["data"]),
            **{schema.PROVENANCE + name: value for name, value in facts.items()},
        }
        run_id = self._store.create_run(
            experiment, f"{described['name']} ({described['profile']['name']})", tags, facts
        )
        self._store.client.log_dict(run_id, dict(described), schema.SEARCH_FILE)
        return run_id

    def start_trial(
        self,
        experiment: str,
        parent: str,
        described: Mapping[str, Any],
        study: str,
        number: int,
        drawn: Mapping[str, Any],
        recipe: Recipe,
    ) -> str:
        """The id of a new child run for one trial, with all its knobs."""
        tags = {
            "mlflow.parentRunId": parent,
            schema.KIND: schema.KIND_TRIAL,
            schema.SEARCH: described["name"],
            schema.SEARCH_DIGEST: described["digest"],
            schema.PROFILE: described["profile"]["name"],
            schema.STUDY: study,
            schema.TRIAL: str(number),
            schema.SAMPLED: json.dumps(dict(drawn)),
            schema.DIGEST: recipe.digest(),
            **data_tags(described["data"]),
        }
        run_id = self._store.create_run(experiment, f"{study}, trial {number}", tags, {})
        params = [Param(name, str(value)) for name, value in recipe.knobs().items()]
        seeds = ", ".join(map(str, described["seeds"]))
        self._store.client.log_batch(run_id, params=[*params, Param("seeds", seeds)])
        return run_id

    def rung(self, run_id: str, step: int, value: float) -> None:
        """Write where a trial stood when the pruner was asked."""
        self._store.client.log_batch(run_id, metrics=metrics_at({schema.RUNG: value}, step))

    def end_trial(self, run_id: str, outcome: str, metrics: Mapping[str, float], why: str) -> None:
        """Write what a trial ended as: finished, killed by its pruner, or failed, as MLflow calls it."""
        tags = [RunTag(schema.OUTCOME, outcome), *([RunTag("error", why[-5_000:])] if why else [])]
        self._store.client.log_batch(run_id, metrics=metrics_at(metrics, int(metrics.get(schema.EPOCHS, 0))), tags=tags)
        status = {schema.FAILED: "FAILED", schema.PRUNED: "KILLED"}.get(outcome, "FINISHED")
        self._store.client.set_terminated(run_id, status)

    def close(self, run_id: str, outcome: Mapping[str, Any], failures: bool) -> None:
        """Write what a search found and end its parent run."""
        self._store.client.log_dict(run_id, dict(outcome), schema.OUTCOME_FILE)
        self._store.client.set_terminated(run_id, "FAILED" if failures else "FINISHED")

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

    def found(self, search: str, data: Dataset) -> tuple[dict[str, Any], dict[str, Any], dict[str, str]] | None:
        """The newest ended search of that name on this data: as it was asked, what it found, and its parent's tags."""
        runs = self._store.search_runs(
            f"tags.{schema.KIND} = '{schema.KIND_SEARCH}' and tags.{schema.SEARCH} = '{search}' "
            f"and tags.{schema.DATA_DIGEST} = '{data.digest}'"
        )
        for run in sorted(runs, key=lambda r: r.info.start_time, reverse=True):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    paths = [
                        self._store.client.download_artifacts(run.info.run_id, name, folder)
                        for name in (schema.SEARCH_FILE, schema.OUTCOME_FILE)
                    ]
                except (MlflowException, OSError):
                    continue  # was stopped before it had an outcome
                asked, outcome = (json.loads(Path(path).read_text(encoding="utf-8")) for path in paths)
            return asked, outcome, {"run_id": run.info.run_id, **run.data.tags}
        return None
