"""What a claim compares: a weighted sum of arms, taken seed by seed."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.identity import weights as weights
from cifar_ablations.ablations.record import ClaimRecord, PlanRecord, RuleRecord
from cifar_ablations.reports.inference import decision
from cifar_ablations.reports.inference.decision import Claims, Sample
from cifar_ablations.reports.reading.outside import OutsideMetric, metric

OF_TEST_IMAGES = (schema.TEST_ACCURACY, schema.GENERALISATION_GAP)
"""Metrics that vary with the choice of test images by as much as test accuracy does."""


@dataclass(frozen=True)
class Sides:
    """A metric per seed, on the side with the technique and on the side without it."""

    treatment: pd.Series
    control: pd.Series


def where(claim: ClaimRecord) -> str:
    """The place that a claim is made in, such as 'in the full recipe': its family without the title of its metric."""
    place = claim.family.removeprefix(metric(claim.metric).title).strip()
    return f"at level '{place[1:-1]}'" if place.startswith("(") and place.endswith(")") else place


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


def claims_of(plan: PlanRecord) -> Claims:
    """The plan's claims as weights of its arms."""
    place = {arm.name: i for i, arm in enumerate(plan.arms)}
    table = np.zeros((len(plan.claims), len(plan.arms)))
    for row, claim in enumerate(plan.claims):
        for name, weight in weights(claim).items():
            table[row, place[name]] += weight
    margin = np.array([margin_of(plan.rule, claim.metric) for claim in plan.claims])
    allowed = np.array([claim.sign * plan.rule.margin if claim.allowed else 0.0 for claim in plan.claims])
    return Claims(tuple(claim.metric for claim in plan.claims), table, allowed, margin)


def margin_of(rule: RuleRecord, name: str) -> float:
    """The margin of claims about a metric, in its own unit; NaN where a rule's margin is not about it."""
    about = metric(name)
    return rule.margin if about.share or isinstance(about, OutsideMetric) else math.nan


def is_lost(name: str) -> bool:
    """Whether a run without the metric is worse than any with it: a network that diverged classifies by chance.

    So is a run of another program without the one number that it is judged by.
    """
    about = metric(name)
    return (about.share and about.better > 0) or isinstance(about, OutsideMetric)


def samples_of(
    plan: PlanRecord, runs: pd.DataFrame, names: Sequence[str], seeds: int, floors: Mapping[str, float] | None = None
) -> dict[str, Sample]:
    """The named metrics in all arms of a plan, for its first `seeds` seeds; floors: by arm, as in `Sample`."""
    arms, floors = [arm.name for arm in plan.arms], floors or {}
    known = runs[runs["seed"].isin(plan.seeds[:seeds])]
    ended = known["arm"].value_counts().reindex(arms, fill_value=0).to_numpy()
    floor = np.array([floors.get(name, 0.0) for name in arms])
    samples = {}
    for name in dict.fromkeys(names):
        column = known.assign(**{name: math.nan}) if name not in known else known
        table = column.pivot(index="arm", columns="seed", values=name)
        values = table.reindex(index=arms, columns=plan.seeds[:seeds]).to_numpy(dtype=float)
        about = metric(name)
        samples[name] = Sample(values, ended, floor if name in OF_TEST_IMAGES else 0.0, about.better, is_lost(name))
    return samples


def estimates(plan: PlanRecord, runs: pd.DataFrame, name: str, weighted: np.ndarray) -> pd.DataFrame:
    """Weighted sums of a plan's arms, weights [rows, arms], as its rule compares them: one row each.

    Columns `estimate`, with the limits `low` and `high` of each by itself, in the metric's unit; `n`, the fewest runs
    with the metric in an arm that counts; and the two-sided `p` of each by itself.
    """
    sample = samples_of(plan, runs, [name], len(plan.seeds))[name]
    test = decision.TESTS[plan.rule.test]
    compared = test.compare(sample, weighted)
    low, high = test.interval(compared, 1 - decision.confidence(plan.rule))
    with np.errstate(invalid="ignore", divide="ignore"):
        p = test.p(compared.estimate / compared.error, compared.df)
    counts = np.where(weighted != 0, sample.count, len(plan.seeds) + 1).min(axis=1, initial=len(plan.seeds) + 1)
    n = np.where((weighted != 0).any(axis=1), counts, 0)
    return pd.DataFrame({"estimate": compared.estimate, "low": low, "high": high, "n": n, "p": p})


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


@dataclass(frozen=True)
class Tally:
    """One side of a claim.

    ended, diverged, n: of the arms that count for this side (with weights above zero, or below), the runs with a
    result, those that diverged, and those that have the metric. mean: the weighted sum of arms' means on this side;
    std: over seeds.
    """

    ended: int
    diverged: int
    n: int
    mean: float
    std: float


def tally(claim: ClaimRecord, runs: pd.DataFrame, both: Sides | None = None) -> tuple[Tally, Tally]:
    """The side with the technique and the side without it; a claim beyond another has a difference on each side.

    both: of `sides`, where that is known.
    """
    if claim.over:
        named = weights(claim)
        parts = [{n: abs(w) for n, w in named.items() if w * sign > 0} for sign in (1, -1)]
    elif claim.beyond:
        parts = [{claim.treatment: 1.0, claim.control: -1.0}, {claim.beyond[0]: 1.0, claim.beyond[1]: -1.0}]
    else:
        parts = [{claim.treatment: 1.0}, {claim.control: 1.0}]
    runs = runs[["arm", "seed", "converged", claim.metric]][runs["arm"].isin(list(weights(claim)))]
    both = both or sides(claim, runs)
    means_of = runs.groupby("arm")[claim.metric].mean()
    found = []
    for side, by_seed, sign in zip(parts, (both.treatment, both.control), (1, -1), strict=True):
        counted = runs["arm"].isin([name for name, weight in weights(claim).items() if weight * sign > 0])
        mine = runs.loc[counted, ["converged", claim.metric]]
        means = means_of.reindex(list(side))
        found.append(
            Tally(
                ended=len(mine),
                diverged=int((~mine["converged"]).sum()),
                n=int(mine[claim.metric].notna().sum()),
                mean=float((means * pd.Series(side)).sum(skipna=False)),
                std=float(by_seed.std(ddof=1)),
            )
        )
    return found[0], found[1]


def fewest(claim: ClaimRecord, runs: pd.DataFrame) -> int:
    """Of the arms that a claim compares, the fewest runs with its metric."""
    counts = runs.groupby("arm")[claim.metric].count()
    return int(counts.reindex(list(weights(claim)), fill_value=0).min())


def by_image(
    claim: ClaimRecord, runs: pd.DataFrame, seeds: pd.Index, answers: Mapping[str, np.ndarray]
) -> np.ndarray | None:
    """The claim's difference of right answers, float32 [seeds, test images]; its mean is the difference in accuracy.

    answers: by run id, bool [test images], which images were answered rightly. None for another metric, or where the
    answers of a run are missing.
    """
    if claim.metric != schema.TEST_ACCURACY:
        return None
    sizes = {len(right) for right in answers.values()}
    if len(sizes) != 1:
        return None
    named, total = weights(claim), np.zeros((len(seeds), sizes.pop()), dtype=np.float32)
    ids = dict(zip(zip(runs["arm"], runs["seed"], strict=True), runs["run_id"], strict=True))
    # Arms of one weight are counted together, which is fast, where that comes to the same to the last bit.
    groups = [[name] for name in named]
    if _exact_in_float32(named.values()):
        groups = [[name for name in named if named[name] == weight] for weight in dict.fromkeys(named.values())]
    for row, seed in zip(total, seeds, strict=True):
        for names in groups:
            right = [answers.get(ids.get((name, seed), "")) for name in names]
            if any(one is None for one in right):
                return None
            row += float(named[names[0]]) * np.stack(right).sum(axis=0, dtype=np.uint16)  # type: ignore[arg-type]
    return total


def _exact_in_float32(values: Collection[float]) -> bool:
    """Whether sums of these have no rounding in float32, in any order, whichever of them are left out."""
    return sum(map(abs, values)) < 8 and all(float(value * 2**20).is_integer() for value in values)


def by_arm(runs: pd.DataFrame, names: Iterable[str], columns: Sequence[str]) -> list[pd.DataFrame]:
    """For each of the arms its runs, with these columns of those that there are; split once, for all arms."""
    some = runs[[name for name in ("arm", *columns) if name in runs]]
    split = {str(arm): rows for arm, rows in some.groupby("arm", sort=False)}
    return [split.get(name, some.iloc[:0]) for name in names]


def _values(runs: pd.DataFrame, arm: str, name: str) -> pd.Series:
    # Of the two columns alone: a selection of rows copies every column that it is made of.
    return runs[["seed", name]][runs["arm"] == arm].set_index("seed")[name]


def _weighted(runs: pd.DataFrame, named: Mapping[str, float], name: str, sign: int) -> pd.Series:
    """Per seed the sum of the arms whose weights have this sign, by the weights' size; NaN where an arm is missing."""
    chosen = {arm: abs(weight) for arm, weight in named.items() if weight * sign > 0}
    table = runs[["seed", "arm", name]][runs["arm"].isin(list(chosen))].pivot(index="seed", columns="arm", values=name)
    return table.reindex(columns=list(chosen)).mul(pd.Series(chosen), axis="columns").sum(axis=1, skipna=False)
