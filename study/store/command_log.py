"""What plans of commands write to MLflow: a parent run with the plan, and a run for each run of a command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import (
    CommandArmRecord,
    CommandPlanRecord,
    CommandRunRecord,
    RecordError,
    from_tags,
    to_json,
    to_tags,
)
from cifar_ablations.study.store.provenance import provenance
from cifar_ablations.study.store.tracking import Store, metrics_at

MOST_PARAM = 5_000
"""Signs of a parameter's value; MLflow takes a few more."""


class CommandLog:
    """The runs of one plan of commands in a store."""

    def __init__(self, store: Store, plan: CommandPlanRecord):
        self._store, self._plan = store, plan
        self._experiment = ""
        self._parent = ""
        self._in_flight = ""

    def results(self) -> dict[tuple[str, int], float]:
        """By (digest of the arm, seed) of every run that has ended with a result, whatever its invocation: how long it
        took, in seconds."""
        found = {}
        for run in self._runs(schema.KIND_COMMAND):
            with suppress(RecordError):
                about = from_tags(CommandRunRecord, run.data.tags, "", f"run {run.info.run_id}")
                if about.outcome in schema.RESULTS:
                    seconds = (run.info.end_time - run.info.start_time) / 1000
                    found[about.digest, about.seed] = seconds
        return found

    def is_logged(self) -> bool:
        """Whether this very plan has been logged whole before."""
        return any(
            run.data.tags.get(schema.PLAN_DIGEST) == self._plan.digest for run in self._runs(schema.KIND_COMMANDS)
        )

    def open(self) -> None:
        """Log the plan, which is to be done before its first run."""
        plan, store = self._plan, self._store
        tags = {schema.KIND: schema.KIND_COMMANDS, schema.PLAN: plan.name}
        found = store.experiment_of(tags, f"{plan.name} (commands)", f"commands-{plan.name}")
        self._experiment = str(found.experiment_id)
        # The commit of the suite is none of the program's.
        facts = replace(provenance(torch.device("cpu"), 1), commit="", dirty="")
        tags |= {schema.NUMBER: str(store.next_number()), "mlflow.note.content": _note(plan)}
        self._parent = store.create_run(self._experiment, plan.name, tags | to_tags(facts, schema.PROVENANCE))
        store.log_json(self._parent, {schema.COMMANDS_FILE: to_json(plan)})
        # Last: by this tag the plan is known to have been logged whole.
        store.log(self._parent, tags={schema.PLAN_DIGEST: plan.digest})

    def start(self, arm: CommandArmRecord, seed: int, words: Sequence[str]) -> str:
        """The id of a new run of an arm's command, which is these words."""
        about = CommandRunRecord(plan=self._plan.name, arm=arm.name, seed=seed, digest=arm.digest, parent=self._parent)
        tags = {schema.KIND: schema.KIND_COMMAND, **to_tags(about)}
        self._in_flight = self._store.create_run(self._experiment, f"{arm.name}, seed {seed}", tags)
        params = {"arm": arm.name, "seed": str(seed), "command": shlex.join(words)[:MOST_PARAM]}
        self._store.log(self._in_flight, params=params)
        return self._in_flight

    def end(self, outcome: str, cause: str, metrics: Mapping[str, float], output: str) -> None:
        """Write what the run that was started last ended as; output: the end of what it printed."""
        run_id, store = self._in_flight, self._store
        if output:
            store.put_file(run_id, schema.OUTPUT_FILE, output.encode("utf-8", "replace"))
        if cause:
            store.log(run_id, tags={schema.CAUSE: cause[:MOST_PARAM]})
        store.close(run_id, outcome, metrics=metrics_at(metrics, 0))
        self._in_flight = ""

    def close(self, failures: int) -> None:
        """End the plan's own run."""
        self._store.close_invocation(self._parent, failures)

    def interrupt(self) -> None:
        """Mark what has not ended as interrupted."""
        for run_id in filter(None, (self._in_flight, self._parent)):
            self._store.interrupt(run_id)

    def _runs(self, kind: str) -> list[Any]:
        # A plan's name cannot break out of its quotes.
        return self._store.search_runs(f"tags.{schema.KIND} = '{kind}' and tags.{schema.PLAN} = '{self._plan.name}'")


def _note(plan: CommandPlanRecord) -> str:
    """Markdown that MLflow's UI shows on the plan's run."""
    arms = "\n".join(f"- {arm.name}" for arm in plan.arms)
    return f"**{plan.question}**\n\n{plan.metric} against {plan.control}.\n\n{arms}\n\nPlan `{plan.digest}`."
