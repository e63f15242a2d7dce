"""Brings the trainings of plans from one store into another, each once, with all that is known of them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, ViewType
from mlflow.store.tracking.dbmodels.models import SqlMetric
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from cifar_ablations.ablations import addresses, paging, schema, stores
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.record import (
    EnvironmentRecord,
    PlanParentRecord,
    PlanRecord,
    RecordError,
    RunRecord,
    from_json,
    from_tags,
)
from cifar_ablations.ablations.secrets import without_password
from cifar_ablations.ablations.training_key import TrainingKey, same_training
from cifar_ablations.study.store import views
from cifar_ablations.study.store.tracking import Store

OF_THE_STORE = {schema.COORDINATOR, schema.WRITTEN_AS, schema.PARENT, schema.NUMBER, "mlflow.runName"}
"""Tags that say where a run stands in its store. A copy gets its own, but no number among the invocations: it is dated
by the clock that it was logged by, and is not the newest one here."""

AT_ONCE = 50
"""Runs whose metrics are read in one go."""


@dataclass
class Merged:
    """What came of a merge."""

    trainings: int = 0
    """How many were brought."""
    known: int = 0
    """How many were here already."""
    plans: list[str] = field(default_factory=list)
    """The names of the plans that they are of, each once."""


def client_of(address: str) -> Any:
    """A client of another store, which is only read. Raises AblateError where there is none."""
    file = addresses.sqlite_file(address)
    if file is not None and not file.is_file():
        raise AblateError(f"there is no store at {file}: name an output folder of ablate's, or a store's address")
    with stores.opening(address):
        client = mlflow.MlflowClient(tracking_uri=address)
        client.search_experiments(max_results=1)
    return client


def merge(store: Store, address: str, say: Callable[[str], None]) -> Merged:
    """Bring every training with a result that this store lacks, with its plan's invocation, from another store.

    A training is known by recipe, seed, data and the code of its extensions (`same_training`); a copy says in a tag of
    which run it is one. Metrics keep their steps and times, files their checksums. What a merge that was stopped had
    begun counts as interrupted, and is brought anew. Hold the output folder's lock; call it within `delivering`.

    Raises AblateError where the two have no data in common, and for a plan that this version cannot read; then nothing
    was brought.
    """
    other = _Other(address)
    ours = _trainings(store.search_runs(f"tags.{schema.KIND} = '{schema.KIND_TRAINING}'"), lambda _: None)
    parents = {run.info.run_id: run for run in other.runs(schema.KIND_PLAN)}
    theirs = _trainings(other.runs(schema.KIND_TRAINING), say)
    theirs = _on_our_data(store, ours, _of_invocations(theirs, parents, say), other.shown, say)
    merged, lacking = Merged(), dict[str, list[_Training]]()
    here: dict[tuple[str, int, str], list[TrainingKey]] = {}
    for one in ours:
        here.setdefault(one.place, []).append(one.key)
    for one in theirs:
        if any(same_training(known, one.key) for known in here.get(one.place, ())):
            merged.known += 1
        else:
            here.setdefault(one.place, []).append(one.key)
            lacking.setdefault(one.about.parent, []).append(one)
    for kind, what in ((schema.KIND_SEARCH, "searches"), (schema.KIND_COMMANDS, "plans of commands")):
        if count := len(other.runs(kind)):
            say(f"Left there: {what} ({count}); only trainings of plans are brought.")
    digests, plans = {one.about.data_digest for one in theirs}, dict[str, PlanRecord]()
    for parent, run in parents.items():
        logged = schema.PLAN_DIGEST in run.data.tags and run.data.tags.get(schema.DATA_DIGEST) in digests
        if parent in lacking or logged:  # also what was asked before: it says what was fixed when, and changed since
            try:
                plans[parent] = other.plan(run)
            except AblateError as error:
                if parent in lacking:
                    raise
                say(f"Left out: {error}.")
    copied = _copied(store)
    for parent, plan in plans.items():
        run, trainings = parents[parent], lacking.get(parent, [])
        experiment = store.experiment(plan.name, plan.data, views.of_plan(plan))
        new_parent = copied.get(parent) or copied.get(run.data.tags.get(schema.COPY_OF, ""))
        if new_parent is None:
            new_parent = store.created(_copy(store, other, experiment, run, {}))
        histories = other.histories([one.run.info.run_id for one in trainings])
        for one in trainings:
            _copy(store, other, experiment, one.run, {schema.PARENT: new_parent}, histories[one.run.info.run_id])
        merged.trainings += len(trainings)
        merged.plans += [plan.name] * (bool(trainings) and plan.name not in merged.plans)
    return merged


@dataclass(frozen=True)
class _Training:
    """A training with a result: its run, as MLflow has it, and what that says of it."""

    run: Any
    about: RunRecord
    key: TrainingKey

    @property
    def place(self) -> tuple[str, int, str]:
        """What is equal of the same trainings."""
        return self.key.recipe, self.key.seed, self.key.data


def _trainings(runs: Iterable[Any], say: Callable[[str], None]) -> list[_Training]:
    found = []
    for run in runs:
        tags = run.data.tags
        try:
            about = from_tags(RunRecord, tags, "", f"run {run.info.run_id}")
        except RecordError as error:
            say(f"Left out: {error}.")
            continue
        if about.outcome in schema.RESULTS and run.info.status != "RUNNING" and schema.DOUBLE not in tags:
            try:
                environment = from_tags(EnvironmentRecord, tags, schema.ENVIRONMENT, "a run")
            except RecordError:  # those of 0.1.0 do not say it whole
                environment = None
            found.append(_Training(run, about, TrainingKey(about.digest, about.seed, about.data_digest, environment)))
    return found


def _of_invocations(
    trainings: Sequence[_Training], parents: Mapping[str, Any], say: Callable[[str], None]
) -> list[_Training]:
    """Those whose plan's invocation is there."""
    found = [one for one in trainings if one.about.parent in parents]
    if gone := len(trainings) - len(found):
        say(f"Left out: {gone} training{'s' * (gone > 1)} whose plan is not in the store any more.")
    return found


def _on_our_data(
    store: Store, ours: Sequence[_Training], theirs: Sequence[_Training], there: str, say: Callable[[str], None]
) -> list[_Training]:
    """Those on data that ours are on too, or all where there are none of ours: others would not be compared.

    Raises AblateError where ours are on other data than all of these.
    """
    known = {one.about.data_digest: one.about.data for one in ours}
    foreign = {one.about.data_digest: one.about.data for one in theirs if one.about.data_digest not in known}
    if not known or not foreign:
        return list(theirs)
    left, here = (" and ".join(f"{name} ({key[:8]})" for key, name in some.items()) for some in (foreign, known))
    found = [one for one in theirs if one.about.data_digest in known]
    if not found:
        raise AblateError(
            f"{there} has trainings on {left}, and those in {store.home.shown(store.home.folder)} are on {here}: "
            "they would not be compared, and nothing was brought. To keep them, name an output folder of their own in "
            "ABLATE_HOME"
        )
    say(f"Left there: {len(theirs) - len(found)} trainings on {left}; those here are on {here}.")
    return found


def _copied(store: Store) -> dict[str, str]:
    """The runs of invocations that are copies, by the run that each is a copy of."""
    parents = store.search_runs(f"tags.{schema.KIND} = '{schema.KIND_PLAN}'")
    parents = [run for run in parents if schema.PLAN_DIGEST in run.data.tags]  # logged whole
    found = {str(run.info.run_id): str(run.info.run_id) for run in parents}
    return found | {of: run.info.run_id for run in parents if (of := run.data.tags.get(schema.COPY_OF))}


def _copy(
    store: Store, other: _Other, experiment: str, run: Any, tags: Mapping[str, str], history: Sequence[Metric] = ()
) -> str:
    """What a copy of a run is called: as `Store.create_run` says."""
    info, theirs = run.info, run.data.tags
    kept = {name: value for name, value in theirs.items() if name not in OF_THE_STORE}
    said = {schema.OUTCOME, schema.PLAN_DIGEST} & kept.keys()  # by these a run counts as whole: they come last
    first = {**{name: value for name, value in kept.items() if name not in said}, **tags}
    first[schema.COPY_OF] = theirs.get(schema.COPY_OF, info.run_id)
    made = store.create_run(experiment, info.run_name or "", first, began=info.start_time)
    for given in run.inputs.dataset_inputs[:1]:
        about = given.dataset
        store.put_data(made, about.name, about.digest, about.source, about.source_type)
    store.log(made, history, params=run.data.params, urgent=False)
    with other.files(run) as folder:
        if folder is not None:
            try:
                store.put_folder(made, folder)
            except FileNotFoundError:
                raise AblateError(
                    f"files of run {info.run_id} in {other.shown} went away while they were copied; give the same "
                    "command again"
                ) from None
    store.log(made, tags={name: kept[name] for name in said})
    # Of an invocation that goes on there, or was killed, only what had ended is brought.
    store.set_ended(made, "KILLED" if info.status == "RUNNING" else info.status, info.end_time)
    return made


def _engine(client: Any) -> Engine | None:
    """Of the database that a client reads from; None of a server, which has one to itself."""
    found: Engine | None = getattr(client._tracking_client.store, "engine", None)
    return found


class _Other:
    """The store that is read."""

    def __init__(self, address: str):
        self.address, self.shown, self._client = address, without_password(address), client_of(address)

    def runs(self, kind: str) -> list[Any]:
        """Those of a kind that count, the oldest first."""
        ask = self._client.search_experiments
        experiments = [e.experiment_id for e in paging.entries(lambda token: ask(page_token=token))]
        wanted = f"tags.{schema.KIND} = '{kind}'"
        found = paging.entries(
            lambda token: self._client.search_runs(
                experiments, wanted, ViewType.ACTIVE_ONLY, 1_000, ["attributes.start_time ASC"], token
            )
        )
        return [run for run in found if schema.counts(run.data.tags)]

    def plan(self, run: Any) -> PlanRecord:
        """The plan of an invocation. Raises AblateError for one that this version cannot read."""
        where = f"{schema.PLAN_FILE} of run {run.info.run_id} in {self.shown}"
        try:
            from_tags(PlanParentRecord, run.data.tags, "", where)
            with self.files(run) as folder:
                content = None if folder is None else (folder / schema.PLAN_FILE).read_bytes()
            if content is None:
                raise RecordError(f"{where} is gone")
            return from_json(PlanRecord, content, where)
        except (OSError, RecordError) as error:
            raise AblateError(
                f"{error}. It may be of another version, whose trainings cannot be brought here"
            ) from error

    @contextmanager
    def files(self, run: Any) -> Iterator[Path | None]:
        """The folder of a run's files, or of copies of them; None where there are none."""
        with tempfile.TemporaryDirectory() as copies:
            if addresses.folders(run.info.artifact_uri, self.address):
                yield self._folder(run)
            else:
                self._client.download_artifacts(run.info.run_id, "", copies)
                yield Path(copies)

    def _folder(self, run: Any) -> Path | None:
        """The folder of a run's files on this machine; another person's store may name any, and put links into it."""
        for folder in addresses.folders(run.info.artifact_uri, self.address):
            named = folder.name == "artifacts" and folder.parent.name == run.info.run_id
            if named and re.fullmatch("[0-9a-f]{32}", run.info.run_id) and folder.is_dir():
                for path in (folder.parent, folder, *folder.rglob("*")):
                    if path.is_symlink() or not (path.is_dir() or path.is_file() or not path.exists()):
                        raise AblateError(f"{path} is a link, a pipe or a device, and its run cannot be brought")
                return folder
        return None

    def histories(self, runs: Sequence[str]) -> dict[str, list[Metric]]:
        """Every value of every metric of some runs, with its time and step."""
        engine = _engine(self._client)
        if engine is None:
            return {run: self._asked(run) for run in runs}
        found: dict[str, list[Metric]] = {run: [] for run in runs}
        with Session(engine) as session:
            for first in range(0, len(runs), AT_ONCE):
                some = select(SqlMetric).where(SqlMetric.run_uuid.in_(runs[first : first + AT_ONCE]))
                for one in session.scalars(some):
                    found[str(one.run_uuid)].append(one.to_mlflow_entity())  # type: ignore[no-untyped-call]
        return found

    def _asked(self, run: str) -> list[Metric]:
        known = self._client.get_run(run).data.metrics
        return [one for name in known for one in self._client.get_metric_history(run, name)]
