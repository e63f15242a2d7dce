"""The MLflow store as tidy data: which plans were invoked, what their runs ended as, and how they got there."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pandas as pd

from cifar_ablations.ablations import addresses, checksums, extensions, metrics, paging, record, schema, stores
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.metrics import EPOCHS_TO_TARGET, REACHED_TARGET
from cifar_ablations.ablations.record import (
    AskedRecord,
    GalleryRecord,
    ParentRecord,
    PlanParentRecord,
    PlanRecord,
    ProvenanceRecord,
    RecordError,
    RunRecord,
    TrialRecord,
)
from cifar_ablations.reports.reading import order, stored
from cifar_ablations.reports.reading.order import Moment
from cifar_ablations.reports.reading.stored import Stored

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

# Read by mlflow when it is first imported, which is below, and late: it takes seconds.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

RUN_COLUMNS = [
    "arm",
    "seed",
    "digest",
    "outcome",
    "run_id",
    "experiment_id",
    "parent_run_id",
    "artifacts",
    "ended",
    "dated",
    "converged",
    "backend",
    "threads",
    "instructions",
    "kernels",
    "extension",
]
NOT_SAID = "none"
"""Of what a run's tags do not say: those of earlier versions, of torch which build of the kernels it was, and of a run
that used no extension, which."""
METRIC_COLUMNS = [*schema.ENDINGS, *schema.STATES, *schema.CURVES]
"""The suite's own, of a curve the last epoch's value. Those of extensions stand behind them."""
KNOWN_OF_DIVERGED = {
    schema.SECONDS,
    schema.EPOCHS,
    schema.FIRST_EPOCH_LOSS,
    *(name for name in schema.STATES if name.startswith(schema.INITIAL)),
}
"""Metrics that a run has whatever became of it; its others are of a network that was lost."""
HUGE = 1e100
"""From here on a number stands for infinity, of which a database keeps its largest number."""
CURVE_COLUMNS = ["arm", "seed", "epoch", "metric", "value"]


Asked = TypeVar("Asked", bound=AskedRecord)
Tagged = TypeVar("Tagged", RunRecord, TrialRecord)


@dataclass(frozen=True)
class Logged(Generic[Asked]):
    """One invocation of a plan or a search: what produced it, and what it fixed before its first run."""

    run_id: str
    experiment_id: str
    started: datetime
    running: bool
    provenance: ProvenanceRecord
    plan: Asked
    artifacts: str = ""
    """Where its files lie; "" if that is not known."""
    number: int = 0
    """One more than the highest before it in the store; 0 from versions that had none."""
    dated: float = 0.0
    """When it was logged by the clock of its machine, in milliseconds since 1970; `started` is by the store's order."""
    checksums: Mapping[str, str] = field(default_factory=dict)
    """Those of its files, as tags; none from versions that had none."""

    @property
    def order(self) -> tuple[int, datetime, str]:
        """What sorts invocations of plans and searches as they were logged."""
        return self.number, self.started, self.run_id

    @property
    def name(self) -> str:
        """The name of the plan or the search."""
        return self.plan.name

    @property
    def digest(self) -> str:
        """The hash of all that it fixes."""
        return self.plan.digest

    @property
    def profile(self) -> str:
        """The profile's name."""
        return self.plan.profile.name

    @property
    def data_name(self) -> str:
        """The data set's name."""
        return self.plan.data.name

    @property
    def data_digest(self) -> str:
        """The hash of the images and labels."""
        return self.plan.data.digest

    @property
    def stand_in(self) -> bool:
        """Whether the images are the procedurally drawn ones."""
        return self.plan.data.stand_in

    @property
    def overrides(self) -> tuple[str, ...]:
        """What the command changed of the recipe, such as 'dropout.p=0.3'."""
        return self.plan.overrides

    @property
    def chance(self) -> float:
        """The accuracy of guessing."""
        return chance(self.plan)

    @property
    def produced_by(self) -> dict[str, str]:
        """What is known of its provenance, for a list: by what it is called, in alphabetical order."""
        return dict(sorted(record.to_tags(self.provenance).items()))


@dataclass(frozen=True)
class Invocation(Logged[PlanRecord]):
    """One invocation of a plan."""


def connect(tracking_uri: str) -> MlflowClient:
    """A client of an existing store. Raises AblateError for a SQLite file that does not exist, and where it fails."""
    file = addresses.sqlite_file(tracking_uri)
    if file is not None and not file.is_file():
        raise AblateError(f"no runs yet: there is no store at {file}. Start with `make ablate`.")
    from mlflow.tracking import MlflowClient

    with stores.opening(tracking_uri):
        client = MlflowClient(tracking_uri=tracking_uri)
        client.search_experiments(max_results=1)
    return client


def invocations(tracking_uri: str, unreadable: list[str] | None = None) -> list[Invocation]:
    """Every invocation of every plan, newest first. One that stopped before it logged its plan is left out.

    One whose plan cannot be read is left out too, and a sentence that says why is appended to `unreadable`. Raises
    AblateError where a SQLite store does not exist yet.
    """
    client = connect(tracking_uri)
    found, gone = list[Invocation](), list[tuple[Stored, dict[str, Any]]]()
    parents = stored.find(client, {schema.KIND: schema.KIND_PLAN})
    moments = order.moments(parents)
    for run in parents:
        try:
            invocation = _invocation(client, run, moments[run.run_id])
            if invocation is not None:
                found.append(invocation)
            elif schema.PLAN_DIGEST in run.tags:  # it was logged whole
                gone.append((run, logged(run, moments[run.run_id])))
        except RecordError as error:
            if unreadable is not None:
                unreadable.append(str(error))
    # A digest names all that a plan fixes: where the file is lost, another invocation of the same plan has the same.
    plans = {(one.digest, one.data_digest): one.plan for one in found}
    for run, about in gone:
        plan = plans.get((run.tags[schema.PLAN_DIGEST], run.tags.get(schema.DATA_DIGEST, "")))
        if plan is not None:
            found.append(Invocation(**about, plan=plan))
        elif unreadable is not None:
            unreadable.append(lost_file(run, schema.PLAN_FILE, schema.PLAN, "run"))
    return sorted(found, key=lambda invocation: (invocation.started, invocation.run_id), reverse=True)


def lost_file(run: Stored, file: str, kind: str, verb: str) -> str:
    """What is said of a plan or search whose file is gone; kind: the tag with its name; verb: of the command."""
    name = run.tags.get(kind, "?")
    return (
        f"{file} of run {run.run_id} is missing, so {kind} {name!r} has no page of it; `ablate {verb} {name}`, with "
        "the same options, writes it again and trains nothing twice"
    )


def _invocation(client: MlflowClient, run: Stored, moment: Moment) -> Invocation | None:
    text = stored.checked(client, run, schema.PLAN_FILE)
    if text is None:
        return None
    plan = record.from_json(PlanRecord, text, f"{schema.PLAN_FILE} of run {run.run_id}")
    return Invocation(**logged(run, moment), plan=with_kind_of_data(plan, run.tags, f"run {run.run_id}"))


def logged(run: Stored, moment: Moment) -> dict[str, Any]:
    """What the parent run of an invocation says of it: the fields of `Logged` but its plan.

    Provenance that its tags do not say, as those of older versions, is "". Raises RecordError where they cannot be
    read.
    """
    return {
        "run_id": run.run_id,
        "experiment_id": run.experiment_id,
        "started": datetime.fromtimestamp(moment.at / 1000, UTC),
        "running": run.status == "RUNNING",
        "provenance": record.from_tags(ProvenanceRecord, run.tags, schema.PROVENANCE, f"run {run.run_id}"),
        "artifacts": run.artifacts,
        "number": record.from_tags(ParentRecord, run.tags, "", f"run {run.run_id}").number,
        "dated": run.started,
        "checksums": checksums.among(run.tags),
    }


def with_kind_of_data(plan: PlanRecord, tags: Mapping[str, str], where: str = "a run") -> PlanRecord:
    """A plan as logged, whose `data` says that images were drawn also where its run's tags alone do.

    Raises RecordError, naming `where`, where the tags cannot be read.
    """
    if not record.from_tags(PlanParentRecord, tags, "", where).stand_in:
        return plan
    return replace(plan, data=replace(plan.data, stand_in=True))


def rehearsal(plan: AskedRecord) -> bool:
    """Whether a plan's images were drawn by a program."""
    return plan.data.stand_in


def data_kind(plan: AskedRecord) -> str:
    """What a plan's runs were trained on, in a word or three: for a column of a file."""
    return schema.REHEARSAL if rehearsal(plan) else "images"


def gallery_of(client: MlflowClient, invocation: Invocation) -> GalleryRecord:
    """What some training images looked like; an error where that is gone or cannot be read."""
    text = stored.content(client, invocation.run_id, invocation.artifacts, schema.GALLERY_FILE)
    try:
        where = f"{schema.GALLERY_FILE} of run {invocation.run_id}"
        if text is None:
            raise RecordError(f"{where} is missing")
        checksums.check(text, invocation.checksums, schema.GALLERY_FILE, where)
        return record.from_json(GalleryRecord, text, where)
    except RecordError as error:
        return GalleryRecord(error=str(error))


def matching_runs(
    client: MlflowClient, plan: PlanRecord, every_seed: bool = False, unreadable: list[str] | None = None
) -> pd.DataFrame:
    """Every training of the plan's arms, seeds and data, whatever became of it and whichever invocation made it.

    every_seed: of all seeds there are, planned or not. Columns RUN_COLUMNS and `_metrics_of` the plan, in the order of
    the plan; `outcome` is "" while a run is training. `seed` is the plan's: an arm with a `seed_offset` was trained
    with that much more. `ended` is by the order of the store, and `dated` by the clock of the machine. A run whose tags
    cannot be read is left out, and a sentence that says why is appended to `unreadable`; so are runs by an earlier
    version of an extension.
    """
    data_digest, planned = plan.data.digest, set(plan.seeds)
    # Two arms may be the same recipe under two names: both get the run.
    named: dict[str, list[tuple[str, int]]] = {}
    for arm in plan.arms:
        named.setdefault(arm.digest, []).append((arm.name, arm.seed_offset))
    found = list(stored.find(client, {schema.KIND: schema.KIND_TRAINING, schema.DATA_DIGEST: data_digest}))
    rows, measured = [], _metrics_of(plan, found)
    moments = order.moments(stored.find(client, {schema.KIND: schema.KIND_PLAN}))
    for run, about in tagged(RunRecord, found, unreadable):
        ending = {metric: run.metrics.get(metric) for metric in measured}
        place = {
            "digest": about.digest,
            "outcome": about.outcome,
            "run_id": run.run_id,
            "experiment_id": run.experiment_id,
            "parent_run_id": about.parent,
            "artifacts": run.artifacts,
            "ended": moments.get(about.parent, order.UNKNOWN).ended(run.ended),
            "dated": run.ended,
            "converged": about.outcome in schema.CONVERGED,
            "backend": run.tags.get(f"{schema.ENVIRONMENT}backend", "torch"),  # runs of 0.1.0 do not say
            **{
                name: run.tags.get(schema.ENVIRONMENT + name, NOT_SAID)
                for name in ("threads", "instructions", "kernels")
            },
            "extension": run.tags.get(f"{schema.ENVIRONMENT}extension", NOT_SAID),
        }
        rows += [
            {"arm": name, "seed": about.seed - offset, **place, **ending}
            for name, offset in named.get(about.digest, ())
            if (about.seed >= offset if every_seed else about.seed - offset in planned)
        ]
    frame = pd.DataFrame(rows, columns=[*RUN_COLUMNS, *measured])
    frame = frame.astype(dict.fromkeys([*measured, "ended", "dated"], float) | {"seed": int, "converged": bool})
    frame = _of_newest_code(frame, unreadable)
    places = {arm.name: i for i, arm in enumerate(plan.arms)}
    frame = frame.sort_values(["arm", "seed", "ended", "run_id"], key=lambda c: c.map(places) if c.name == "arm" else c)
    return frame.reset_index(drop=True)


def _metrics_of(plan: PlanRecord, runs: Iterable[Stored]) -> list[str]:
    """The metrics that a run of a plan may have: those that are known, and what its claims are about where a run has
    it, as one of an extension that is not at hand."""
    logged = [name for name, known in metrics.known().items() if known.logged]
    others = {claim.metric for claim in plan.claims} - {*logged, EPOCHS_TO_TARGET, REACHED_TARGET}
    return [*dict.fromkeys([*METRIC_COLUMNS, *logged, *sorted(n for n in others if any(n in r.metrics for r in runs))])]


def _of_newest_code(frame: pd.DataFrame, left_out: list[str] | None) -> pd.DataFrame:
    """The frame without results by another version of an extension than the last one that a run ended with."""
    ended = frame["outcome"].isin(schema.RESULTS)
    codes = frame.loc[ended].sort_values(["ended", "dated"])["extension"]
    newest = {name: digest for code in codes for name, digest in extensions.versions(code).items()}
    old = {code: _outdated(code, newest) for code in set(codes)}
    gone = ended & frame["extension"].map(lambda code: bool(old.get(code)))
    for name in sorted({name for names in old.values() for name in names}):
        count = frame.loc[
            gone & frame["extension"].map(lambda code, n=name: n in old.get(code, ())), "run_id"
        ].nunique()
        if left_out is not None:
            runs = "1 run" if count == 1 else f"{count} runs"
            left_out.append(f"{runs} by an earlier version of the extension {name}, whose code has changed since")
    return frame[~gone]


def _outdated(code: str, newest: Mapping[str, str]) -> list[str]:
    """The extensions of which it names another version than the newest."""
    return [name for name, digest in extensions.versions(code).items() if newest[name] != digest]


def runs_of(
    client: MlflowClient, plan: PlanRecord, every_seed: bool = False, unreadable: list[str] | None = None
) -> pd.DataFrame:
    """One row per (arm, seed) with a result: the earliest, where a run was trained twice.

    Columns, `every_seed` and `unreadable` as in `matching_runs`. Accuracies and the gap are fractions. A run that
    diverged has none of the numbers that a training ends with; `converged` tells it from the others.
    """
    return results_among(matching_runs(client, plan, every_seed, unreadable))


def chance(plan: AskedRecord) -> float:
    """The accuracy of guessing on a plan's (or a search's) data."""
    return 1 / (len(plan.data.classes) or 10)


def results_among(matching: pd.DataFrame) -> pd.DataFrame:
    """`runs_of` from the frame of `matching_runs`, which is sorted by the time of ending within (arm, seed)."""
    done = matching[matching["outcome"].isin(schema.RESULTS)]
    # One that was trained before an extension was there has none of its metrics: then the one that has them counts.
    added = [name for name in done.columns if name not in RUN_COLUMNS and name not in METRIC_COLUMNS]
    if added and len(done):
        missing = done[added].isna().sum(axis=1)
        done = done.loc[missing.groupby([done["arm"], done["seed"]], sort=False).idxmin()]
    done = done.drop_duplicates(["arm", "seed"], keep="first").reset_index(drop=True)
    # What a network was like before it diverged is a number like any other.
    measured = [name for name in done.columns if name not in RUN_COLUMNS]
    lost = [name for name in measured if name not in KNOWN_OF_DIVERGED and not name.startswith(schema.INITIAL)]
    done.loc[~done["converged"], lost] = math.nan
    done[measured] = done[measured].where(done[measured].abs() < HUGE)
    return done


def with_epochs_to_target(client: MlflowClient, runs: pd.DataFrame, plan: PlanRecord) -> pd.DataFrame:
    """The runs with the first epoch whose validation accuracy reached the plan's target, and whether one did.

    A run that never did, or that diverged, has no such epoch; one that held nothing out has NaN in both. The columns
    are left out where no claim of the plan asks for it.
    """
    asked = [name for claim in plan.claims for name in (claim.metric, *claim.mechanism)]
    if EPOCHS_TO_TARGET not in asked or runs.empty:
        return runs
    curves = curves_of(client, runs, [schema.VALIDATION_ACCURACY])
    there = curves[curves["value"] >= plan.rule.target].groupby(["arm", "seed"])["epoch"].min()
    known = curves.groupby(["arm", "seed"])["epoch"].max()
    lost = pd.MultiIndex.from_frame(runs.loc[~runs["converged"], ["arm", "seed"]])
    epochs = there.reindex(known.index).where(~known.index.isin(lost))
    found = pd.DataFrame({EPOCHS_TO_TARGET: epochs, REACHED_TARGET: epochs.notna().astype(float)})
    return runs.join(found, on=["arm", "seed"])


def curves_of(
    client: MlflowClient, runs: pd.DataFrame, metrics: Sequence[str] = (schema.VALIDATION_ACCURACY, schema.TRAIN_LOSS)
) -> pd.DataFrame:
    """Per-epoch metrics of the runs of `runs_of`, long: columns CURVE_COLUMNS, one row per (arm, seed, epoch, metric).

    Where an epoch was logged twice (a resumed run), the later value stands.
    """
    ids, names = list(dict.fromkeys(runs["run_id"])), sorted(set(metrics))
    curves = stored.histories(client, ids, names)
    placed = runs[["arm", "seed"]].assign(run=pd.Index(ids).get_indexer(runs["run_id"]))
    merged = placed.merge(curves, on="run", how="inner")
    return merged.assign(metric=pd.Index(names, dtype="str").take(merged["metric"].to_numpy()))[CURVE_COLUMNS]


def search(client: MlflowClient, condition: str) -> list[Run]:
    """Our runs, in any experiment, for which MLflow's filter holds; none that was set aside."""
    experiments = [e.experiment_id for e in paging.entries(lambda token: client.search_experiments(page_token=token))]
    if not experiments:
        return []
    found = paging.entries(
        lambda token: client.search_runs(experiments, condition, max_results=2_000, page_token=token)
    )
    return [run for run in found if schema.counts(run.data.tags)]


def tagged(
    kind: type[Tagged], runs: Iterable[Stored], unreadable: list[str] | None = None
) -> Iterator[tuple[Stored, Tagged]]:
    """Runs with what their tags say. One whose tags cannot be read is left out, with a sentence in `unreadable`."""
    for run in runs:
        try:
            yield run, record.from_tags(kind, run.tags, "", f"run {run.run_id}")
        except RecordError as error:
            if unreadable is not None:
                unreadable.append(str(error))
