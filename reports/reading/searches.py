"""Searches in the MLflow store as tidy data: what was asked, which trials ran, and what they came to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import (
    FrontRecord,
    Record,
    RecordError,
    SearchOutcomeRecord,
    SearchRecord,
    StudyRecord,
    TrialRecord,
    Value,
    WinnerRecord,
    from_json,
)
from cifar_ablations.reports.reading import load, order, stored
from cifar_ablations.reports.reading.stored import Stored

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

TRIAL_COLUMNS = [
    "study",
    "trial",
    "outcome",
    "value",
    "last",
    "seconds",
    "epochs",
    "digest",
    "run_id",
    "experiment_id",
    "ended",
    "dated",
    "origin",
]
CURVE_COLUMNS = ["study", "trial", "epoch", "value"]
COUNTED = (*schema.RESULTS, schema.PRUNED)
"""Outcomes of trials that are the search's; what failed or was interrupted says nothing, and is only listed."""


@dataclass(frozen=True)
class Search(load.Logged[SearchRecord]):
    """One invocation of a search: `plan` is what it fixed before its first trial, `outcome` what it came to.

    There is no outcome before the search has ended.
    """

    outcome: SearchOutcomeRecord | None = None

    @property
    def winner(self) -> WinnerRecord | None:
        """The best recipe of all studies, where the search has ended with one."""
        return self.outcome.winner if self.outcome else None


@dataclass(frozen=True)
class Parameter:
    """What a study searched: a range of numbers, or choices."""

    name: str
    low: float = math.nan
    high: float = math.nan
    log: bool = False
    choices: tuple[str, ...] = ()
    doc: str = ""

    @property
    def numeric(self) -> bool:
        """Whether it is a range of numbers."""
        return not self.choices

    @property
    def width(self) -> float:
        """What the range spans: decades where it is logarithmic, else high less low."""
        return math.log10(self.high / self.low) if self.log else self.high - self.low

    def place(self, value: Any) -> float:
        """Where a value lies on the axis that was searched: its logarithm, itself, or the number of the choice."""
        if not self.numeric:
            return float(self.choices.index(str(value))) if str(value) in self.choices else math.nan
        return math.log10(value) if self.log else float(value)


@dataclass(frozen=True)
class Study:
    """A study of a search: what was fixed, what was searched, and what became of the ranges.

    `widened` counts how often they were; `edge` names the parameters whose best value lies at the end of a range after
    that. Both are None before the search has ended. `sampler` is the search's unless the study has one of its own;
    `front` has the trials that no other beats in both accuracy and time, where both were asked for.
    """

    name: str
    parameters: list[Parameter]
    fixed: Mapping[str, Value] = field(default_factory=dict)
    widened: int | None = None
    edge: tuple[str, ...] | None = None
    sampler: str = ""
    front: tuple[FrontRecord, ...] = ()


def searches(tracking_uri: str, unreadable: list[str] | None = None) -> list[Search]:
    """Every invocation of every search, newest first. One that stopped before it logged what it asks is left out.

    One that cannot be read is left out too, and a sentence that says why is appended to `unreadable`. A resumed search
    has the outcome of whichever of its invocations ended it. Raises AblateError where a SQLite store does not exist.
    """
    client = load.connect(tracking_uri)
    found, gone = list[Search](), list[Stored]()
    parents = stored.find(client, {schema.KIND: schema.KIND_SEARCH})
    moments = order.moments(parents)
    for run in parents:
        try:
            about = load.logged(run, moments[run.run_id])
            asked = _artifact(client, run, SearchRecord, schema.SEARCH_FILE)
            outcome = _artifact(client, run, SearchOutcomeRecord, schema.OUTCOME_FILE)
        except RecordError as error:
            if unreadable is not None:
                unreadable.append(str(error))
            continue
        if asked is not None:
            found.append(Search(**about, plan=asked, outcome=outcome))
        elif run.status in ("FINISHED", "FAILED"):  # it went to its end, and so had one
            gone.append(run)
    known = {one.digest for one in found}
    if unreadable is not None:
        lost = (run for run in gone if run.tags.get(schema.SEARCH_DIGEST) not in known)
        unreadable += [load.lost_file(run, schema.SEARCH_FILE, schema.SEARCH, "tune") for run in lost]
    found.sort(key=lambda search: (search.started, search.run_id), reverse=True)
    ended = [one for one in found if one.outcome is not None]
    return [replace(one, outcome=next((o.outcome for o in ended if _ends(o, one)), None)) for one in found]


def _ends(ended: Search, asked: Search) -> bool:
    """Whether what a search came to is an answer to what was asked: of it, or of more trials of it."""
    same = (ended.digest, ended.data_digest) == (asked.digest, asked.data_digest)
    return same and ended.plan.trials >= asked.plan.trials


def _artifact(client: MlflowClient, run: Stored, kind: type[Record], name: str) -> Record | None:
    text = stored.checked(client, run, name)
    return None if text is None else from_json(kind, text, f"{name} of run {run.run_id}")


def trials_of(client: MlflowClient, search: Search, unreadable: list[str] | None = None) -> pd.DataFrame:
    """Every trial of the search, whichever invocation ran it and whatever became of it, by study and number.

    Columns TRIAL_COLUMNS, then one per sampled parameter (missing where a study did not sample it). `value` is the
    mean validation accuracy over seeds, as a fraction, a seed that diverged counting as guessing; NaN for a trial that
    was not trained to its end. `last` is what it had when it ended, which a pruned one has too. `outcome` is "" while
    it is trained. A trial whose tags cannot be read is left out, and a sentence that says why is appended to
    `unreadable`. `ended` is by the order of the store, and `dated` by the clock of the machine.
    """
    asked = {
        schema.KIND: schema.KIND_TRIAL,
        schema.SEARCH_DIGEST: search.digest,
        schema.DATA_DIGEST: search.data_digest,
    }
    moments = order.moments(stored.find(client, {schema.KIND: schema.KIND_SEARCH}))
    rows, sampled = [], []
    for run, about in load.tagged(TrialRecord, stored.find(client, asked), unreadable):
        outcome, metrics = about.outcome, run.metrics
        # Of several seeds some may have diverged; the objective has counted those as guessing.
        reached = metrics.get(schema.OBJECTIVE, search.plan.chance if outcome == schema.DIVERGED else None)
        value = reached if outcome in schema.RESULTS else None
        last = metrics.get(schema.VALIDATION_ACCURACY) if reached is None else reached
        costs = metrics.get(schema.SECONDS), metrics.get(schema.EPOCHS)
        ended = moments.get(about.parent, order.UNKNOWN).ended(run.ended)
        place = about.digest, run.run_id, run.experiment_id, ended, run.ended, about.origin
        rows.append((about.study, about.trial, outcome, value, last, *costs, *place))
        sampled.append({name: value for name, value in about.sampled.items() if name not in TRIAL_COLUMNS})
    frame = pd.DataFrame(rows, columns=TRIAL_COLUMNS)
    frame = frame.astype(
        dict.fromkeys(["value", "last", "seconds", "epochs", "ended", "dated"], float) | {"trial": int}
    )
    frame = frame.join(pd.DataFrame(sampled, index=frame.index))
    return frame.sort_values(["study", "trial", "ended", "run_id"], ignore_index=True)


def counted(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that are the search's, each once: finished, stopped early, diverged and pruned ones."""
    ended = trials[trials["outcome"].isin(COUNTED)]
    # Of a number that was trained twice, as after a journal was lost, Optuna knows the later one.
    return ended.drop_duplicates(["study", "trial"], keep="last").reset_index(drop=True)


def complete(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials that have a value: the counted ones less the pruned."""
    frame = counted(trials)
    return frame[(frame["outcome"] != schema.PRUNED) & frame["value"].notna()].reset_index(drop=True)


def best_of(trials: pd.DataFrame) -> dict[Any, Any] | None:
    """The complete trial with the highest value, the earliest of several; None where there is none.

    One that diverged is never best.
    """
    ended = complete(trials)
    ended = ended[ended["outcome"] != schema.DIVERGED].reset_index(drop=True)
    return None if ended.empty else ended.iloc[int(ended["value"].argmax())].to_dict()


def without_diverged(search: Search, trials: pd.DataFrame) -> Search:
    """The search with an outcome in which no trial that diverged is best: earlier versions may have logged one."""
    if search.outcome is None:
        return search
    outcome, ended = search.outcome, counted(trials)
    of_diverged = ended.loc[ended["outcome"] == schema.DIVERGED, ["study", "trial"]]
    diverged = set(of_diverged.itertuples(index=False, name=None))
    studies = tuple(
        replace(one, best=None, edge=()) if one.best and (one.name, one.best.trial) in diverged else one
        for one in outcome.studies
    )
    wrong = {one.name for one in studies if one.best is None}
    winner = outcome.winner
    winner = None if winner and (winner.study, winner.trial) in diverged else winner
    retuned = {name: values for name, values in outcome.retuned.items() if name not in wrong}
    return replace(search, outcome=replace(outcome, studies=studies, winner=winner, retuned=retuned))


def in_order(trials: pd.DataFrame) -> pd.DataFrame:
    """The counted trials as they ended, with their `order` within the study from 1, the `best` value of a complete one
    so far, and the epochs `spent` so far by the study's trials."""
    frame = counted(trials).sort_values(["ended", "trial"], kind="stable")
    by_study = frame["study"]
    frame["order"] = frame.groupby(by_study).cumcount() + 1
    converged = frame["value"].where(frame["outcome"] != schema.DIVERGED)
    frame["best"] = converged.groupby(by_study).cummax().groupby(by_study).ffill()
    frame["spent"] = frame["epochs"].fillna(0).groupby(by_study).cumsum()
    return frame.sort_values(["study", "order"], key=_appearance(trials), ignore_index=True)


def _appearance(trials: pd.DataFrame) -> Callable[[pd.Series], pd.Series]:
    """A key that sorts studies as they come in a frame, whatever their names."""
    places = {name: i for i, name in enumerate(trials["study"].unique())}
    return lambda column: column.map(places) if column.name == "study" else column


def by_study(trials: pd.DataFrame, studies: Sequence[Study]) -> pd.DataFrame:
    """The trials in the order of the studies: tables and figures keep to it."""
    names = {study.name: i for i, study in enumerate(studies)}
    return trials.sort_values("study", key=lambda column: column.map(names), kind="stable", ignore_index=True)


def _curves(client: MlflowClient, trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    keyed = counted(trials)[["study", "trial", "run_id"]].rename(columns={"study": "arm", "trial": "seed"})
    curves = load.curves_of(client, keyed, [metric]).rename(columns={"arm": "study", "seed": "trial"})
    return curves[CURVE_COLUMNS]


def curves_of(client: MlflowClient, trials: pd.DataFrame) -> pd.DataFrame:
    """Validation accuracy of every counted trial by epoch, columns CURVE_COLUMNS."""
    return _curves(client, trials, schema.VALIDATION_ACCURACY)


def rungs_of(client: MlflowClient, trials: pd.DataFrame) -> pd.DataFrame:
    """What was reported to the pruner at each rung, columns CURVE_COLUMNS; `epoch` is the rung."""
    return _curves(client, trials, schema.RUNG)


def studies_of(search: Search, trials: pd.DataFrame) -> list[Study]:
    """The studies, as the search's outcome names them; what it does not name is derived from the trials."""
    known = [_study(record) for record in search.outcome.studies] if search.outcome else []
    names = [study.name for study in known]
    # A study that the outcome does not name comes where its first trial does.
    rest = trials[~trials["study"].isin(names)].sort_values(["ended", "study"], kind="stable")["study"].unique()
    return known + [_derived(name, trials[trials["study"] == name], search.plan.sampler) for name in rest]


def _study(record: StudyRecord) -> Study:
    parameters = [
        Parameter(
            name=p.name,
            low=math.nan if p.low is None else p.low,
            high=math.nan if p.high is None else p.high,
            log=p.log,
            choices=tuple(str(choice) for choice in p.choices or ()),
            doc=p.doc,
        )
        for p in record.parameters
    ]
    searched = {p.name for p in parameters}
    return Study(
        name=record.name,
        parameters=parameters,
        fixed={name: value for name, value in record.fixed.items() if name not in searched},
        widened=record.widened,
        edge=record.edge,
        sampler=record.sampler,
        front=record.front,
    )


def _derived(name: str, trials: pd.DataFrame, sampler: str) -> Study:
    """A study of which only trials are known: its ranges are what they sampled."""
    parameters = []
    for column in trials.columns.difference(TRIAL_COLUMNS, sort=False):
        values = [value for value in trials[column] if not pd.isna(value)]
        if not values:
            continue
        if any(isinstance(value, str | bool) for value in values):
            parameters.append(Parameter(column, choices=tuple(sorted({str(value) for value in values}))))
        else:
            low, high = float(min(values)), float(max(values))
            # Ranges over more than a decade are searched by their logarithm.
            parameters.append(Parameter(column, low, high, log=low > 0 and high / low > 10))
    return Study(name, parameters, sampler=sampler)


def sampled_by(study: Study, trial: Mapping[Any, Any]) -> dict[str, Any]:
    """What a trial has sampled of its study's parameters, in their order."""
    values = {p.name: trial.get(p.name) for p in study.parameters}
    return {name: value for name, value in values.items() if not pd.isna(value)}


STUDY_COLUMNS = [
    "study",
    "best",
    "trial",
    "digest",
    "run_id",
    "experiment_id",
    "sampled",
    "counted",
    "finished",
    "pruned",
    "diverged",
    "uncounted",
    "epochs",
]


def study_table(studies: Sequence[Study], trials: pd.DataFrame) -> pd.DataFrame:
    """One row per study, in their order: its best complete trial, how its trials ended, and the epochs they trained.

    Columns STUDY_COLUMNS; `best` is a fraction and `uncounted` counts failed and interrupted trials.
    """
    rows = []
    for study in studies:
        of_study = trials[trials["study"] == study.name]
        mine, best = counted(of_study), best_of(of_study) or {}
        ended = mine["outcome"].value_counts()
        rows.append(
            {
                "study": study.name,
                "best": best.get("value", math.nan),
                **{key: best.get(key) for key in ("trial", "digest", "run_id", "experiment_id")},
                "sampled": sampled_by(study, best),
                "counted": len(mine),
                "finished": int(ended.reindex(schema.CONVERGED).sum()),
                "pruned": int(ended.get(schema.PRUNED, 0)),
                "diverged": int(ended.get(schema.DIVERGED, 0)),
                "uncounted": int(of_study["outcome"].isin([schema.FAILED, schema.INTERRUPTED]).sum()),
                "epochs": mine["epochs"].sum(),
            }
        )
    return pd.DataFrame(rows, columns=STUDY_COLUMNS)


def trial_table(search: Search, trials: pd.DataFrame, rungs: pd.DataFrame) -> pd.DataFrame:
    """Every trial with what it sampled and what it had at each rung (`rung_3`, …), for a file."""
    wide = rungs.pivot_table(index=["study", "trial"], columns="epoch", values="value").add_prefix("rung_")
    counts = trials["outcome"].isin(COUNTED)
    table = trials.assign(counted=counts).join(wide, on=["study", "trial"])
    table.loc[~counts, list(wide.columns)] = math.nan
    return table.drop(columns="dated", errors="ignore").assign(
        search=search.name,
        search_digest=search.digest,
        data=search.data_name,
        data_kind=load.data_kind(search.plan),
    )
