"""What the command line draws: the progress bar, the catalogue, a plan before it is run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from ablations import catalog
from ablations.profiles import PROFILES
from study.runner import Invocation
from study.runner import Progress as RunProgress

LINE_EVERY_SECONDS = 30


@contextmanager
def progress_shown() -> Iterator[Callable[[RunProgress], None]]:
    """Yields what shows how far a run has come: a bar on a terminal, else a line every half minute."""
    console = Console()
    began = time.perf_counter()
    if not console.is_terminal:
        yield _lines(began)
        return
    columns = ("trainings", BarColumn(), TextColumn("{task.fields[said]}"))
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=None, said="starting workers")

        def show(state: RunProgress) -> None:
            bars.update(task, total=state.epochs_total, completed=state.epochs_done, said=_said(state, began))

        yield show


def _lines(began: float) -> Callable[[RunProgress], None]:
    last = began

    def show(state: RunProgress) -> None:
        nonlocal last
        if time.perf_counter() - last >= LINE_EVERY_SECONDS:
            last = time.perf_counter()
            print(f"  trainings {_said(state, began)}", flush=True)

    return show


def _said(state: RunProgress, began: float) -> str:
    """The trainings done, and the time left at the pace so far."""
    elapsed = time.perf_counter() - began
    said = f"{state.finished}/{state.trainings_total} done, {clock(elapsed)} so far"
    if state.epochs_done:
        said += f", about {clock(elapsed * (state.epochs_total / state.epochs_done - 1))} left"
    if state.diverged:
        said += f", {state.diverged} diverged"
    if state.failed:
        said += f", {len(state.failed)} FAILED"
    return said


def clock(seconds: float) -> str:
    """Minutes and seconds, or hours and minutes, as on a clock."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes}:{rest:02}"


def show_catalog() -> None:
    """Print every technique with its levels and source, every plan and every profile."""
    console = Console()
    table = Table(
        "technique", "levels (* in the notebook's recipe)", "knobs", "source", title="Techniques", title_justify="left"
    )
    for name, cls in catalog.techniques().items():
        levels = ", ".join(level + "*" * (level == cls.notebook) for level in cls.levels)
        table.add_row(name, levels, ", ".join(cls.knobs()), cls.source)
    console.print(table)
    table = Table("plan", "question", title="Plans", title_justify="left")
    for name in catalog.plan_names():
        table.add_row(name, catalog.plan_module(name).QUESTION)
    console.print(table)
    table = Table("profile", "seeds", "budget", "what for", title="Profiles", title_justify="left")
    for profile in PROFILES.values():
        table.add_row(
            profile.name, str(profile.seeds), f"width × {profile.model.width:g}, {profile.budget}", profile.summary
        )
    console.print(table)


def show_plan(invocation: Invocation, done: set[tuple[str, int]], seconds: float) -> None:
    """Print a plan's arms and what is done of them, the time the rest would take, and what it could tell."""
    from reports.statistics import minimum_detectable_effect

    console = Console()
    plan = invocation.plan
    console.print(f"[bold]{plan.question}[/bold]")
    baseline = plan.arms[0].recipe
    console.print(f"{invocation.profile.name}: {baseline.budget}; {invocation.data.name} ({invocation.data.digest})")
    names = [t.name for t in baseline.techniques]
    table = Table("arm", *names, "done")
    for arm in plan.arms:
        count = sum((arm.recipe.digest(), seed) in done for seed in plan.seeds)
        table.add_row(arm.name, *(t.level for t in arm.recipe.techniques), f"{count}/{len(plan.seeds)}")
    console.print(table)
    missing = len(invocation.missing(done))
    total = len(invocation.members())
    console.print(
        f"{total} trainings, {total - missing} already done; the other {missing} take about {clock(seconds)} "
        f"with {invocation.workers} worker(s) on {invocation.device}."
    )
    n = len(plan.seeds)
    if plan.claims and n >= 2:
        effect = minimum_detectable_effect(n)
        console.print(
            f"{n} paired seeds can detect an effect of {effect:.2f} standard deviations of the paired difference "
            f"(80 % power, α = {plan.rule.alpha:g}, before correction for {len(plan.claims)} claims); if that "
            f"deviation is 1 pp, {effect:.2f} pp. The plan's margin is {plan.rule.margin * 100:g} pp."
        )
    elif plan.claims:
        console.print("One seed cannot tell an effect from chance: no claim will be decided.")
    console.print(f"Plan {plan.digest()}; its claims are fixed by this digest.")
