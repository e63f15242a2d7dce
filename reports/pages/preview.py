"""What the store already says about a plan that is not finished, or not even begun."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.inference import contrast, verdict
from cifar_ablations.reports.inference.statistics import ROUNDING
from cifar_ablations.reports.reading import details, load


@dataclass(frozen=True)
class Pilot:
    """How runs of a comparison vary, as fractions, in runs that the store has already.

    spread: the standard deviation of one arm's run; possible: the largest difference that the metric allows from the
    control's mean.
    """

    spread: float
    possible: float


def undecided_claims(tracking_uri: str, plan: PlanRecord) -> int:
    """How many claims of a plan its page would leave inconclusive with the runs in the store, for whatever reason."""
    client = load.connect(tracking_uri)
    runs = load.with_epochs_to_target(client, load.runs_of(client, plan), plan)
    if not plan.claims or (plan.rule.looks and not verdict.looks_taken(plan, runs)):
        return len(plan.claims)
    verdicts = verdict.judge(plan, runs, details.answers(details.arrays_of(client, runs, plan)))
    return int((verdicts["verdict"] == verdict.INCONCLUSIVE).sum())


def pilot_spreads(tracking_uri: str, plan: PlanRecord) -> dict[str, Pilot]:
    """Per claim on test accuracy, by its statement, how much a run of the arms it compares varies.

    That is the root of the mean of the arms' variances, of runs that converged. From all seeds that the store has,
    planned or not; arms with fewer than two such runs are left out, and so are claims with no other.
    """
    client = load.connect(tracking_uri)
    runs = load.runs_of(client, plan, every_seed=True)
    variances = runs.groupby("arm")[schema.TEST_ACCURACY].var(ddof=1)
    spreads = {}
    for claim in plan.claims:
        if claim.metric != schema.TEST_ACCURACY:
            continue
        spread = math.sqrt(variances.reindex(sorted(set(claim.arms))).mean())
        if spread > ROUNDING:
            _, control = contrast.tally(claim, runs)
            spreads[claim.statement] = Pilot(spread, contrast.possible(claim, control.mean))
    return spreads
