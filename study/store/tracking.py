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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
import numpy as np
import psutil
from mlflow.entities import Dataset as TrackedDataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.utils.file_utils import local_file_uri_to_path

from cifar_ablations.ablations import addresses, paging, schema, stores
from cifar_ablations.ablations.record import (
    DataRecord,
    EnvironmentRecord,
    GalleryRecord,
    ParentRecord,
    PlanParentRecord,
    PlanRecord,
    ProvenanceRecord,
    RecordError,
    RunRecord,
    from_tags,
    to_json,
    to_tags,
)
from cifar_ablations.ablations.stores import StoreError
from cifar_ablations.ablations.training_key import TrainingKey, same_training
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.store import moved, views
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.pending import Pending
from cifar_ablations.study.store.provenance import user
from cifar_ablations.study.store.tables import make_tables
from cifar_ablations.study.training.engine import Epoch, Outcome
from cifar_ablations.study.training.fleet import Member

STATUSES = {schema.FAILED: "FAILED", schema.PRUNED: "KILLED", schema.INTERRUPTED: "KILLED"}
"""What MLflow calls a run's outcome; FINISHED, where it is not here."""

MOST_METRICS = 800
"""Written in one batch, in which MLflow takes a thousand of metrics, parameters and tags together."""


class Store:
    """The MLflow store of an output folder. Hold the folder's lock before making one, which makes the tables too."""

    def __init__(self, home: Home):
        # Creating the tables of a fresh SQLite store is announced in a dozen lines otherwise.
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        # It logs tracebacks of the very errors that it raises, and they become a sentence.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        self.home = home
        self.uri = home.tracking_uri
        self.local = self.uri.startswith(tuple(DATABASE_ENGINES))
        """Whether files of runs are kept in the output folder; a server decides by itself where they are."""
        self._in_home = (file := addresses.sqlite_file(self.uri)) is not None and file.parent.resolve() == home.folder
        """Whether the store is a file in the output folder, whose lock guards it then."""
        make_tables(self.uri, home.artifacts)
        self.client = mlflow.MlflowClient(tracking_uri=self.uri)
        self._me = this_process()
        self._pending = Pending(home.pending)
        self.deleted: list[str] = []
        """The ids of the runs that a person deleted while they were in training here."""
        self._places: dict[str, str] = {}
        """Where the files of runs lie that were begun here, as MLflow names it."""

    def experiment(self, plan: str, data: Dataset | DataRecord, view: str = "") -> str:
        """The id of the experiment that holds the runs of a plan or search on a data set.

        view: of them; a plan's has its arms in it, and comes with its invocation.
        """
        tags = {schema.PLAN: plan, schema.DATA: data.name, schema.DATA_DIGEST: data.digest}
        folder = f"{plan}-{data.name[:40]}-{data.digest[:8]}".replace("/", "-")
        found = self.experiment_of(tags, f"{plan} on {data.name} ({data.digest[:8]})", folder)
        if view and found.tags.get(views.TAG) != view:
            self.client.set_experiment_tag(found.experiment_id, views.TAG, view)
        return str(found.experiment_id)

    def experiment_of(self, tags: Mapping[str, str], name: str, folder: str) -> Any:
        """Our experiment with these tags, whatever it is called by now, the newest; a new one where there is none.

        name, folder: of a new one, and of its files. One that a person deleted stays deleted, and MLflow keeps its name
        for it; neither is another's experiment of that name used: a new one then has the next free name.
        """
        ask = self.client.search_experiments
        known = [e for e in paging.entries(lambda token: ask(page_token=token)) if tags.items() <= e.tags.items()]
        if known:
            return max(known, key=lambda one: (one.creation_time or 0, one.experiment_id))
        for number in count(1):
            again = f" ({number})" if number > 1 else ""
            found = self.client.get_experiment_by_name(name + again)
            if found is None:
                break
            if found.lifecycle_stage == "active" and self._has_ours(found.experiment_id):
                return found  # of an earlier version, which gave it no tags
        location = None
        if self.local:
            self.home.artifacts.mkdir(parents=True, exist_ok=True)
            location = (self.home.artifacts / (folder + again)).as_uri()
        made = self.client.create_experiment(name + again, artifact_location=location, tags={**schema.MARKED, **tags})
        return self.client.get_experiment(made)

    def _has_ours(self, experiment: str) -> bool:
        return any(schema.is_ours(run.data.tags) for run in self.client.search_runs([experiment], max_results=1))

    def results(
        self,
        data: Dataset,
        environment: EnvironmentRecord,
        say: Callable[[str], None] | None = None,
        measured: Collection[str] = (),
    ) -> set[tuple[str, int]]:
        """(recipe digest, seed) of every training that has ended with a result, in any experiment, and that need not be
        done again on this data set in this environment: `same_training` decides.

        say: is given a sentence for each training whose tags cannot be read, which is left out. measured: metrics that
        one which did not diverge must have, as those of an extension that it may have been trained without.
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
            if done.outcome in schema.CONVERGED and not set(measured) <= run.data.metrics.keys():
                continue
            if done.outcome in schema.RESULTS:
                key = TrainingKey(done.digest, done.seed, done.data_digest, _environment(tags))
                if same_training(key, TrainingKey(done.digest, done.seed, data.digest, environment)):
                    found.add((done.digest, done.seed))
        return found

    def invoked(self, plan_digest: str, data: Dataset) -> bool:
        """Whether this very plan has been logged for this data set before, and its file is still there."""
        logged = self.search_runs(
            f"tags.{schema.KIND} = '{schema.KIND_PLAN}' and tags.{schema.PLAN_DIGEST} = '{plan_digest}' "
            f"and tags.{schema.DATA_DIGEST} = '{data.digest}'"
        )
        kept = (file.path for run in logged for file in self.client.list_artifacts(run.info.run_id))
        return schema.PLAN_FILE in kept

    def next_number(self) -> int:
        """What an invocation is numbered with that begins now: one more than the highest in the store."""
        highest = 0
        for run in self.search_runs(f"tags.{schema.NUMBER} LIKE '%'"):
            with suppress(RecordError):
                highest = max(highest, from_tags(ParentRecord, run.data.tags, "", "").number)
        return highest + 1

    def reconcile(self) -> int:
        """End our runs that are marked RUNNING though nobody trains them any more; returns how many trainings.

        Those that a process of this machine began are nobody's once it is gone. Of those whose process cannot be looked
        for, as of another machine, only a store in the caller's own folder tells: there its lock says that nobody else
        is at work. Another output folder may write to any store, and its runs go on.
        """
        if self._in_home:
            moved.bring_home(self.client._tracking_client.store.engine, self.home.artifacts)
        self._pending.recover()
        ended = 0
        for run in self.search_runs("attributes.status = 'RUNNING'"):
            coordinator = run.data.tags.get(schema.COORDINATOR, "")
            here = is_running(coordinator)
            if here is False or (self._in_home and (here is None or coordinator == self._me)):
                self.interrupt(run.info.run_id)
                ended += run.data.tags.get(schema.KIND) in (schema.KIND_TRAINING, schema.KIND_TRIAL)
        for run_id in self._pending.runs():
            if not self._is_running(run_id):
                self._pending.drop(run_id)
        return ended

    def _is_running(self, run_id: str) -> bool:
        """Whether a run is in flight; one that was deleted, or that the store has lost, is not."""
        info = self._info(run_id)
        return info is not None and (info.lifecycle_stage, info.status) == ("active", "RUNNING")

    def _info(self, run_id: str) -> Any | None:
        """What MLflow says of a run; None of one that the store has lost."""
        try:
            return self.client.get_run(run_id).info
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    @contextmanager
    def unless_deleted(self, run_id: str) -> Iterator[None]:
        """Let go what is to be written to a run that a person deleted meanwhile: it counts no longer."""
        try:
            yield
        except MlflowException:
            info = self._info(run_id)
            if info is not None and info.lifecycle_stage == "active":
                raise
            self._pending.drop(run_id)
            self.deleted += [run_id] if run_id not in self.deleted else []

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
            number=self.next_number(),
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
        """The id of a new child run for one training, with its knobs, its data set, and where it is trained.

        Of the extensions that the environment names, those that the training uses are written.
        """
        tags = training_tags(plan, parent, arm, member.recipe.digest(), member.seed)
        if environment.extension:
            environment = replace(environment, extension=member.extension)
        tags |= to_tags(environment, schema.ENVIRONMENT)
        run_id = self.create_run(experiment, f"{arm}, seed {member.seed}", tags)
        params = [Param(name, str(value)) for name, value in member.recipe.knobs().items()]
        self._pending.add(run_id, params=[*params, Param("seed", str(member.seed))])
        data = plan.data
        tracked = TrackedDataset(
            name=data.name, digest=data.digest, source_type="local", source=json.dumps({"source": data.source})
        )
        with self.unless_deleted(run_id):
            self.client.log_inputs(run_id, [DatasetInput(tracked, [InputTag("mlflow.data.context", "training")])])
        return run_id

    def epoch(self, run_id: str, event: Epoch) -> None:
        """Note an epoch's metrics; they are written with those of the next ones, or with the outcome.

        A write costs MLflow nearly the same for one epoch as for ten. What is noted outlives this process: where a run
        does not come to its end, `reconcile` writes it.
        """
        self._pending.add(run_id, metrics_at(event.metrics, event.epoch))
        for waiting in self._pending.due():
            with self.unless_deleted(waiting):
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
        with self.unless_deleted(run_id):
            self.client.set_tag(run_id, schema.STALLED, why)

    def interrupt(self, run_id: str) -> None:
        """Mark a run that was stopped from outside; it has no result and will be trained again."""
        self.close(run_id, schema.INTERRUPTED)

    def close(self, run_id: str, outcome: str, why: str = "", metrics: Sequence[Metric] = ()) -> None:
        """Write what a training or trial ended as, with the end of the traceback where one was raised."""
        tags = [RunTag(schema.OUTCOME, outcome), *([RunTag(schema.ERROR, why[-5_000:])] if why else [])]
        with self.unless_deleted(run_id):
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
        with self.unless_deleted(run_id):
            self.client.set_terminated(run_id, "FAILED" if failures else "FINISHED")

    def create_run(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        """The id of a new run, with its tags and what every run says of itself."""
        everyone = {
            **schema.MARKED,
            schema.COORDINATOR: self._me,
            "mlflow.user": user(),
            "mlflow.source.name": "ablate",
            "mlflow.source.type": "LOCAL",
        }
        commit = tags.get(schema.PROVENANCE + "commit", "unknown")
        if commit != "unknown":
            everyone["mlflow.source.git.commit"] = commit
        try:
            info = self.client.create_run(experiment, run_name=name, tags={**everyone, **tags}).info
        except MlflowException:
            about = self.client.get_experiment(experiment)
            if about.lifecycle_stage == "active":
                raise
            raise StoreError(
                f"The experiment {about.name!r} was deleted in MLflow while it was written to. Its runs count no "
                "longer: the same command trains them again, in a new experiment. To keep them, restore it first."
            ) from None
        self._places[info.run_id] = info.artifact_uri
        return str(info.run_id)

    def search_runs(self, filter_string: str) -> list[Any]:
        """Every run of ours, in any experiment, for which MLflow's filter holds; none that was deleted."""
        ask = self.client.search_experiments
        experiments = [e.experiment_id for e in paging.entries(lambda token: ask(page_token=token))]
        if not experiments:
            return []
        found = paging.entries(
            lambda token: self.client.search_runs(experiments, filter_string, max_results=1_000, page_token=token)
        )
        return [run for run in found if schema.is_ours(run.data.tags)]


def open_store(home: Home) -> Store:
    """The store. Raises StoreError, in a sentence, where it cannot be opened."""
    with stores.opening(home.tracking_uri):
        store = Store(home)
        store.client.search_experiments(max_results=1)
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
    """Whether the process of that tag ran on this machine and does so no more; of one that says nothing, it is."""
    return coordinator is None or is_running(coordinator) is False


def is_running(coordinator: str) -> bool | None:
    """Whether the process of that tag still runs on this machine; None where it cannot be looked for."""
    try:
        host, boot, pid, started = coordinator.split("/")
        if host != socket.gethostname():
            return None
        return boot == _boot() and f"{psutil.Process(int(pid)).create_time():.2f}" == started
    except psutil.NoSuchProcess:
        return False
    except (ValueError, OverflowError, psutil.Error):  # edited by hand, or of a user whose processes are hidden
        return None
