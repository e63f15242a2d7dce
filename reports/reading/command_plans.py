"""Plans of commands in the MLflow store: what was asked, and what became of their runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import (
    CommandPlanRecord,
    CommandRunRecord,
    PlanRecord,
    RecordError,
    from_json,
    from_tags,
)
from cifar_ablations.reports.reading import load, order, outside, stored
from cifar_ablations.reports.reading.outside import Outside, Pairing

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

RUN_COLUMNS = ["arm", "seed", "outcome", "cause", "run_id", "ended", "value"]


@dataclass(frozen=True)
class Invocation:
    """One invocation of a plan of commands, and what it fixed before its first run. `started`: by the store's order."""

    run_id: str
    started: datetime
    running: bool
    number: int
    plan: CommandPlanRecord

    @property
    def order(self) -> tuple[int, datetime, str]:
        """What sorts invocations as they were logged, also beside those of other plans and of searches."""
        return self.number, self.started, self.run_id


def invocations(tracking_uri: str, unreadable: list[str] | None = None) -> list[Invocation]:
    """Every invocation of every plan of commands, newest first; none that stopped before its plan was logged.

    One that cannot be read is left out too, with a sentence in `unreadable`. Raises AblateError where a SQLite store
    does not exist.
    """
    client, found = load.connect(tracking_uri), list[Invocation]()
    parents = stored.find(client, {schema.KIND: schema.KIND_COMMANDS})
    moments = order.moments(parents)
    for run in parents:
        where = f"{schema.COMMANDS_FILE} of run {run.run_id}"
        try:
            text = stored.content(client, run.run_id, run.artifacts, schema.COMMANDS_FILE)
            if text is None and schema.PLAN_DIGEST in run.tags:  # it was logged whole
                raise RecordError(f"{where} is missing; `ablate run` with the plan's file writes it again")
            if text is None:
                continue
            plan = from_json(CommandPlanRecord, text, where)
            started = datetime.fromtimestamp(moments[run.run_id].at / 1000, UTC)
            found.append(Invocation(run.run_id, started, run.status == "RUNNING", order.number(run.tags), plan))
        except RecordError as error:
            if unreadable is not None:
                unreadable.append(str(error))
    return sorted(found, key=lambda one: one.order, reverse=True)


def newest(known: list[Invocation]) -> dict[str, Invocation]:
    """The newest of each plan, by its name; known: newest first."""
    found: dict[str, Invocation] = {}
    for one in known:
        found.setdefault(one.plan.name, one)
    return found


def fixed(invocation: Invocation, known: list[Invocation]) -> Invocation:
    """The first invocation that fixed the same."""
    same = [one for one in known if one.plan.digest == invocation.plan.digest]
    return min(same, key=lambda one: one.order, default=invocation)


def runs_of(client: MlflowClient, plan: CommandPlanRecord, unreadable: list[str] | None = None) -> pd.DataFrame:
    """Every run of the plan's commands and seeds, whatever became of it and whichever invocation made it.

    Columns RUN_COLUMNS, in the order of the plan, of one arm and seed as they ended. value: the plan's metric, NaN
    where there is none. A run whose tags cannot be read is left out, with a sentence in `unreadable`.
    """
    names = {arm.digest: arm.name for arm in plan.arms}
    rows = []
    for run in stored.find(client, {schema.KIND: schema.KIND_COMMAND, schema.PLAN: plan.name}):
        try:
            about = from_tags(CommandRunRecord, run.tags, "", f"run {run.run_id}")
        except RecordError as error:
            if unreadable is not None:
                unreadable.append(str(error))
            continue
        if about.digest in names and about.seed in plan.seeds:
            value = run.metrics.get(plan.metric, math.nan)
            value = value if about.outcome in schema.CONVERGED and abs(value) < load.HUGE else math.nan
            ended = math.nan if run.ended is None else float(run.ended)
            rows.append((names[about.digest], about.seed, about.outcome, about.cause, run.run_id, ended, value))
    frame = pd.DataFrame(rows, columns=RUN_COLUMNS).astype({"seed": int, "ended": float, "value": float})
    arms = {arm.name: i for i, arm in enumerate(plan.arms)}
    seeds = {seed: i for i, seed in enumerate(plan.seeds)}
    places = frame["seed"].map(seeds), frame["arm"].map(arms)
    frame = frame.assign(_seed=places[0], _arm=places[1]).sort_values(["_seed", "_arm", "ended", "run_id"])
    return frame[RUN_COLUMNS].reset_index(drop=True)


def results(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each arm and seed with a result: the earliest, where it was run twice."""
    ended = runs[runs["outcome"].isin(schema.RESULTS)]
    return ended.drop_duplicates(["arm", "seed"]).reset_index(drop=True)


def arms_of(plan: CommandPlanRecord) -> list[str]:
    """The names of its arms, the control first."""
    return [plan.control, *(arm.name for arm in plan.arms if arm.name != plan.control)]


def as_outside(plan: CommandPlanRecord, ended: pd.DataFrame, notes: tuple[str, ...] = ()) -> Outside:
    """The runs of a plan as those of another program, which they are; of arms without runs too.

    ended: of `results`. notes: what to say beside them. Raises AblateError where nothing can be said of them.
    """
    if plan.test != "welch t":  # pairs are compared, of the seeds that every arm has which has any
        counts = ended["seed"].value_counts()
        ended = ended[ended["seed"].map(counts) == ended["arm"].nunique()]
    frame = ended[["arm", "seed"]].assign(**{plan.metric: ended["value"]})
    source = outside.Source(frame, f"plan {plan.name}", notes)
    names = {"arm": "arm", "seed": "seed", "metric": plan.metric}
    found = outside.of_frame(source, **names, control=plan.control, better=plan.better or None)
    return replace(found, runs=found.runs.assign(arm=found.runs["arm"].cat.set_categories(arms_of(plan))))


def as_plan(plan: CommandPlanRecord, found: Outside | None = None) -> PlanRecord:
    """The plan as the suite's own rule judges it: each arm against the control, over all planned seeds.

    found: its runs, by whose values a share is told from other numbers; None before there are any.
    """
    if found is None:
        places = [(arm, place) for arm in arms_of(plan) for place in range(len(plan.seeds))]
        every = pd.DataFrame(places, columns=["arm", "seed"])
        every["arm"] = pd.Categorical(every["arm"], arms_of(plan))
        about = outside.about(plan.metric, plan.better or None)
        found = Outside(f"plan {plan.name}", plan.metric, about, 1.0, every, Pairing(True, "seed"))
    expect = {arm.name: arm.expect or None for arm in plan.arms}
    asked = outside.plan_of(found, expect=expect, margin=plan.margin)
    rule = replace(asked.rule, test=plan.test, correction=plan.correction, alpha=plan.alpha)
    return replace(
        asked,
        name=plan.name,
        question=plan.question,
        digest=plan.digest,
        seeds=tuple(range(len(plan.seeds))),
        rule=rule,
    )
