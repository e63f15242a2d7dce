"""Output on the terminal: the catalogue, and a plan before it is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from math import inf, sqrt
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from cifar_ablations.ablations import catalog, extensions, metrics
from cifar_ablations.ablations.durations import duration
from cifar_ablations.ablations.metrics import METRICS
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.ablations.record import PlanRecord
from cifar_ablations.ablations.technique import Technique
from cifar_ablations.study.commands import terminal
from cifar_ablations.study.training import model

if TYPE_CHECKING:
    from cifar_ablations.reports.inference.power import Design
    from cifar_ablations.reports.pages.preview import Pilot
    from cifar_ablations.study.execution.runner import Invocation
    from cifar_ablations.study.execution.sizing import Estimate


def _console() -> Console:
    """A console that breaks lines between words on a terminal, and nowhere in a pipe."""
    made = terminal.console()
    made.soft_wrap = not made.is_terminal
    return made


def show_catalog() -> None:
    """Print every technique with its levels, knobs and source, every plan, search, network, metric and profile, and
    where those come from that are not the suite's own."""
    console = _console()
    searches, networks, measured = catalog.search_names(), model.networks(), metrics.known()  # all, or a sentence alone
    catalog.plan_names()
    console.print("[bold]Techniques[/bold] (--set TECHNIQUE=LEVEL or TECHNIQUE.KNOB=VALUE)")
    for name, cls in catalog.techniques().items():
        levels = ", ".join(level + " (the notebook's)" * (level == cls.notebook) for level in cls.levels)
        of = _origin(extensions.TECHNIQUES, name)
        console.print(f"  {name}: {cls.title}. Levels {levels}. {cls.source}.{of}", markup=False)
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
        console.print(f"  {first}{variants}: {module.QUESTION}{_origin(extensions.PLANS, first)}", markup=False)
    console.print("\n[bold]Searches[/bold] (ablate tune SEARCH)")
    for name in searches:
        search = catalog.search_module(name)
        of = _origin(extensions.SEARCHES, name)
        console.print(f"  {name}: {search.QUESTION} {search.DEFAULT_TRIALS} trials of each study.{of}", markup=False)
    console.print("\n[bold]Networks[/bold] (--set model.name=NETWORK)")
    for name in networks:
        of = _origin(extensions.NETWORKS, name)
        console.print(f"  {name}{of and '.'}{of}", markup=False)
    console.print("\n[bold]Metrics[/bold] (what claims may be about)")
    console.print(f"  {', '.join(METRICS)}", markup=False)
    for name, metric in measured.items():
        if name not in METRICS:
            of = _origin(extensions.METRICS, name.removeprefix(metrics.INITIAL).removeprefix(metrics.FINAL))
            console.print(f"  {name}: {metric.title}.{of}", markup=False)
    console.print("\n[bold]Profiles[/bold] (--profile PROFILE; parts with --set budget.FIELD=VALUE, model.FIELD=VALUE)")
    for profile in PROFILES.values():
        console.print(f"  {profile.name}: {profile.summary}.", markup=False)
        console.print(
            f"    {profile.seeds} seeds, width × {profile.model.width:g}, {profile.budget}", style="dim", markup=False
        )


def _origin(kind: str, name: str) -> str:
    """Words that say where what is listed comes from; none for the suite's own."""
    origin = catalog.origin(kind, name)
    return f" From {origin}." if origin else ""


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return "any number" if high is None else f"at most {high:g}"
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"


ON, OFF, OTHER = "●", "·", "◆"


BUSY = 0.9
"""The share of the workers' time below which it is said that they have little to do."""


def show_plan(
    invocation: Invocation, done: set[tuple[str, int]], estimate: Estimate, pilots: Mapping[str, Pilot]
) -> None:
    """Print a plan's arms and what is done of them, the time the rest would take, and what it could tell.

    pilots: per claim, how much runs of its arms vary, where the store can say.
    """
    from cifar_ablations.reports.wording import small_budgets

    console = _console()
    plan = invocation.plan
    baseline = plan.arms[0].recipe
    console.print(f"[bold]{plan.question}[/bold]")
    data = invocation.data
    console.print(f"  {invocation.profile.name}: {baseline.budget}; {data.name} ({data.digest})\n")
    if invocation.shard is not None:
        console.print(f"  shard {invocation.shard} of {len(plan.seeds)} seeds\n")
    shown = _of_interest([arm.recipe.techniques for arm in plan.arms])
    width = len(str(len(shown)))
    table = Table("arm", " ".join(f"{i + 1:>{width}}" for i in range(len(shown))), "done", box=None, pad_edge=False)
    table.columns[1].no_wrap = table.columns[2].no_wrap = True
    others = []
    for arm in plan.arms:
        count = sum((arm.recipe.digest(), seed + arm.seed_offset) in done for seed in invocation.seeds)
        techniques = [arm.recipe.techniques[i] for i in shown]
        marks = " ".join(f"{_mark(technique):>{width}}" for technique in techniques)
        table.add_row(arm.name, terminal.writable(marks), f"{count}/{len(invocation.seeds)}")
        others += [f"{t.name}: {t.level}" for t in techniques if _mark(t) == OTHER]
    console.print(table)
    if shown:
        on = [next(t for arm in plan.arms if _mark(t := arm.recipe.techniques[i]) != OFF) for i in shown]
        titles = "  ".join(f"{n} {technique.setting_title}" for n, technique in enumerate(on, 1))
        console.print(f"\n  {titles}", markup=False)
        legend = f"  {ON} on  {OFF} off" + "".join(f"  {OTHER} {other}" for other in dict.fromkeys(others))
        console.print(f"{terminal.writable(legend)}\n")
    missing = len(invocation.missing(done))
    total = len(invocation.members())
    left = (
        f"the other {missing} take about {duration(estimate.seconds)} on {invocation.device} with "
        f"{invocation.workers} worker{'s' * (invocation.workers > 1)}{_idle(estimate)}"
        if missing
        else "nothing is left to train"
    )
    console.print(f"{total} trainings, {total - missing} already done; {left}.")
    record = invocation.record()
    for part in _resolution(record, pilots):
        console.print(part)
    if sentence := small_budgets.of_plan(record):
        console.print(sentence)
    console.print(f"Plan {plan.digest()}; its claims are fixed by this digest.")


def _idle(estimate: Estimate) -> str:
    """Where workers will have little to do, how little, and why."""
    if estimate.by_store:
        return f", which would train {estimate.busy:.0%} of that time: the store takes one training after the other"
    return f", which will train {estimate.busy:.0%} of that time: fewer would do" if estimate.busy < BUSY else ""


NUMBERS_OF_SEEDS = (5, 6, 8, 10, 15)
EFFECTS = (0.5, 1, 1.5, 2, 3, 4)
"""In standard deviations of one arm's runs, where two arms are compared."""


def _resolution(plan: PlanRecord, pilots: Mapping[str, Pilot]) -> Iterator[str | Table]:
    """What a plan's seeds can tell, with the error that the claims of its page share: sentences and a table."""
    from cifar_ablations.ablations.metrics import metric
    from cifar_ablations.reports.inference import decision, verdict
    from cifar_ablations.reports.wording.phrases import count

    if not plan.claims:
        return
    seeds, rule, claims = len(plan.seeds), plan.rule, count(len(plan.claims), "claim")
    if seeds < 2:
        yield "One seed cannot tell an effect from chance: no claim will be decided."
        return
    if rule.looks:
        error = decision.error_of_differences(rule.test, seeds, len(rule.looks))
        yield (
            f"Looks after {', '.join(map(str, rule.looks))} seeds, each with an error of {100 * error:.3g} % for all "
            "differences; training stops when every claim is decided."
        )
    rate = verdict.error_rate(verdict.shape_of(plan))
    if decides := rate <= decision.ALPHA:
        share = f": all {claims} share one error of {100 * decision.ALPHA:g} %" if len(plan.claims) > 1 else ""
        yield f"By simulation, at most {100 * rate:.1f} % of such pages say something false{share}."
        rows = rule.looks or tuple(sorted({seeds, *NUMBERS_OF_SEEDS}))
    else:
        enough = enough_seeds(plan)
        yield (
            f"No verdicts with {seeds} seeds: by simulation, {100 * rate:.1f} % of such pages would say something "
            f"false.{f' They are given from {enough} seeds on.' if enough else ''}"
        )
        rows = tuple(sorted({enough, *(n for n in NUMBERS_OF_SEEDS if n > enough)})) if enough else ()
    if rows:
        yield from _chances(plan, rows, list(pilots.values()))
    if not pilots:
        yield (
            f"No pilot runs in the store to say how large such a deviation is. Differences within "
            f"{100 * rule.margin:g} pp do not matter here."
        )
    if decides and any(metric(claim.metric).share for claim in plan.claims):
        yield _equivalence(plan, list(pilots.values()))


def enough_seeds(plan: PlanRecord) -> int | None:
    """The fewest seeds with which a plan that has too few gets verdicts; None where none of those tried suffices."""
    from cifar_ablations.reports.inference import decision, verdict

    more = [n for n in (3, 4, *NUMBERS_OF_SEEDS) if n > len(plan.seeds) and not plan.rule.looks]
    wider = ((n, replace(plan, seeds=tuple(range(n)))) for n in more)
    return next((n for n, asked in wider if verdict.error_rate(verdict.shape_of(asked)) <= decision.ALPHA), None)


def _chances(plan: PlanRecord, rows: Sequence[int], pilots: Sequence[Pilot]) -> Iterator[str | Table]:
    """A table of how likely an effect is found, by its size and the number of seeds, and what its columns mean."""
    from cifar_ablations.ablations import schema
    from cifar_ablations.reports.inference.power import designs
    from cifar_ablations.reports.wording.phrases import changes, count

    (design, words, _), *others = designs(plan)
    if_half = f", if half of its {len(plan.claims)} claims are true" if len(plan.claims) > 1 else ""
    uncorrelated = "" if plan.rule.test == "welch t" else ", if runs of equal seeds do not correlate"
    yield (
        f"\nAbout how likely, in %, the page finds an effect between {words}, by its size in standard deviations (sd) "
        f"of one arm's runs{if_half}{uncorrelated}:"
    )
    effects = _effects(design)
    happen = {e: [e * p.spread for p in pilots if e * p.spread <= p.possible] for e in effects}
    shown = [e for e in effects if happen[e] or not pilots]
    table = Table("  seeds", box=None)
    for e in shown:
        typical = f"\n{100 * median(happen[e]):.2f} pp" if pilots else ""
        table.add_column(f"{e:g} sd{typical}", justify="right")
    for n in rows:
        this = ", this plan" if n == len(plan.seeds) else ""
        table.add_row(f"  {n}{this}", *(_chance(design.chance(e, n)) for e in shown))
    yield table
    if pilots:
        spreads = [pilot.spread for pilot in pilots]
        here, _ = changes(schema.TEST_ACCURACY, spreads, [inf] * len(spreads), "comparison")
        yield f"Test accuracy, in {count(len(pilots), 'comparison')} in the store: 1 sd is {here}."
    beyond = next((e for e in effects if len(happen[e]) < len(pilots)), None)
    if beyond is not None:
        cannot = f"{len(pilots) - len(happen[beyond])} of {count(len(pilots), 'comparison')}"
        yield f"In {cannot}, test accuracy cannot change by {beyond:g} sd."
    for other, name, n in others:
        factor = sqrt(other.squares / design.squares)
        yield f"For the {count(n, 'claim')} about {name}, an effect must be about {factor:.2g} times as large."


def _effects(design: Design) -> list[float]:
    """Sizes of effects, in standard deviations of one arm's runs: as large, in standard errors, as EFFECTS are between
    two arms."""
    return [float(f"{size * sqrt(design.squares / 2):.2g}") for size in EFFECTS]


def chances(plan: PlanRecord, seeds: int) -> dict[float, float]:
    """How likely the page of a plan with so many seeds finds an effect, by its size as `_effects` has it."""
    from cifar_ablations.reports.inference.power import designs

    design, *_ = designs(plan)[0]
    return {size: design.chance(size, seeds) for size in _effects(design)}


def _chance(probability: float) -> str:
    """A cell in percent, bold from four times out of five on."""
    text = "<1" if probability < 0.005 else ">99" if probability > 0.995 else f"{100 * probability:.0f}"
    return f"[bold]{text}[/bold]" if probability >= 0.8 else text


def _equivalence(plan: PlanRecord, pilots: Sequence[Pilot]) -> str:
    """Whether claims can be found equivalent at all with the plan's seeds."""
    from cifar_ablations.reports.inference.power import designs
    from cifar_ablations.reports.wording.phrases import count

    seeds, (design, _, _) = len(plan.seeds), designs(plan)[0]
    below = design.equivalent_below(seeds)
    able, all_of = sum(pilot.spread < below for pilot in pilots), count(len(pilots), "comparison")
    here = f" ({able or 'none'} of {all_of} in the store)" if pilots else ""
    return (
        f"With {seeds} seeds a claim can be called equivalent (within {100 * plan.rule.margin:g} pp) only where the sd "
        f"is below {100 * below:.2f} pp{here}."
    )


def _of_interest(arms: Sequence[Sequence[Technique]]) -> list[int]:
    """The places of the techniques that some arm has switched on."""
    return [place for place, own in enumerate(zip(*arms, strict=True)) if any(_mark(t) != OFF for t in own)]


def _mark(technique: Technique) -> str:
    return {"on": ON, "off": OFF}.get(technique.level, OTHER)
