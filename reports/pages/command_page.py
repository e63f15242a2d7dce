"""The pages of plans whose arms are commands: what came of their runs, as of other programs' numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from cifar_ablations.ablations import command_plan, schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.reports.pages import guide, judged_page, rendering
from cifar_ablations.reports.pages.judged_page import Judged
from cifar_ablations.reports.reading import command_plans, load
from cifar_ablations.reports.reading.command_plans import Invocation
from cifar_ablations.reports.wording import phrases

PREFIX = "commands-"
"""Begins the names of these pages' files."""
MOST_NAMED = 3
"""Runs without a result that a sentence names; the others are counted."""


@dataclass(frozen=True)
class Written:
    """A page with what it says."""

    invocation: Invocation
    judged: Judged
    page: Path


def judged_invocation(tracking_uri: str, invocation: Invocation, known: list[Invocation]) -> Judged:
    """What came of an invocation's runs. known: all invocations of plans of commands in the store.

    Raises AblateError, in a sentence, where nothing can be said yet.
    """
    plan, unreadable = invocation.plan, list[str]()
    runs = command_plans.runs_of(load.connect(tracking_uri), plan, unreadable)
    ended = command_plans.results(runs)
    planned = len(plan.arms) * len(plan.seeds)
    if plan.control not in set(ended["arm"]):
        raise AblateError(f"the control {plan.control!r} has no result ({len(ended)} of {planned} runs have one)")
    if ended["arm"].nunique() < 2:
        raise AblateError(f"no arm but the control {plan.control!r} has a result")
    notes = [*_lacking(runs, ended, planned), *(f"Left out: {sentence}." for sentence in unreadable)]
    found = command_plans.as_outside(plan, ended, tuple(notes))
    found_by = judged_page.of_runs(found, command_plans.as_plan(plan, found), complete=False)
    return replace(
        found_by,
        fixed=_fixed(command_plans.fixed(invocation, known), ended),
        commands={arm.name: command_plan.in_words(arm) for arm in plan.arms},
    )


def write_command_pages(
    tracking_uri: str,
    folder: Path,
    name: str | None = None,
    tell: Callable[[str], None] = lambda sentence: None,
    found: Callable[[Written], None] = lambda written: None,
) -> list[Path]:
    """Write a page for the newest invocation of each plan of commands; returns the pages, newest first.

    name: of one plan, in place of all; tell: is given why there is no page of a plan yet, and what cannot be read;
    found: is given each page with what it says. Raises AblateError where the store does not exist.
    """
    unreadable, failed, pages = list[str](), list[str](), list[Path]()
    known = command_plans.invocations(tracking_uri, unreadable)
    for sentence in unreadable:
        tell(f"Left out: {sentence}.")
    for one, invocation in command_plans.newest(known).items():
        if name not in (None, one):
            continue
        with rendering.kept_apart(f"plan {one!r} (run {invocation.run_id})", failed):
            try:
                judged = judged_invocation(tracking_uri, invocation, known)
            except AblateError as error:
                tell(f"No page of plan {one!r} yet: {error}.")
                continue
            guide.write_guide(folder)
            page = judged.save(folder / f"{PREFIX}{one}.html", invocation.plan.command)
            pages.append(page)
            found(Written(invocation, judged, page))
    for sentence in failed:
        tell(f"{sentence[:1].upper()}{sentence[1:]}.")
    return pages


def _fixed(first: Invocation, ended: pd.DataFrame) -> str:
    """What was fixed when. first: the invocation that did."""
    when, digest = f"{first.started:%Y-%m-%d %H:%M} UTC", first.plan.digest[:8]
    before = int((ended["ended"] < 1000 * first.started.timestamp()).sum())
    fixed = "arms, metric, claims, rule and seeds were fixed"
    if not before:
        fixed = phrases.sentence_case(fixed)
        return f"{fixed} in the store {when}, before the first of these runs (plan {digest})."
    return (
        f"Exploratory: {before} of these {phrases.count(len(ended), 'run')} had ended when {fixed} as they are, {when} "
        f"(plan {digest}). Fresh seeds confirm."
    )


def _lacking(runs: pd.DataFrame, ended: pd.DataFrame, planned: int) -> list[str]:
    """How many runs have no result, and of those that were tried why, in a sentence; none where all have one."""
    lacking = planned - len(ended)
    if not lacking:
        return []
    have = set(zip(ended["arm"], ended["seed"], strict=True))
    tried = runs[runs["outcome"].isin([schema.FAILED, schema.INTERRUPTED])].drop_duplicates(
        ["arm", "seed"], keep="last"
    )
    named = [
        f"'{row['arm']}', seed {row['seed']} ({row['cause'] or row['outcome']})"
        for row in tried.to_dict("records")
        if (row["arm"], row["seed"]) not in have
    ]
    more = [f"{len(named) - MOST_NAMED} more"] if len(named) > MOST_NAMED else []
    why = f": {phrases.listing([*named[:MOST_NAMED], *more])}" if named else ""
    of = f"{lacking} of {planned} planned runs {'has' if lacking == 1 else 'have'} no result"
    return [f"{of}{why}. The same command runs {'it' if lacking == 1 else 'them'}."]
