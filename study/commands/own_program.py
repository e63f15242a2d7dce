"""What `ablate run` and `ablate plan` do with a file whose arms are commands: run what is missing, judge, report."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer
from rich.table import Table
from rich.text import Text

from cifar_ablations.ablations import command_plan
from cifar_ablations.ablations.durations import duration
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import shown
from cifar_ablations.ablations.record import CommandPlanRecord
from cifar_ablations.reports.pages.command_page import Written, write_command_pages
from cifar_ablations.reports.pages.index_page import write_index
from cifar_ablations.reports.reading import command_plans
from cifar_ablations.study.commands import execute, facts, judge, terminal
from cifar_ablations.study.commands.ending import FAILED, LOUDNESS, along, complain, say
from cifar_ablations.study.commands.progress import progress_shown
from cifar_ablations.study.commands.sync import opened
from cifar_ablations.study.execution import command_runner
from cifar_ablations.study.execution.command_runner import RunProgress
from cifar_ablations.study.store.command_log import CommandLog
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.tracking import open_store

OPTIONS = ("plan", "seeds", "first_seed", "as_json")
"""Parameters of a command that say something about a plan of commands."""
MOST_FAILED = 10
"""Runs that failed, each with a line of its own; the others are counted."""


def carry_out(
    context: typer.Context, typed: str, seeds: str | None, first_seed: int, answer: facts.Document | None
) -> None:
    """Run what the plan in a file still misses, and end with its answer. Raises typer.Exit where runs failed.

    typed: the path as it was typed; answer: the document to be written, if any.
    """
    plan = _asked(context, typed, seeds, first_seed)
    command_runner.check_programs(plan)
    home = Home()
    with home.locked(f"running plan {plan.name}", along):
        home.check_writable(home.reports)
        progress = _run(home, plan)
        written: list[Written] = []
        told: list[str] = []
        write_command_pages(home.tracking_uri, home.reports, plan.name, told.append, written.append)
        write_index(home.tracking_uri, home.reports)
        for sentence in told:
            say(sentence)
        if answer is not None:
            answer.write(_as_run(plan, progress, written, told))
        for one in written:
            judge.show(one.judged, along)
            along(f"Report: {home.shown(one.page)}")
    if progress.failed:
        raise typer.Exit(FAILED)


def show(context: typer.Context, typed: str, seeds: str | None, first_seed: int, answer: facts.Document | None) -> None:
    """Say what the plan in a file would run, what of it is done, for how long, and whether its seeds give verdicts.

    Runs nothing. typed, answer: as of `carry_out`.
    """
    from cifar_ablations.reports.inference import decision, verdict
    from cifar_ablations.study.commands.show import enough_seeds

    plan = _asked(context, typed, seeds, first_seed)
    home = Home()
    done = CommandLog(open_store(home), plan).results() if home.has_store else {}
    runs, left = command_runner.every_run(plan), command_runner.missing(plan, done)
    digests = {arm.digest for arm in plan.arms}
    seconds = command_runner.expected_seconds(left, {key: one for key, one in done.items() if key[0] in digests})
    of_arm = {arm.name: sum((arm.digest, seed) in done for seed in plan.seeds) for arm in plan.arms}
    asked = command_plans.as_plan(plan)
    rate = verdict.error_rate(verdict.shape_of(asked)) if len(plan.seeds) > 1 else 1.0
    given = rate <= decision.ALPHA
    enough = len(plan.seeds) if given else enough_seeds(asked)
    if answer is not None:
        answer.write(
            {
                "schema": facts.schema("plan-commands"),
                "plan": judge.plan_of_commands(plan),
                "arms": [
                    {"name": arm.name, "command": arm.command, "digest": arm.digest, "expect": arm.expect or None}
                    | {"done": of_arm[arm.name]}
                    for arm in plan.arms
                ],
                "runs": {"total": len(runs), "done": len(runs) - len(left), "missing": len(left)},
                "seconds": 0.0 if not left else seconds,
                "verdicts": {"given": given, "error_rate": rate, "seeds_needed": enough},
            }
        )
        return
    console = terminal.console()
    console.print(plan.question, style="bold", markup=False)
    table = Table("arm", "done", "command", box=None, pad_edge=False)
    table.columns[1].no_wrap = True
    for arm in plan.arms:
        control = " (control)" if arm.name == plan.control else ""
        words = terminal.writable(command_plan.in_words(arm))
        cells = [terminal.writable(f"{arm.name}{control}"), f"{of_arm[arm.name]}/{len(plan.seeds)}", words]
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    say(f"In {plan.folder}, one after the other, seed by seed; {_limits(plan)}.")
    if not left:
        time_left = "nothing is left to run"
    elif seconds is None:
        time_left = f"how long the {'other ' * bool(done)}{len(left)} take is known once one has ended"
    else:
        time_left = f"the other {len(left)} take about {duration(seconds)}, as those did that have ended"
    say(f"{len(runs)} runs, {len(runs) - len(left)} already done; {time_left}.")
    if given:
        say(f"By simulation, at most {100 * rate:.1f} % of pages with so many seeds and arms say something false.")
    elif len(plan.seeds) < 2:
        say("One seed cannot tell an effect from chance: nothing will be decided.")
    else:
        more = f" They are given from {enough} seeds on." if enough else ""
        wrong = f"{100 * rate:.1f} % of such pages would say something false"
        say(f"No verdicts with {len(plan.seeds)} seeds: {wrong}.{more}")
    say(f"Plan {plan.digest[:16]}; its claims, rule and seeds are fixed by this digest.")


def _asked(context: typer.Context, typed: str, seeds: str | None, first_seed: int) -> CommandPlanRecord:
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE" and name not in OPTIONS:
            raise AblateError(
                f"{parameter.opts[0]} is about the suite's own trainings, and the arms of {typed} are commands; what "
                "they do stands in them. --seeds, --first-seed and --json work"
            )
    count = None
    if seeds is not None:
        try:
            count = int(seeds)
        except ValueError:
            raise AblateError(f"--seeds: a plan of commands has a whole number of them, not {shown(seeds)}") from None
    plan = command_plan.read(Path(typed), count, first_seed)
    words = ["ablate", "run", os.path.relpath(typed), *(["--seeds", str(count)] if count is not None else [])]
    return replace(plan, command=shlex.join([*words, *(["--first-seed", str(first_seed)] if first_seed else [])]))


def _run(home: Home, plan: CommandPlanRecord) -> RunProgress:
    store = opened(home, along)
    log = CommandLog(store, plan)
    done = log.results()
    every, left = command_runner.every_run(plan), command_runner.missing(plan, done)
    along(
        f"{plan.question}\n"
        f"  plan {plan.name}: {len(plan.arms)} arms × {len(plan.seeds)} seed{'s' * (len(plan.seeds) > 1)} = "
        f"{len(every)} runs, {len(every) - len(left)} already done\n"
        f"  commands in {home.shown(Path(plan.folder))}, one after the other; {_limits(plan)}"
    )
    began = time.perf_counter()
    quiet = LOUDNESS.quiet
    starting = f"starting {left[0][0].name}, seed {left[0][1]}" if left else ""
    shown_as = nullcontext(_nothing) if quiet else progress_shown(1, at_once=bool(left), starting=starting)
    with shown_as as see, execute.asked_to_stop() as stopped:
        progress = command_runner.run(plan, log, home.commands, see, stopped)
    if progress.total:
        took = duration(time.perf_counter() - began)
        along(f"{progress.done} runs in {took}, {progress.diverged} of them diverged.")
    if gone := len(store.deleted):
        along(f"{gone} run{'s were' if gone > 1 else ' was'} deleted in MLflow meanwhile; the same command runs again.")
    _tell_failed(progress.failed)
    return progress


def _nothing(progress: Any) -> None:
    """Shows nothing."""


def _tell_failed(failed: Mapping[str, str]) -> None:
    """Say which runs failed, and why: with --quiet as errors are said."""
    lines = [f"{name}: {why}" for name, why in list(failed.items())[:MOST_FAILED]]
    lines += [f"{len(failed) - MOST_FAILED} more; MLflow has what each printed"] if len(failed) > MOST_FAILED else []
    tell: Callable[[str], None] = say
    for line in lines:
        if LOUDNESS.quiet:
            complain(f"ablate: failed: {line}")
        else:
            tell(f"Failed: {line}")


def _limits(plan: CommandPlanRecord) -> str:
    if plan.timeout_seconds is None:
        return "no time-out"
    return f"each is ended after {duration(plan.timeout_seconds)}"


def _as_run(plan: CommandPlanRecord, progress: RunProgress, written: list[Written], told: list[str]) -> dict[str, Any]:
    """What a plan of commands found, and what this call ran for it."""
    nothing = {"plan": judge.plan_of_commands(plan), "fixed": None, "judged": None}
    return {
        "schema": facts.schema("run-commands"),
        **(judge.of_commands(written[0]) if written else nothing),
        "runs": {
            "planned": len(plan.arms) * len(plan.seeds),
            "asked": progress.total,
            "done": progress.done,
            "diverged": progress.diverged,
            "failed": progress.failed,
        },
        "unjudged": None if written else " ".join(told),
    }
