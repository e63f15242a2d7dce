"""What a claim compares: a weighted sum of arms, taken seed by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.metrics import metric
from cifar_ablations.ablations.record import ClaimRecord


@dataclass(frozen=True)
class Sides:
    """A metric per seed, on the side with the technique and on the side without it."""

    treatment: pd.Series
    control: pd.Series


def where(claim: ClaimRecord) -> str:
    """The place that a claim is made in, such as 'in the full recipe': its family without the title of its metric."""
    return claim.family.removeprefix(metric(claim.metric).title).strip()


def weights(claim: ClaimRecord) -> dict[str, float]:
    """The arms that a claim compares, with their weights: +1 and -1 for two arms."""
    if claim.over:
        return dict(claim.over)
    pairs = [(claim.treatment, 1.0), (claim.control, -1.0)]
    if claim.beyond:
        also, without = claim.beyond
        pairs += [(also, -1.0), (without, 1.0)]
    total: dict[str, float] = {}
    for name, weight in pairs:
        total[name] = total.get(name, 0.0) + weight
    return total


def arms(claim: ClaimRecord) -> tuple[list[str], list[str]]:
    """The names of the arms on the side with the technique, and on the side without it."""
    if claim.over:
        named = weights(claim)
        return [n for n, w in named.items() if w > 0], [n for n, w in named.items() if w < 0]
    return [claim.treatment], [claim.control]


def reach(claim: ClaimRecord) -> float:
    """The largest difference of a share that a claim can be about: 1, or more where it adds up several differences.

    A gap could fall from 1 to -1; one below zero is no more than noise, and a change of it counts as at most 1 too.
    """
    return sum(weight for weight in weights(claim).values() if weight > 0)


def possible(claim: ClaimRecord, control: float) -> float:
    """The largest difference that a claim's metric allows from a control at its mean, in the metric's own unit.

    control: the mean of the side without the technique, as in `sides`; NaN where it is not known, and then the whole
    range is allowed. Infinite for a metric without bounds.
    """
    low, high = metric(claim.metric).bounds
    if math.isinf(high):
        return math.inf
    if claim.beyond:  # each side is a difference itself
        low, high = low - high, high - low
    known = high - low if math.isnan(control) else max(control - low, high - control)
    return min(known, reach(claim))


def sides(claim: ClaimRecord, runs: pd.DataFrame) -> Sides:
    """The claim's metric on both sides, by seed; NaN where an arm lacks the seed.

    Where the claim is about a difference beyond another one, the sides are those two differences.
    """
    name = claim.metric
    if claim.over:
        return Sides(*(_weighted(runs, weights(claim), name, sign) for sign in (1, -1)))
    treatment, control = (_values(runs, arm, name) for arm in (claim.treatment, claim.control))
    if claim.beyond:
        also, without = (_values(runs, arm, name) for arm in claim.beyond)
        return Sides(treatment - control, also - without)
    return Sides(treatment, control)


def by_image(
    claim: ClaimRecord, runs: pd.DataFrame, seeds: pd.Index, answers: Mapping[str, np.ndarray]
) -> np.ndarray | None:
    """The claim's difference of right answers, float32 [seeds, test images]; its mean is the difference in accuracy.

    answers: by run id, bool [test images], which images were answered rightly. A diverged run has none and counts as
    guessing, evenly over all images, as in its accuracy. None for another metric, or where an answer is missing.
    """
    if claim.metric != schema.TEST_ACCURACY:
        return None
    sizes = {len(right) for right in answers.values()}
    if len(sizes) != 1:
        return None
    total = np.zeros((len(seeds), sizes.pop()), dtype=np.float32)
    for name, weight in weights(claim).items():
        of_arm = runs[runs["arm"] == name].set_index("seed").reindex(seeds)
        for row, (run_id, accuracy, converged) in enumerate(
            zip(of_arm["run_id"], of_arm[schema.TEST_ACCURACY], of_arm["converged"], strict=True)
        ):
            if run_id in answers:
                total[row] += weight * answers[run_id]
            elif converged is False or converged == 0:
                total[row] += weight * accuracy
            else:
                return None
    return total


def _values(runs: pd.DataFrame, arm: str, name: str) -> pd.Series:
    return runs[runs["arm"] == arm].set_index("seed")[name]


def _weighted(runs: pd.DataFrame, named: Mapping[str, float], name: str, sign: int) -> pd.Series:
    """Per seed the sum of the arms whose weights have this sign, by the weights' size; NaN where an arm is missing."""
    chosen = {arm: abs(weight) for arm, weight in named.items() if weight * sign > 0}
    table = runs[runs["arm"].isin(list(chosen))].pivot(index="seed", columns="arm", values=name)
    return table.reindex(columns=list(chosen)).mul(pd.Series(chosen), axis="columns").sum(axis=1, skipna=False)
