"""Who contributes what: effects over all combinations of techniques, each a weighted sum of arms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.inference import contrast, statistics

Used = frozenset[str]


def combinations_of(plan: PlanRecord) -> list[Used]:
    """The factors in use in each arm of a plan."""
    return [frozenset(name for name in plan.factors if arm.levels.get(name, "off") != "off") for arm in plan.arms]


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
    """One row per factor: its Shapley value and its main effect, each with the limits of its interval, and what it is
    worth last (removed from the full combination) and first (added to the empty one).

    Columns `shapley` and `main`, each also with `_low` and `_high`, `last`, `first`, and `n`, the fewest runs of an
    arm. NaN where the design does not tell: a half fraction has no Shapley values.
    """
    used, factors = combinations_of(plan), plan.factors
    full, everything, nothing = len(set(used)) == 2 ** len(factors), frozenset(factors), frozenset[str]()
    rows = [
        *(main_effect(factor, used) for factor in factors),
        *(shapley(factor, factors, used) if full else np.zeros(len(used)) for factor in factors),
        *(_difference(used, everything, everything - {factor}) for factor in factors),
        *(_difference(used, frozenset({factor}), nothing) for factor in factors),
    ]
    found = contrast.estimates(plan, runs, metric, np.array(rows))
    known = found.where(found["n"] > 0)
    main, value, last, first = (
        known.iloc[i * len(factors) : (i + 1) * len(factors)].reset_index(drop=True) for i in range(4)
    )
    return pd.DataFrame(
        {
            "factor": factors,
            "n": main["n"].fillna(0).astype(int),
            "shapley": value["estimate"],
            "shapley_low": value["low"],
            "shapley_high": value["high"],
            "main": main["estimate"],
            "main_low": main["low"],
            "main_high": main["high"],
            "last": last["estimate"],
            "first": first["estimate"],
        }
    )


def interactions(plan: PlanRecord, runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per pair of factors: `effect` with `low`, `high`, `p`, and `p_holm`, Holm's over all pairs."""
    used, pairs = combinations_of(plan), list(combinations(plan.factors, 2))
    weights = np.array([interaction(*pair, used) for pair in pairs]).reshape(len(pairs), len(used))  # one factor: none
    found = contrast.estimates(plan, runs, metric, weights)
    frame = pd.DataFrame(pairs, columns=["one", "other"]).join(found.rename(columns={"estimate": "effect"}))
    return frame.assign(p_holm=statistics.holm(frame["p"].to_list()))


def _difference(used: Sequence[Used], upper: Used, lower: Used) -> np.ndarray:
    """Weights of one combination less another; zeros where the design lacks either."""
    weights = np.zeros(len(used))
    if upper in used and lower in used:
        weights[used.index(upper)], weights[used.index(lower)] = 1.0, -1.0
    return weights
