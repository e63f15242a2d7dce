"""The `ablate` command: the one place that sees definitions, runs and reports.

Whatever is slow to import is imported by the command that needs it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cifar_ablations.ablations.errors import AblateError

if TYPE_CHECKING:
    from pathlib import Path

    from cifar_ablations.study.commands.arguments import Asked
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

USER_ERROR = 2
INTERRUPTED = 130
STOPPED = "Stopped. What has ended is kept; the same command goes on with the rest."

PlanName = Annotated[str, typer.Argument(metavar="PLAN", help="Which question; `ablate list` shows them.")]
ProfileName = Annotated[
    str | None, typer.Option("--profile", help="smoke, quick or full (default: full with a GPU, else quick).")
]
Seeds = Annotated[
    str | None,
    typer.Option(
        "--seeds",
        metavar="N|adaptive|open",
        help="How many paired seeds; adaptive looks after 5, 10 and 15 and stops when every claim is decided, open "
        "after every five (default: the profile's).",
    ),
]
FirstSeed = Annotated[int, typer.Option("--first-seed", help="The first of them: fresh ones, to confirm a finding.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="OBJECT.FIELD=VALUE", help="Change the baseline, e.g. dropout.p=0.3. Repeatable."),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="PATH|NAME",
        envvar="ABLATE_DATA",
        help="Folder or archive of images, or cifar10, cifar100 or synthetic (default: CIFAR-10, cached or downloaded, "
        "else a rehearsal on drawn images).",
    ),
]
Device = Annotated[str | None, typer.Option("--device", help="cpu or cuda (default: cuda where there is one).")]
Baseline = Annotated[
    str | None,
    typer.Option("--baseline", metavar="RECIPE", help="An adopted recipe, by name or file (default: the notebook's)."),
]
Workers = Annotated[
    int | None, typer.Option("--workers", help="Worker processes (default: one per core; one on cuda).")
]


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
    """What stands before a command."""


def _of_a_plan(act: Callable[[Asked], None]) -> Callable[..., None]:
    """A command that does something about a plan, from what is asked for on the command line."""

    def command(
        plan: PlanName = "techniques",
        profile: ProfileName = None,
        seeds: Seeds = None,
        first_seed: FirstSeed = 0,
        baseline: Baseline = None,
        settings: Settings = None,
        data: Data = None,
        device: Device = None,
        workers: Workers = None,
    ) -> None:
        with _errors():
            from cifar_ablations.study.commands.arguments import Asked

            changes = tuple(settings or ())
            act(Asked(plan, profile, seeds, first_seed, baseline, changes, data, device, workers))

    command.__doc__ = act.__doc__
    return command


@app.command("run")
@_of_a_plan
def run_command(asked: Asked) -> None:
    """Train what a plan still misses, and write its report."""
    from cifar_ablations.study.commands.arguments import invocation_of
    from cifar_ablations.study.store.home import Home

    home = Home()
    with home.locked(f"running plan {asked.plan}", say):
        invocation = invocation_of(home, asked, say)
        failed = _run(home, invocation)
        _say_rehearsal(invocation.data, asked.data)
        if failed:
            raise typer.Exit(1)


def _run(home: Home, invocation: Invocation) -> bool:
    """Returns whether trainings failed."""
    from cifar_ablations.reports.pages.index_page import write_index
    from cifar_ablations.reports.pages.plan_page import write_reports
    from cifar_ablations.reports.pages.preview import undecided_claims
    from cifar_ablations.study.commands.show import clock, progress_shown
    from cifar_ablations.study.execution.runner import epochs_behind, run
    from cifar_ablations.study.store.provenance import provenance
    from cifar_ablations.study.store.tracking import open_store

    store = open_store(home)
    ended = store.reconcile()
    if ended:
        say(f"Closed {ended} training{'s' * (ended > 1)} that an earlier call left unfinished.")
    left = invocation.missing(store.results(invocation.data, invocation.environment()))
    missing, behind = len(left), len(epochs_behind(invocation, home.checkpoints, left))
    total, plan = len(invocation.members()), invocation.plan
    up_to = "up to " if plan.rule.looks else ""
    say(
        f"{plan.question}\n"
        f"  plan {plan.name}, profile {invocation.profile.name}: {len(plan.arms)} arms × {up_to}"
        f"{len(plan.seeds)} seeds = {up_to}{total} trainings, {total - missing} already done"
        f"{f', {behind} go on from a checkpoint' if behind else ''}\n"
        f"  {plan.arms[0].recipe.budget}\n"
        f"  {invocation.data.name} ({invocation.data.digest}) on {invocation.device}, "
        f"{invocation.workers} worker{'s' * (invocation.workers > 1)}"
    )
    began = time.perf_counter()
    facts = provenance(invocation.device, invocation.workers)
    record = invocation.record()

    def enough() -> bool:
        left = undecided_claims(store.uri, record)
        say(f"  {len(plan.claims) - left} of {len(plan.claims)} claims decided")
        return left == 0

    with progress_shown() as show, _asked_to_stop() as stopped:
        done = run(invocation, store, facts, show, stopped, enough=enough)
    if done.trainings_total:
        say(f"{done.finished} trainings in {clock(time.perf_counter() - began)}, {done.diverged} of them diverged.")
    for sentence in done.stalled:
        say(f"Stalled: {sentence}.")
    for name, why in done.failed.items():
        say(f"Failed: {name}: {why.strip().splitlines()[-1]}")
    for page in write_reports(store.uri, home.reports, plan=plan.name, digest=plan.digest(), tell=say):
        store.attach(record, page)
        say(f"Report: {home.shown(page)}")
    write_index(store.uri, home.reports)
    say("All runs: make ui (or: ablate ui)")
    if done.failed:
        say(f"{len(done.failed)} trainings failed; the same command tries them again.")
    return bool(done.failed)


@app.command("list")
def list_command() -> None:
    """Show techniques with their levels, plans and profiles."""
    with _errors():
        from cifar_ablations.study.commands.show import show_catalog

        show_catalog()


@app.command("plan")
@_of_a_plan
def plan_command(asked: Asked) -> None:
    """Show a plan's arms, what is done, what is left, how long it would take and what it could tell; trains nothing."""
    from cifar_ablations.reports.pages.preview import Pilot, pilot_spreads
    from cifar_ablations.study.commands.arguments import invocation_of
    from cifar_ablations.study.commands.show import show_plan
    from cifar_ablations.study.execution.runner import estimated_seconds
    from cifar_ablations.study.store.home import Home
    from cifar_ablations.study.store.tracking import open_store

    home = Home()
    invocation = invocation_of(home, asked, say)
    done: set[tuple[str, int]] = set()
    spreads: dict[str, Pilot] = {}
    if "MLFLOW_TRACKING_URI" in os.environ or (home.folder / "mlflow.db").exists():
        store = open_store(home)
        done = store.results(invocation.data, invocation.environment())
        if done:
            spreads = pilot_spreads(store.uri, invocation.record())
    seconds = estimated_seconds(invocation, list(invocation.missing(done)))
    show_plan(invocation, done, seconds, spreads)
    _say_rehearsal(invocation.data, asked.data)


@app.command("tune")
def tune_command(
    search: Annotated[str, typer.Argument(metavar="SEARCH", help="Which search; `ablate list` shows them.")],
    profile: ProfileName = None,
    trials: Annotated[
        int | None, typer.Option("--trials", help="Trials of each study (default: the search's).")
    ] = None,
    sampler: Annotated[str, typer.Option("--sampler", help="tpe, gp, cmaes, qmc, random or grid.")] = "tpe",
    pruner: Annotated[str, typer.Option("--pruner", help="halving, median, hyperband, wilcoxon or none.")] = "halving",
    seed: Annotated[int, typer.Option("--seed", help="Of what is drawn; the same gives the same trials.")] = 0,
    seeds: Annotated[int, typer.Option("--seeds-per-trial", help="Trainings whose mean a trial is judged by.")] = 1,
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
    device: Device = None,
    workers: Workers = None,
) -> None:
    """Search for better settings with Optuna, on validation images alone, and write its report."""
    with _errors():
        from cifar_ablations.study.store.home import Home

        home = Home()
        with nullcontext() if dry_run else home.locked(f"tuning {search}", say):
            from cifar_ablations.study.commands.arguments import place_of
            from cifar_ablations.study.commands.tune import SearchRequest, dry, search_invocation, tune

            place, size, crew = place_of(device, profile, workers)
            request = SearchRequest(
                search, size, place, crew, trials, sampler, pruner, seed, seeds, pareto, baseline, settings or [], data
            )
            invocation = search_invocation(home, request, say)
            failed = False
            if dry_run:
                dry(invocation, say)
            else:
                with _asked_to_stop() as stopped:
                    failed = tune(home, invocation, storage, stopped, say, data)
            _say_rehearsal(invocation.data, data)
            if failed:
                raise typer.Exit(1)


@app.command("adopt")
def adopt_command(
    search: Annotated[str, typer.Argument(metavar="SEARCH", help="Which search's best recipe.")],
    name: Annotated[str | None, typer.Option("--as", help="What to call it (default: the search's name).")] = None,
    data: Data = None,
) -> None:
    """Write a search's best recipe to the output folder, as a baseline for plans and further searches."""
    with _errors():
        from cifar_ablations.study.commands.tune import adopt
        from cifar_ablations.study.store.home import Home

        home = Home()
        with home.locked(f"adopting {search}", say):
            _say_rehearsal(adopt(home, search, name or search, data, say), data)


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
    seed: Annotated[int, typer.Option("--seed", help="Of everything that is drawn.")] = 0,
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
    """Write the reports anew from what is in the store, finished or not, and the index that leads to them."""
    with _errors():
        from cifar_ablations.study.store.home import Home

        home = Home()
        if compare is not None:
            from cifar_ablations.reports.pages.compare_page import side, write_comparison

            one, other = (side(asked, home.tracking_uri) for asked in compare)
            pages = [write_comparison(one, other, home.reports)]
        else:
            pages = _write_pages(home, plan, tell=say)
        for page in pages:
            say(f"Report: {home.shown(page)}")


def _write_pages(home: Home, plan: str | None, tell: Callable[[str], None] | None = None) -> list[Path]:
    from cifar_ablations.reports.pages.foundations_page import write_foundations_report
    from cifar_ablations.reports.pages.index_page import write_index
    from cifar_ablations.reports.pages.plan_page import write_reports
    from cifar_ablations.reports.pages.search_page import write_search_reports

    if plan is not None:
        from cifar_ablations.ablations import catalog

        catalog.plan_module(plan)
    pages = write_reports(home.tracking_uri, home.reports, plan=plan, tell=tell)
    if plan is None:
        pages += write_search_reports(home.tracking_uri, home.reports, tell=tell)
        pages += write_foundations_report(home.tracking_uri, home.reports)
    if not pages:
        raise AblateError("no runs yet: nothing has been asked of this store. Start with `make ablate`.")
    return [*pages, write_index(home.tracking_uri, home.reports)]


@app.command("watch")
def watch_command(
    plan: Annotated[str | None, typer.Argument(metavar="PLAN", help="Which plan (default: all).")] = None,
    every: Annotated[float, typer.Option("--every", help="Seconds between two times.", min=1.0)] = 20.0,
) -> None:
    """Write the reports again and again while runs are coming in; Ctrl-C ends it."""
    with _errors():
        from cifar_ablations.study.store.home import Home

        home = Home()
        while True:
            began = time.perf_counter()
            pages = _write_pages(home, plan)
            say(f"{time.strftime('%H:%M:%S')}  {', '.join(home.shown(page) for page in pages)}")
            time.sleep(max(0.0, every - (time.perf_counter() - began)))


@app.command("ui")
def ui_command(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; the next free one is taken if it is in use.")] = 5000,
) -> None:
    """Serve MLflow's UI on this machine and print the address of the page to look at."""
    with _errors():
        from cifar_ablations.study.commands.ui import serve
        from cifar_ablations.study.store.home import Home

        serve(Home(), port, say)


def main() -> None:
    """The console script."""
    # A polite kill ends as Ctrl-C does, so that runs in flight are marked.
    signal.signal(signal.SIGTERM, _interrupted)
    app()


def say(text: str) -> None:
    """Tell the person at the terminal."""
    print(text, flush=True)


def _say_rehearsal(dataset: Dataset, asked: str | None) -> None:
    """Say, last of all, where no photographs were used."""
    from cifar_ablations.study.data.dataset import closing

    if line := closing(dataset, asked):
        say(line)


def _interrupted(number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt


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


@contextmanager
def _errors() -> Iterator[None]:
    """A user's mistake is one sentence and exit code 2; Ctrl-C leaves in order."""
    try:
        yield
    except AblateError as error:
        print(f"ablate: {error}", file=sys.stderr)
        raise typer.Exit(USER_ERROR) from None
    except KeyboardInterrupt:
        print(f"\n{STOPPED}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
