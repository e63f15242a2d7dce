"""Carries out `ablate run` and `ablate tune`, given an invocation: trains, prints the outcome, writes the report."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.durations import duration
from cifar_ablations.ablations.record import SearchOutcomeRecord, Value
from cifar_ablations.study.commands.show import progress_shown, show_answer
from cifar_ablations.study.data.dataset import option
from cifar_ablations.study.execution.fleets import Progress
from cifar_ablations.study.execution.invocation import Surroundings
from cifar_ablations.study.execution.runner import Invocation, run
from cifar_ablations.study.execution.starting import prepare
from cifar_ablations.study.search.invocation import SearchInvocation
from cifar_ablations.study.search.optuna_study import storage_at
from cifar_ablations.study.search.search import carry_out
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.provenance import provenance
from cifar_ablations.study.store.tracking import Store, open_store
from cifar_ablations.study.training.backend import KERNELS

if TYPE_CHECKING:
    from cifar_ablations.reports.pages.findings import Findings

Say = Callable[[str], None]

NEARLY_DONE = 0.9
"""From this share of trainings on, the libraries that the report needs are imported beside the last of them: most often
a worker has none left by then. Imported at the start, they would keep the first training waiting."""


def run_plan(home: Home, invocation: Invocation, say: Say) -> bool:
    """Train what a plan still misses and write its report; returns whether trainings failed."""
    prepare(invocation.device.type)
    store, plan, record = _open(home, say), invocation.plan, invocation.record()
    members = invocation.members()
    left = invocation.missing(store.results(invocation.data, invocation.environment(), say))
    behind = len(invocation.epochs_behind(home.checkpoints, left))
    up_to = "up to " if plan.rule.looks else ""
    say(
        f"{plan.question}\n"
        f"  plan {plan.name}, profile {invocation.profile.name}: {len(plan.arms)} arms × {up_to}"
        f"{len(plan.seeds)} seeds = {up_to}{len(members)} trainings, {len(members) - len(left)} already done"
        f"{f', {behind} go on from a checkpoint' if behind else ''}\n"
        f"  {plan.arms[0].recipe.budget}\n"
        f"{_place(invocation)}"
    )
    began = time.perf_counter()

    def enough() -> bool:
        from cifar_ablations.reports.pages.preview import undecided_claims

        left = undecided_claims(store.uri, record)
        say(f"  {len(plan.claims) - left} of {len(plan.claims)} claims decided")
        return left == 0

    facts = provenance(invocation.device, invocation.workers, invocation.backend)
    with progress_shown() as show, _asked_to_stop() as stopped:
        progress = run(invocation, store, facts, _then_prepare_reports(show), stopped, enough)
    if progress.total:
        took = duration(time.perf_counter() - began)
        say(f"{progress.done} trainings in {took}, {progress.diverged} of them diverged.")

    results: list[Findings] = []

    def write(uri: str, folder: Path) -> list[Path]:
        from cifar_ablations.reports.pages.plan_page import write_reports

        pages = write_reports(uri, folder, plan=plan.name, digest=plan.digest(), tell=say, found=results.append)
        for page in pages:
            store.attach(record, page)
        return pages

    _close(home, store, progress, write, say)
    for found in results:
        show_answer(found)
    say("All runs: make ui (or: ablate ui)")
    if progress.failed:
        say(f"{len(progress.failed)} trainings failed; the same command tries them again.")
    return bool(progress.failed)


def run_search(home: Home, invocation: SearchInvocation, storage: str | None, data: str | None, say: Say) -> bool:
    """Carry out a search, say what it found and write its report; returns whether trials failed.

    storage: the URL of an Optuna database, None for a journal file; data: what was asked for, which the next command
    must ask for too.
    """
    store = _open(home, say)
    say(
        f"{catalog.search_module(invocation.name).QUESTION}\n"
        f"  search {invocation.name}, profile {invocation.profile.name}: {invocation.trials} trials of each study, "
        f"{invocation.sampler}, {invocation.pruner}\n"
        f"  {invocation.baseline.budget}\n"
        f"{_place(invocation)}"
    )
    began = time.perf_counter()
    facts = provenance(invocation.device, invocation.workers, invocation.backend)
    with progress_shown() as show, _asked_to_stop() as stopped:
        outcome, progress = carry_out(invocation, storage_at(storage, home.journal), store, facts, show, stopped)
    if progress.done:
        say(
            f"{progress.done} trials in {duration(time.perf_counter() - began)}: {progress.pruned} pruned, "
            f"{progress.diverged} diverged, {len(progress.failed)} failed."
        )
    else:
        say("Nothing left to try: every trial is already done.")
    for line in _in_words(outcome):
        say(line)
    from cifar_ablations.reports.pages.search_page import write_search_reports

    write = partial(write_search_reports, search=invocation.name, digest=outcome.search_digest)
    _close(home, store, progress, write, say)
    say(f"Take it up: ablate adopt {invocation.name}{option(data)}")
    return bool(progress.failed)


def _then_prepare_reports(show: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Shows the progress, and once it is NEARLY_DONE has a thread import what the report needs."""
    begun = False

    def shown(progress: Progress) -> None:
        nonlocal begun
        show(progress)
        if not begun and progress.total and progress.done >= NEARLY_DONE * progress.total:
            begun = True
            threading.Thread(target=_import_reports, daemon=True).start()

    return shown


def _import_reports() -> None:
    from cifar_ablations.reports.pages import index_page, plan_page, rendering  # noqa: F401

    rendering.import_libraries()


def _open(home: Home, say: Say) -> Store:
    """The store, with the runs ended that nobody trains any more."""
    store = open_store(home)
    if ended := store.reconcile():
        say(f"Closed {ended} training{'s' * (ended > 1)} that an earlier call left unfinished.")
    return store


@contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Yields whether Ctrl-C or a polite kill has come; a second one is not waited for.

    An exception raised in the middle of whatever runs could be lost, as in a finalizer or a callback of SQLite, or
    break a write to the store.
    """
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _place(invocation: Surroundings) -> str:
    """The line that says on which data and where something is trained."""
    return (
        f"  {invocation.data.name} ({invocation.data.digest}) on {invocation.device} by "
        f"{'the kernels' if invocation.backend == KERNELS else invocation.backend}, "
        f"{invocation.workers} worker{'s' * (invocation.workers > 1)}"
    )


def _close(
    home: Home, store: Store, progress: Progress, write: Callable[[str, Path], Iterable[Path]], say: Say
) -> None:
    """Say what stalled and failed, and where the report lies; write the index too.

    write: takes the store's address and the folder of reports, and returns the report's pages.
    """
    for sentence in progress.stalled:
        say(f"Stalled: {sentence}.")
    for name, why in progress.failed.items():
        say(f"Failed: {name}: {why.strip().splitlines()[-1]}")
    for page in write(store.uri, home.reports):
        say(f"Report: {home.shown(page)}")
    from cifar_ablations.reports.pages.index_page import write_index

    write_index(store.uri, home.reports)


def _in_words(outcome: SearchOutcomeRecord) -> list[str]:
    """The best trial of each study, and which knobs of the baseline the best of all changes."""
    lines = []
    for study in outcome.studies:
        if study.best is None:
            lines.append(f"  {study.name}: no trial came to an end")
            continue
        sampled = ", ".join(f"{name} {_short(value)}" for name, value in study.best.sampled.items())
        edge = f"; best at the edge of {', '.join(study.edge)}" if study.edge else ""
        lines.append(f"  {study.name}: {100 * study.best.value:.2f} % on validation images with {sampled}{edge}")
    if winner := outcome.winner:
        changes = ", ".join(f"{name} {_short(now)}" for name, _, now in winner.changes) or "nothing"
        lines.append(f"Best: trial {winner.trial} of {winner.study}; it changes {changes}.")
    return lines


def _short(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
