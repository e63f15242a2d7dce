"""All numbers of a plan's page, each read or computed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import GalleryRecord, PlanRecord, ProvenanceRecord
from cifar_ablations.reports.inference import (
    arms,
    divergence,
    factorial,
    health,
    mechanisms,
    registration,
    variance,
    verdict,
)
from cifar_ablations.reports.inference.health import Health
from cifar_ablations.reports.inference.registration import Deviation, Lock
from cifar_ablations.reports.reading import consulted, details, load, order
from cifar_ablations.reports.reading.consulted import Consulted
from cifar_ablations.reports.reading.load import Invocation
from cifar_ablations.reports.wording import phrases

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

CONTRIBUTED = (schema.TEST_ACCURACY, schema.GENERALISATION_GAP)
"""The metrics of a factorial that its page shares out among the techniques."""

SOURCES = ("commit", "device", "torch")
"""Of an invocation's provenance, what may make its runs differ from another's."""
SOURCES_OF_RUNS = ("backend", "threads", "instructions", "kernels")
"""The same, of what each run says itself."""


@dataclass(frozen=True)
class Findings:
    """All that a page says of an invocation: its runs, and the tables and verdicts computed from them."""

    invocation: Invocation
    attempts: pd.DataFrame
    """Every training of the plan's, whatever became of it: of `load.matching_runs`."""
    runs: pd.DataFrame
    """Those with a result: of `load.runs_of`, with epochs to target where a claim asks for them."""
    curves: pd.DataFrame
    arrays: details.Arrays
    lost: Sequence[str]
    """The ids of the runs whose file of arrays is missing or damaged."""
    left_out: Sequence[str]
    """Why runs of the plan cannot be read, a sentence each without its full stop."""
    clock: str
    """A sentence where runs are dated ahead of now; "" where none is."""
    gallery: GalleryRecord
    verdicts: pd.DataFrame
    """Of `verdict.judge`, with `late` and sentences; empty where nothing is claimed."""
    error_rate: float
    """Of `verdict.error_rate`: how many pages of this shape say something false."""
    divergence: pd.DataFrame
    """Of `divergence.table`."""
    arms: pd.DataFrame
    learned: Sequence[Health]
    inside: pd.DataFrame
    """Of `mechanisms.table`."""
    surroundings: pd.DataFrame
    contributions: Mapping[str, pd.DataFrame]
    """By metric, of `factorial.contributions`; of a factorial alone, as are the interactions in test accuracy."""
    interactions: pd.DataFrame
    variance: pd.DataFrame
    """Of `variance.table`, and of `variance.pairing`; empty where no arm varies one purpose alone."""
    pairing: pd.DataFrame
    deviations: Sequence[Deviation]
    lock: Lock | None
    """The lock that the plan was held to, if any."""
    ended_before: int
    """How many of the runs had ended before the question was first asked."""
    consulted: Consulted
    """How often the test images of its data were consulted in the store."""
    sources: Mapping[str, Counter[str]]
    """By what it is, such as a commit, how many of the runs each value of it made."""

    @property
    def plan(self) -> PlanRecord:
        """The plan as invoked."""
        return self.invocation.plan


def of_invocation(
    client: MlflowClient, invocation: Invocation, known: Sequence[Invocation], unreadable: list[str] | None = None
) -> Findings:
    """Read the runs of an invocation and judge its claims.

    known: all invocations of the store; unreadable: as of `load.matching_runs`.
    """
    plan = invocation.plan
    left_out: list[str] = []
    attempts = load.matching_runs(client, plan, unreadable=left_out)
    if unreadable is not None:
        unreadable += left_out
    runs = load.with_epochs_to_target(client, load.results_among(attempts), plan)
    lost: list[str] = []
    arrays = details.arrays_of(client, runs, plan, lost)
    curves = load.curves_of(client, runs, [schema.VALIDATION_ACCURACY, *health.CURVES])
    verdicts = verdict.judge(plan, runs, details.answers(arrays) if plan.claims else None)
    verdicts = registration.with_exploratory(verdicts, invocation, runs, known)
    learned, crossed = health.of_plan(plan, runs, curves), bool(plan.factors)
    return Findings(
        invocation=invocation,
        attempts=attempts,
        runs=runs,
        curves=curves,
        arrays=arrays,
        lost=lost,
        left_out=left_out,
        clock=order.ahead([invocation.dated, *attempts["dated"]]),
        gallery=load.gallery_of(client, invocation),
        verdicts=phrases.with_sentences(plan, verdicts),
        error_rate=verdict.error_rate(verdict.shape_of(plan)) if plan.claims else 0.0,
        divergence=divergence.table(plan, runs, verdicts),
        arms=arms.arm_table(plan, runs, learned),
        learned=learned,
        inside=mechanisms.table(plan, runs),
        surroundings=arms.surroundings(plan, runs),
        contributions={name: factorial.contributions(plan, runs, name) for name in CONTRIBUTED if crossed},
        interactions=factorial.interactions(plan, runs, schema.TEST_ACCURACY) if crossed else pd.DataFrame(),
        variance=variance.table(plan, runs, details.answers(arrays)),
        pairing=variance.pairing(plan, runs),
        deviations=registration.deviations(invocation, known),
        lock=registration.lock(invocation, runs, known),
        ended_before=registration.runs_before(invocation, runs, known),
        consulted=consulted.of_data(client, invocation.data_digest, known),
        sources=_sources(runs, known),
    )


def _sources(runs: pd.DataFrame, known: Sequence[Invocation]) -> dict[str, Counter[str]]:
    made_by = {invocation.run_id: invocation.provenance for invocation in known}
    parents = [made_by.get(parent, ProvenanceRecord()) for parent in runs["parent_run_id"]]
    by_parent = {key: Counter(getattr(parent, key, "") or "unknown" for parent in parents) for key in SOURCES}
    # What runs of earlier versions do not say is no difference.
    said = {key: runs.loc[runs[key] != load.NOT_SAID, key] for key in SOURCES_OF_RUNS}
    return by_parent | {key: Counter(values) for key, values in said.items()}
