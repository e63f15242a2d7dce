"""Who contributes what: effects over all combinations of techniques, each a linear contrast of arms within a seed.

A contrast is taken seed by seed, and its interval is the t interval over seeds: seeds are blocks, and no spread is
pooled over arms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.inference import statistics

Used = frozenset[str]


@dataclass(frozen=True)
class Cells:
    """A metric, float [seeds, combinations], and the factors in use in each combination."""

    used: list[Used]
    values: np.ndarray


def cells(plan: PlanRecord, runs: pd.DataFrame, metric: str) -> Cells:
    """The metric in every arm of a plan, for the seeds that have all of them."""
    used = {
        arm.name: frozenset(name for name in plan.factors if arm.levels.get(name, "off") != "off") for arm in plan.arms
    }
    known = runs[runs["arm"].isin(list(used))]
    table = known.pivot(index="seed", columns="arm", values=metric).reindex(columns=list(used)).dropna()
    return Cells(list(used.values()), table.to_numpy(dtype=float))


def main_effect(factor: str, combinations_: Sequence[Used]) -> np.ndarray:
    """Weights [combinations] of the mean with a factor less the mean without it."""
    with_factor = np.array([factor in used for used in combinations_])
    return np.asarray(with_factor / with_factor.sum() - ~with_factor / (~with_factor).sum())


def interaction(one: str, other: str, combinations_: Sequence[Used]) -> np.ndarray:
    """Weights of what one factor is worth beside the other, less what it is worth without it."""
    signs = np.array([(1 if one in used else -1) * (1 if other in used else -1) for used in combinations_])
    return 4 * signs / len(signs)


def shapley(factor: str, factors: Sequence[str], combinations_: Sequence[Used]) -> np.ndarray:
    """Weights of a factor's Shapley value: what it adds, averaged over all orders in which factors may be added.

    Shapley 1953: the sum over the subsets S of the others of |S|! (k - |S| - 1)! / k! · [v(S ∪ factor) - v(S)]. The
    values of all factors add up to the full combination less the empty one. Needs all 2^k combinations.
    """
    k, place = len(factors), {used: i for i, used in enumerate(combinations_)}
    weights = np.zeros(len(combinations_))
    others = [name for name in factors if name != factor]
    for size in range(k):
        share = math.factorial(size) * math.factorial(k - size - 1) / math.factorial(k)
        for subset in combinations(others, size):
            weights[place[frozenset({*subset, factor})]] += share
            weights[place[frozenset(subset)]] -= share
    return weights


def contributions(plan: PlanRecord, runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per factor: its Shapley value and its main effect, mean over seeds with limits of the t interval, and
    what it is worth last (removed from the full combination) and first (added to the empty one).

    Columns `shapley` and `main`, each also with `_low` and `_high`, `main_p`, `main_p_holm`, `last`, `first`, `n`. NaN
    where the design does not tell: a half fraction has no Shapley values.
    """
    table, confidence = cells(plan, runs, metric), 1 - plan.rule.alpha
    factors = plan.factors
    full, rows = len(set(table.used)) == 2 ** len(factors), []
    everything, nothing = frozenset(factors), frozenset[str]()
    for factor in factors:
        main = table.values @ main_effect(factor, table.used)
        value = table.values @ shapley(factor, factors, table.used) if full else main * math.nan
        of_main, of_value = (statistics.mean_interval(v[~np.isnan(v)], confidence) for v in (main, value))
        rows.append(
            {
                "factor": factor,
                "n": of_main.n,
                "shapley": of_value.mean,
                "shapley_low": of_value.low,
                "shapley_high": of_value.high,
                "main": of_main.mean,
                "main_low": of_main.low,
                "main_high": of_main.high,
                "main_p": statistics.zero_p(main),
                "last": _difference(table, everything, everything - {factor}),
                "first": _difference(table, frozenset({factor}), nothing),
            }
        )
    frame = pd.DataFrame(rows)
    return frame.assign(main_p_holm=statistics.holm(frame["main_p"].to_list()))


def interactions(plan: PlanRecord, runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per pair of factors: `effect` with `low`, `high`, `p` and `p_holm`, over all pairs as one family."""
    table, confidence = cells(plan, runs, metric), 1 - plan.rule.alpha
    rows: list[dict[str, Any]] = []
    for one, other in combinations(plan.factors, 2):
        values = table.values @ interaction(one, other, table.used)
        interval = statistics.mean_interval(values, confidence)
        rows.append(
            {
                "one": one,
                "other": other,
                "n": interval.n,
                "effect": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "p": statistics.zero_p(values),
            }
        )
    frame = pd.DataFrame(rows, columns=["one", "other", "n", "effect", "low", "high", "p"])
    return frame.assign(p_holm=statistics.holm(frame["p"].to_list()))


def _difference(table: Cells, upper: Used, lower: Used) -> float:
    if upper not in table.used or lower not in table.used or not len(table.values):
        return math.nan
    high, low = table.used.index(upper), table.used.index(lower)
    return float((table.values[:, high] - table.values[:, low]).mean())
