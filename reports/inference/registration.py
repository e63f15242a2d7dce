"""What was fixed before the first run, and what was changed after results were there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from cifar_ablations.reports.inference import contrast
from cifar_ablations.reports.pages import rendering
from cifar_ablations.reports.reading.load import Invocation
from cifar_ablations.reports.wording import phrases

RULE_WORDS = {
    "margin": "the margin", "alpha": "α", "test": "the test", "correction": "the correction",
    "confirmatory_seeds": "the seeds that confirm", "target": "the target accuracy", "looks": "the looks",
}  # fmt: skip


@dataclass(frozen=True)
class Deviation:
    """An earlier plan of the same question that fixed something else, and what has changed since."""

    started: datetime
    digest: str
    changes: list[str]


def question(invocation: Invocation) -> tuple[Any, ...]:
    """What is asked: two invocations with the same are one question, with the newer one's plan."""
    return invocation.name, invocation.data_digest, invocation.profile, tuple(sorted(invocation.overrides))


def earlier(invocation: Invocation, found: Sequence[Invocation]) -> list[Invocation]:
    """Invocations of the same question before this one that share some of its seeds, oldest first.

    A plan for fresh seeds owes nothing to what others have shown.
    """
    seeds = set(invocation.plan["seeds"])
    same = [
        other
        for other in found
        if question(other) == question(invocation)
        and other.started < invocation.started
        and seeds & set(other.plan["seeds"])
    ]
    return sorted(same, key=lambda other: (other.started, other.run_id))


def deviations(invocation: Invocation, found: Sequence[Invocation]) -> list[Deviation]:
    """The plans fixed earlier for the same question that differ in what bears on the verdicts, oldest first."""
    seen: dict[str, Deviation] = {}
    for other in earlier(invocation, found):
        changed = changes(other.plan, invocation.plan)
        if changed and other.digest not in seen:
            seen[other.digest] = Deviation(other.started, other.digest, changed)
    return list(seen.values())


def with_exploratory(
    verdicts: pd.DataFrame, invocation: Invocation, runs: pd.DataFrame, found: Sequence[Invocation]
) -> pd.DataFrame:
    """The verdicts, with `exploratory` also where a claim, its arms, the seeds or the rule were fixed after results.

    `late` tells those apart. The last plan for the question that was logged before a run had ended counts as the one
    that was fixed in advance.
    """
    if verdicts.empty:
        return verdicts
    before = [other for other in earlier(invocation, found) if _seen_since(other, invocation, runs)]
    in_time = [other.plan for other in before if not _seen_since(before[0], other, runs)]
    fixed = {_terms(claim, in_time[-1]) for claim in in_time[-1]["claims"]} if before else set()
    late = [bool(before) and _terms(claim, invocation.plan) not in fixed for claim in invocation.plan["claims"]]
    return verdicts.assign(late=late, exploratory=verdicts["exploratory"] | pd.Series(late, index=verdicts.index))


def runs_before(invocation: Invocation, runs: pd.DataFrame, found: Sequence[Invocation]) -> int:
    """How many of the runs had ended before this question's first plan was logged, such as for another plan."""
    first = min([invocation, *earlier(invocation, found)], key=lambda i: i.started)
    return int((runs["ended"] < 1000 * first.started.timestamp()).sum())


def _seen_since(other: Invocation, invocation: Invocation, runs: pd.DataFrame) -> bool:
    """Whether a run of the page ended between the two."""
    ended = runs["ended"] / 1000
    return bool(((ended >= other.started.timestamp()) & (ended < invocation.started.timestamp())).any())


def _terms(claim: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    """All that a claim's verdict depends on but the runs, as text to compare."""
    digests = {arm["name"]: (arm["digest"], arm.get("seed_offset", 0)) for arm in plan["arms"]}
    weighed = sorted((digests[name], round(weight, 12)) for name, weight in contrast.weights(claim).items())
    rule = sorted((name, str(value)) for name, value in plan["rule"].items())
    return repr((claim["metric"], claim["sign"], bool(claim.get("allowed")), weighed, rule, list(plan["seeds"])))


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What bears on the verdicts and differs between two plans, in words."""
    found = []
    if list(old["seeds"]) != list(new["seeds"]):
        found.append(f"seeds {_seeds(old['seeds'])}, now {_seeds(new['seeds'])}")
    for name in dict.fromkeys([*old["rule"], *new["rule"]]):
        before, now = old["rule"].get(name), new["rule"].get(name)
        if before != now and (before or now):
            found.append(f"{RULE_WORDS.get(name, name)} {_said(before)}, now {_said(now)}")
    for what, names in (("arm", _arms), ("claim", _claims)):
        gone, added = (
            [name for name in names(one) if name not in names(other)] for one, other in ((old, new), (new, old))
        )
        if gone:
            found.append(f"{phrases.count(len(gone), what)} dropped ({phrases.listing(gone[:5])})")
        if added:
            found.append(f"{phrases.count(len(added), what)} added ({phrases.listing(added[:5])})")
    return found


def _arms(plan: Mapping[str, Any]) -> dict[str, None]:
    """The names of a plan's arms; an arm of another recipe is another one."""
    return {f"{arm['name']} [{arm['digest'][:8]}]": None for arm in plan["arms"]}


def _claims(plan: Mapping[str, Any]) -> dict[str, None]:
    return {claim["statement"]: None for claim in plan["claims"]}


def _seeds(seeds: Sequence[int]) -> str:
    return f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"{seeds[0]}"


def _said(value: Any) -> str:
    if not value:
        return "none"
    return phrases.listing([str(v) for v in value]) if isinstance(value, list | tuple) else str(value)


def newest(found: Sequence[Invocation]) -> dict[str, Invocation]:
    """The newest invocation of each question by file stem; the newer of two with one name keeps the plain one."""
    by_question: dict[tuple[Any, ...], Invocation] = {}
    for invocation in found:
        by_question.setdefault(question(invocation), invocation)
    stems: dict[str, Invocation] = {}
    for invocation in by_question.values():
        stem = rendering.slug(f"{invocation.name}-{invocation.data_name}-{invocation.profile}")
        if invocation.overrides:
            stem += "-" + hashlib.sha256("\n".join(sorted(invocation.overrides)).encode()).hexdigest()[:6]
        if stem in stems:
            stem += "-" + rendering.slug(invocation.data_digest)[:8]
        stems.setdefault(stem, invocation)
    return stems
