"""What plans write to MLflow, and the store that searches and demonstrations write to as well (`search_log`,
`foundations_log`). What is written is named in `ablations.schema`.

One coordinator process holds a Store; workers never touch MLflow. Every run costs a few writes when it starts and when
it ends, and at most one every `outbox.SECONDS` for the epochs in between. They go through an outbox: within
`Store.delivering` nobody waits for them.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run, of a server

import mlflow
import numpy as np
import psutil
from mlflow.entities import Dataset as TrackedDataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.utils.file_utils import local_file_uri_to_path

from cifar_ablations.ablations import addresses, checksums, paging, schema, stores
from cifar_ablations.ablations.files import copy_folder, write_atomically
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
    from_json,
    from_tags,
    to_json,
    to_tags,
)
from cifar_ablations.ablations.stores import StoreError
from cifar_ablations.ablations.training_key import TrainingKey, same_training
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.store import moved, views
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.outbox import (
    BATCH,
    CREATE,
    END,
    FILES,
    INPUTS,
    REMOVE,
    Outbox,
    Refused,
    SilentStoreError,
    Unanswered,
    Write,
)
from cifar_ablations.study.store.provenance import user
from cifar_ablations.study.store.store_tables import make_tables, wait_for_others
from cifar_ablations.study.training.engine import Epoch, Outcome
from cifar_ablations.study.training.fleet import Member

STATUSES = {schema.FAILED: "FAILED", schema.PRUNED: "KILLED", schema.INTERRUPTED: "KILLED"}
"""What MLflow calls a run's outcome; FINISHED, where it is not here."""

COUNTED = (schema.KIND_TRAINING, schema.KIND_TRIAL, schema.KIND_COMMAND)
"""Kinds of runs that `reconcile` counts."""

ENDED = (*schema.RESULTS, schema.PRUNED, schema.FAILED)
"""Outcomes of what came to its own end."""


class Store:
    """The MLflow store of an output folder. Hold the folder's lock before making one, which makes the tables too."""

    def __init__(self, home: Home, say: Callable[[str], None] = lambda sentence: None):
        # Creating the tables of a fresh SQLite store is announced in a dozen lines otherwise, and each failure to write
        # to one in a traceback.
        for name, level in (("mlflow", "WARNING"), ("alembic", "WARNING"), ("mlflow.store.db.utils", "CRITICAL")):
            logging.getLogger(name).setLevel(level)
        self.home = home
        self.uri = home.tracking_uri
        self.local = self.uri.startswith(tuple(DATABASE_ENGINES))
        """Whether files of runs are kept in the output folder; a server decides by itself where they are."""
        self._in_home = (file := addresses.sqlite_file(self.uri)) is not None and file.parent.resolve() == home.folder
        """Whether the store is a file in the output folder, whose lock guards it then."""
        make_tables(self.uri, home.artifacts)
        self.client = mlflow.MlflowClient(tracking_uri=self.uri)
        self._me = this_process()
        self._say = say
        self._outbox = Outbox(home.pending, self._deliver, say, home.shown(home.pending))
        self._ids: dict[str, str] = {}
        """MLflow's names of runs, by what they are called here until they have one."""
        self._doubtful: set[str] = set()
        """Runs that may have been created twice."""
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
        self._check_reachable(found)
        if view and found.tags.get(views.TAG) != view:
            self.put_view(found.experiment_id, view)
        return str(found.experiment_id)

    def put_view(self, experiment: str, view: str) -> None:
        """Put a view of its runs into an experiment."""
        try:
            self.client.set_experiment_tag(experiment, views.TAG, view)
        except MlflowException:  # another coordinator put it there at the same moment
            if self.client.get_experiment(experiment).tags.get(views.TAG) != view:
                raise

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
        try:
            made = self.client.create_experiment(
                name + again, artifact_location=location, tags={**schema.MARKED, **tags}
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self.experiment_of(tags, name, folder)  # another coordinator made it at the same moment
        return self.client.get_experiment(made)

    def _check_reachable(self, experiment: Any) -> None:
        """Raise StoreError where the files of an experiment's runs lie in a folder of another machine."""
        place = experiment.artifact_location or ""
        if self._in_home or not place.startswith("file:"):
            return
        folder = Path(local_file_uri_to_path(place))  # type: ignore[no-untyped-call]
        if folder.parent != self.home.artifacts and not folder.parent.exists():
            raise StoreError(
                f"the files of the experiment {experiment.name!r} lie in {folder.parent}, which is not on this "
                "machine: share that folder between the machines, or put `mlflow server --serve-artifacts` "
                "before the database, and name it in MLFLOW_TRACKING_URI"
            )

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
        """Whether this very plan has been logged for this data set before, and its file is still there and whole."""
        logged = self.search_runs(
            f"tags.{schema.KIND} = '{schema.KIND_PLAN}' and tags.{schema.PLAN_DIGEST} = '{plan_digest}' "
            f"and tags.{schema.DATA_DIGEST} = '{data.digest}'"
        )
        for run in logged:
            with suppress(RecordError):
                text = self.content(run, schema.PLAN_FILE)
                if text is not None and from_json(PlanRecord, text, schema.PLAN_FILE):
                    return True
        return False

    def content(self, run: Any, name: str) -> bytes | None:
        """What is in a file of a run; None where it has none. Raises RecordError for one that is not as it was logged.

        run: as MLflow has it.
        """
        content, where = self._content(run, name), f"{name} of run {run.info.run_id}"
        return None if content is None else checksums.check(content, run.data.tags, name, where)

    def _content(self, run: Any, name: str) -> bytes | None:
        if here := addresses.folders(run.info.artifact_uri, self.uri):
            for folder in here:
                with suppress(OSError):
                    return (folder / name).read_bytes()
            return None
        with tempfile.TemporaryDirectory() as copy:
            try:
                return Path(self.client.download_artifacts(run.info.run_id, name, copy)).read_bytes()
            except (MlflowException, OSError):
                return None

    def next_number(self) -> int:
        """What an invocation is numbered with that begins now: one more than the highest in the store."""
        highest = 0
        for run in self.search_runs(f"tags.{schema.NUMBER} LIKE '%'"):
            with suppress(RecordError):
                highest = max(highest, from_tags(ParentRecord, run.data.tags, "", "").number)
        return highest + 1

    def close_runs(self, taken_over: Mapping[tuple[str, int], str]) -> None:
        """Mark as interrupted runs of trainings, by recipe digest and seed, that were taken over from a coordinator."""
        if not taken_over:
            return
        for run in self.search_runs("attributes.status = 'RUNNING'"):
            tags = run.data.tags
            with suppress(KeyError, ValueError):
                if taken_over.get((tags["digest"], int(tags["seed"]))) == tags.get(schema.COORDINATOR):
                    self.interrupt(run.info.run_id)

    @cached_property
    def identity(self) -> str:
        """What tells this store from others, however it is addressed: when its first experiment was made."""
        first = self.client.get_experiment("0")
        return str(first.creation_time) if first.creation_time else self.uri

    def reconcile(self) -> int:
        """End our runs that are marked RUNNING though nobody trains them any more; returns how many trainings.

        Those that a process of this machine began are nobody's once it is gone. Of those whose process cannot be looked
        for, as of another machine, only a store in the caller's own folder tells: there its lock says that nobody else
        is at work. Another output folder may write to any store, and its runs go on.
        """
        if self._in_home:
            moved.bring_home(self.client._tracking_client.store.engine, self.home.artifacts)
        if waited := self._outbox.take_up():
            self._say(f"Delivering how {waited} run{'s' * (waited > 1)} ended: the MLflow store has not heard of it.")
        self._deliver_leftovers()
        ended = 0
        for run in self.search_runs("attributes.status = 'RUNNING'"):
            coordinator = run.data.tags.get(schema.COORDINATOR, "")
            here = is_running(coordinator)
            if here is False or (self._in_home and (here is None or coordinator == self._me)):
                outcome = run.data.tags.get(schema.OUTCOME)
                if outcome in ENDED:  # all but its end was written, and it stands
                    self.client.set_terminated(run.info.run_id, STATUSES.get(outcome, "FINISHED"))
                    continue
                self.interrupt(run.info.run_id)
                ended += run.data.tags.get(schema.KIND) in COUNTED
        return ended

    def _deliver_leftovers(self) -> None:
        """Deliver what an earlier call left; what was for runs and experiments that are deleted by now is let go."""
        told: set[str] = set()
        while self._outbox.runs():
            try:
                self._outbox.flush()
            except SilentStoreError:
                raise
            except StoreError as error:
                if str(error) not in told:
                    self._say(str(error))
                told.add(str(error))
        self.deleted.clear()

    @contextmanager
    def delivering(self) -> Iterator[None]:
        """Within it, what is written is on its way when the call returns, and runs are called by a name of ours until
        MLflow has created them. At the end all is delivered.

        Raises SilentStoreError where the store does not answer then: what waits is in the file, for `reconcile`.
        """
        with stores.asked_once(), self._outbox.at_work():
            yield

    def flush(self, patience: float | None = None, stopped: Callable[[], bool] = lambda: False) -> None:
        """Wait until all that was written is in the store, as `Outbox.flush` does."""
        self._outbox.flush(patience, stopped)

    def _info(self, run_id: str) -> Any | None:
        """What MLflow says of a run; None of one that the store has lost."""
        try:
            return self.client.get_run(run_id).info
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def _deliver(self, write: Write) -> None:
        """Make a write of the outbox."""
        try:
            self._make(write)
        except Exception as error:
            if stores.may_pass(error, served=not self.local):
                raise Unanswered(stores.reason_of(error)) from error
            raise

    def _make(self, write: Write) -> None:
        try:
            if write.kind == CREATE:
                self._create(write)
            else:
                self._write(self._id(write.run), write)
        except MlflowException as error:
            if stores.may_pass(error, served=not self.local):
                raise
            if write.kind == CREATE:
                self._check_experiment(write.content["experiment"])
            elif self._is_deleted(write.run):
                self.deleted += [write.run] if write.run not in self.deleted else []
                raise Refused from None
            if error.error_code == "INVALID_PARAMETER_VALUE":
                raise Refused from error
            raise

    def _create(self, write: Write) -> None:
        asked, known = write.content, self._known_as(write.run) if write.again else None
        if write.again:
            self._doubtful.add(write.run)
        if known is None:
            tags, name, began = asked["tags"], asked["name"], asked["at"]
            known = self.client.create_run(asked["experiment"], start_time=began, tags=tags, run_name=name)
        self._ids[write.run], self._places[write.run] = known.info.run_id, known.info.artifact_uri

    def _check_experiment(self, experiment: str) -> None:
        """Raise Refused where a person deleted an experiment."""
        about = self.client.get_experiment(experiment)
        if about.lifecycle_stage != "active":
            raise Refused from StoreError(
                f"The experiment {about.name!r} was deleted in MLflow while it was written to. Its runs count no "
                "longer: the same command trains them again, in a new experiment. To keep them, restore it first."
            )

    def _write(self, run_id: str, write: Write) -> None:
        """Make a write that is about a run which is there."""
        asked = write.content
        if write.kind == INPUTS:
            data = TrackedDataset(**asked)
            self.client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])
        elif write.kind == BATCH:
            metrics, params, tags = (asked.get(name, []) for name in ("metrics", "params", "tags"))
            self.client.log_batch(
                run_id,
                metrics=[Metric(*values) for values in metrics],
                params=[Param(*values) for values in params],
                tags=[RunTag(*values) for values in tags],
            )
        elif write.kind == FILES:
            self._put_files(run_id, write)
        elif write.kind == REMOVE:
            self._remove(run_id, asked["name"])
        else:
            if write.run in self._doubtful:
                self._known_as(write.run)
                self._doubtful.discard(write.run)
            self.client.set_terminated(run_id, asked["status"], end_time=asked["at"])

    def _remove(self, run_id: str, name: str) -> None:
        try:
            uri = self.client.get_run(run_id).info.artifact_uri
            get_artifact_repository(uri, tracking_uri=self.uri).delete_artifacts(name)  # type: ignore[no-untyped-call]
        except (MlflowException, NotImplementedError, FileNotFoundError) as error:
            if stores.may_pass(error, served=not self.local):
                raise

    def _put_files(self, run_id: str, write: Write) -> None:
        folder = self._outbox.folder / write.content["folder"]
        if not folder.is_dir():  # delivered just before a process was killed
            return
        if any(one.is_symlink() for one in (self._outbox.folder, folder, *folder.rglob("*"))):  # none made here is one
            return
        place = self._places.get(write.run, "")
        if place.startswith("file://"):
            # As MLflow would do it, without asking it first where it has put the run.
            to = Path(local_file_uri_to_path(place))  # type: ignore[no-untyped-call]
            copy_folder(folder, to)
            return
        try:
            self.client.log_artifacts(run_id, str(folder))
        except Exception as error:  # of whatever keeps the files of a server's runs
            if self.local or isinstance(error, MlflowException):
                raise
            raise Unanswered(stores.reason_of(error)) from error

    def _id(self, run: str) -> str:
        """What MLflow calls a run. Raises Refused for one of ours that the store has lost."""
        if "@" not in run:
            return run
        if run not in self._ids:
            known = self._known_as(run)
            if known is None:
                raise Refused
            self._ids[run] = known.info.run_id
        return self._ids[run]

    def _known_as(self, run: str) -> Any | None:
        """The run that was created under a name of ours; None where there is none. Where it was created twice, as an
        answer was lost, the one that was written to stays."""
        wanted, experiment = f"tags.{schema.WRITTEN_AS} = '{run}'", run.partition("@")[2]
        found = list(self.client.search_runs([experiment], wanted, ViewType.ALL))
        found.sort(key=lambda one: (one.info.run_id != self._ids.get(run), one.info.lifecycle_stage, one.info.run_id))
        for double in found[1:]:
            if double.info.lifecycle_stage == "active":
                self.client.delete_run(double.info.run_id)
        return found[0] if found else None

    def _is_deleted(self, run: str) -> bool:
        """Whether a person deleted a run, or the store has lost it."""
        info = self._info(self._ids.get(run, run))
        return info is None or info.lifecycle_stage != "active"

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
        self.put_view(experiment, views.of_plan(plan))
        run_id = self.create_run(experiment, f"{plan.name} ({plan.profile.name})", tags)
        self.log_json(run_id, {schema.PLAN_FILE: to_json(plan), schema.GALLERY_FILE: to_json(gallery)})
        # Last: by this tag the plan is known to have been logged whole.
        self.log(run_id, tags={schema.PLAN_DIGEST: plan.digest})
        return self.created(run_id)

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
        self.put_data(run_id, plan.data.name, plan.data.digest, json.dumps({"source": plan.data.source}))
        self.log(run_id, params={**member.recipe.knobs(), "seed": member.seed}, urgent=False)
        return run_id

    def put_data(self, run_id: str, name: str, digest: str, source: str, source_type: str = "local") -> None:
        """Write which data set a run is trained on; source: JSON, as MLflow has it."""
        about = {"name": name, "digest": digest, "source": source, "source_type": source_type}
        self._outbox.put(run_id, (INPUTS, about))

    def epoch(self, run_id: str, event: Epoch) -> None:
        """Note an epoch's metrics; they are written with those of the next ones, or with the outcome.

        A write costs MLflow nearly the same for one epoch as for ten. What is noted outlives this process: where a run
        does not come to its end, `reconcile` writes it.
        """
        self.log(run_id, metrics_at(event.metrics, event.epoch), urgent=False)

    def end(self, run_id: str, outcome: Outcome) -> None:
        """Write what a training ended as."""
        details: dict[str, Any] = dict(outcome.details)
        folder = self._outbox.new_folder()
        np.savez_compressed(folder / schema.DETAILS_FILE, **details)
        self.close(run_id, outcome.outcome, metrics=metrics_at(outcome.metrics, outcome.epochs), folder=folder)

    def fail(self, run_id: str, why: str) -> None:
        """Mark a training that raised an error; it has no result and will be trained again."""
        self.close(run_id, schema.FAILED, why)

    def stall(self, run_id: str, why: str) -> None:
        """Note that the worker of a run was lost."""
        self.log(run_id, tags={schema.STALLED: why})

    def interrupt(self, run_id: str) -> None:
        """Mark a run that was stopped from outside; it has no result and will be trained again."""
        self.close(run_id, schema.INTERRUPTED)

    def close(
        self, run_id: str, outcome: str, why: str = "", metrics: Sequence[Metric] = (), folder: Path | None = None
    ) -> None:
        """Write what a training or trial ended as, with the end of the traceback where one was raised.

        folder: of the outbox, with files of the run.
        """
        tags = {schema.OUTCOME: outcome, **({schema.ERROR: why[-5_000:]} if why else {})}
        files = [] if folder is None else [(FILES, {"folder": folder.name})]
        status = STATUSES.get(outcome, "FINISHED")
        self._outbox.put(run_id, *files, _batch(metrics, tags=tags), (END, {"status": status, "at": _now()}))

    def close_invocation(self, run_id: str, failures: int) -> None:
        """End the parent run of an invocation that went through."""
        self.set_ended(run_id, "FAILED" if failures else "FINISHED")

    def log(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, str] | None = None,
        *,
        urgent: bool = True,
    ) -> None:
        """Write metrics, parameters and tags of a run; at the latest with its end where that is not urgent."""
        self._outbox.put(run_id, _batch(metrics, params, tags), urgent=urgent)

    def log_json(self, run_id: str, files: Mapping[str, object], folders: Mapping[str, Path] | None = None) -> None:
        """Write JSON files of a run, and folders of others, each by its name, and what they are known by as tags."""
        made = self._outbox.new_folder()
        for name, content in files.items():
            (made / name).write_text(json.dumps(content, indent=2, default=str), encoding="utf-8")
        for name, folder in (folders or {}).items():
            copy_folder(folder, made / name)
        self._outbox.put(run_id, (FILES, {"folder": made.name}), _batch(tags=checksums.of_folder(made)))

    def put_file(self, run_id: str, name: str, content: bytes) -> None:
        """Write a file of a run, by its name among the artifacts."""
        made = self._outbox.new_folder()
        write_atomically(made / name, content)
        self._outbox.put(run_id, (FILES, {"folder": made.name}))

    def put_folder(self, run_id: str, folder: Path) -> None:
        """Write all files in a folder as those of a run, under the names that they have there."""
        made = self._outbox.new_folder()
        copy_folder(folder, made)
        self._outbox.put(run_id, (FILES, {"folder": made.name}))

    def set_ended(self, run_id: str, status: str, at: int | None = None) -> None:
        """Write how a run ended, in MLflow's words, and when, in ms; without a time, now."""
        self._outbox.put(run_id, (END, {"status": status, "at": at or _now()}))

    def remove(self, run_id: str, name: str) -> None:
        """Delete an artifact of a run, if it is there and the store can delete any."""
        self._outbox.put(run_id, (REMOVE, {"name": name}))

    def create_run(self, experiment: str, name: str, tags: Mapping[str, str], began: int | None = None) -> str:
        """What a new run is called, with its tags and what every run says of itself: its id, or, within `delivering`, a
        name of ours that this store takes for it. began: when, in ms, if not now."""
        ours = f"{uuid.uuid4().hex}@{experiment}"
        everyone = {
            **schema.MARKED,
            schema.COORDINATOR: self._me,
            schema.WRITTEN_AS: ours,
            "mlflow.user": user(),
            "mlflow.source.name": "ablate",
            "mlflow.source.type": "LOCAL",
        }
        commit = tags.get(schema.PROVENANCE + "commit", "unknown")
        if commit != "unknown":
            everyone["mlflow.source.git.commit"] = commit
        about = {"experiment": experiment, "name": name, "tags": {**everyone, **tags}, "at": began or _now()}
        self._outbox.put(ours, (CREATE, about))
        return self._ids.get(ours, ours)

    def created(self, run_id: str) -> str:
        """The id of a new run, once all that has been written of it is in the store."""
        self.flush()
        return self._ids.get(run_id, run_id)

    def search_runs(self, filter_string: str) -> list[Any]:
        """Every run of ours, in any experiment, for which MLflow's filter holds; none that was deleted or set aside."""
        ask = self.client.search_experiments
        experiments = [e.experiment_id for e in paging.entries(lambda token: ask(page_token=token))]
        if not experiments:
            return []
        found = paging.entries(
            lambda token: self.client.search_runs(experiments, filter_string, max_results=1_000, page_token=token)
        )
        return [run for run in found if schema.counts(run.data.tags)]


def open_store(home: Home, say: Callable[[str], None] = lambda sentence: None) -> Store:
    """The store, once no other program holds its file. Raises StoreError, in a sentence, where it cannot be opened.

    say: is given a sentence where it does not answer for a while, and when it does again.
    """
    wait_for_others(home.tracking_uri, say)
    with stores.opening(home.tracking_uri):
        store = Store(home, say)
        store.client.search_experiments(max_results=1)
    return store


def ask_server(home: Home) -> None:
    """Ask a tracking server or a database whether it is there, before anything is done that takes long.

    Raises StoreError, in a sentence, where it is not. A file is left alone.
    """
    if addresses.sqlite_file(home.tracking_uri) is None:
        open_store(home)


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
    now = _now()
    return [Metric(name, value, now, step) for name, value in values.items()]


def _now() -> int:
    """As MLflow has times."""
    return int(time.time() * 1000)


def _batch(
    metrics: Sequence[Metric] = (),
    params: Mapping[str, object] | None = None,
    tags: Mapping[str, str] | None = None,
) -> tuple[str, dict[str, Any]]:
    """A write of metrics, parameters and tags."""
    return BATCH, {
        "metrics": [(m.key, m.value, m.timestamp, m.step) for m in metrics],
        "params": [(name, str(value)) for name, value in (params or {}).items()],
        "tags": list((tags or {}).items()),
    }


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
    return process_named(os.getpid())


def process_named(pid: int) -> str:
    """What tells a process of this machine from all others, as `is_running` reads it."""
    return f"{socket.gethostname()}/{_boot()}/{pid}/{psutil.Process(pid).create_time():.2f}"


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
