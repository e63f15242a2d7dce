"""The figures of a plan's arms: means with intervals, ranks, and the worth of techniques in two places."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.metrics import EPOCHS_TO_TARGET, REACHED_TARGET
from cifar_ablations.ablations.record import ClaimRecord, PlanRecord, ReferenceRecord
from cifar_ablations.reports.inference import contrast, health, statistics


def arm_table(plan: PlanRecord, runs: pd.DataFrame) -> pd.DataFrame:
    """One row per arm of the plan, in its order, from the frame of `load.runs_of`; NaN where there is no run yet.

    Accuracies and gaps are fractions; `seconds` is the mean training time of a run; `low` and `high` bound the t
    interval of the mean accuracy, `std_low` and `std_high` the χ² interval of its standard deviation, and
    `diverged_low` and `diverged_high` the Clopper-Pearson interval of the share that diverged.
    `converged_accuracy` is the secondary figure, of converged runs only. `train_accuracy` and its `train_std` are of
    converged runs too, and `fit` says whether they have learned, as `inference.health` has it. `rank` is the mean
    rank in accuracy among the arms, 1 the best, over the seeds that have all of them. Where the runs know of epochs to
    a target: the `reached` share, and the median of `epochs_to_target` over runs, infinite where half missed it.
    """
    confidence = 1 - plan.rule.alpha
    rows, ranks = [], mean_ranks(plan, runs)
    for arm, trained in zip(plan.arms, health.of_plan(plan, runs), strict=True):
        of_arm = runs[runs["arm"] == arm.name]
        accuracy = statistics.mean_interval(of_arm[schema.TEST_ACCURACY].dropna().to_numpy(), confidence)
        gap = statistics.mean_interval(of_arm[schema.GENERALISATION_GAP].dropna().to_numpy(), confidence)
        spread = statistics.sd_interval(accuracy.std, accuracy.n, confidence)
        diverged = int((~of_arm["converged"]).sum())
        low, high = statistics.proportion_interval(diverged, len(of_arm), confidence)
        rows.append(
            {
                "arm": arm.name,
                "n": len(of_arm),
                "planned": len(plan.seeds),
                "accuracy": accuracy.mean,
                "accuracy_std": accuracy.std,
                "low": accuracy.low,
                "high": accuracy.high,
                "std_low": spread[0],
                "std_high": spread[1],
                "train_accuracy": trained.accuracy,
                "train_std": trained.std,
                "fit": trained.fit,
                "rank": ranks.get(arm.name, math.nan),
                "gap": gap.mean,
                "gap_std": gap.std,
                "diverged": diverged,
                "diverged_low": low,
                "diverged_high": high,
                "converged_accuracy": of_arm.loc[of_arm["converged"], schema.TEST_ACCURACY].mean(),
                "seconds": of_arm[schema.SECONDS].mean(),
                **_target(of_arm),
                "digest": arm.digest,
            }
        )
    return pd.DataFrame(rows)


def _target(of_arm: pd.DataFrame) -> dict[str, float]:
    """How many runs reached the target, and after how many epochs half of them had; a miss takes for ever."""
    if EPOCHS_TO_TARGET not in of_arm or of_arm[EPOCHS_TO_TARGET].isna().all():
        return {}
    known = of_arm.dropna(subset=[EPOCHS_TO_TARGET])
    reached = known[REACHED_TARGET].astype(bool)
    epochs = known[EPOCHS_TO_TARGET].where(reached, math.inf)
    return {"reached": float(reached.mean()), "epochs_to_target": float(epochs.median())}


def mean_ranks(plan: PlanRecord, runs: pd.DataFrame) -> pd.Series:
    """The mean rank of each arm in test accuracy, 1 the best, over the seeds that have every arm."""
    names = [arm.name for arm in plan.arms]
    table = runs.pivot(index="seed", columns="arm", values=schema.TEST_ACCURACY).reindex(columns=names).dropna()
    return table.rank(axis=1, ascending=False).mean()


def alike(plan: PlanRecord, runs: pd.DataFrame) -> dict[str, float]:
    """Friedman's test that a plan's arms rank alike: `arms`, `seeds`, `chi2`, `f` and `p`."""
    names = [arm.name for arm in plan.arms]
    seeds = runs.pivot(index="seed", columns="arm", values=schema.TEST_ACCURACY).reindex(columns=names).dropna()
    friedman = statistics.friedman(mean_ranks(plan, runs).to_numpy(), len(seeds))
    return {"arms": len(names), "seeds": len(seeds), "chi2": friedman.chi2, "f": friedman.f, "p": friedman.p}


def surroundings(plan: PlanRecord, runs: pd.DataFrame) -> pd.DataFrame:
    """Per technique, its effect within the full recipe less its effect alone: a sign of interactions.

    One row per technique of which the plan claims something about test accuracy between two arms in two places:
    `within` and `alone` (the first and the second place), their `difference` with `low` and `high`, over seeds that
    have all four arms. Not a verdict: nothing was claimed of it.
    """
    confidence, rows = 1 - plan.rule.alpha, []
    by_technique: dict[str, list[ClaimRecord]] = {}
    for claim in plan.claims:
        if claim.metric == schema.TEST_ACCURACY and not claim.over and not claim.beyond:
            by_technique.setdefault(claim.technique, []).append(claim)
    for technique, claims in by_technique.items():
        if len(claims) != 2:
            continue
        sides = [contrast.sides(claim, runs) for claim in claims]
        both = pd.concat({i: s.treatment - s.control for i, s in enumerate(sides)}, axis=1).dropna()
        interval = statistics.mean_interval((both[0] - both[1]).to_numpy(), confidence)
        means = [float(both[i].mean()) if len(both) else math.nan for i in (0, 1)]
        rows.append(
            {
                "technique": technique,
                "places": tuple(contrast.where(claim) for claim in claims),
                "n": interval.n,
                "within": means[0],
                "alone": means[1],
                "difference": interval.mean,
                "low": interval.low,
                "high": interval.high,
            }
        )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Placement:
    """A published value among the runs of its arm; low and high bound the prediction interval of one more run."""

    reference: ReferenceRecord
    n: int
    low: float
    high: float
    above: int
    """How many of the n runs lie above the published value."""


def placements(plan: PlanRecord, runs: pd.DataFrame) -> list[Placement]:
    """One per reference of the plan, in the unit of its metric; limits are NaN with fewer than two runs."""
    placed = []
    for reference in plan.references:
        values = runs.loc[runs["arm"] == reference.arm, reference.metric].dropna().to_numpy()
        low, high = statistics.prediction_interval(values, 1 - plan.rule.alpha)
        placed.append(Placement(reference, len(values), low, high, int((values > reference.value).sum())))
    return placed
