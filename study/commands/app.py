"""The `ablate` command: the one place that sees definitions, runs and reports.

Whatever is slow to import is imported by the command that needs it.
"""

from __future__ import annotations

import gc
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import check_range
from cifar_ablations.study.commands import facts, outside, streams, upkeep
from cifar_ablations.study.commands.ending import LOUDNESS, along, complain, ending, errors, finish, leave, say
from cifar_ablations.study.commands.options import (
    Address,
    Backend,
    Baseline,
    Data,
    Device,
    Executor,
    Extensions,
    FirstSeed,
    ImageSize,
    Json,
    KeepWeights,
    LockFile,
    Minutes,
    PlanName,
    ProfileName,
    Retune,
    Seeds,
    Settings,
    ShardOf,
    Trials,
    Workers,
    number,
    path,
    plan_names,
    whole,
)

if TYPE_CHECKING:
    from cifar_ablations.study.commands.arguments import PlanRequest
    from cifar_ablations.study.execution.runner import Invocation
    from cifar_ablations.study.store.home import Home

app = typer.Typer(
    name="ablate",
    help="Ablations of training techniques on CIFAR-10 that answer: paired seeds, intervals, verdicts.",
    no_args_is_help=True,
    cls=facts.Group,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DAY = 86_400
GC_THRESHOLD = (50_000, 20, 100)
"""Imports make a hundred thousand objects that live to the end: the collector of cycles need not walk them again and
again while they are made."""


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
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors and the answer.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Keep warnings of libraries, and tracebacks of what is a sentence else.")
    ] = False,
) -> None:
    """Options that stand before a command."""
    LOUDNESS.quiet, LOUDNESS.verbose = quiet, verbose
    if verbose:
        warnings.simplefilter("default")


def _of_a_plan(
    act: Callable[[PlanRequest, facts.Document | None], None], *, trains: bool = False
) -> Callable[..., None]:
    """A command that does something about a plan, from what is asked for on the command line.

    act: also gets the document to be written, where one is asked for; trains: whether it needs workers, which then get
    ready while the command itself is still importing.
    """

    def command(
        context: typer.Context,
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
        executor: Executor = "local",
        address: Address = None,
        lock: LockFile = None,
        minutes: Minutes = None,
        retune: Retune = False,
        trials: Trials = None,
        keep_weights: KeepWeights = "none",
        shard: ShardOf = None,
        extensions: Extensions = None,
        as_json: Json = False,
    ) -> None:
        with errors(act.__name__.removesuffix("_command"), as_json) as answer:
            if plan.endswith(".toml"):
                from cifar_ablations.study.commands import own_program

                (own_program.carry_out if trains else own_program.show)(context, plan, seeds, first_seed, answer)
                return
            if trains and device in (None, "cpu") and executor == "local":
                from cifar_ablations.study.execution.starting import prepare

                prepare("cpu")
            from cifar_ablations.study.commands.arguments import PlanRequest
            from cifar_ablations.study.data.typed import typed_source
            from cifar_ablations.study.execution.shard import shard_of

            request = PlanRequest(
                plan,
                seeds,
                first_seed,
                lock,
                minutes,
                retune,
                trials,
                keep_weights=keep_weights,
                shard=None if shard is None else shard_of(shard),
                profile=profile,
                baseline=baseline,
                settings=tuple(settings or ()),
                data=typed_source(data, image_size),
                device=device,
                workers=workers,
                backend=backend,
                executor=executor,
                address=address,
            )
            act(request, answer)

    command.__doc__ = act.__doc__
    return command


@app.command("run")
@partial(_of_a_plan, trains=True)
def run_command(request: PlanRequest, answer: facts.Document | None) -> None:
    """Train what a plan still misses, and write its report."""
    from cifar_ablations.study.commands.execute import run_plan
    from cifar_ablations.study.store.home import Home

    home = Home()
    with home.locked(f"running plan {request.plan}", along):
        invocation, _, failed = _asked_for(home, request, training=True)
        if request.lock is not None:
            from cifar_ablations.study.commands.locking import held_to

            invocation = held_to(request.lock, invocation, along)
        if answer is not None or LOUDNESS.quiet:
            from cifar_ablations.study.commands.reporting import run_told

            failed = run_told(home, invocation, along, answer, quiet=LOUDNESS.quiet) or failed
        else:
            failed = run_plan(home, invocation, request, say) or failed
        finish(invocation.data, request.data, failed)


def _asked_for(home: Home, request: PlanRequest, *, training: bool) -> tuple[Invocation, float | None, bool]:
    """What a request asks for; where a time was given, about how many seconds all of it takes; and whether trials of a
    search that it needed have failed."""
    from cifar_ablations.study.store.tracking import ask_server

    ask_server(home)
    if request.retune or request.trials is not None:
        from cifar_ablations.study.commands.retuning import plan_retuned

        invocation, failed = plan_retuned(home, request, along, training=training)
        return invocation, None, failed
    if request.minutes is None:
        from cifar_ablations.study.commands.arguments import plan_invocation

        return plan_invocation(home, request, along), None, False
    from cifar_ablations.study.commands.within_minutes import plan_within

    return *plan_within(home, request, along, training=training), False


@app.command("list")
def list_command(as_json: Json = False, extensions: Extensions = None) -> None:
    """Show techniques with their levels, plans and profiles."""
    with errors("list", as_json) as answer:
        if answer is not None:
            answer.write(facts.of_catalog())
            return
        from cifar_ablations.study.commands.show import show_catalog

        show_catalog()


@app.command("plan")
@_of_a_plan
def plan_command(request: PlanRequest, answer: facts.Document | None) -> None:
    """Show a plan's arms, what is done, what is left, how long it would take and what it could tell; trains nothing."""
    from cifar_ablations.ablations.sizes import readable
    from cifar_ablations.reports.pages.preview import Pilot, pilot_spreads
    from cifar_ablations.study.commands.show import show_plan
    from cifar_ablations.study.execution.disk import estimated_bytes, free_bytes
    from cifar_ablations.study.execution.sizing import Estimate, estimated
    from cifar_ablations.study.store.home import Home
    from cifar_ablations.study.store.tracking import open_store

    home = Home()
    invocation, whole, _ = _asked_for(home, request, training=False)
    done: set[tuple[str, int]] = set()
    pilots: dict[str, Pilot] = {}
    store = None
    if home.has_store:
        store = open_store(home, along)
        done = store.results(invocation.data, invocation.environment(), along, invocation.measured)
        if done:
            pilots = pilot_spreads(store.uri, invocation.record())
    missing = list(invocation.missing(done))
    if whole is None:
        estimate = estimated(invocation, missing)
    else:  # what was said already: steps that are timed again take another time
        estimate = Estimate(whole * len(missing) / len(invocation.members()), 1.0)
    needed = estimated_bytes(invocation, missing, weights=request.keep_weights != "none")
    if answer is None:
        show_plan(invocation, done, estimate, pilots)
        if missing:
            along(f"At most {readable(needed)} of disk; {readable(free_bytes(home))} are free.")
    if request.keep_weights != "none":
        from cifar_ablations.study.commands.keeping import before

        for sentence in before(invocation, store, done):
            along(sentence)
    lock = None
    if request.lock is not None:
        from cifar_ablations.study.commands.locking import write_lock

        lock = write_lock(request.lock, invocation.record(), say)
    if answer is not None:
        answer.write({**facts.of_plan(invocation, done, estimate.seconds, pilots, lock), "disk_bytes": needed})
    finish(invocation.data, request.data)


@app.command("verify")
def verify_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", parser=path, help="A lock, as `ablate plan PLAN --lock FILE` wrote it.")
    ],
    as_json: Json = False,
    extensions: Extensions = None,
) -> None:
    """Say what became of a lock: held and answered (exit code 0), not answered yet (3), edited or deviated from (1)."""
    with errors("verify", as_json) as answer:
        from cifar_ablations.study.commands.locking import verify, verify_facts
        from cifar_ablations.study.store.home import Home

        if answer is None:
            raise typer.Exit(verify(Home(), file, say))
        told = verify_facts(Home(), file, say)
        answer.write(told)
        raise typer.Exit(told["exit_code"])


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
    executor: Executor = "local",
    address: Address = None,
    extensions: Extensions = None,
) -> None:
    """Search for better settings with Optuna, on validation images alone, and write its report."""
    with errors():
        from cifar_ablations.study.store.home import Home

        home = Home()
        with nullcontext() if dry_run else home.locked(f"tuning {search}", along):
            from cifar_ablations.study.commands.arguments import SearchRequest, check_shown, search_invocation
            from cifar_ablations.study.data.typed import typed_source

            check_shown(executor, storage, sys.argv)
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
                executor=executor,
                address=address,
            )
            if not dry_run:
                from cifar_ablations.study.store.tracking import ask_server

                ask_server(home)
            invocation = search_invocation(home, request, along)
            failed = False
            if dry_run:
                from cifar_ablations.study.commands.tune import dry

                dry(invocation, say)
            else:
                from cifar_ablations.study.commands.execute import run_search

                if LOUDNESS.quiet:
                    from cifar_ablations.study.commands.reporting import search_quietly

                    failed = search_quietly(home, invocation, storage)
                else:
                    failed = run_search(home, invocation, storage, data, say)
            finish(invocation.data, data, failed)


@app.command("adopt")
def adopt_command(
    search: Annotated[str, typer.Argument(metavar="SEARCH", help="Which search's best recipe.")],
    name: Annotated[str | None, typer.Option("--as", help="What to call it (default: the search's name).")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also over a file that was edited, or that another search wrote.")
    ] = False,
    data: Data = None,
    image_size: ImageSize = None,
    as_json: Json = False,
    extensions: Extensions = None,
) -> None:
    """Write a search's best recipe to the output folder, as a baseline for plans and further searches."""
    with errors("adopt", as_json) as answer:
        from cifar_ablations.study.commands.tune import adopt
        from cifar_ablations.study.data.typed import typed_source
        from cifar_ablations.study.store.home import Home

        data = typed_source(data, image_size)
        home = Home()
        with home.locked(f"adopting {search}", say):
            loaded = adopt(home, search, name or search, data, say, replace_file=replace)
            if answer is not None:
                from cifar_ablations.ablations.adopted import SUFFIX, read

                file = home.recipes / f"{name or search}{SUFFIX}"
                answer.write(facts.of_adopted(read(file), file))
            finish(loaded, data)


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
    with errors():
        from cifar_ablations.study.store.home import Home

        home = Home()
        with home.locked(f"taking in {name}", say):
            from cifar_ablations.study.commands.take_data import take_in

            take_in(home, name, source, along)


@app.command("foundations")
def foundations_command(
    seed: Annotated[int, typer.Option("--seed", parser=whole, help="Of everything that is drawn.")] = 0,
) -> None:
    """Run the small demonstrations behind the techniques, check each against what is known, and write their page."""
    with errors():
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
        str | None,
        typer.Argument(
            metavar="PLAN",
            help="Which plan; of one of commands its name or its file (default: all, and all searches).",
        ),
    ] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--compare",
            metavar="A B",
            help="Set two invocations side by side, joined by their recipes and claims: [STORE#]PLAN, or the beginning "
            "of a parent run's id (default: the pages of this store).",
        ),
    ] = None,
    as_json: Json = False,
    extensions: Extensions = None,
) -> None:
    """Write the reports anew from what is in the store, finished or not, and say what the newest has found."""
    with errors("report", as_json) as answer:
        from cifar_ablations.study.store.home import Home

        home = Home()
        from cifar_ablations.study.commands.reporting import report, report_comparison, report_facts

        if compare is not None:
            report_comparison(home, compare, say, answer)
        elif answer is not None:
            answer.write(report_facts(home, plan, along))
        else:
            report(home, plan, along)


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
    as_json: Json = False,
    extensions: Extensions = None,
) -> None:
    """Write a plan's table or figure for a paper, from its newest runs."""
    with errors("export", as_json) as answer:
        from cifar_ablations.study.commands.export import export_plan
        from cifar_ablations.study.store.home import Home

        told = answer is not None
        made = export_plan(Home(), plan, to, output, say, style=style, spread=spread, width=width, told=told)
        if answer is not None:
            answer.write(made)


@app.command("watch")
def watch_command(
    plan: Annotated[str | None, typer.Argument(metavar="PLAN", help="Which plan (default: all).")] = None,
    every: Annotated[float, typer.Option("--every", parser=number, help="Seconds between two times.")] = 20.0,
    extensions: Extensions = None,
) -> None:
    """Write the reports again and again while runs are coming in; Ctrl-C ends it."""
    with errors():
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


@app.command("sync")
def sync_command() -> None:
    """Deliver what waits in the output folder because the MLflow store was not there; trains nothing."""
    with errors():
        from cifar_ablations.study.commands.sync import sync
        from cifar_ablations.study.store.home import Home

        home = Home()
        with home.locked("delivering what waits", say):
            sync(home, say)


@app.command("merge")
def merge_command(
    places: Annotated[
        list[str],
        typer.Argument(metavar="OTHER…", help="Output folders of other calls, or addresses of their MLflow stores."),
    ],
    as_json: Json = False,
) -> None:
    """Bring the trainings of other output folders into this one's store, each once; trains nothing."""
    with errors("merge", as_json) as answer:
        from cifar_ablations.study.commands.merge import merge
        from cifar_ablations.study.commands.next_step import typed
        from cifar_ablations.study.store.home import Home

        home = Home()
        with home.locked("merging", along):
            merged = merge(home, places, along)
        if answer is not None:
            answer.write(facts.of_merge(merged))
        else:
            for plan in (name for name in merged.plans if name in plan_names(name)):
                say(f"For the page of {plan}: {typed(f'ablate report {plan}')}")


@app.command("ui")
def ui_command(
    port: Annotated[
        int,
        typer.Option("--port", parser=whole, help="Port on 127.0.0.1; the next free one is taken if it is in use."),
    ] = 5000,
) -> None:
    """Serve MLflow's UI on this machine and print the address of the page to look at."""
    with errors():
        check_range("--port", port, 1, 65_535)
        from cifar_ablations.study.commands.ui import serve
        from cifar_ablations.study.store.home import Home

        serve(Home(), port, say)


@app.command("services")
def services_command(
    postgres_port: Annotated[
        int, typer.Option("--postgres-port", parser=whole, help="PostgreSQL's port on 127.0.0.1, or the next free one.")
    ] = 55_432,
    mlflow_port: Annotated[
        int, typer.Option("--mlflow-port", parser=whole, help="MLflow's port on 127.0.0.1, or the next free one.")
    ] = 5_500,
) -> None:
    """Run PostgreSQL and an MLflow server on this machine until Ctrl-C, to try what several machines share."""
    with errors():
        check_range("--postgres-port", postgres_port, 1, 65_535)
        check_range("--mlflow-port", mlflow_port, 1, 65_535)
        from cifar_ablations.study.commands.services import serve
        from cifar_ablations.study.store.home import Home

        serve(Home(), postgres_port, mlflow_port, say)


app.command("check")(outside.check_command)
app.command("check-extension")(outside.check_extension_command)
app.command("script")(outside.script_command)
app.command("judge")(outside.judge_command)
app.command("doctor")(upkeep.doctor_command)
app.command("clean")(upkeep.clean_command)


def main() -> None:
    """The console script."""
    # A polite kill ends as Ctrl-C does, so that runs in flight are marked.
    signal.signal(signal.SIGTERM, _interrupted)
    gc.set_threshold(*GC_THRESHOLD)
    streams.take_over()
    try:
        app()
    except SystemExit as end:
        leave(end.code)
    except (Exception, KeyboardInterrupt) as error:  # beside a command, as in what is made of its words
        sentence, code = ending(error)
        complain(sentence)
        leave(code)


def _interrupted(signal_number: int, frame: Any) -> NoReturn:
    raise KeyboardInterrupt
