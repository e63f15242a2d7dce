"""What the demonstrations write to MLflow: a parent run, and a run each with its checks and frames."""

from __future__ import annotations

from pathlib import Path

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import DemonstrationRecord, ProvenanceRecord, to_json, to_tags
from cifar_ablations.study.store.tracking import Store, metrics_at

FOUNDATIONS = "foundations"
"""The experiment that holds the demonstrations."""


class FoundationsLog:
    """The demonstrations of a store."""

    def __init__(self, store: Store):
        self._store = store

    def open(self, seed: int, facts: ProvenanceRecord) -> tuple[str, str]:
        """The ids of the demonstrations' experiment and of a new parent run for all of them with one seed."""
        ours = {**schema.MARKED, schema.KIND: schema.KIND_FOUNDATIONS}
        experiment = str(self._store.experiment_of(ours, FOUNDATIONS, FOUNDATIONS).experiment_id)
        tags = {
            schema.KIND: schema.KIND_FOUNDATIONS,
            schema.SEED: str(seed),
            schema.NUMBER: str(self._store.next_number()),
            **to_tags(facts, schema.PROVENANCE),
        }
        return experiment, self._store.created(self._store.create_run(experiment, f"foundations, seed {seed}", tags))

    def demonstration(
        self, experiment: str, parent: str, seed: int, record: DemonstrationRecord, files: Path, seconds: float
    ) -> str:
        """The id of a new, ended child run with a demonstration: files is a folder with its frames."""
        tags = {
            schema.PARENT: parent,
            schema.KIND: schema.KIND_FOUNDATION,
            schema.DEMONSTRATION: record.name,
            schema.SEED: str(seed),
            "mlflow.note.content": f"**{record.question}**\n\n{record.idea}",
        }
        run_id = self._store.create_run(experiment, record.name, tags)
        holds = [float(check.holds) for check in record.checks]
        metrics = {f"{schema.CHECK}{i}": value for i, value in enumerate(holds, start=1)}
        metrics |= {schema.CHECKS_HOLDING: sum(holds), schema.SECONDS: seconds}
        self._store.log(run_id, metrics_at(metrics, 0), {"seed": seed})
        self._store.log_json(run_id, {schema.DEMONSTRATION_FILE: to_json(record)}, {schema.FRAMES_FOLDER: files})
        self._store.close_invocation(run_id, 0)
        return run_id
