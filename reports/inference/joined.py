"""Two plans side by side: arms joined by their recipes and claims by what they say, whatever either is called.

A recipe's digest covers its network and budget. An arm whose digest the other plan lacks is joined with the one that
has the same techniques at the same settings, at whatever size each plan trains.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.identity import identity_of, weights
from cifar_ablations.ablations.record import ArmRecord, PlanRecord
from cifar_ablations.reports.inference import contrast, decision, statistics, verdict
from cifar_ablations.reports.inference.decision import ALPHA

APART, AGAIN, OVERLAP, PART, EQUAL, SAME = "apart", "again", "overlap", "part", "equal", "same"
"""What the runs of two sides have to do with each other. APART: nothing, for seeds, images or budgets are others.
AGAIN: all seeds were trained again. OVERLAP: some were. PART: some runs are in both. EQUAL: all were trained again,
with equal results. SAME: they are the very same runs. From PART on they are no two samples, and nothing is tested."""
TESTED = (APART, AGAIN, OVERLAP)
CONFIDENCE = 1 - ALPHA
"""Of every interval here, each by itself."""
FEWEST = 3
"""Runs that every arm must have for two effects to be called different: with 2 against 6 the test errs in 7 %."""
RESULTS = [schema.TEST_ACCURACY, schema.TEST_LOSS]
"""By which two trainings of one recipe and seed are known to have come out equal."""


@dataclass(frozen=True)
class Side:
    """One of two plans: its runs with a result, of `load.runs_of`, and its rows of `verdict.judge`."""

    plan: PlanRecord
    runs: pd.DataFrame
    verdicts: pd.DataFrame


@dataclass(frozen=True)
class Pair:
    """The arms on both sides that train one recipe; several on one, where it has the recipe under several names."""

    sides: tuple[Sequence[ArmRecord], Sequence[ArmRecord]]
    exact: bool
    """Whether network and budget are the same too."""


@dataclass(frozen=True)
class _Effect:
    """A claim's weighted sum of arms as its plan's rule measures it: the estimate with standard error and degrees of
    freedom, the fewest runs of an arm (of seeds, where it compares within them), and the sum seed by seed."""

    estimate: float
    error: float
    df: float
    least: int
    by_seed: pd.Series


@dataclass(frozen=True)
class Joined:
    """What two plans have in common, and what only one of them has."""

    claims: pd.DataFrame
    """A row per claim that both make, in the order of the first plan.

    `first` and `second` are its places in the plans; `exact`: whether their recipes are the same with network and
    budget; `runs`: what the runs have to do with each other. `turned` is -1 where the second plan says it the other way
    round: its difference is taken as the first plan has it. `difference`: second effect less first, in the metric's
    unit, over the seeds that both have where they were trained AGAIN, with the limits `low` and `high`, and at most
    `reach`. `p` is by itself, with `df` degrees of freedom, `p_page` Holm's over all rows; `least` is the fewest runs
    (or seeds, within them) that it rests on. `agree`: the verdicts are the same; `differs`: the effects are not, beyond
    chance."""
    arms: pd.DataFrame
    """A row per recipe that both train: `first` and `second` (its names), `exact`, `runs`; on either side mean and
    standard deviation of the test accuracy, a fraction, over the `n` of `ended` runs that have one; and `difference`,
    second less first, with the limits `low` and `high`."""
    namesakes: Mapping[str, Mapping[str, tuple[Any, Any]]]
    """By name, arms that are called alike and are not joined: the knobs in which they differ, with both values. Empty
    where a store does not say them."""
    sizes: Mapping[str, tuple[Any, Any]]
    """The knobs of network and budget in which joined recipes differ, with both values."""
    only_arms: tuple[list[str], list[str]]
    """On either side, the names of the arms that are neither joined nor namesakes."""
    only_claims: tuple[list[int], list[int]]
    """On either side, the places of the claims that the other does not make."""


def join(first: Side, second: Side) -> Joined:
    """Both plans by what their arms and claims are, with the difference of every effect and mean, second less first."""
    sides = first.plan, second.plan
    pairs = pairs_of(*sides)
    said = [_statements(plan, pairs, side) for side, plan in enumerate(sides)]
    matched, shared = _matched(*said), set(said[0]) & set(said[1]) - {None}
    namesakes = _namesakes(*sides, pairs)
    known = [{arm.name for pair in pairs for arm in pair.sides[side]} | namesakes.keys() for side in (0, 1)]
    only_arms = [[arm.name for arm in plan.arms if arm.name not in known[side]] for side, plan in enumerate(sides)]
    only_claims = [[place for place, one in enumerate(of_side) if one not in shared] for of_side in said]
    overlap = _overlap(first, second, pairs)
    return Joined(
        claims=_claims(first, second, matched, pairs, overlap),
        arms=_arms(first, second, pairs, overlap),
        namesakes=namesakes,
        sizes=_sizes(pairs),
        only_arms=(only_arms[0], only_arms[1]),
        only_claims=(only_claims[0], only_claims[1]),
    )


def pairs_of(first: PlanRecord, second: PlanRecord) -> list[Pair]:
    """The arms of two plans that are one recipe with one offset of seeds, in the order of the first plan."""
    found = _paired(first.arms, second.arms, lambda arm: (arm.digest, arm.seed_offset), exact=True)
    taken = [{arm.name for pair in found for arm in pair.sides[side]} for side in (0, 1)]
    left = [[a for a in plan.arms if a.name not in taken[side]] for side, plan in enumerate((first, second))]
    # What a plan varies of the size is no budget of the plan: a recipe at 10 epochs is not the one at 20 beside it.
    varied = _varied(first) | _varied(second)
    found += _paired(left[0], left[1], lambda arm: _settings(arm, varied), exact=False)
    order = {arm.name: place for place, arm in enumerate(first.arms)}
    return sorted(found, key=lambda pair: order[pair.sides[0][0].name])


def _paired(
    first: Sequence[ArmRecord], second: Sequence[ArmRecord], key: Callable[[ArmRecord], Hashable], *, exact: bool
) -> list[Pair]:
    by_key: tuple[dict[Hashable, list[ArmRecord]], ...] = ({}, {})
    for arms, found in zip((first, second), by_key, strict=True):
        for arm in arms:
            if (of_arm := key(arm)) is not None:
                found.setdefault(of_arm, []).append(arm)
    pairs = [Pair((arms, by_key[1][of]), exact) for of, arms in by_key[0].items() if of in by_key[1]]
    # Arms that only their digests tell apart are not the same, and which of them is meant nobody knows.
    return [pair for pair in pairs if all(len({arm.digest for arm in arms}) == 1 for arms in pair.sides)]


def _of_size(knob: str) -> bool:
    return knob.partition(".")[0] in ("model", "budget")


def _varied(plan: PlanRecord) -> set[str]:
    """The knobs of network and budget that the plan's arms have at several values."""
    return {k for arm in plan.arms for k, v in arm.knobs.items() if _of_size(k) and v != plan.arms[0].knobs.get(k)}


def _settings(arm: ArmRecord, also: set[str]) -> Hashable:
    """The techniques that are on in an arm, as they are set, with some knobs of its size; None where it is not said."""
    if not arm.knobs:
        return None
    on = {k: v for k, v in arm.knobs.items() if not _of_size(k) and arm.levels.get(k.partition(".")[0]) != "off"}
    return json.dumps([on, {k: arm.knobs.get(k) for k in also}], sort_keys=True), arm.seed_offset


def _sizes(pairs: Sequence[Pair]) -> dict[str, tuple[Any, Any]]:
    resized = [pair.sides for pair in pairs if not pair.exact][:1]
    return {k: v for one, other in resized for k, v in _differing(one[0].knobs, other[0].knobs).items() if _of_size(k)}


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    both = {knob: (first.get(knob), second.get(knob)) for knob in (*first, *second)}
    return {knob: values for knob, values in both.items() if values[0] != values[1]}


def _namesakes(first: PlanRecord, second: PlanRecord, pairs: Sequence[Pair]) -> dict[str, dict[str, tuple[Any, Any]]]:
    theirs = {arm.name: arm for arm in second.arms}
    same = {(mine.name, other.name) for pair in pairs for mine in pair.sides[0] for other in pair.sides[1]}
    found = {}
    for arm in first.arms:
        if arm.name in theirs and (arm.name, arm.name) not in same:
            other = theirs[arm.name]
            knobs = _differing(arm.knobs, other.knobs) if arm.knobs and other.knobs else {}
            settings = {knob: values for knob, values in knobs.items() if not _of_size(knob)}
            offsets = arm.seed_offset, other.seed_offset
            found[arm.name] = (settings or knobs) | ({"seed offset": offsets} if offsets[0] != offsets[1] else {})
    return found


def _statements(plan: PlanRecord, pairs: Sequence[Pair], side: int) -> list[Hashable]:
    """What each claim says, by the pairs of the recipes that it is about; None where one of them is in no pair."""
    place = {(arm.digest, arm.seed_offset): i for i, pair in enumerate(pairs) for arm in pair.sides[side]}
    found: list[Hashable] = []
    for claim in plan.claims:
        said = identity_of(claim, plan)
        known = bool(said.weights) and said.arms <= place.keys()
        weighed = frozenset((place[arm, offset], weight) for arm, offset, weight in said.weights) if known else None
        found.append((said.metric, weighed, said.allowed) if known else None)
    return found


def _matched(first: Sequence[Hashable], second: Sequence[Hashable]) -> list[tuple[int, int]]:
    """The places of what both say; what one says twice counts once."""
    places = ({s: i for i, s in reversed(list(enumerate(said))) if s is not None} for said in (first, second))
    mine, theirs = places
    return sorted((place, theirs[said]) for said, place in mine.items() if said in theirs)


def _overlap(first: Side, second: Side, pairs: Sequence[Pair]) -> pd.DataFrame:
    """Per pair how many runs either side has (`first`, `second`), of how many seeds both have one (`common`), and how
    many of these are the same run (`same`) or came out equal (`equal`)."""
    columns = ["seed", "run_id", *RESULTS]
    frames = []
    for side, one in enumerate((first, second)):
        place = {pair.sides[side][0].name: i for i, pair in enumerate(pairs)}
        pair_of = one.runs["arm"].map(place)
        frames.append(one.runs.loc[pair_of.notna(), columns].assign(pair=pair_of.dropna().astype(int)))
    both = frames[0].merge(frames[1], on=["pair", "seed"], suffixes=("", "_"))
    both = both[both["pair"].map(dict(enumerate(pair.exact for pair in pairs))).astype(bool)]
    if first.plan.data.digest != second.plan.data.digest:
        both = both.iloc[:0]
    same = both["run_id"] == both["run_id_"]
    alike = [(both[name] == both[f"{name}_"]) | (both[name].isna() & both[f"{name}_"].isna()) for name in RESULTS]
    seen = both.assign(common=1, same=same, equal=same | np.logical_and.reduce(alike))
    found = seen.groupby("pair")[["common", "same", "equal"]].sum().reindex(range(len(pairs)), fill_value=0)
    counts = {name: f.groupby("pair").size() for name, f in zip(("first", "second"), frames, strict=True)}
    return found.assign(**counts).fillna(0).astype(int)


def _relation(of: Mapping[Any, int]) -> str:
    """What the runs of some pairs have to do with each other, by a row of `_overlap` or the sum of several."""
    if not of["common"]:
        return APART
    complete = of["common"] == of["first"] == of["second"]
    if of["same"] == of["common"] and complete:
        return SAME
    if of["equal"] == of["common"]:
        return EQUAL if complete else PART
    if of["same"]:
        return PART
    return AGAIN if complete else OVERLAP


def _claims(
    first: Side, second: Side, matched: Sequence[tuple[int, int]], pairs: Sequence[Pair], overlap: pd.DataFrame
) -> pd.DataFrame:
    plans = first.plan, second.plan
    turned = [plans[0].claims[i].sign * plans[1].claims[j].sign for i, j in matched]
    measured = [_measured(first, [i for i, _ in matched]), _measured(second, [j for _, j in matched], turned)]
    place = {arm.name: i for i, pair in enumerate(pairs) for arm in pair.sides[0]}
    rows = []
    for row, (i, j) in enumerate(matched):
        used = sorted({place[name] for name, weight in weights(plans[0].claims[i]).items() if weight})
        runs = _relation(overlap.loc[used].sum().to_dict())
        one, other = measured[0][row], measured[1][row]
        judged = first.verdicts["verdict"].iloc[i], second.verdicts["verdict"].iloc[j]
        rows.append(
            {
                "first": i,
                "second": j,
                "turned": turned[row],
                "exact": all(pairs[pair].exact for pair in used),
                "runs": runs,
                "metric": plans[0].claims[i].metric,
                "reach": 2 * contrast.reach(plans[0].claims[i]),
                **_difference(runs, one, other),
                "agree": judged[0] == judged[1],
            }
        )
    columns = ["first", "second", "turned", "exact", "runs", "metric", "reach", "difference", "low", "high", "df", "p"]
    found = pd.DataFrame(rows, columns=[*columns, "least", "agree"])
    page = pd.Series(statistics.holm(found["p"].astype(float).to_list()), index=found.index, dtype=float)
    return found.assign(p_page=page, differs=(page <= ALPHA) & (found["least"] >= FEWEST))


def _measured(side: Side, places: Sequence[int], turned: Sequence[int] | None = None) -> list[_Effect]:
    """Some claims of a plan, those with -1 in `turned` the other way round."""
    if not places:
        return []
    plan, claims = side.plan, contrast.claims_of(side.plan)
    seeds = max(verdict.looks_taken(plan, side.runs) or [len(plan.seeds)])
    weighed = claims.weights[list(places)] * np.array(turned or [1])[:, None]
    names = [claims.metric[place] for place in places]
    found: dict[int, _Effect] = {}
    for name, sample in contrast.samples_of(plan, side.runs, names, seeds).items():
        mine = [row for row, of in enumerate(names) if of == name]
        compared = decision.TESTS[plan.rule.test].compare(sample, weighed[mine])
        numbers = zip(compared.estimate, compared.own_error, compared.own_df, strict=True)
        for row, (estimate, error, df) in zip(mine, numbers, strict=True):
            used = weighed[row] != 0
            by_seed = pd.Series(weighed[row][used] @ sample.values[used], index=plan.seeds[:seeds])
            least = int(sample.count[used].min() if plan.rule.test == "welch t" else by_seed.count())
            found[row] = _Effect(float(estimate), float(error), float(df), least, by_seed)
    return [found[row] for row in range(len(places))]


def _difference(runs: str, one: _Effect, other: _Effect) -> dict[str, float]:
    """The second of two effects less the first, with its interval and p, as their runs allow."""
    if runs == AGAIN:
        pairs = statistics.paired(other.by_seed, one.by_seed, CONFIDENCE)
        df = pairs.n - 1.0 if pairs.n > 1 else math.nan
        found = {"difference": pairs.mean, "low": pairs.low, "high": pairs.high, "df": df, "p": pairs.p}
        return found | {"least": pairs.n}
    difference = other.estimate - one.estimate
    difference = 0.0 if abs(difference) <= statistics.ROUNDING else difference
    errors = [one.error, other.error] if runs in TESTED else [math.nan, math.nan]
    low, high, df, p = statistics.independent(difference, errors, [one.df, other.df], CONFIDENCE)
    least = min(one.least, other.least)
    return {"difference": difference, "low": low, "high": high, "df": df, "p": p, "least": least}


def _arms(first: Side, second: Side, pairs: Sequence[Pair], overlap: pd.DataFrame) -> pd.DataFrame:
    rows = []
    split = [
        contrast.by_arm(side.runs, (pair.sides[which][0].name for pair in pairs), ["seed", schema.TEST_ACCURACY])
        for which, side in enumerate((first, second))
    ]
    for pair, one, other, of in zip(pairs, *split, overlap.to_dict("records"), strict=True):
        values = [runs.set_index("seed")[schema.TEST_ACCURACY].dropna() for runs in (one, other)]
        means = [statistics.mean_interval(of_side.to_numpy(), CONFIDENCE) for of_side in values]
        runs = _relation(of)
        difference, low, high = means[1].mean - means[0].mean, math.nan, math.nan
        if runs == AGAIN:
            within = statistics.paired(values[1], values[0], CONFIDENCE)
            difference, low, high = within.mean, within.low, within.high
        elif runs in TESTED:
            difference, low, high = statistics.welch(values[1].to_numpy(), values[0].to_numpy(), CONFIDENCE)
        row: dict[str, Any] = {"exact": pair.exact, "runs": runs}
        for name, arms, mean, ended in zip(("first", "second"), pair.sides, means, (one, other), strict=True):
            row[name] = tuple(arm.name for arm in arms)
            row |= {
                f"{name}_mean": mean.mean,
                f"{name}_std": mean.std,
                f"{name}_n": mean.n,
                f"{name}_ended": len(ended),
            }
        rows.append(row | {"difference": difference, "low": low, "high": high})
    of_side = [f"{side}{what}" for side in ("first", "second") for what in ("", "_mean", "_std", "_n", "_ended")]
    return pd.DataFrame(rows, columns=["exact", "runs", *of_side, "difference", "low", "high"])
