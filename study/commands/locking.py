"""What `--lock` and `ablate verify` do: write what a plan fixes to a file, hold a run to it, say what became of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import read_named, write_atomically
from cifar_ablations.ablations.lock import BrokenLockError, PlanLock, decoded, lock_of
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.reports.inference import registration
from cifar_ablations.reports.pages.preview import undecided_claims
from cifar_ablations.reports.reading import load
from cifar_ablations.reports.reading.load import Invocation as Logged
from cifar_ablations.reports.wording import answer
from cifar_ablations.study.execution.runner import Invocation
from cifar_ablations.study.store.home import Home

Say = Callable[[str], None]

HELD, BROKEN, OPEN = 0, 1, 3
"""Exit codes of `ablate verify`: held and answered; edited or deviated from; not answered yet."""


def write_lock(path: Path, plan: PlanRecord, say: Say) -> PlanLock:
    """Lock a plan in a file, say its hash, and return it. A file that locks the same already stays as it is.

    Raises AblateError where the file locks something else, is no lock, or cannot be written.
    """
    lock = lock_of(plan, datetime.now(UTC))
    if os.path.exists(path):  # where the name is too long to be a file's, there is none
        there = read_lock(path)
        if lock_of(plan, there.created).sha256 != there.sha256:
            what = "; ".join(differences(there.plan, plan)) or "its command or its wording"
            raise AblateError(
                f"--lock {path} exists and locks plan {there.plan.name!r} with other terms ({what}); name another file"
            )
        say(f"Lock: {path} locks the same already and stays; written {_time(there.created)}, SHA-256 {there.sha256}")
        return there
    try:
        write_atomically(path, lock.encoded())
    except OSError as error:
        raise AblateError(f"--lock {path} cannot be written ({error.strerror})") from None
    say(f"Lock: {path}, SHA-256 {lock.sha256}")
    say("Commit or mail the file or this hash before the first run: nothing else proves when it was written.")
    return lock


def read_lock(path: Path) -> PlanLock:
    """The lock in a file. Raises AblateError where there is none, and BrokenLockError where it was edited."""
    try:
        return decoded(read_named(path), str(path))
    except OSError as error:
        raise AblateError(
            f"the lock {path} cannot be read ({error.strerror}); `ablate plan PLAN --lock FILE` writes one"
        ) from None


@dataclass(frozen=True)
class LockedInvocation(Invocation):
    """An invocation that is logged with the lock that it was held to."""

    lock: PlanLock

    def record(self) -> PlanRecord:
        """The record of the plan, with the lock's hash and time."""
        return replace(super().record(), lock=self.lock.sha256, locked=self.lock.at)


def held_to(path: Path, invocation: Invocation, say: Say) -> LockedInvocation:
    """The invocation, where it is what the lock in a file fixes. Raises BrokenLockError, in a sentence, where not."""
    lock = read_lock(path)
    if clauses := differences(lock.plan, invocation.record()):
        raise BrokenLockError(f"this is not what {path} locks, and nothing was trained: {'; '.join(clauses)}")
    say(f"Lock: {path}, written {_time(lock.created)}, locks this; SHA-256 {lock.sha256}")
    return LockedInvocation(**vars(invocation), lock=lock)


def differences(locked: PlanRecord, now: PlanRecord) -> list[str]:
    """In what another plan departs from a locked one, a clause each: data, seeds, rule, arms and claims.

    The profile and the settings are named where recipes differ; by themselves they bear on nothing.
    """
    found = answer.of_changes(registration.changes(locked, now))
    if not registration.same_arms(locked, now):
        found = [
            *_changed("profile", locked.profile.name, now.profile.name),
            *_changed("settings", ", ".join(locked.overrides) or "none", ", ".join(now.overrides) or "none"),
            *found,
        ]
    before, after = (f"{data.name} ({data.digest})" for data in (locked.data, now.data))
    return found if locked.data.digest == now.data.digest else [*_changed("data", before, after), *found]


def _changed(what: str, before: str, now: str) -> list[str]:
    return [] if before == now else [f"{what} {before}, now {now}"]


def verify(home: Home, path: Path, say: Say) -> int:
    """Say, a sentence a finding, what became of a lock in the store; returns one of HELD, BROKEN and OPEN.

    Raises AblateError where the file cannot be read.
    """
    try:
        lock = read_lock(path)
    except BrokenLockError as error:
        say(f"Broken: {error}.")
        return BROKEN
    say(f"Lock: plan {lock.plan.name!r}, intact; SHA-256 {lock.sha256}")
    say(
        f"It says that it was written {_time(lock.created)}; only a time from outside, such as that of a commit or a "
        "mail with this hash, proves it."
    )
    known = known_invocations(home, say)
    same_data = [one for one in known if one.data_digest == lock.plan.data.digest]
    held = [one for one in same_data if not registration.changes(lock.plan, one.plan)]
    if not same_data:
        runs, ended, planned = pd.DataFrame(), 0, 0
    else:
        runs = load.runs_of(load.connect(home.tracking_uri), lock.plan)
        ended, planned = runs["run_id"].nunique(), len(_trainings(lock.plan))
        say(_seen(lock, runs))
    deviating = [one for one in same_data if _deviates(one, lock)]
    for one in deviating:
        clauses = "; ".join(differences(lock.plan, one.plan))
        say(f"{'Besides' if held else 'Deviated'}: plan {one.name!r}, invoked {_time(one.started)}, has {clauses}.")
    if not held:
        if not deviating:
            say(f"Open: no invocation in {home.shown(home.folder)} has asked this.")
        return BROKEN if deviating else OPEN
    first = next((one for one in held if one.plan.lock), held[0])
    asked = f"plan {first.name!r}, invoked {_time(first.started)}, has the same data, seeds, rule, arms and claims"
    if first.plan.lock and all(one.plan.lock != lock.sha256 for one in held):
        say(f"Broken: {asked}, but was run under another lock, with SHA-256 {first.plan.lock}.")
        return BROKEN
    say(f"Held: {asked}.")
    if under := [one for one in held if one.plan.lock == lock.sha256]:
        before = runs[runs["ended"] < 1000 * under[0].started.timestamp()]["run_id"].nunique()
        when = f"when {before} of its {planned} runs had ended" if before else "before any of its runs had ended"
        say(f"It was run under this lock: the store logged the hash {_time(under[0].started)}, {when}.")
    if ended < planned and not _decided(home.tracking_uri, lock.plan):
        say(f"Open: not all of its runs have ended ({ended} of {planned}).")
        return OPEN
    if ended < planned:
        say(f"Answered: a planned look has decided every claim ({ended} of {planned} runs have ended).")
    else:
        say(f"Answered: all of its runs have ended ({ended} of {planned}).")
    return HELD


OUTCOMES = {HELD: "held", BROKEN: "broken", OPEN: "open"}


def verify_facts(home: Home, path: Path, say: Say) -> dict[str, Any]:
    """What became of a lock for a program; `say` gets what `verify` says, and raised is what it raises."""
    said: list[str] = []

    def hear(sentence: str) -> None:
        said.append(sentence)
        say(sentence)

    code, lock, runs = verify(home, path, hear), None, None
    with suppress(BrokenLockError):
        lock = read_lock(path)
        known = load.runs_of(load.connect(home.tracking_uri), lock.plan) if home.has_store else pd.DataFrame()
        ended = known["run_id"].nunique() if len(known) else 0
        runs = {"planned": len(_trainings(lock.plan)), "ended": ended}
    return {
        "file": path.resolve(),
        "lock": lock and {"plan": lock.plan.name, "created": lock.created, "sha256": lock.sha256},
        "runs": runs,
        "outcome": OUTCOMES[code],
        "exit_code": code,
        "sentences": said,
    }


def known_invocations(home: Home, say: Say) -> list[Logged]:
    """All invocations in the store, oldest first; none where there is no store. Those that cannot be read are said."""
    if not home.has_store:
        return []
    unreadable: list[str] = []
    known = load.invocations(home.tracking_uri, unreadable)
    for sentence in unreadable:
        say(f"Left out: {sentence}.")
    return known[::-1]


def _deviates(invocation: Logged, lock: PlanLock) -> bool:
    """Whether an invocation after the lock asked the locked question, or trained its arms, with other terms."""
    same_name = (invocation.name, invocation.profile) == (lock.plan.name, lock.plan.profile.name)
    asked = same_name or registration.same_arms(invocation.plan, lock.plan)
    return asked and invocation.started >= lock.created and bool(registration.changes(lock.plan, invocation.plan))


def _seen(lock: PlanLock, runs: pd.DataFrame) -> str:
    """How many of the plan's runs with a result had one before the lock."""
    before = runs[runs["ended"] < lock.at]["run_id"].nunique()
    if not before:
        return "None of its runs had ended before the lock was written."
    return (
        f"Seen before: some of its runs had ended before the lock was written ({before} of "
        f"{len(_trainings(lock.plan))}), so it does not precede its results."
    )


def _trainings(plan: PlanRecord) -> set[tuple[str, int]]:
    """Recipe digest and seed of every training of a plan."""
    return {(arm.digest, seed + arm.seed_offset) for arm in plan.arms for seed in plan.seeds}


def _decided(uri: str, plan: PlanRecord) -> bool:
    """Whether the plan's looks have decided every claim, so that it needs no more runs."""
    return bool(plan.rule.looks) and bool(plan.claims) and undecided_claims(uri, plan) == 0


def _time(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M:%S} UTC"
