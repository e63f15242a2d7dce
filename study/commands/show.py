"""What the command line draws: the progress bar, the catalogue, a plan before it is run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from math import isinf
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.plan import Plan
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.ablations.technique import Technique
from cifar_ablations.study.execution.fleets import Progress
from cifar_ablations.study.execution.runner import Invocation

if TYPE_CHECKING:
    from cifar_ablations.reports.pages.preview import Pilot

LINE_EVERY_SECONDS = 30


@contextmanager
def progress_shown() -> Iterator[Callable[[Progress], None]]:
    """Yields what shows how far a plan or a search has come: a bar on a terminal, else a line every half minute."""
    console = Console()
    began = last = time.perf_counter()
    if not console.is_terminal:

        def print_line(progress: Progress) -> None:
            nonlocal last
            if time.perf_counter() - last >= LINE_EVERY_SECONDS:
                last = time.perf_counter()
                print(f"  {progress.unit} {_in_words(progress, last - began)}", flush=True)

        yield print_line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"))
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task("", total=None, words="starting workers")

        def move_bar(progress: Progress) -> None:
            words = _in_words(progress, time.perf_counter() - began)
            bars.update(
                task,
                description=progress.unit,
                total=progress.epochs_total,
                completed=progress.epochs_done,
                words=words,
            )

        yield move_bar


def _in_words(progress: Progress, elapsed: float) -> str:
    """What is done, the time left at the pace so far (elapsed: in seconds), and what is worth a look."""
    said = f"{progress.done}/{progress.total} done, {clock(elapsed)} so far"
    if progress.epochs_done:
        said += f", about {clock(elapsed * (progress.epochs_total / progress.epochs_done - 1))} left"
    if progress.best is not None:
        said += f", best {100 * progress.best:.2f} %"
    counts = {"pruned": progress.pruned, "diverged": progress.diverged, "stalled": len(progress.stalled)}
    said += "".join(f", {count} {what}" for what, count in counts.items() if count)
    return said + (f", {len(progress.failed)} FAILED" if progress.failed else "")


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
