"""What was fixed before the first run, and what was changed after results were there."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import pandas as pd

from cifar_ablations.ablations.record import ClaimRecord, PlanRecord, RuleRecord
from cifar_ablations.reports.inference import contrast
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
    """An earlier plan of the same question that fixed something else, and what has changed since."""

    started: datetime
    digest: str
    changes: list[Change]


def question(invocation: Logged[Any]) -> tuple[str, str, str, tuple[str, ...]]:
    """The name, data set, profile and overrides of an invocation: those that share them ask one question."""
    return invocation.name, invocation.data_digest, invocation.profile, tuple(sorted(invocation.overrides))


def earlier(invocation: Invocation, invocations: Sequence[Invocation]) -> list[Invocation]:
    """Invocations of the same question before this one that share some of its seeds, oldest first.

    A plan for fresh seeds owes nothing to what others have shown.
    """
    seeds = set(invocation.plan.seeds)
    same = [
        other
        for other in invocations
        if question(other) == question(invocation)
        and other.started < invocation.started
        and seeds & set(other.plan.seeds)
    ]
    return sorted(same, key=lambda other: (other.started, other.run_id))


def deviations(invocation: Invocation, invocations: Sequence[Invocation]) -> list[Deviation]:
    """The plans fixed earlier for the same question that differ in what bears on the verdicts, oldest first."""
    seen: dict[str, Deviation] = {}
    for other in earlier(invocation, invocations):
        changed = changes(other.plan, invocation.plan)
        if changed and other.digest not in seen:
            seen[other.digest] = Deviation(other.started, other.digest, changed)
    return list(seen.values())


def with_exploratory(
    verdicts: pd.DataFrame, invocation: Invocation, runs: pd.DataFrame, invocations: Sequence[Invocation]
) -> pd.DataFrame:
    """The verdicts, with `exploratory` also where a claim, its arms, the seeds or the rule were fixed after results.

    `late` tells those apart. The last plan for the question that was logged before a run had ended counts as the one
    that was fixed in advance.
    """
    if verdicts.empty:
        return verdicts
    before = [other for other in earlier(invocation, invocations) if _seen_since(other, invocation, runs)]
    in_time = [other.plan for other in before if not _seen_since(before[0], other, runs)]
    fixed = {_terms(claim, in_time[-1]) for claim in in_time[-1].claims} if before else set()
    late = [bool(before) and _terms(claim, invocation.plan) not in fixed for claim in invocation.plan.claims]
    return verdicts.assign(late=late, exploratory=verdicts["exploratory"] | pd.Series(late, index=verdicts.index))


def runs_before(invocation: Invocation, runs: pd.DataFrame, invocations: Sequence[Invocation]) -> int:
    """How many of the runs had ended before this question's first plan was logged, such as for another plan."""
    first = min([invocation, *earlier(invocation, invocations)], key=lambda i: i.started)
    return int((runs["ended"] < 1000 * first.started.timestamp()).sum())


def _seen_since(other: Invocation, invocation: Invocation, runs: pd.DataFrame) -> bool:
    """Whether a run of the page ended between the two."""
    ended = runs["ended"] / 1000
    return bool(((ended >= other.started.timestamp()) & (ended < invocation.started.timestamp())).any())


def _terms(claim: ClaimRecord, plan: PlanRecord) -> Hashable:
    """All that a claim's verdict depends on but the runs, to compare."""
    trained = {arm.name: (arm.digest, arm.seed_offset) for arm in plan.arms}
    weighed = sorted((trained[name], round(weight, 12)) for name, weight in contrast.weights(claim).items())
    return claim.metric, claim.sign, claim.allowed, tuple(weighed), plan.rule, plan.seeds


def changes(old: PlanRecord, new: PlanRecord) -> list[Change]:
    """The differences between two plans in seeds, rule, arms and claims, in this order; empty where there are none."""
    changed = [] if old.seeds == new.seeds else [Change(SEEDS, before=old.seeds, now=new.seeds)]
    for field in fields(RuleRecord):
        before, now = getattr(old.rule, field.name), getattr(new.rule, field.name)
        if before != now:
            changed.append(Change(RULE, field.name, before, now))
    for kind, names in ((ARM, _arms), (CLAIM, _claims)):
        before, now = names(old), names(new)
        gone = tuple(name for name in before if name not in now)
        added = tuple(name for name in now if name not in before)
        if gone or added:
            changed.append(Change(kind, gone=gone, added=added))
    return changed


def _arms(plan: PlanRecord) -> dict[str, None]:
    """The names of a plan's arms; an arm of another recipe is another one."""
    return {f"{arm.name} [{arm.digest[:8]}]": None for arm in plan.arms}


def _claims(plan: PlanRecord) -> dict[str, None]:
    return {claim.statement: None for claim in plan.claims}
