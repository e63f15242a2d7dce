"""What the command line draws: the progress bar, the catalogue, a plan before it is run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from math import isinf
from statistics import median
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.plan import Plan
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.ablations.technique import Technique
from cifar_ablations.study.execution.runner import Invocation
from cifar_ablations.study.execution.runner import Progress as RunProgress

if TYPE_CHECKING:
    from cifar_ablations.reports.pages.preview import Pilot
    from cifar_ablations.study.search.search import SearchProgress

LINE_EVERY_SECONDS = 30


@contextmanager
def progress_shown() -> Iterator[Callable[[RunProgress], None]]:
    """Yields what shows how far a run has come: a bar on a terminal, else a line every half minute."""
    with _shown("trainings", _said, lambda state: (state.epochs_done, state.epochs_total)) as show:
        yield show


@contextmanager
def search_progress_shown() -> Iterator[Callable[[SearchProgress], None]]:
    """The same for a search."""
    with _shown("trials", _said_of_search, lambda state: (state.trials_done, state.trials_total)) as show:
        yield show


State = TypeVar("State")


@contextmanager
def _shown(
    what: str, said: Callable[[State, float], str], done: Callable[[State], tuple[int, int]]
) -> Iterator[Callable[[State], None]]:
    """said: a state in words, given when it all began; done: how much of how much."""
    console = Console()
    began = time.perf_counter()
    if not console.is_terminal:
        yield _lines(what, said, began)
        return
    columns = (what, BarColumn(), TextColumn("{task.fields[said]}"))
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=None, said="starting workers")

        def show(state: State) -> None:
            completed, total = done(state)
            bars.update(task, total=total, completed=completed, said=said(state, began))

        yield show


def _lines(what: str, said: Callable[[State, float], str], began: float) -> Callable[[State], None]:
    last = began

    def show(state: State) -> None:
        nonlocal last
        if time.perf_counter() - last >= LINE_EVERY_SECONDS:
            last = time.perf_counter()
            print(f"  {what} {said(state, began)}", flush=True)

    return show


def _said_of_search(state: SearchProgress, began: float) -> str:
    """The trials done, the best of them, and the time left at the pace so far."""
    elapsed = time.perf_counter() - began
    said = f"{state.trials_done}/{state.trials_total} done, {clock(elapsed)} so far"
    if state.trials_done:
        said += f", about {clock(elapsed * (state.trials_total / state.trials_done - 1))} left"
    if state.best is not None:
        said += f", best {100 * state.best:.2f} %"
    if state.pruned:
        said += f", {state.pruned} pruned"
    if state.stalled:
        said += f", {len(state.stalled)} stalled"
    if state.failed:
        said += f", {len(state.failed)} FAILED"
    return said


def _said(state: RunProgress, began: float) -> str:
    """The trainings done, and the time left at the pace so far."""
    elapsed = time.perf_counter() - began
    said = f"{state.finished}/{state.trainings_total} done, {clock(elapsed)} so far"
    if state.epochs_done:
        said += f", about {clock(elapsed * (state.epochs_total / state.epochs_done - 1))} left"
    if state.diverged:
        said += f", {state.diverged} diverged"
    if state.stalled:
        said += f", {len(state.stalled)} stalled"
    if state.failed:
        said += f", {len(state.failed)} FAILED"
    return said


def clock(seconds: float) -> str:
    """Minutes and seconds, or hours and minutes, as on a clock."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes}:{rest:02}"


def show_catalog() -> None:
    """Print every technique with its levels, knobs and source, every plan and every profile."""
    console = Console(highlight=False, soft_wrap=True)
    console.print("[bold]Techniques[/bold] (--set TECHNIQUE=LEVEL or TECHNIQUE.KNOB=VALUE)")
    for name, cls in catalog.techniques().items():
        levels = ", ".join(level + " (the notebook's)" * (level == cls.notebook) for level in cls.levels)
        console.print(f"  {name}: {cls.title}. Levels {levels}. {cls.source}.", markup=False)
        for knob, about in cls.knobs().items():
            legal = ", ".join(about.choices) if about.choices else _range(about.low, about.high)
            at = {level: getattr(cls.at(level), knob) for level in cls.levels}
            others = "".join(f", {value} at {level}" for level, value in at.items() if value != at["off"])
            values = f"{at['off']} by default{others}"
            console.print(f"    {name}.{knob}: {about.doc}; {legal}; {values}", style="dim", markup=False)
    console.print("\n[bold]Plans[/bold] (ablate run PLAN)")
    for module, names in groupby(catalog.plan_names(), catalog.plan_module):
        first, *more = names
        variants = "".join(f", {name.partition('/')[2]}" for name in more)
        console.print(f"  {first}{variants}: {module.QUESTION}", markup=False)
    console.print("\n[bold]Searches[/bold] (ablate tune SEARCH)")
    for name in catalog.search_names():
        search = catalog.search_module(name)
        console.print(f"  {name}: {search.QUESTION} {search.DEFAULT_TRIALS} trials of each study.", markup=False)
    console.print("\n[bold]Profiles[/bold] (--profile PROFILE; parts with --set budget.FIELD=VALUE, model.FIELD=VALUE)")
    for profile in PROFILES.values():
        console.print(f"  {profile.name}: {profile.summary}.", markup=False)
        console.print(
            f"    {profile.seeds} seeds, width × {profile.model.width:g}, {profile.budget}", style="dim", markup=False
        )


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return "any number" if high is None else f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"


ON, OFF, OTHER = "●", "·", "◆"


def show_plan(invocation: Invocation, done: set[tuple[str, int]], seconds: float, spreads: Mapping[str, Pilot]) -> None:
    """Print a plan's arms and what is done of them, the time the rest would take, and what it could tell.

    spreads: per claim, how much its paired differences are known to vary at most.
    """
    console = Console(highlight=False, soft_wrap=True)
    plan = invocation.plan
    baseline = plan.arms[0].recipe
    console.print(f"[bold]{plan.question}[/bold]")
    data = invocation.data
    console.print(f"  {invocation.profile.name}: {baseline.budget}; {data.name} ({data.digest})\n")
    table = Table("arm", " ".join(str(i + 1) for i in range(len(baseline.techniques))), "done", box=None)
    others = []
    for arm in plan.arms:
        count = sum((arm.recipe.digest(), seed) in done for seed in plan.seeds)
        table.add_row(arm.name, " ".join(map(_mark, arm.recipe.techniques)), f"{count}/{len(plan.seeds)}")
        others += [f"{t.name}: {t.level}" for t in arm.recipe.techniques if _mark(t) == OTHER]
    console.print(table)
    console.print("\n  " + "  ".join(f"{i + 1} {t.title}" for i, t in enumerate(baseline.techniques)))
    console.print(f"  {ON} on  {OFF} off" + "".join(f"  {OTHER} {other}" for other in dict.fromkeys(others)) + "\n")
    missing = len(invocation.missing(done))
    total = len(invocation.members())
    left = (
        f"the other {missing} take about {clock(seconds)} on {invocation.device} with {invocation.workers} "
        f"worker{'s' * (invocation.workers > 1)}"
        if missing
        else "nothing is left to train"
    )
    console.print(f"{total} trainings, {total - missing} already done; {left}.")
    for sentence in _resolution(plan, spreads):
        console.print(sentence)
    console.print(f"Plan {plan.digest()}; its claims are fixed by this digest.")


def _resolution(plan: Plan, spreads: Mapping[str, Pilot]) -> Iterator[str]:
    """What a plan's seeds can tell and what they cannot."""
    from cifar_ablations.reports.inference.statistics import minimum_detectable_effect, seeds_needed
    from cifar_ablations.reports.inference.verdict import TESTS, level

    if not plan.claims:
        return
    alpha, margin, critical = level(plan.rule), plan.rule.margin, TESTS[plan.rule.test].critical
    if plan.rule.looks:
        yield (
            f"Looks after {', '.join(map(str, plan.rule.looks))} seeds, each at {100 * alpha:.3g} %; training stops "
            "when every claim is decided."
        )
    if len(plan.seeds) < 2:
        yield "One seed cannot tell an effect from chance: no claim will be decided."
        return
    for n in plan.rule.looks or (len(plan.seeds),):
        effect = minimum_detectable_effect(n, alpha, critical=critical)
        if isinf(effect):
            yield f"{n} paired seeds are too few for the plan's test to find any effect."
            continue
        found = (
            f"{n} paired seeds find with 80 % probability, before Holm's correction, an effect of {effect:.2f} "
            "standard deviations of the paired difference"
        )
        yield (f"{found}: {_changes(effect, list(spreads.values()))}" if spreads else found) + "."
    smallest = 2 / 2 ** len(plan.seeds)
    if smallest > plan.rule.alpha:
        yield f"The exact sign-flip test cannot fall below p = {smallest:g} with {len(plan.seeds)} seeds."
    if spreads:
        typical = median(pilot.spread for pilot in spreads.values())
        needed = seeds_needed(margin / typical, alpha, critical=critical)
        count = "more than 10,000" if needed is None else f"about {needed:,}"
        yield (
            f"The spread is that of {len(spreads)} comparison{'s' * (len(spreads) > 1)} in the store, at its upper "
            f"95 % limit. An effect as small as the margin, {100 * margin:g} pp, would take {count} seeds."
        )
    else:
        yield (
            f"No pilot runs in the store to say how large such a deviation is. Differences within {100 * margin:g} "
            "pp do not matter here."
        )


def _changes(effect: float, pilots: Sequence[Pilot]) -> str:
    """What changes of test accuracy an effect, in standard deviations, stands for: only those that can happen."""
    from cifar_ablations.ablations import schema
    from cifar_ablations.reports.wording.phrases import changes

    sizes, possible = [effect * pilot.spread for pilot in pilots], [pilot.possible for pilot in pilots]
    found, beyond = changes(schema.TEST_ACCURACY, sizes, possible, "comparison")
    return ", ".join(part for part in (found and f"{found} of test accuracy", beyond) if part)


def _mark(technique: Technique) -> str:
    return {"on": ON, "off": OFF}.get(technique.level, OTHER)
