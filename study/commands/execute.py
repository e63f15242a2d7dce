"""Carries out `ablate run` and `ablate tune`, given an invocation: trains, prints the outcome, writes the report."""

from __future__ import annotations

import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.durations import duration
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.record import SearchOutcomeRecord
from cifar_ablations.study.commands import answer_table, next_step
from cifar_ablations.study.commands.next_step import say_end
from cifar_ablations.study.commands.progress import progress_shown
from cifar_ablations.study.commands.sync import opened
from cifar_ablations.study.commands.tune import nothing_to_adopt
from cifar_ablations.study.data.typed import option, program
from cifar_ablations.study.execution.disk import check_room, estimated_bytes
from cifar_ablations.study.execution.fleets import Progress
from cifar_ablations.study.execution.invocation import Surroundings
from cifar_ablations.study.execution.runner import Invocation, run
from cifar_ablations.study.execution.starting import prepare
from cifar_ablations.study.search.invocation import SearchInvocation
from cifar_ablations.study.search.optuna_study import storage_at
from cifar_ablations.study.search.search import carry_out
from cifar_ablations.study.store.answers import write_answer
from cifar_ablations.study.store.claims import Claims
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.provenance import provenance
from cifar_ablations.study.store.tracking import Store, this_process
from cifar_ablations.study.training.backend import KERNELS

if TYPE_CHECKING:
    from cifar_ablations.reports.pages.findings import Findings
    from cifar_ablations.study.commands.arguments import PlanRequest

Say = Callable[[str], None]

NEARLY_DONE = 0.9
"""From this share of trainings on, the libraries that the report needs are imported beside the last of them: most often
a worker has none left by then. Imported at the start, they would keep the first training waiting."""

WORTH_A_FIRST_PAGE = 120.0
"""Seconds of training left from which on a page of the first seed is written: it takes ten of a core."""


def run_plan(home: Home, invocation: Invocation, request: PlanRequest, say: Say) -> bool:
    """Carry out a plan and end with its answer; returns whether trainings failed.

    request: what the invocation was made from.
    """
    progress, results, pages = carry_out_plan(home, invocation, say)
    if pages:
        answer_table.show_answer(results[0])
        command, why = next_step.after_plan(results[0], request.where())
        if progress.failed:
            command = next_step.typed(f"{invocation.command}{request.where()}")
            why = f"tries the {len(progress.failed)} failed trainings again"
        elif invocation.shard is not None:
            command = next_step.typed(f"ablate merge {shlex.quote(str(home.folder))}")
            why = "in the output folder that is to have all shards: brings this one's trainings there"
        elif request.lock is not None:
            command = f"{program()} verify {shlex.quote(str(request.lock))}"
            why = "whether the lock was held and is answered"
        say_end(home, pages[0], command, why, say)
    return bool(progress.failed)


def carry_out_plan(
    home: Home, invocation: Invocation, say: Say, *, quiet: bool = False
) -> tuple[Progress, list[Findings], list[Path]]:
    """Train what a plan still misses and write its pages; returns them with what they say, the newest first.

    quiet: whether how far it is is not shown. Hold the folder's lock.
    """
    prepare(invocation.device.type)
    store, plan, record = opened(home, say), invocation.plan, invocation.record()
    members = invocation.members()
    done = store.results(invocation.data, invocation.environment(), say, invocation.measured)
    left = invocation.missing(done)
    weights = invocation.keep_weights != schema.KEEP_NONE
    check_room(home, estimated_bytes(invocation, list(left), weights=weights))
    behind = len(invocation.epochs_behind(home.checkpoints, left))
    up_to = "up to " if plan.rule.looks else ""
    say(
        f"{plan.question}\n"
        f"  plan {plan.name}, profile {invocation.profile.name}: {len(plan.arms)} arms × {up_to}"
        f"{len(plan.seeds)} seeds = {up_to}{len(members)} trainings, {len(members) - len(left)} already done"
        f"{f', {behind} go on from a checkpoint' if behind else ''}\n"
        f"{_shard(invocation)}"
        f"  {plan.arms[0].recipe.budget}\n"
        f"{_place(invocation)}"
    )
    if invocation.keep_weights != schema.KEEP_NONE:
        from cifar_ablations.study.commands.keeping import before

        for sentence in before(invocation, store, done):
            say(f"  {sentence}")
    began = time.perf_counter()

    def enough() -> bool:
        from cifar_ablations.reports.pages.preview import undecided_claims

        left = undecided_claims(store.uri, record)
        say(f"  {len(plan.claims) - left} of {len(plan.claims)} claims decided")
        return left == 0

    facts = provenance(invocation.device, invocation.workers, invocation.backend)
    asked: dict[str, Any] = {"plan": plan.name, "digest": plan.digest(), "data": invocation.data.digest}
    first_page = _FirstPage(home, store.uri, asked, say)
    shown = nullcontext(_nothing) if quiet else progress_shown(invocation.workers, at_once=bool(left))
    with store.delivering(), shown as show, asked_to_stop() as stopped:
        progress = run(invocation, store, facts, _then_prepare_reports(_also(show, first_page.see)), stopped, enough)
    first_page.wait()
    if progress.total:
        took = duration(time.perf_counter() - began)
        others = f"; others trained {progress.elsewhere} meanwhile" if progress.elsewhere else ""
        own = progress.done - progress.elsewhere
        say(f"{own} trainings in {took}, {progress.diverged} of them diverged{others}.")
    if invocation.keep_weights != schema.KEEP_NONE:
        from cifar_ablations.study.commands.keeping import there

        say(there(invocation, store))

    results: list[Findings] = []

    def write(uri: str, folder: Path) -> list[Path]:
        from cifar_ablations.reports.pages import description
        from cifar_ablations.reports.pages.plan_page import write_reports

        pages = write_reports(uri, folder, **asked, tell=say, found=results.append, anew=False)
        for page, of in zip(pages, results, strict=True):
            note = description.of_plan(of, page.name)
            write_answer(store, of.invocation.run_id, of.plan, page, note, description.effects(of))
        return pages

    return progress, results, _close(home, store, progress, write, say)


def _shard(invocation: Invocation) -> str:
    """Which share of a plan is trained, as a line; nothing where it is all of it."""
    if invocation.shard is None:
        return ""
    seeds = invocation.seeds
    return f"  shard {invocation.shard}: seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}\n"


def _nothing(progress: Progress) -> None:
    """Shows nothing."""


def run_search(
    home: Home, invocation: SearchInvocation, storage: str | None, data: str | None, say: Say, *, goes_on: bool = False
) -> bool:
    """Carry out a search and say what it found; returns whether trials failed.

    data: what was asked for, which the next command must ask for too; goes_on: whether this command goes on by itself
    with what was found. storage: as of `carry_out_search`.
    """
    progress, outcome, pages = carry_out_search(home, invocation, storage, say)
    answer_table.show_search(outcome)
    nothing = nothing_to_adopt(outcome)
    if nothing:
        say(f"No recipe is best: {nothing}.")
    goes_on = goes_on or next_step.by_make()  # make adopts itself
    command = "" if goes_on or nothing else next_step.after_search(invocation.name, option(data))
    for page in pages[:1]:
        say_end(home, page, command, "", say)
    return bool(progress.failed)


def carry_out_search(
    home: Home, invocation: SearchInvocation, storage: str | None, say: Say, *, quiet: bool = False
) -> tuple[Progress, SearchOutcomeRecord, list[Path]]:
    """Carry out a search and write its pages; returns them with what it found, the newest first.

    storage: the URL of an Optuna database, None for a journal file; quiet: whether how far it is is not shown. Hold the
    folder's lock.
    """
    store = opened(home, say)
    say(
        f"{catalog.search_module(invocation.name).QUESTION}\n"
        f"  search {invocation.name}, profile {invocation.profile.name}: {invocation.trials} trials of each study, "
        f"{invocation.sampler}, {invocation.pruner}\n"
        f"  {invocation.baseline.budget}\n"
        f"{_place(invocation)}"
    )
    began = time.perf_counter()
    facts = provenance(invocation.device, invocation.workers, invocation.backend)
    mended = list[str]()
    with ExitStack() as stack:
        stopped = stack.enter_context(asked_to_stop())
        trials = storage_at(storage, home.journal, say)
        claims = stack.enter_context(Claims(url, this_process())) if (url := storage or home.claims) else None
        name = f"search/{store.identity}/{invocation.digest()}"
        if claims:
            claims.wait_for(name, say, stopped)

        def ended() -> bool:
            return stopped() or (claims is not None and not claims.holds(name))

        stack.enter_context(store.delivering())
        show = stack.enter_context(nullcontext(_nothing) if quiet else progress_shown(invocation.workers))
        try:
            outcome, progress = carry_out(
                invocation, trials, store, facts, show, ended, mended.append, alone=claims is not None
            )
        except KeyboardInterrupt:
            if stopped():
                raise
            raise AblateError(
                "the database of searches could not be reached for so long that another command may carry out this "
                "search by now; the same command goes on, or waits for it"
            ) from None
    for sentence in mended:
        say(sentence)
    if progress.done:
        say(
            f"{progress.done} trials in {duration(time.perf_counter() - began)}: {progress.pruned} pruned, "
            f"{progress.diverged} diverged, {len(progress.failed)} failed."
        )
    else:
        say("Nothing left to try: every trial is already done.")
    from cifar_ablations.reports.pages.search_page import write_search_reports

    write = partial(write_search_reports, search=invocation.name, digest=outcome.search_digest)
    return progress, outcome, _close(home, store, progress, write, say)


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


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Yields whether Ctrl-C or a polite kill has come; a second one is not waited for.

    An exception raised in the middle of whatever runs could be lost, as in a finalizer or a callback of SQLite, or
    break a write to the store. Signals reach the main thread alone: in another one, nobody can ask.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
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
) -> list[Path]:
    """Say what stalled and failed, and write the report and the index; returns the report's pages.

    write: takes the store's address and the folder of reports, and returns the report's pages.
    """
    from cifar_ablations.reports.pages.index_page import write_index

    for sentence in progress.stalled:
        say(f"Worker lost: {sentence}.")
    if gone := len(store.deleted):
        runs, they = ("1 run was", "it counts") if gone == 1 else (f"{gone} runs were", "they count")
        say(f"{runs} deleted in MLflow while in training; {they} no longer, and the same command trains again.")
    for name, why in progress.failed.items():
        say(f"Failed: {name}: {why.strip().splitlines()[-1]}")
    pages = list(write(store.uri, home.reports))
    write_index(store.uri, home.reports)
    return pages


def _also(*shown: Callable[[Progress], None]) -> Callable[[Progress], None]:
    def all_of_them(progress: Progress) -> None:
        for show in shown:
            show(progress)

    return all_of_them


class _FirstPage:
    """Writes a plan's page once beside the training, when the first seed is complete and the rest takes a while.

    What goes wrong with it must not stop the training: the page is written again at the end.
    """

    def __init__(self, home: Home, uri: str, asked: Mapping[str, Any], say: Say):
        self._home, self._uri, self._asked, self._say = home, uri, asked, say
        self._thread: threading.Thread | None = None

    def see(self, progress: Progress) -> None:
        """Begin to write, if it is time."""
        if self._thread is not None or not progress.seeds_done or progress.done >= progress.total:
            return
        left = progress.seconds_left()
        if left is not None and left >= WORTH_A_FIRST_PAGE:
            self._thread = threading.Thread(target=self._write, daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Wait for the page, if it is being written: the last one has the same files."""
        if self._thread is not None:
            self._thread.join()

    def _write(self) -> None:
        try:
            from cifar_ablations.reports.pages.index_page import write_index
            from cifar_ablations.reports.pages.plan_page import write_reports

            (page,) = write_reports(self._uri, self._home.reports, **self._asked)
            write_index(self._uri, self._home.reports)
        except Exception as error:
            self._say(f"No first page: {type(error).__name__}: {error}. Training goes on, and the page is tried again.")
            return
        self._say(f"First results: {self._home.shown(page)}")
