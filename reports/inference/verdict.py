"""From paired seeds to verdicts, by the rule that the plan fixed before its first run."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.metrics import metric
from cifar_ablations.ablations.record import ClaimRecord, PlanRecord, RuleRecord
from cifar_ablations.reports.inference import contrast, sequential, statistics
from cifar_ablations.reports.reading import load

SUPPORTED, REFUTED, EQUIVALENT, INCONCLUSIVE = "supported", "refuted", "equivalent", "inconclusive"
VERDICTS = (SUPPORTED, REFUTED, EQUIVALENT, INCONCLUSIVE)
TOO_FEW, ALL_DIVERGED, NO_SPREAD = "too few seeds", "all diverged", "no spread"
NOT_REACHED = "look not reached"
"""With the three before it: why a claim is inconclusive whatever the size of its effect."""
POWER = 0.8


@dataclass(frozen=True)
class Test:
    """A test of paired differences [n]: p of a mean of zero, the 1 - α interval (of differences and α), and p of
    |mean| >= margin.

    It finds a difference where |t| is above `critical` (of n and α).
    """

    zero_p: Callable[[np.ndarray], float]
    interval: Callable[[np.ndarray, float], tuple[float, float]]
    equivalence_p: Callable[[np.ndarray, float], float]
    critical: Callable[[int, float], float]


def _t_interval(differences: np.ndarray, alpha: float) -> tuple[float, float]:
    mean = statistics.mean_interval(differences, 1 - alpha)
    return mean.low, mean.high


TESTS = {
    "paired t": Test(statistics.zero_p, _t_interval, statistics.equivalence_p, statistics.critical_t),
    "paired t e-process": Test(sequential.zero_p, sequential.interval, sequential.equivalence_p, sequential.critical_t),
}
"""By the names that a plan's rule uses."""


def level(rule: RuleRecord) -> float:
    """The significance level α of each claim: the rule's, shared out evenly (Bonferroni) over its planned looks.

    An e-process may be looked at as often as one likes, so there each look has the whole α.
    """
    return rule.alpha / max(1, len(rule.looks)) if rule.test == "paired t" else rule.alpha


def looks_taken(plan: PlanRecord, runs: pd.DataFrame) -> list[int]:
    """The planned looks, as numbers of seeds, that the runs suffice for: every arm has all of those seeds."""
    have = set(zip(runs["arm"], runs["seed"], strict=True))
    return [
        look
        for look in plan.rule.looks
        if all((arm.name, seed) in have for seed in plan.seeds[:look] for arm in plan.arms)
    ]


def judge(plan: PlanRecord, runs: pd.DataFrame, answers: Mapping[str, np.ndarray] | None = None) -> pd.DataFrame:
    """One row per claim of the plan, in its order, from the frame of `load.runs_of`.

    Differences, spreads, limits and the margin are fractions. `p_holm` and `tost_p_holm` are corrected over all claims
    of the family, those without data included. `detectable` is the effect that n seeds find with 80 % probability,
    and `seeds_needed` how many find one of the size of the margin, both at the upper 95 % χ² limit of the spread;
    `possible` is the largest difference that the metric allows from the control's mean, and `reach` from any control.
    `rehearsal` says whether the arms were trained on drawn images. `images_low` and `images_high` bound the difference
    for new seeds and new test images, from which images were answered rightly (`answers`, by run id); NaN without
    them. `reason` is TOO_FEW, ALL_DIVERGED, NO_SPREAD or NOT_REACHED where an inconclusive verdict is not a matter of
    size, else empty.

    Where the rule plans looks, each is judged on its seeds alone; a claim keeps the verdict of the first look that
    decides it, with that look's numbers, and `look` says which it was. The column `level` is the α of each claim.
    Raises AblateError for a rule that is not known.
    """
    rule = plan.rule
    if rule.test not in TESTS or rule.correction != "holm":
        raise AblateError(
            f"plan {plan.name!r} asks for test {rule.test!r} and correction {rule.correction!r}; "
            f"this report knows the tests {', '.join(map(repr, TESTS))} and the correction 'holm'"
        )
    if not plan.claims:
        return pd.DataFrame()
    if not rule.looks:
        return _judged(plan, runs, answers).assign(look=math.nan)
    return _at_looks(plan, runs, answers)


def _at_looks(plan: PlanRecord, runs: pd.DataFrame, answers: Mapping[str, np.ndarray] | None) -> pd.DataFrame:
    looks = looks_taken(plan, runs)
    if not looks:
        frame = _judged(plan, runs, answers)
        return frame.assign(look=math.nan, verdict=INCONCLUSIVE, negligible=False, reason=NOT_REACHED)
    decided: dict[int, pd.Series] = {}
    for look in looks:
        frame = _judged(plan, runs[runs["seed"].isin(plan.seeds[:look])], answers).assign(look=float(look))
        for index, row in frame.iterrows():
            if index not in decided or decided[index]["verdict"] == INCONCLUSIVE:
                decided[index] = row  # type: ignore[index]
    for index, row in decided.items():
        frame.loc[index] = row
    return frame


def _judged(plan: PlanRecord, runs: pd.DataFrame, answers: Mapping[str, np.ndarray] | None) -> pd.DataFrame:
    """Every claim on all of the given runs."""
    frame = pd.DataFrame([_compare(claim, plan, runs, answers or {}) for claim in plan.claims])
    for raw, adjusted in (("p", "p_holm"), ("tost_p", "tost_p_holm")):
        for _, p in frame.groupby("family", sort=False)[raw]:
            frame.loc[p.index, adjusted] = statistics.holm(p.to_list())
    decided = [_decide(row, level(plan.rule)) for row in frame.to_dict("records")]
    frame["verdict"] = [verdict for verdict, _ in decided]
    frame["negligible"] = [negligible for _, negligible in decided]
    return frame


def _compare(
    claim: ClaimRecord, plan: PlanRecord, runs: pd.DataFrame, answers: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    rule, alpha, test = plan.rule, level(plan.rule), TESTS[plan.rule.test]
    # A margin is a difference of shares; what would not matter in a norm or a loss nobody has said.
    margin = rule.margin if metric(claim.metric).share else math.nan
    sides = contrast.sides(claim, runs)
    pairs = statistics.paired(sides.treatment, sides.control, 1 - alpha)
    differences = statistics.differences(sides.treatment, sides.control)
    shared, d = differences.index, differences.to_numpy(dtype=float)
    low, high = test.interval(d, alpha)
    treatment, control = (
        statistics.mean_interval(side[shared].to_numpy(), 1 - alpha) for side in (sides.treatment, sides.control)
    )
    allowed = claim.sign * margin if claim.allowed else 0.0
    diverged = [
        int((~runs.loc[runs["arm"].isin(names) & runs["seed"].isin(shared), "converged"]).sum())
        for names in contrast.arms(claim)
    ]
    spread = statistics.upper_limit_of_sd(pairs.sd, pairs.n)
    detectable = statistics.minimum_detectable_effect(pairs.n, alpha, POWER, test.critical) * spread
    decidable = spread > 0 and margin > 0
    needed = statistics.seeds_needed(margin / spread, alpha, POWER, test.critical) if decidable else None
    improved, improved_low, improved_high = statistics.improvement(claim.sign * d, 1 - alpha)
    if rule.test != "paired t":  # these intervals hold for a number of seeds fixed in advance
        improved_low = improved_high = math.nan
        answers = {}
    by_image = contrast.by_image(claim, runs, shared, answers) if answers and len(shared) else None
    wide = None if by_image is None else statistics.two_way_interval(by_image, 1 - alpha)
    return {
        "technique": claim.technique,
        "statement": claim.statement,
        "metric": claim.metric,
        "where": contrast.where(claim),
        "family": claim.family,
        "sign": claim.sign,
        "treatment": claim.treatment,
        "control": claim.control,
        "source": claim.source,
        "n": pairs.n,
        "planned": len(plan.seeds),
        "level": alpha,
        "exploratory": _exploratory(plan, pairs.n),
        "treatment_mean": treatment.mean,
        "treatment_std": treatment.std,
        "control_mean": control.mean,
        "control_std": control.std,
        "treatment_diverged": diverged[0],
        "control_diverged": diverged[1],
        "difference": pairs.mean,
        "sd": pairs.sd,
        "low": low,
        "high": high,
        "images_low": wide.low if wide else math.nan,
        "images_high": wide.high if wide else math.nan,
        "correlation": pairs.correlation,
        "improved": improved,
        "improved_low": improved_low,
        "improved_high": improved_high,
        "margin": margin,
        "allowed": allowed,
        "mechanism": claim.mechanism,
        "notebook": claim.notebook,
        "p": test.zero_p(d + allowed),
        "sign_flip_p": pairs.sign_flip_p,
        "tost_p": test.equivalence_p(d, margin) if margin > 0 else math.nan,
        "detectable": detectable,
        "possible": contrast.possible(claim, control.mean),
        "reach": contrast.reach(claim),
        "seeds_needed": math.nan if needed is None else needed,
        "rehearsal": load.rehearsal(plan),
        "reason": _reason(pairs, diverged),
    }


def _exploratory(plan: PlanRecord, n: int) -> bool:
    """Whether there are fewer seeds than a confirmation takes, or than were planned: then this is a glance in between.

    Planned looks are no such glances: their α is corrected for them.
    """
    least, planned = plan.rule.confirmatory_seeds, len(plan.seeds)
    return planned < least if plan.rule.looks else n < max(least, planned)


def _reason(pairs: statistics.Paired, diverged: Sequence[int]) -> str:
    if pairs.n < 2:
        return TOO_FEW
    if min(diverged) == pairs.n:
        return ALL_DIVERGED
    return NO_SPREAD if pairs.sd == 0 else ""


def _decide(row: Mapping[Hashable, Any], alpha: float) -> tuple[str, bool]:
    """The verdict and whether it is real but negligible. A NaN p-value is no evidence of anything."""
    differs, same = row["p_holm"] < alpha, row["tost_p_holm"] < alpha
    if differs:
        # What a claim allows is added before its sign is looked at.
        return (SUPPORTED if (row["difference"] + row["allowed"]) * row["sign"] > 0 else REFUTED), bool(same)
    return (EQUIVALENT if same else INCONCLUSIVE), False
