"""What plans write to MLflow, and the store that searches and demonstrations write to as well (`search_log`,
`foundations_log`). What is written is named in `ablations.schema`.

One coordinator process holds a Store; workers never touch MLflow. Every run costs a few writes when it starts and when
it ends, and at most one every `pending.SECONDS` for the epochs in between.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cifar_ablations.ablations.errors import AblateError

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
import numpy as np
import psutil
from mlflow.entities import Dataset as TrackedDataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.file_utils import local_file_uri_to_path

from cifar_ablations.ablations import paging, schema
from cifar_ablations.ablations.record import (
    DataRecord,
    EnvironmentRecord,
    GalleryRecord,
    PlanParentRecord,
    PlanRecord,
    ProvenanceRecord,
    RecordError,
    RunRecord,
    from_tags,
    to_json,
    to_tags,
)
from cifar_ablations.ablations.training_key import TrainingKey, same_training
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.store import views
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.pending import Pending
from cifar_ablations.study.store.provenance import user
from cifar_ablations.study.training.engine import Epoch, Outcome
from cifar_ablations.study.training.fleet import Member

COORDINATOR = "coordinator"
"""Tag of every run: host, boot, process and its start, to tell a run in training from one whose process is gone."""


KINDS = (
    schema.KIND_PLAN,
    schema.KIND_TRAINING,
    schema.KIND_ARM,
    schema.KIND_SEARCH,
    schema.KIND_TRIAL,
    schema.KIND_FOUNDATIONS,
    schema.KIND_FOUNDATION,
)

STATUSES = {schema.FAILED: "FAILED", schema.PRUNED: "KILLED", schema.INTERRUPTED: "KILLED"}
"""What MLflow calls a run's outcome; FINISHED, where it is not here."""

MOST_METRICS = 800
"""Written in one batch, in which MLflow takes a thousand of metrics, parameters and tags together."""


class Store:
    """The MLflow store of an output folder. Hold the folder's lock before making one."""

    def __init__(self, home: Home):
        # Creating the tables of a fresh SQLite store is announced in a dozen lines otherwise.
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self.home = home
        self.uri = home.tracking_uri
        self.local = self.uri.startswith("sqlite")
        self.client = mlflow.MlflowClient(tracking_uri=self.uri)
        self._me = this_process()
        self._pending = Pending(home.pending)
        self._places: dict[str, str] = {}
        """Where the files of runs lie that were begun here, as MLflow names it."""

    def experiment(self, plan: str, data: Dataset | DataRecord, view: str = "") -> str:
        """The id of the experiment that holds the runs of a plan or search on a data set.

        view: of them; a plan's has its arms in it, and comes with its invocation.
        """
        name = f"{plan} on {data.name} ({data.digest[:8]})"
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
            if view and found.tags.get(views.TAG) != view:
                self.client.set_experiment_tag(found.experiment_id, views.TAG, view)
            return found.experiment_id
        tags = {schema.PLAN: plan, schema.DATA: data.name, schema.DATA_DIGEST: data.digest}
        tags |= {views.TAG: view} if view else {}
        location = None
        if self.local:
            self.home.artifacts.mkdir(parents=True, exist_ok=True)
            location = (self.home.artifacts / f"{plan.replace('/', '-')}-{data.name}-{data.digest[:8]}").as_uri()
        return self.client.create_experiment(name, artifact_location=location, tags=tags)

    def results(
        self, data: Dataset, environment: EnvironmentRecord, say: Callable[[str], None] | None = None
    ) -> set[tuple[str, int]]:
        """(recipe digest, seed) of every training that has ended with a result, in any experiment, and that need not be
        done again on this data set in this environment: `same_training` decides.

        say: is given a sentence for each training whose tags cannot be read, which is left out.
        """
        found = set()
        for run in self.search_runs(
            f"tags.{schema.KIND} = '{schema.KIND_TRAINING}' and tags.{schema.DATA_DIGEST} = '{data.digest}'"
        ):
            tags = run.data.tags
            try:
                done = from_tags(RunRecord, tags, "", f"run {run.info.run_id}")
            except RecordError as error:
                if say is not None:
                    say(f"Left out: {error}.")
                continue
            if done.outcome in schema.RESULTS:
                key = TrainingKey(done.digest, done.seed, done.data_digest, _environment(tags))
                if same_training(key, TrainingKey(done.digest, done.seed, data.digest, environment)):
                    found.add((done.digest, done.seed))
        return found

    def invoked(self, plan_digest: str, data: Dataset) -> bool:
        """Whether this very plan has been logged for this data set before."""
        return bool(
            self.search_runs(
                f"tags.{schema.KIND} = '{schema.KIND_PLAN}' and tags.{schema.PLAN_DIGEST} = '{plan_digest}' "
                f"and tags.{schema.DATA_DIGEST} = '{data.digest}'"
            )
        )

    def reconcile(self) -> int:
        """End the runs that are marked RUNNING though nobody trains them any more; returns how many trainings.

        With a local store the caller's lock says that nobody else is at work. On a server, others' runs are left
        alone unless they were started on this machine by a process that is gone.
        """
        self._pending.recover()
        ended = 0
        for run in self.search_runs("attributes.status = 'RUNNING'"):
            tags = run.data.tags
            if tags.get(schema.KIND) not in KINDS:
                continue
            if not self.local and not is_gone(tags.get(COORDINATOR, "")):
                continue
            self.interrupt(run.info.run_id)
            ended += tags[schema.KIND] in (schema.KIND_TRAINING, schema.KIND_TRIAL)
        for run_id in self._pending.runs():
            if not self._is_running(run_id):
                self._pending.drop(run_id)
        return ended

    def _is_running(self, run_id: str) -> bool:
        """Whether a run is in flight; one that the store has lost is not."""
        try:
            return bool(self.client.get_run(run_id).info.status == "RUNNING")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False

    def open_invocation(
        self, experiment: str, plan: PlanRecord, facts: ProvenanceRecord, gallery: GalleryRecord
    ) -> str:
        """The id of a new parent run that carries the plan: to be called before the first training.

        gallery: what some training images will look like.
        """
        begun = PlanParentRecord(
            plan=plan.name,
            profile=plan.profile.name,
            data=plan.data.name,
            data_digest=plan.data.digest,
            stand_in=plan.data.stand_in,
            note=_note(plan),
        )
        tags = {schema.KIND: schema.KIND_PLAN, **to_tags(begun), **to_tags(facts, schema.PROVENANCE)}
        self.client.set_experiment_tag(experiment, views.TAG, views.of_plan(plan))
        run_id = self.create_run(experiment, f"{plan.name} ({plan.profile.name})", tags)
        self.client.log_dict(run_id, to_json(plan), schema.PLAN_FILE)
        self.client.log_dict(run_id, to_json(gallery), schema.GALLERY_FILE)
        # Last: by this tag the plan is known to have been logged whole.
        self.client.set_tag(run_id, schema.PLAN_DIGEST, plan.digest)
        return run_id

    def start(
        self,
        experiment: str,
        parent: str,
        arm: str,
        member: Member,
        plan: PlanRecord,
        environment: EnvironmentRecord,
    ) -> str:
        """The id of a new child run for one training, with its knobs, its data set, and where it is trained."""
        tags = training_tags(plan, parent, arm, member.recipe.digest(), member.seed)
        tags |= to_tags(environment, schema.ENVIRONMENT)
        run_id = self.create_run(experiment, f"{arm}, seed {member.seed}", tags)
        params = [Param(name, str(value)) for name, value in member.recipe.knobs().items()]
        self._pending.add(run_id, params=[*params, Param("seed", str(member.seed))])
        data = plan.data
        tracked = TrackedDataset(
            name=data.name, digest=data.digest, source_type="local", source=json.dumps({"source": data.source})
        )
        self.client.log_inputs(run_id, [DatasetInput(tracked, [InputTag("mlflow.data.context", "training")])])
        return run_id

    def epoch(self, run_id: str, event: Epoch) -> None:
        """Note an epoch's metrics; they are written with those of the next ones, or with the outcome.

        A write costs MLflow nearly the same for one epoch as for ten. What is noted outlives this process: where a run
        does not come to its end, `reconcile` writes it.
        """
        self._pending.add(run_id, metrics_at(event.metrics, event.epoch))
        for waiting in self._pending.due():
            self._write(waiting)

    def end(self, run_id: str, outcome: Outcome) -> None:
        """Write what a training ended as."""
        details: dict[str, Any] = dict(outcome.details)
        place = self._places.pop(run_id, "")
        if place.startswith("file://"):
            # As MLflow would do it, without asking it first where it has put the run.
            folder = Path(local_file_uri_to_path(place))  # type: ignore[no-untyped-call]
            folder.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(folder / schema.DETAILS_FILE, **details)
        else:
            with tempfile.TemporaryDirectory() as elsewhere:
                path = Path(elsewhere) / schema.DETAILS_FILE
                np.savez_compressed(path, **details)
                self.client.log_artifact(run_id, str(path))
        self.close(run_id, outcome.outcome, metrics=metrics_at(outcome.metrics, outcome.epochs))

    def fail(self, run_id: str, why: str) -> None:
        """Mark a training that raised an error; it has no result and will be trained again."""
        self.close(run_id, schema.FAILED, why)

    def stall(self, run_id: str, why: str) -> None:
        """Note that the worker of a run made no progress and was ended."""
        self.client.set_tag(run_id, schema.STALLED, why)

    def interrupt(self, run_id: str) -> None:
        """Mark a run that was stopped from outside; it has no result and will be trained again."""
        self.close(run_id, schema.INTERRUPTED)

    def close(self, run_id: str, outcome: str, why: str = "", metrics: Sequence[Metric] = ()) -> None:
        """Write what a training or trial ended as, with the end of the traceback where one was raised."""
        tags = [RunTag(schema.OUTCOME, outcome), *([RunTag(schema.ERROR, why[-5_000:])] if why else [])]
        self._write(run_id, metrics, tags)
        self.client.set_terminated(run_id, STATUSES.get(outcome, "FINISHED"))

    def _write(self, run_id: str, metrics: Sequence[Metric] = (), tags: Sequence[RunTag] = ()) -> None:
        """Write what waits of a run, and more, in as few batches as MLflow takes; tags with the last of them."""
        waiting = self._pending.of(run_id)
        params, rest = waiting.params, [*waiting.metrics, *metrics]
        while len(rest) > MOST_METRICS:
            self.client.log_batch(run_id, metrics=rest[:MOST_METRICS], params=params)
            params, rest = [], rest[MOST_METRICS:]
        self.client.log_batch(run_id, metrics=rest, params=params, tags=tags)
        self._pending.drop(run_id)

    def close_invocation(self, run_id: str, failures: int) -> None:
        """End the parent run of an invocation that went through."""
        self.client.set_terminated(run_id, "FAILED" if failures else "FINISHED")

    def create_run(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        """The id of a new run, with its tags and what every run says of itself."""
        everyone = {
            COORDINATOR: self._me,
            "mlflow.user": user(),
            "mlflow.source.name": "ablate",
            "mlflow.source.type": "LOCAL",
        }
        commit = tags.get(schema.PROVENANCE + "commit", "unknown")
        if commit != "unknown":
            everyone["mlflow.source.git.commit"] = commit
        info = self.client.create_run(experiment, run_name=name, tags={**everyone, **tags}).info
        self._places[info.run_id] = info.artifact_uri
        return str(info.run_id)

    def search_runs(self, filter_string: str) -> list[Any]:
        """Every run, in any experiment, for which MLflow's filter holds."""
        ask = self.client.search_experiments
        experiments = [e.experiment_id for e in paging.entries(lambda token: ask(page_token=token))]
        if not experiments:
            return []
        return list(
            paging.entries(
                lambda token: self.client.search_runs(experiments, filter_string, max_results=1_000, page_token=token)
            )
        )


class StoreError(AblateError):
    """The MLflow store cannot be reached or read; the message says which and what to do."""


def open_store(home: Home) -> Store:
    """The store, or StoreError in a sentence."""
    try:
        store = Store(home)
        store.client.search_experiments(max_results=1)
    except (MlflowException, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise StoreError(
            f"The MLflow store {home.tracking_uri} cannot be opened ({reason}). Set MLFLOW_TRACKING_URI or ABLATE_HOME."
        ) from error
    return store


def training_tags(plan: PlanRecord, parent: str, arm: str, recipe: str, seed: int) -> dict[str, str]:
    """What the run of a training says of itself when it begins; recipe: the digest."""
    begun = RunRecord(
        digest=recipe,
        seed=seed,
        data_digest=plan.data.digest,
        data=plan.data.name,
        stand_in=plan.data.stand_in,
        plan=plan.name,
        profile=plan.profile.name,
        arm=arm,
        parent=parent,
    )
    return {schema.KIND: schema.KIND_TRAINING, **to_tags(begun)}


def metrics_at(values: Mapping[str, float], step: int) -> list[Metric]:
    """Metrics of now, at a step."""
    now = int(time.time() * 1000)
    return [Metric(name, value, now, step) for name, value in values.items()]


def _environment(tags: Mapping[str, str]) -> EnvironmentRecord | None:
    """Where a run with these tags was trained; None where they do not say it whole, as those of 0.1.0 do not."""
    try:
        return from_tags(EnvironmentRecord, tags, schema.ENVIRONMENT, "a run")
    except RecordError:
        return None


def _note(plan: PlanRecord) -> str:
    """Markdown that MLflow's UI shows on the parent run."""
    lines = [f"**{plan.question}**", "", f"{plan.model}; {plan.budget}.", ""]
    if plan.data.stand_in:
        lines += [f"**{schema.REHEARSAL.capitalize()}: nothing here is about photographs.**", ""]
    lines += [f"- {claim.statement}" for claim in plan.claims]
    return "\n".join([*lines, "", f"Plan `{plan.digest}`, fixed before the first training."])


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return str(int(psutil.boot_time()))


def this_process() -> str:
    return f"{socket.gethostname()}/{_boot()}/{os.getpid()}/{psutil.Process().create_time():.2f}"


def is_gone(coordinator: str | None) -> bool:
    """Whether the process of that tag ran on this machine and does so no more."""
    if coordinator is None:
        return True
    try:
        host, boot, pid, started = coordinator.split("/")
    except ValueError:
        return False
    if host != socket.gethostname():
        return False
    if boot != _boot():
        return True
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" != started
    except psutil.NoSuchProcess:
        return True
