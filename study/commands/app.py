"""The `ablate` command: the one place that sees definitions, runs and reports.

Whatever is slow to import is imported by the command that needs it.
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.lock import BrokenLockError
from cifar_ablations.ablations.naming import check_range
from cifar_ablations.study.commands import streams
from cifar_ablations.study.commands.options import (
    Backend,
    Baseline,
    Data,
    Device,
    FirstSeed,
    ImageSize,
    LockFile,
    Minutes,
    PlanName,
    ProfileName,
    Retune,
    Seeds,
    Settings,
    Trials,
    Workers,
    number,
    path,
    whole,
)

if TYPE_CHECKING:
    from cifar_ablations.study.commands.arguments import PlanRequest
    from cifar_ablations.study.data.dataset import Dataset
    from cifar_ablations.study.execution.runner import Invocation
    from cifar_ablations.study.store.home import Home

app = typer.Typer(
    name="ablate",
    help="Ablations of training techniques on CIFAR-10 that answer: paired seeds, intervals, verdicts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

FAILED = 1
USER_ERROR = 2
INTERRUPTED = 130
DAY = 86_400
OF_THE_SYSTEM = {
    getattr(errno, name)
    for name in ("EACCES", "EDQUOT", "EISDIR", "ELOOP", "ENAMETOOLONG", "ENOSPC", "ENOTDIR", "EPERM", "EROFS")
    if hasattr(errno, name)
}
"""Errors of files that lie with the machine and not with the suite: full, not allowed, not such a path."""
GC_THRESHOLD = (50_000, 20, 100)
"""Imports make a hundred thousand objects that live to the end: the collector of cycles need not walk them again and
again while they are made."""
STOPPED = "Stopped. What has ended is kept; the same command goes on with the rest."


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        say(f"ablate {version('cifar-ablations')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Options that stand before a command."""


def _of_a_plan(act: Callable[[PlanRequest], None], *, trains: bool = False) -> Callable[..., None]:
    """A command that does something about a plan, from what is asked for on the command line.

    trains: whether it needs workers, which then get ready while the command itself is still importing.
    """

    def command(
        plan: PlanName = "techniques",
        profile: ProfileName = None,
        seeds: Seeds = None,
        first_seed: FirstSeed = 0,
        baseline: Baseline = None,
        settings: Settings = None,
        data: Data = None,
        image_size: ImageSize = None,
        device: Device = None,
        workers: Workers = None,
        backend: Backend = "auto",
        lock: LockFile = None,
        minutes: Minutes = None,
        retune: Retune = False,
        trials: Trials = None,
    ) -> None:
        with _errors():
            if trains and device in (None, "cpu"):
                from cifar_ablations.study.execution.starting import prepare

                prepare("cpu")
            from cifar_ablations.study.commands.arguments import PlanRequest
            from cifar_ablations.study.data.typed import typed_source

            request = PlanRequest(
                plan,
                seeds,
                first_seed,
                lock,
                minutes,
                retune,
                trials,
                profile=profile,
                baseline=baseline,
                settings=tuple(settings or ()),
                data=typed_source(data, image_size),
                device=device,
                workers=workers,
                backend=backend,
            )
            act(request)

    command.__doc__ = act.__doc__
    return command


@app.command("run")
@partial(_of_a_plan, trains=True)
def run_command(request: PlanRequest) -> None:
    """Train what a plan still misses, and write its report."""
    from cifar_ablations.study.commands.execute import run_plan
    from cifar_ablations.study.store.home import Home

    home = Home()
    with home.locked(f"running plan {request.plan}", say):
        invocation, _, failed = _asked_for(home, request, training=True)
        if request.lock is not None:
            from cifar_ablations.study.commands.locking import held_to

            invocation = held_to(request.lock, invocation, say)
        failed = run_plan(home, invocation, request, say) or failed
        _finish(invocation.data, request.data, failed)


def _asked_for(home: Home, request: PlanRequest, *, training: bool) -> tuple[Invocation, float | None, bool]:
    """What a request asks for; where a time was given, about how many seconds all of it takes; and whether trials of a
    search that it needed have failed."""
    if request.retune or request.trials is not None:
        from cifar_ablations.study.commands.retuning import plan_retuned

        invocation, failed = plan_retuned(home, request, say, training=training)
        return invocation, None, failed
    if request.minutes is None:
        from cifar_ablations.study.commands.arguments import plan_invocation

        return plan_invocation(home, request, say), None, False
    from cifar_ablations.study.commands.within_minutes import plan_within

    return *plan_within(home, request, say, training=training), False


@app.command("list")
def list_command() -> None:
    """Show techniques with their levels, plans and profiles."""
    with _errors():
        from cifar_ablations.study.commands.show import show_catalog

        show_catalog()


@app.command("plan")
@_of_a_plan
def plan_command(request: PlanRequest) -> None:
    """Show a plan's arms, what is done, what is left, how long it would take and what it could tell; trains nothing."""
    from cifar_ablations.reports.pages.preview import Pilot, pilot_spreads
    from cifar_ablations.study.commands.show import show_plan
    from cifar_ablations.study.execution.sizing import estimated_seconds
    from cifar_ablations.study.store.home import Home
    from cifar_ablations.study.store.tracking import open_store

    home = Home()
    invocation, whole, _ = _asked_for(home, request, training=False)
    done: set[tuple[str, int]] = set()
    pilots: dict[str, Pilot] = {}
    if home.has_store:
        store = open_store(home)
        done = store.results(invocation.data, invocation.environment(), say)
        if done:
            pilots = pilot_spreads(store.uri, invocation.record())
    missing = list(invocation.missing(done))
    if whole is None:
        seconds = estimated_seconds(invocation, missing)
    else:  # what was said already: steps that are timed again take another time
        seconds = whole * len(missing) / len(invocation.members())
    show_plan(invocation, done, seconds, pilots)
    if request.lock is not None:
        from cifar_ablations.study.commands.locking import write_lock

        write_lock(request.lock, invocation.record(), say)
    _finish(invocation.data, request.data)


@app.command("verify")
def verify_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", parser=path, help="A lock, as `ablate plan PLAN --lock FILE` wrote it.")
    ],
) -> None:
    """Say what became of a lock: held and answered (exit code 0), not answered yet (3), edited or deviated from (1)."""
    with _errors():
        from cifar_ablations.study.commands.locking import verify
        from cifar_ablations.study.store.home import Home

        raise typer.Exit(verify(Home(), file, say))


@app.command("tune")
def tune_command(
    search: Annotated[str, typer.Argument(metavar="SEARCH", help="Which search; `ablate list` shows them.")],
    profile: ProfileName = None,
    trials: Trials = None,
    sampler: Annotated[str, typer.Option("--sampler", help="tpe, gp, cmaes, qmc, random or grid.")] = "tpe",
    pruner: Annotated[str, typer.Option("--pruner", help="halving, median, hyperband, wilcoxon or none.")] = "halving",
    seed: Annotated[
        int, typer.Option("--seed", parser=whole, help="Of what is drawn; the same gives the same trials.")
    ] = 0,
    seeds: Annotated[
        int, typer.Option("--seeds-per-trial", parser=whole, help="Trainings whose mean a trial is judged by.")
    ] = 1,
    pareto: Annotated[
        bool, typer.Option("--pareto", help="Two objectives, accuracy and seconds; nothing is pruned.")
    ] = False,
    storage: Annotated[
        str | None,
        typer.Option("--storage", envvar="ABLATE_STORAGE", help="URL of an Optuna database (default: a journal file)."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and train nothing.")] = False,
    baseline: Baseline = None,
    settings: Settings = None,
    data: Data = None,
    image_size: ImageSize = None,
    device: Device = None,
    workers: Workers = None,
    backend: Backend = "auto",
) -> None:
    """Search for better settings with Optuna, on validation images alone, and write its report."""
    with _errors():
        from cifar_ablations.study.store.home import Home

        home = Home()
        with nullcontext() if dry_run else home.locked(f"tuning {search}", say):
            from cifar_ablations.study.commands.arguments import SearchRequest, search_invocation
            from cifar_ablations.study.data.typed import typed_source

            data = typed_source(data, image_size)
            request = SearchRequest(
                search,
                trials,
                sampler,
                pruner,
                seed,
                seeds,
                pareto,
                profile=profile,
                baseline=baseline,
                settings=tuple(settings or ()),
                data=data,
                device=device,
                workers=workers,
                backend=backend,
            )
            invocation = search_invocation(home, request, say)
            failed = False
            if dry_run:
                from cifar_ablations.study.commands.tune import dry

                dry(invocation, say)
            else:
                from cifar_ablations.study.commands.execute import run_search

                failed = run_search(home, invocation, storage, data, say)
            _finish(invocation.data, data, failed)


@app.command("adopt")
def adopt_command(
    search: Annotated[str, typer.Argument(metavar="SEARCH", help="Which search's best recipe.")],
    name: Annotated[str | None, typer.Option("--as", help="What to call it (default: the search's name).")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also over a file that was edited, or that another search wrote.")
    ] = False,
    data: Data = None,
    image_size: ImageSize = None,
) -> None:
    """Write a search's best recipe to the output folder, as a baseline for plans and further searches."""
    with _errors():
        from cifar_ablations.study.commands.tune import adopt
        from cifar_ablations.study.data.typed import typed_source
        from cifar_ablations.study.store.home import Home

        data = typed_source(data, image_size)
        home = Home()
        with home.locked(f"adopting {search}", say):
            _finish(adopt(home, search, name or search, data, say, replace_file=replace), data)


@app.command("data")
def data_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="cifar10 or cifar100.")] = "cifar10",
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="The official archive of the Python version, or the folder that it unpacks to (default: downloaded).",
        ),
    ] = None,
) -> None:
    """Download CIFAR-10 or CIFAR-100, or take your copy of it, for all later commands."""
    with _errors():
        from cifar_ablations.study.store.home import Home

        home = Home()
        with home.locked(f"taking in {name}", say):
            from cifar_ablations.study.commands.take_data import take_in

            take_in(home, name, source, say)


@app.command("foundations")
def foundations_command(
    seed: Annotated[int, typer.Option("--seed", parser=whole, help="Of everything that is drawn.")] = 0,
) -> None:
    """Run the small demonstrations behind the techniques, check each against what is known, and write their page."""
    with _errors():
        from cifar_ablations.reports.pages.foundations_page import write_foundations_report
        from cifar_ablations.reports.pages.index_page import write_index
        from cifar_ablations.study.commands.demonstrate import run_foundations
        from cifar_ablations.study.store.home import Home

        home = Home()
        with home.locked("running the foundations", say):
            run_foundations(home, say, seed, write_foundations_report)
            write_index(home.tracking_uri, home.reports)


@app.command("report")
def report_command(
    plan: Annotated[
        str | None, typer.Argument(metavar="PLAN", help="Which plan (default: all, and all searches).")
    ] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--compare",
            metavar="A B",
            help="Set two invocations side by side: [STORE#]PLAN, or the beginning of a parent run's id.",
        ),
    ] = None,
) -> None:
    """Write the reports anew from what is in the store, finished or not, and say what the newest has found."""
    with _errors():
        from cifar_ablations.study.store.home import Home

        home = Home()
        from cifar_ablations.study.commands.reporting import check_writable, report

        if compare is None:
            report(home, plan, say)
            return
        from cifar_ablations.reports.pages.compare_page import side, write_comparison

        one, other = (side(asked, home.tracking_uri) for asked in compare)
        check_writable(home)
        say(f"Report: {home.shown(write_comparison(one, other, home.reports, say))}")


@app.command("export")
def export_command(
    plan: PlanName = "techniques",
    to: Annotated[
        str, typer.Option("--to", help="latex, markdown or csv: the table of arms; pdf or svg: the figure.")
    ] = "latex",
    output: Annotated[
        str | None,
        typer.Option(
            "--output", metavar="PATH|-", help="The file, or - for standard output (default: one in the output folder)."
        ),
    ] = None,
    style: Annotated[
        str | None,
        typer.Option(
            "--style",
            help="A table of arms in rows, or as a matrix of techniques, or of the plan's statements (default: the "
            "plan's: a matrix for a factorial, statements for claims, else rows).",
        ),
    ] = None,
    spread: Annotated[
        str, typer.Option("--spread", help="Beside a mean: std over seeds, or the interval of the mean.")
    ] = "std",
    width: Annotated[float, typer.Option("--width", parser=number, help="Of the figure, in inches.")] = 3.3,
) -> None:
    """Write a plan's table or figure for a paper, from its newest runs."""
    with _errors():
        from cifar_ablations.study.commands.export import export_plan
        from cifar_ablations.study.store.home import Home

        export_plan(Home(), plan, to, output, say, style=style, spread=spread, width=width)


@app.command("watch")
def watch_command(
    plan: Annotated[str | None, typer.Argument(metavar="PLAN", help="Which plan (default: all).")] = None,
    every: Annotated[float, typer.Option("--every", parser=number, help="Seconds between two times.")] = 20.0,
) -> None:
    """Write the reports again and again while runs are coming in; Ctrl-C ends it."""
    with _errors():
        if not 1 <= every <= DAY:  # NaN neither
            raise AblateError(f"--every must lie between 1 and {DAY} seconds, not at {every:g}")
        from cifar_ablations.study.commands.reporting import write_pages
        from cifar_ablations.study.store.home import Home

        home = Home()
        while True:
            began = time.perf_counter()
            pages = write_pages(home, plan)
            say(f"{time.strftime('%H:%M:%S')}  {', '.join(home.shown(page) for page in pages)}")
            if streams.lost():
                return
            time.sleep(max(0.0, every - (time.perf_counter() - began)))


@app.command("ui")
def ui_command(
    port: Annotated[
        int,
        typer.Option("--port", parser=whole, help="Port on 127.0.0.1; the next free one is taken if it is in use."),
    ] = 5000,
) -> None:
    """Serve MLflow's UI on this machine and print the address of the page to look at."""
    with _errors():
        check_range("--port", port, 1, 65_535)
        from cifar_ablations.study.commands.ui import serve
        from cifar_ablations.study.store.home import Home

        serve(Home(), port, say)


def main() -> None:
    """The console script."""
    # A polite kill ends as Ctrl-C does, so that runs in flight are marked.
    signal.signal(signal.SIGTERM, _interrupted)
    gc.set_threshold(*GC_THRESHOLD)
    streams.take_over()
    try:
        app()
    except SystemExit as end:
        _leave(end.code)


def _leave(code: str | int | None) -> NoReturn:
    """End this process as `sys.exit` does, without taking apart what the system frees anyway.

    To free the objects of torch and MLflow one by one takes over a second.
    """
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        sys.exit(code)  # waits for them
    atexit._run_exitfuncs()
    sys.stdout.flush()
    error = streams.lost()
    if error is not None and not isinstance(error, BrokenPipeError):  # a reader such as `head` may stop reading
        print(f"ablate: some of the output could not be written: {error.strerror}", file=sys.stderr)
        code = code or FAILED
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else FAILED if code else 0)


def say(text: str) -> None:
    """Tell the person at the terminal."""
    from cifar_ablations.study.commands.terminal import wrapped

    print(wrapped(text), flush=True)


def _finish(data: Dataset, asked: str | None, failed: bool = False) -> None:
    """End a command: say, last of all, where no photographs were used; exit code 1 where trainings or trials failed.

    asked: the data as they were asked for.
    """
    from cifar_ablations.study.data.dataset import closing

    if line := closing(data, asked):
        say(line)
    if failed:
        raise typer.Exit(FAILED)


def _interrupted(signal_number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def _errors() -> Iterator[None]:
    """A user's mistake is one sentence and exit code 2, a broken lock one and exit code 1; Ctrl-C leaves in order."""
    try:
        yield
    except BrokenLockError as error:
        print(f"ablate: {error}", file=sys.stderr)
        raise typer.Exit(FAILED) from None
    except AblateError as error:
        print(f"ablate: {error}", file=sys.stderr)
        raise typer.Exit(USER_ERROR) from None
    except KeyboardInterrupt:
        print(f"\n{STOPPED}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    except OSError as error:
        if error.errno not in OF_THE_SYSTEM:
            raise
        print(f"ablate: {f'{error.filename}: ' if error.filename else ''}{error.strerror}", file=sys.stderr)
        raise typer.Exit(USER_ERROR) from None
    except Exception as error:
        from cifar_ablations.ablations.stores import failing

        if (sentence := failing(error)) is None:
            raise
        print(f"ablate: {sentence}", file=sys.stderr)
        raise typer.Exit(USER_ERROR) from None
