"""What the store already says about a plan that is not finished, or not even begun."""

from __future__ import annotations

from dataclasses import dataclass

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.inference import contrast, statistics, verdict
from cifar_ablations.reports.reading import load


@dataclass(frozen=True)
class Pilot:
    """The spread of a comparison, as fractions, in runs that the store has already.

    spread: of its paired differences, the upper 95 % χ² limit of the standard deviation; possible: the largest
    difference that the metric allows from the control's mean.
    """

    spread: float
    possible: float


def undecided_claims(tracking_uri: str, plan: PlanRecord) -> int:
    """How many claims of a plan the runs in the store leave inconclusive."""
    client = load.connect(tracking_uri)
    runs = load.with_epochs_to_target(client, load.runs_of(client, plan), plan)
    verdicts = verdict.judge(plan, runs)
    return 0 if verdicts.empty else int((verdicts["verdict"] == verdict.INCONCLUSIVE).sum())


def pilot_spreads(tracking_uri: str, plan: PlanRecord) -> dict[str, Pilot]:
    """Per claim on test accuracy, by its statement, how much its paired differences vary and how large one can be.

    From all seeds that the store has both sides of, planned or not; claims with fewer than two are left out.
    """
    client = load.connect(tracking_uri)
    runs = load.runs_of(client, plan, every_seed=True)
    spreads = {}
    for claim in plan.claims:
        if claim.metric != schema.TEST_ACCURACY:
            continue
        sides = contrast.sides(claim, runs)
        differences = statistics.differences(sides.treatment, sides.control)
        mean = statistics.mean_interval(differences.to_numpy())
        limit = statistics.upper_limit_of_sd(mean.std, mean.n)
        if limit > 0:
            control = float(sides.control[differences.index].mean())
            spreads[claim.statement] = Pilot(limit, contrast.possible(claim, control))
    return spreads
