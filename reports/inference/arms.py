"""The figures of a plan's arms: means with intervals, ranks, and the worth of techniques in two places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.designs import EACH_AT_BEST
from cifar_ablations.ablations.metrics import EPOCHS_TO_TARGET, REACHED_TARGET
from cifar_ablations.ablations.record import ClaimRecord, PlanRecord, ReferenceRecord
from cifar_ablations.reports.inference import contrast, decision, health, statistics
from cifar_ablations.reports.inference.health import Health

TARGET = (EPOCHS_TO_TARGET, REACHED_TARGET)


def arm_table(plan: PlanRecord, runs: pd.DataFrame, learned: Sequence[Health] | None = None) -> pd.DataFrame:
    """One row per arm of the plan, in its order, from the frame of `load.runs_of`; NaN where there is no run yet.

    Accuracies and gaps are fractions; `seconds` is the mean training time of a run; `low` and `high` bound the t
    interval of the mean accuracy, `std_low` and `std_high` the χ² interval of its standard deviation, and
    `diverged_low` and `diverged_high` the Clopper-Pearson interval of the share that diverged.
    `converged` of the `n` runs with a result have accuracies and a gap, and all means are of these. `fit` says whether
    they have learned, as `inference.health` has it. `rank` is the mean rank in accuracy among the arms, 1 the best,
    over the seeds that have all of them; a run that diverged comes last. Where the runs know of epochs to a target: the
    `reached` share, and the median of `epochs_to_target` over runs, a miss taking for ever.

    learned: of `health.of_plan`, where that is known.
    """
    confidence = decision.confidence(plan.rule)
    rows, ranks = [], mean_ranks(plan, runs)
    columns = ["converged", schema.TEST_ACCURACY, schema.GENERALISATION_GAP, schema.SECONDS, *TARGET]
    split = contrast.by_arm(runs, (arm.name for arm in plan.arms), columns)
    for arm, trained, of_arm in zip(plan.arms, learned or health.of_plan(plan, runs), split, strict=True):
        accuracy = statistics.mean_interval(of_arm[schema.TEST_ACCURACY].dropna().to_numpy(), confidence)
        gap = statistics.mean_interval(of_arm[schema.GENERALISATION_GAP].dropna().to_numpy(), confidence)
        spread = statistics.sd_interval(accuracy.std, accuracy.n, confidence)
        diverged = int((~of_arm["converged"]).sum())
        low, high = statistics.proportion_interval(diverged, len(of_arm), confidence)
        rows.append(
            {
                "arm": arm.name,
                "n": len(of_arm),
                "converged": accuracy.n,
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
                "seconds": of_arm[schema.SECONDS].mean(),
                **_target(of_arm),
                "digest": arm.digest,
            }
        )
    return pd.DataFrame(rows)


def _target(of_arm: pd.DataFrame) -> dict[str, float]:
    """How many runs reached the target, and after how many epochs half of them had; a miss takes for ever."""
    if EPOCHS_TO_TARGET not in of_arm or of_arm[REACHED_TARGET].isna().all():
        return {}
    known = of_arm.dropna(subset=[REACHED_TARGET])
    reached = known[REACHED_TARGET].astype(bool)
    epochs = known[EPOCHS_TO_TARGET].where(reached, math.inf)
    return {"reached": float(reached.mean()), "epochs_to_target": float(epochs.median())}


def mean_ranks(plan: PlanRecord, runs: pd.DataFrame) -> pd.Series:
    """The mean rank of each arm in test accuracy, 1 the best, over the seeds that have every arm."""
    return _ranks(plan, runs).mean()


def alike(plan: PlanRecord, runs: pd.DataFrame) -> dict[str, float | str]:
    """Friedman's test that a plan's arms rank alike: `arms`, `seeds`, `chi2`, `f`, `p` and what p is `by`."""
    ranks = _ranks(plan, runs)
    return {"arms": ranks.shape[1], "seeds": len(ranks), **asdict(statistics.friedman(ranks))}


def _ranks(plan: PlanRecord, runs: pd.DataFrame) -> pd.DataFrame:
    """Ranks in test accuracy [seeds, arms] within each seed that has every arm; equal ones share their mean rank.

    Runs that diverged come last.
    """
    names = [arm.name for arm in plan.arms]
    ended, accuracy = (
        runs.pivot(index="seed", columns="arm", values=name).reindex(columns=names)
        for name in ("run_id", schema.TEST_ACCURACY)
    )
    return accuracy[ended.notna().all(axis=1)].rank(axis=1, ascending=False, na_option="bottom")


def seed_correlation(plan: PlanRecord, runs: pd.DataFrame, metric: str = schema.TEST_ACCURACY) -> tuple[float, int]:
    """The mean correlation of a metric of two arms over the seeds that they share, and of how many pairs it is.

    Pearson's, of pairs with at least three seeds of converged runs in common and some spread; NaN for none.
    """
    names = [arm.name for arm in plan.arms]
    table = runs.pivot(index="seed", columns="arm", values=metric).reindex(columns=names)
    values = table.corr(min_periods=3).to_numpy()[np.triu_indices(len(names), 1)]
    known = values[~np.isnan(values)]
    return (float(known.mean()) if len(known) else math.nan), len(known)


FAR = 4.0
"""Standard deviations below the other runs of its arm from which a run is named."""


def odd_runs(plan: PlanRecord, runs: pd.DataFrame) -> pd.DataFrame:
    """Runs whose test accuracy lies far below that of their arm's others: `arm`, `seed`, `accuracy`, mean `others`.

    By FAR standard deviations, the arm's own without the run or the plan's median one, whichever is larger; of arms
    with at least four converged runs. Nothing is left out for it: such a run widens its arm's interval.
    """
    known = runs.dropna(subset=[schema.TEST_ACCURACY])
    typical = known.groupby("arm")[schema.TEST_ACCURACY].std().median()
    rows, split = [], contrast.by_arm(known, (arm.name for arm in plan.arms), ["seed", schema.TEST_ACCURACY])
    for arm, of_arm in zip(plan.arms, split, strict=True):
        values = of_arm.set_index("seed")[schema.TEST_ACCURACY].sort_values()
        if len(values) < 4:
            continue
        others = values.iloc[1:]
        if others.mean() - values.iloc[0] > FAR * max(float(others.std()), float(typical)) > 0:
            rows.append((arm.name, int(values.index[0]), float(values.iloc[0]), float(others.mean())))
    return pd.DataFrame(rows, columns=["arm", "seed", "accuracy", "others"])


def surroundings(plan: PlanRecord, runs: pd.DataFrame) -> pd.DataFrame:
    """Per technique, its effect within the full recipe less its effect alone: a sign of interactions.

    One row per technique of which the plan claims something about test accuracy between two arms in two places:
    `within` and `alone` (the first and the second place), and their `difference` with `low` and `high`. Not a verdict:
    nothing was claimed of it.
    """
    by_technique: dict[str, list[ClaimRecord]] = {}
    for claim in plan.claims:
        again = claim.family.endswith(EACH_AT_BEST)  # at other rates, in the same two places
        if claim.metric == schema.TEST_ACCURACY and not (claim.over or claim.beyond or again):
            by_technique.setdefault(claim.technique, []).append(claim)
    place = {arm.name: i for i, arm in enumerate(plan.arms)}
    rows = []
    for technique, claims in by_technique.items():
        if len(claims) != 2:
            continue
        weights = np.zeros((3, len(plan.arms)))
        for i, claim in enumerate(claims):
            for name, weight in contrast.weights(claim).items():
                weights[i, place[name]] += weight
                weights[2, place[name]] += weight if i == 0 else -weight
        found = contrast.estimates(plan, runs, schema.TEST_ACCURACY, weights)
        within, alone, both = found["estimate"]
        rows.append(
            {
                "technique": technique,
                "places": tuple(contrast.where(claim) for claim in claims),
                "n": int(found["n"].iloc[2]),
                "within": within,
                "alone": alone,
                "difference": both,
                "low": found["low"].iloc[2],
                "high": found["high"].iloc[2],
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
