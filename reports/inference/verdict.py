"""Verdicts on a plan's claims, by the rule that the plan fixed before its first run."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.record import ClaimRecord, PlanRecord
from cifar_ablations.reports.inference import contrast, decision, power, shrinkage, simulation, statistics
from cifar_ablations.reports.inference.decision import ALPHA, CORRECTIONS, TESTS, Claims, Decided
from cifar_ablations.reports.inference.simulation import Shape
from cifar_ablations.reports.reading import load
from cifar_ablations.reports.reading.outside import metric

SUPPORTED, REFUTED, EQUIVALENT, INCONCLUSIVE = "supported", "refuted", "equivalent", "inconclusive"
VERDICTS = (SUPPORTED, REFUTED, EQUIVALENT, INCONCLUSIVE)
UNFINISHED, NOT_REACHED, TOO_FEW = "runs missing", "look not reached", "too few seeds"
NOTHING_LEFT, FEW_LEFT, NO_SPREAD, LOST = "no runs to compare", "too few runs left", "no spread", "runs lost"
"""Why a claim is inconclusive whatever the size of its effect."""


def judge(
    plan: PlanRecord,
    runs: pd.DataFrame,
    answers: Mapping[str, np.ndarray] | None = None,
    *,
    complete: bool = False,
) -> pd.DataFrame:
    """One row per claim of the plan, in its order, from the frame of `load.runs_of`; empty where nothing is claimed.

    Differences, spreads, limits and the margin are in the metric's own unit, shares as fractions; all are of the runs
    that have the metric, which one that diverged has not. `treatment_n` of `treatment_ended` runs have it, and
    likewise for the control; `n` seeds have it on both sides, and `least` is the number of runs of the arm that has
    fewest (of seeds, for pairs). `low` and `high` bound the `confidence` interval of the
    difference, for new seeds on this test set. `p` is of the claim by itself, `p_page` shares the page's error with
    all claims: at most ALPHA is a difference (`tost_p` and `tost_p_page`: equivalence within the margin). `counted`:
    p compares how many runs diverged. `correlation` is between the arms over seeds, `improved` the probability that a
    seed's difference has the claimed sign, with exact limits. `detectable` is the effect that would be found four
    times out of five, and `seeds_needed` the seeds that find one of the size of the margin, as `inference.power` has
    them; `possible` is the largest difference that the metric allows from the control's mean, `reach` from any
    control. `images_low` and `images_high` bound the difference for new seeds and new test images, from which images
    were answered rightly (`answers`, by run id). `reason` says why an inconclusive verdict is not a matter of size.

    A claim is decided once its arms have all planned seeds, or those of a planned look. It keeps the verdict and the
    p-values of the first look that decides it (with the counts of runs, where these decided), and `look` says which
    that was; estimates and intervals are of the last complete look, and hold whenever one stops.

    complete: whether these are all runs that there will be, however many each arm has, so that none is waited for.
    A claim whose sign is 0 says that the two sides differ, in either direction.

    Raises AblateError for a rule that is not known.
    """
    rule = plan.rule
    if rule.test not in TESTS or rule.correction not in CORRECTIONS:
        raise AblateError(
            f"plan {plan.name!r} asks for test {rule.test!r} and correction {rule.correction!r}; "
            f"this report knows the tests {', '.join(map(repr, TESTS))} and the corrections "
            f"{' and '.join(map(repr, CORRECTIONS))}"
        )
    if not plan.claims:
        return pd.DataFrame()
    claims, looks = contrast.claims_of(plan), looks_taken(plan, runs)
    floors = _image_variances(runs, answers or {})
    at = {seeds: _decide(plan, runs, claims, seeds, floors) for seeds in looks or [len(plan.seeds)]}
    seeds = max(at)
    seen = runs[runs["seed"].isin(plan.seeds[:seeds])]
    counts = seen["arm"].value_counts()
    frame = pd.DataFrame(
        [_described(i, plan, seen, counts, at[seeds], answers or {}, complete) for i in range(len(plan.claims))]
    )
    if complete:
        few = error_rate(shape_of(plan, claims, counts)) > ALPHA
        held = np.full(len(plan.claims), TOO_FEW if few else "", dtype=object)
    else:
        held = np.array([_held_back(claim, plan, runs, looks, claims) for claim in plan.claims], dtype=object)
    verdicts, look = np.full(len(frame), INCONCLUSIVE, dtype=object), np.full(len(frame), math.nan)
    for now, decided in at.items():
        still = verdicts == INCONCLUSIVE
        for name in ("p", "tost_p", "p_page", "tost_p_page", "forbidden", "counted"):
            frame.loc[still, name] = getattr(decided, name)[still]
        said = np.array([_verdict(claim, decided, i) for i, claim in enumerate(plan.claims)], dtype=object)
        verdicts = np.where(still & (held == ""), said, verdicts)
        look = np.where(still & bool(looks), float(now), look)
    for i in np.flatnonzero(frame["counted"].to_numpy(dtype=bool) & (look < seeds)):
        seen = runs[runs["seed"].isin(plan.seeds[: int(look[i])])]
        for side, tally in zip(("treatment", "control"), contrast.tally(plan.claims[i], seen), strict=True):
            for name in ("n", "ended", "diverged"):
                frame.loc[i, f"{side}_{name}"] = getattr(tally, name)
    exploratory = (seeds < rule.confirmatory_seeds) | (held == UNFINISHED) | (held == NOT_REACHED)
    frame = frame.assign(verdict=verdicts, look=look, exploratory=exploratory)
    frame = frame.join(_shrunken(plan, at[seeds]))
    reasons = [why or _obstacle(row) for why, row in zip(held, frame.to_dict("records"), strict=True)]
    return frame.assign(
        reason=np.where(verdicts == INCONCLUSIVE, reasons, ""),
        forbidden=frame["forbidden"].astype(bool),
        counted=frame["counted"].astype(bool),
    )


MOST_SIMULATED = 30
"""Runs of an arm beyond which no more are simulated: with more the test errs less, and they would take long to draw."""


def shape_of(plan: PlanRecord, claims: Claims | None = None, counts: pd.Series | None = None) -> Shape:
    """All of a plan that the error rate of its page depends on.

    counts: by arm, how many runs there are, of a plan that waits for none; the first MOST_SIMULATED count.
    """
    claims = claims or contrast.claims_of(plan)
    names = dict.fromkeys(claims.metric)
    seeds, of_arms = len(plan.seeds), tuple[int, ...]()
    if counts is not None:
        seeds = min(seeds, MOST_SIMULATED)
        runs = [min(int(counts.get(arm.name, 0)), seeds) for arm in plan.arms]
        of_arms = tuple(runs) if min(runs) < seeds else ()
    return Shape(
        claims=claims,
        arms=len(plan.arms),
        seeds=seeds,
        runs=of_arms,
        better={name: metric(name).better for name in names},
        lost=frozenset(name for name in names if contrast.is_lost(name)),
        test=plan.rule.test,
        correction=plan.rule.correction,
        looks=plan.rule.looks,
    )


def error_rate(shape: Shape) -> float:
    """The largest share of pages of such a shape that say something false, by simulation."""
    return simulation.worst(shape)


def looks_taken(plan: PlanRecord, runs: pd.DataFrame) -> list[int]:
    """The planned looks, as numbers of seeds, that the runs suffice for: every arm has all of those seeds."""
    if not plan.rule.looks:
        return []
    have = set(zip(runs["arm"], runs["seed"], strict=True))
    return [
        look
        for look in plan.rule.looks
        if all((arm.name, seed) in have for seed in plan.seeds[:look] for arm in plan.arms)
    ]


def _shrunken(plan: PlanRecord, decided: Decided) -> pd.DataFrame:
    """Estimates drawn towards zero, metric by metric, by all claims that are about other arms; see `shrinkage`."""
    rule = plan.rule
    alpha = power.typical_alpha(len(plan.claims), len(plan.seeds), rule.test, rule.correction, max(1, len(rule.looks)))
    columns = ("shrunken", "shrunken_low", "shrunken_high", "exaggeration")
    frame = pd.DataFrame(math.nan, index=range(len(plan.claims)), columns=list(columns))
    names = np.array([claim.metric for claim in plan.claims])
    for name in dict.fromkeys(names):
        mine = names == name
        found = shrinkage.shrink(
            decided.estimate[mine],
            decided.own_error[mine],
            decided.own_df[mine],
            decision.confidence(rule),
            alpha,
        )
        frame.loc[mine, list(columns)] = np.stack([found.shrunken, found.low, found.high, found.exaggeration], axis=1)
    return frame


def _held_back(claim: ClaimRecord, plan: PlanRecord, runs: pd.DataFrame, looks: list[int], claims: Claims) -> str:
    """Why no verdict is given on a claim yet, whatever its numbers; empty where one is."""
    if error_rate(shape_of(plan, claims)) > ALPHA:
        return TOO_FEW
    if plan.rule.looks:
        return "" if looks else NOT_REACHED
    have = runs["arm"].isin(claim.arms) & runs["seed"].isin(plan.seeds)
    return "" if have.sum() == len(set(claim.arms)) * len(plan.seeds) else UNFINISHED


def _obstacle(row: Mapping[Hashable, Any]) -> str:
    """Why a claim cannot be decided by the runs that there are; empty where it can."""
    if pd.isna(row["difference"]) and not row["counted"]:
        return NOTHING_LEFT
    if pd.isna(row["p"]):
        return NO_SPREAD if row["least"] > 1 else FEW_LEFT
    return LOST if row["forbidden"] else ""


def _image_variances(runs: pd.DataFrame, answers: Mapping[str, np.ndarray]) -> dict[str, float]:
    """By arm, the variance of a run's test accuracy that the choice of test images alone makes; nothing where unknown.

    The residual mean square of right answers, float [seeds, images], over images: seeds and images are crossed.
    """
    found: dict[str, float] = {}
    if not answers:
        return found
    for arm, of_arm in runs.groupby("arm", sort=False):
        rows = [answers[run_id] for run_id in of_arm["run_id"] if run_id in answers]
        if len(rows) > 1 and len({len(row) for row in rows}) == 1:
            found[str(arm)] = statistics.residual_mean_square(np.stack(rows).astype(np.float32)) / len(rows[0])
    return found


def _decide(plan: PlanRecord, runs: pd.DataFrame, claims: Claims, seeds: int, floors: Mapping[str, float]) -> Decided:
    samples = contrast.samples_of(plan, runs, claims.metric, seeds, floors)
    rule = plan.rule
    return decision.decide(samples, claims, rule.test, rule.correction, max(1, len(rule.looks)))


def _as_of_equal_size(counts: pd.Series) -> int:
    """How many runs each arm would have, had arms of one size and spread the same standard error: the harmonic mean."""
    sizes = counts.to_numpy(dtype=float)
    return round(len(sizes) / float((1 / sizes).sum())) if sizes.all() else 0


def _verdict(claim: ClaimRecord, decided: Decided, i: int) -> str:
    if decided.different[i]:
        return SUPPORTED if decided.direction[i] * claim.sign > 0 or not claim.sign else REFUTED
    return EQUIVALENT if decided.equivalent[i] else INCONCLUSIVE


def _described(
    i: int,
    plan: PlanRecord,
    runs: pd.DataFrame,
    counts: pd.Series,
    decided: Decided,
    answers: Mapping[str, np.ndarray],
    complete: bool,
) -> dict[str, Any]:
    """The numbers of a plan's claim i but its p-values, on all of the given runs, of which each arm has `counts`."""
    claim = plan.claims[i]
    arms = list(contrast.weights(claim))
    if set(runs["arm"].unique()) - set(arms):
        runs = runs[runs["arm"].isin(arms)]
    rule, within = plan.rule, decision.confidence(plan.rule)
    sides = contrast.sides(claim, runs)
    pairs = statistics.paired(sides.treatment, sides.control, within)
    differences = statistics.differences(sides.treatment, sides.control)
    treatment, control = contrast.tally(claim, runs, sides)
    error, df = float(decided.error[i]), float(decided.df[i])
    margin = contrast.margin_of(rule, claim.metric)
    looks = max(1, len(rule.looks))
    seeds = min(len(plan.seeds), int(counts.max()) if len(counts) else 0)
    alpha = power.typical_alpha(len(plan.claims), seeds, rule.test, rule.correction, looks)
    if complete:
        seeds = _as_of_equal_size(counts.reindex(list(contrast.weights(claim)), fill_value=0))
    needed = power.seeds_needed(margin, error, df, seeds, len(plan.claims), rule.test, rule.correction, looks)
    improved, improved_low, improved_high = statistics.improvement(
        (claim.sign or 1) * differences.to_numpy(dtype=float), within
    )
    if rule.test == "paired t e-process":  # these intervals hold for a number of seeds fixed in advance
        improved_low = improved_high = math.nan
        answers = {}
    by_image = contrast.by_image(claim, runs, differences.index, answers) if answers and pairs.n else None
    low, high = float(decided.low[i]), float(decided.high[i])
    wide = (math.nan, math.nan) if by_image is None else statistics.for_new_images(low, high, by_image, within)
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
        "least": pairs.n if rule.test != "welch t" else contrast.fewest(claim, runs),
        "planned": len(plan.seeds),
        "seeds": seeds,
        "treatment_n": treatment.n,
        "treatment_ended": treatment.ended,
        "treatment_diverged": treatment.diverged,
        "treatment_mean": treatment.mean,
        "treatment_std": treatment.std,
        "control_n": control.n,
        "control_ended": control.ended,
        "control_diverged": control.diverged,
        "control_mean": control.mean,
        "control_std": control.std,
        "difference": decided.estimate[i],
        "confidence": within,
        "low": low,
        "high": high,
        "images_low": wide[0],
        "images_high": wide[1],
        "correlation": pairs.correlation,
        "improved": improved,
        "improved_low": improved_low,
        "improved_high": improved_high,
        "margin": margin,
        "allowed": claim.allowed,
        "mechanism": claim.mechanism,
        "notebook": claim.notebook,
        "detectable": power.standard_effect(round(df, 1), alpha, rule.test) * error,
        "possible": contrast.possible(claim, control.mean),
        "reach": contrast.reach(claim),
        "seeds_needed": math.nan if needed is None else needed,
        "rehearsal": load.rehearsal(plan),
    }
