"""What was fixed before its results were seen, and what was changed after. Claims are told apart by what they say
(`ablations.identity`), so another name for the question, an arm or the plan makes no new claim."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence, Set
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from cifar_ablations.ablations.identity import Identity, identity_of, weights
from cifar_ablations.ablations.record import ClaimRecord, PlanRecord, RuleRecord
from cifar_ablations.reports.reading.load import Invocation, Logged

SEEDS, RULE, ARM, CLAIM = "seeds", "rule", "arm", "claim"


@dataclass(frozen=True)
class Change:
    """One difference between two plans that bears on the verdicts."""

    kind: str
    """SEEDS or RULE, with `before` and `now`; ARM or CLAIM, with what is `gone` and `added`."""
    name: str = ""
    """Of RULE, the field, such as `margin`."""
    before: object = None
    now: object = None
    gone: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    """An arm by its name and the first digits of its recipe's digest, a claim by its statement."""


@dataclass(frozen=True)
class Deviation:
    """An earlier plan with claims on the same comparisons that fixed something else, and what has changed since."""

    started: datetime
    digest: str
    changes: list[Change]
    plan: str = ""
    """The earlier plan's name."""


@dataclass(frozen=True)
class Lock:
    """A lock that a plan was held to (`ablations.lock`), and whether it precedes the plan's results."""

    sha256: str
    created: datetime
    """When it was written, by its own account."""
    logged: datetime
    """When the first invocation was logged that was held to it: by the store's account, it was there by then."""
    seen: int
    """How many of the plan's runs had ended before it was created, and `before_logged` before it was logged: where both
    are 0, the lock precedes the first result by the store's account too."""
    before_logged: int
    runs: int
    """How many of the plan's runs have ended so far."""


def question(invocation: Logged[Any]) -> tuple[str, str, str, tuple[str, ...]]:
    """The name, data set, profile and overrides of an invocation: those that share them share a page."""
    return invocation.name, invocation.data_digest, invocation.profile, tuple(sorted(invocation.overrides))


def earlier(invocation: Invocation, invocations: Sequence[Invocation]) -> list[Invocation]:
    """Invocations of any plan before this one, on the same data and with some of its seeds, oldest first.

    A plan for fresh seeds owes nothing to what others have shown.
    """
    return [other for other in _sharing(invocation, invocations) if other.started < invocation.started]


def _sharing(invocation: Invocation, invocations: Iterable[Invocation]) -> list[Invocation]:
    """Those of any plan on the same data and with some of the same seeds, oldest first."""
    seeds = set(invocation.plan.seeds)
    same = [
        other for other in invocations if other.data_digest == invocation.data_digest and seeds & set(other.plan.seeds)
    ]
    return sorted(same, key=lambda other: (other.started, other.run_id))


def deviations(invocation: Invocation, invocations: Sequence[Invocation]) -> list[Deviation]:
    """The plans fixed earlier on the same comparisons that differ in what bears on the verdicts, oldest first.

    Of a plan for the same question, or with the same arms, all changes count; of another, those of the comparisons
    that both make claims on.
    """
    seen: dict[str, Deviation] = {}
    for other in earlier(invocation, invocations):
        if question(other) == question(invocation) or same_arms(other.plan, invocation.plan):
            changed = changes(other.plan, invocation.plan)
        else:
            changed = _changes_of_shared(other.plan, invocation.plan)
        if changed and other.digest not in seen:
            seen[other.digest] = Deviation(other.started, other.digest, changed, other.name)
    return list(seen.values())


def with_exploratory(
    verdicts: pd.DataFrame,
    invocation: Invocation,
    runs: pd.DataFrame,
    invocations: Sequence[Invocation],
    elsewhere: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The verdicts, with `exploratory` also where a claim was fixed after runs that it rests on had ended.

    `late` tells those apart. `runs` says how many runs with a result the claim rests on so far, and `seen` how many of
    them had ended before it was fixed: before an invocation of any plan first registered the same claim, by the same
    rule, for the same seeds. Of several claims on one comparison that were registered before its first result, those
    of the last invocation were fixed in advance, on every page; the others had been given up, and all their runs are
    seen until an invocation registers them again.

    elsewhere: the frame of `load.runs_of` for this plan from another store; results seen there are seen.
    """
    if verdicts.empty:
        return verdicts
    everything = {one.run_id: one for one in (*invocations, invocation)}
    registered = [_Registered.of(one) for one in _sharing(invocation, everything.values())]
    ended = _first_ended(runs, elsewhere)
    fixed = [_fixed(claim, invocation.plan, registered, ended) for claim in invocation.plan.claims]
    late = pd.Series([seen > 0 for seen, _ in fixed], index=verdicts.index, dtype=bool)
    return verdicts.assign(
        late=late,
        seen=[seen for seen, _ in fixed],
        runs=[rests_on for _, rests_on in fixed],
        exploratory=verdicts["exploratory"] | late,
    )


def runs_before(invocation: Invocation, runs: pd.DataFrame, invocations: Sequence[Invocation]) -> int:
    """How many of the runs had ended before this question's first plan was logged, such as for another plan."""
    same = [other for other in earlier(invocation, invocations) if question(other) == question(invocation)]
    return int((runs["ended"] < min(_milliseconds(other) for other in (invocation, *same))).sum())


def lock(invocation: Invocation, runs: pd.DataFrame, invocations: Sequence[Invocation]) -> Lock | None:
    """The first lock that this very plan was held to, by this or an earlier invocation; None where by none.

    runs: as of `load.runs_of`.
    """
    same = [one for one in invocations if (one.digest, one.data_digest) == (invocation.digest, invocation.data_digest)]
    held = [one for one in same if one.plan.lock and one.started <= invocation.started]
    if not held:
        return None
    first = min(held, key=lambda one: (one.started, one.run_id))
    ended = runs.drop_duplicates("run_id")["ended"]
    return Lock(
        sha256=first.plan.lock,
        created=datetime.fromtimestamp(first.plan.locked / 1000, UTC),
        logged=first.started,
        seen=int((ended < first.plan.locked).sum()),
        before_logged=int((ended < _milliseconds(first)).sum()),
        runs=len(ended),
    )


@dataclass(frozen=True)
class _Registered:
    """What an invocation fixed, and when (in milliseconds since 1970, as runs have it)."""

    at: int
    seeds: tuple[int, ...]
    claims: frozenset[Identity]
    comparisons: frozenset[Hashable]

    @classmethod
    def of(cls, invocation: Invocation) -> _Registered:
        claims = frozenset(identity_of(claim, invocation.plan) for claim in invocation.plan.claims)
        comparisons = frozenset(claim.comparison for claim in claims)
        return cls(_milliseconds(invocation), invocation.plan.seeds, claims, comparisons)


def _fixed(
    claim: ClaimRecord, plan: PlanRecord, registered: Sequence[_Registered], ended: pd.DataFrame
) -> tuple[int, int]:
    """How many of the runs that a claim of the plan rests on were seen before it was fixed, and how many there are.

    registered: oldest first, with the plan's own invocation.
    """
    arms = [name for name, weight in weights(claim).items() if weight]
    times = ended[ended["arm"].isin(arms)].drop_duplicates("run_id")["ended"]
    if times.empty:
        return 0, 0
    mine, first = identity_of(claim, plan), times.min()
    on_it = [one for one in registered if mine.comparison in one.comparisons]
    in_time = [one for one in on_it if one.at <= first]
    if in_time and _registers(in_time[-1], mine, plan.seeds):
        return 0, len(times)
    again = (one.at for one in on_it if one.at > first and _registers(one, mine, plan.seeds))
    fixed = next(again, math.inf)
    return int((times < fixed).sum()), len(times)


def _registers(one: _Registered, claim: Identity, seeds: tuple[int, ...]) -> bool:
    return claim in one.claims and one.seeds == seeds


def _first_ended(runs: pd.DataFrame, elsewhere: pd.DataFrame | None) -> pd.DataFrame:
    """Arm, seed and run id of the runs, and when the first run of the same arm and seed ended, here or elsewhere."""
    frame = runs[["arm", "seed", "run_id", "ended"]]
    if elsewhere is None or elsewhere.empty:
        return frame
    there = elsewhere.groupby(["arm", "seed"])["ended"].min().rename("there")
    joined = frame.join(there, on=["arm", "seed"])
    return frame.assign(ended=joined[["ended", "there"]].min(axis=1))


def _milliseconds(invocation: Invocation) -> int:
    return round(1000 * invocation.started.timestamp())


def same_arms(one: PlanRecord, other: PlanRecord) -> bool:
    """Whether two plans train the same recipes with the same offsets of seeds, whatever their arms are called."""
    return set(_arms(one)) == set(_arms(other))


def changes(old: PlanRecord, new: PlanRecord) -> list[Change]:
    """The differences between two plans in seeds, rule, arms and claims, in this order; empty where there are none.

    An arm of another recipe is another one, and one that was renamed is the same; so with claims. A claim that differs
    only because the recipe of its arm does is not listed beside that arm.
    """
    changed = [] if old.seeds == new.seeds else [Change(SEEDS, before=old.seeds, now=new.seeds)]
    for field in fields(RuleRecord):
        before, now = getattr(old.rule, field.name), getattr(new.rule, field.name)
        if before != now:
            changed.append(Change(RULE, field.name, before, now))
    arms_before, arms_now = _arms(old), _arms(new)
    gone = tuple(name for arm, name in arms_before.items() if arm not in arms_now)
    added = tuple(name for arm, name in arms_now.items() if arm not in arms_before)
    if gone or added:
        changed.append(Change(ARM, gone=gone, added=added))
    gone, added = _claims_without(old, new), _claims_without(new, old)
    if gone or added:
        changed.append(Change(CLAIM, gone=gone, added=added))
    return changed


def _changes_of_shared(old: PlanRecord, new: PlanRecord) -> list[Change]:
    """The changes in what two plans claim of the comparisons that both make claims on."""
    made = [{identity_of(claim, plan).comparison for claim in plan.claims} for plan in (old, new)]
    shared = made[0] & made[1]
    return changes(_about(old, shared), _about(new, shared)) if shared else []


def _about(plan: PlanRecord, comparisons: Set[Hashable]) -> PlanRecord:
    """A plan with its claims on some comparisons alone, and the arms that these are about."""
    claims = tuple(claim for claim in plan.claims if identity_of(claim, plan).comparison in comparisons)
    used = {arm for claim in claims for arm in identity_of(claim, plan).arms}
    return replace(plan, claims=claims, arms=tuple(arm for arm in plan.arms if (arm.digest, arm.seed_offset) in used))


def _arms(plan: PlanRecord) -> dict[tuple[str, int], str]:
    """By recipe and seed offset, what to call each of a plan's arms."""
    return {(arm.digest, arm.seed_offset): f"{arm.name} [{arm.digest[:8]}]" for arm in plan.arms}


def _claims_without(plan: PlanRecord, other: PlanRecord) -> tuple[str, ...]:
    """The statements of a plan's claims that another plan does not make, but for those that its arms explain."""
    made = {identity_of(claim, other).statement for claim in other.claims}
    worded = {_words(claim) for claim in other.claims}
    lacking = []
    for claim in plan.claims:
        mine = identity_of(claim, plan)
        explained = _words(claim) in worded and not mine.arms <= _arms(other).keys()
        if mine.statement not in made and not explained:
            lacking.append(claim.statement)
    return tuple(lacking)


def _words(claim: ClaimRecord) -> Hashable:
    return claim.statement, claim.metric, claim.sign, claim.allowed
