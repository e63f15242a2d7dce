"""From paired seeds to verdicts, by the rule that the plan fixed before its first run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ablations.metrics import metric
from reports import statistics, wording

SUPPORTED, REFUTED, EQUIVALENT, INCONCLUSIVE = "supported", "refuted", "equivalent", "inconclusive"
VERDICTS = (SUPPORTED, REFUTED, EQUIVALENT, INCONCLUSIVE)
POWER = 0.8


def judge(plan: Mapping[str, Any], runs: pd.DataFrame) -> pd.DataFrame:
    """One row per claim of the plan, in its order, from the frame of `load.runs_of`.

    Differences, spreads, limits and the margin are fractions. `p_holm` and `tost_p_holm` are corrected over all claims
    of the family, those without data included. `detectable` is the effect that n seeds find with 80 % probability,
    and `seeds_needed` how many find one of the size of the margin, both at the upper 95 % χ² limit of the spread.
    `reason` says why an inconclusive verdict is not a matter of size. Raises ValueError for a rule that is not known.
    """
    rule = plan["rule"]
    if rule["test"] != "paired t" or rule["correction"] != "holm":
        raise ValueError(
            f"plan {plan['name']!r} asks for test {rule['test']!r} and correction {rule['correction']!r}; "
            "this report knows the test 'paired t' and the correction 'holm'"
        )
    rows = [_compare(claim, plan, runs) for claim in plan["claims"]]
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    for raw, adjusted in (("p", "p_holm"), ("tost_p", "tost_p_holm")):
        for _, p in frame.groupby("family", sort=False)[raw]:
            frame.loc[p.index, adjusted] = statistics.holm(p.to_list())
    decided = [_decide(row, rule["alpha"]) for row in frame.to_dict("records")]
    frame["verdict"] = [verdict for verdict, _ in decided]
    frame["negligible"] = [negligible for _, negligible in decided]
    frame["sentence"] = [wording.verdict_sentence(row) for row in frame.to_dict("records")]
    return frame


def _compare(claim: Mapping[str, Any], plan: Mapping[str, Any], runs: pd.DataFrame) -> dict[str, Any]:
    rule, confidence = plan["rule"], 1 - plan["rule"]["alpha"]
    # A margin is a difference of shares; what would not matter in a norm or a loss nobody has said.
    margin = rule["margin"] if metric(claim["metric"]).share else math.nan
    if claim.get("over"):
        treatment, control = (_weighted(runs, claim["over"], claim["metric"], sign) for sign in (1, -1))
    else:
        treatment, control = (_values(runs, claim[side], claim["metric"]) for side in ("treatment", "control"))
    if claim.get("beyond"):
        also, without = (_values(runs, arm, claim["metric"]) for arm in claim["beyond"])
        treatment, control = treatment - control, also - without
    found = statistics.paired(treatment, control, confidence)
    shared = statistics.differences(treatment, control).index
    having, lacking = (statistics.mean_interval(arm[shared].to_numpy(), confidence) for arm in (treatment, control))
    allowed = claim["sign"] * margin if claim.get("allowed") else 0.0
    sides = [
        [name for name, weight in claim["over"] if weight * sign > 0] if claim.get("over") else [claim[side]]
        for side, sign in (("treatment", 1), ("control", -1))
    ]
    diverged = [
        int((~runs.loc[runs["arm"].isin(names) & runs["seed"].isin(shared), "converged"]).sum()) for names in sides
    ]
    spread = statistics.upper_limit_of_sd(found.sd, found.n)
    detectable = statistics.minimum_detectable_effect(found.n, rule["alpha"], POWER) * spread
    needed = statistics.seeds_needed(margin / spread, rule["alpha"], POWER) if spread > 0 and margin > 0 else None
    return {
        "technique": claim["technique"],
        "statement": claim["statement"],
        "metric": claim["metric"],
        "where": wording.where(claim),
        "family": claim["family"],
        "sign": claim["sign"],
        "treatment": claim["treatment"],
        "control": claim["control"],
        "source": claim["source"],
        "n": found.n,
        "planned": len(plan["seeds"]),
        "exploratory": found.n < rule["confirmatory_seeds"],
        "treatment_mean": having.mean,
        "treatment_std": having.std,
        "control_mean": lacking.mean,
        "control_std": lacking.std,
        "treatment_diverged": diverged[0],
        "control_diverged": diverged[1],
        "difference": found.mean,
        "sd": found.sd,
        "low": found.low,
        "high": found.high,
        "correlation": found.correlation,
        "margin": margin,
        "allowed": allowed,
        "mechanism": tuple(claim.get("mechanism") or ()),
        "notebook": claim.get("notebook", ""),
        "p": statistics.paired(treatment + allowed, control, confidence).p if allowed else found.p,
        "sign_flip_p": found.sign_flip_p,
        "tost_p": statistics.equivalence_p(treatment, control, margin) if margin > 0 else math.nan,
        "detectable": detectable,
        "seeds_needed": math.nan if needed is None else needed,
        "reason": _reason(claim["metric"], found, len(plan["seeds"]), diverged),
    }


def _values(runs: pd.DataFrame, arm: str, name: str) -> pd.Series:
    return runs[runs["arm"] == arm].set_index("seed")[name]


def _weighted(runs: pd.DataFrame, over: Sequence[tuple[str, float]], name: str, sign: int) -> pd.Series:
    """Per seed the sum of the arms whose weights have this sign, by the weights' size; NaN where an arm is missing."""
    weights = {arm: abs(weight) for arm, weight in over if weight * sign > 0}
    table = (
        runs[runs["arm"].isin(list(weights))]
        .pivot(index="seed", columns="arm", values=name)
        .reindex(columns=list(weights))
    )
    return table.mul(pd.Series(weights), axis="columns").sum(axis=1, skipna=False)


def _reason(named: str, found: statistics.Paired, planned: int, diverged: list[int]) -> str:
    if found.n < 2:
        return f"not enough seeds yet ({found.n} of {planned} paired)"
    if min(diverged) == found.n:
        return f"every run of both arms diverged ({found.n} seeds)"
    if found.sd == 0:
        same = wording.difference(named, found.mean)
        return f"the difference is {same} on each of {found.n} seeds, so no test applies"
    return ""


def _decide(row: wording.Row, alpha: float) -> tuple[str, bool]:
    """The verdict and whether it is real but negligible. A NaN p-value is no evidence of anything."""
    differs, same = row["p_holm"] < alpha, row["tost_p_holm"] < alpha
    if differs:
        # What a claim allows is added before its sign is looked at.
        return (SUPPORTED if (row["difference"] + row["allowed"]) * row["sign"] > 0 else REFUTED), bool(same)
    return (EQUIVALENT if same else INCONCLUSIVE), False
