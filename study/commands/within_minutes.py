"""What `--minutes` does: turns a time into a number of seeds, says what that buys, and keeps to what was begun."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.budget import Budget
from cifar_ablations.ablations.durations import duration
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import write_atomically
from cifar_ablations.ablations.profiles import Profile
from cifar_ablations.ablations.record import PlanRecord, from_json, to_json
from cifar_ablations.reports.inference import decision, power, verdict
from cifar_ablations.reports.wording.phrases import count
from cifar_ablations.study.commands.arguments import PlanRequest, plan_invocation
from cifar_ablations.study.execution import minutes
from cifar_ablations.study.execution.runner import Invocation
from cifar_ablations.study.execution.sizing import estimated_seconds
from cifar_ablations.study.store.home import Home

Say = Callable[[str], None]

EFFECT = 2.0
"""One worth finding, in standard deviations of one arm's runs, where two arms are compared."""

TIMED_SEEDS = 10
"""The plan whose steps are timed has so many: enough for fleets of the size that those of the chosen plan will have."""


@dataclass(frozen=True)
class Begun:
    """A choice that is kept to: the number of seeds, and the settings that make the budget smaller."""

    seeds: int
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class AllBegun:
    """What was chosen in an output folder, by what was asked for."""

    choices: Mapping[str, Begun] = field(default_factory=dict)


def plan_within(home: Home, request: PlanRequest, say: Say, *, training: bool) -> tuple[Invocation, float | None]:
    """What to train within the minutes of a request, its data loaded, and about how many seconds all of it takes.

    training: whether it is trained now. Then it is begun: the same request in the same output folder gets the same
    answer from now on, without seconds, as nothing is timed. Raises AblateError, in a sentence, for what cannot be.
    """
    asked = request.minutes
    if request.shard is not None:
        raise AblateError("--shard shares out the seeds that a plan has, and --minutes chooses them; give --seeds")
    assert asked is not None
    if not 0 < asked < math.inf:
        raise AblateError(f"--minutes must be positive, not {asked:g}")
    if request.seeds is not None:
        raise AblateError(f"--minutes chooses the number of seeds, so --seeds {request.seeds} cannot be asked for too")
    if training and request.lock is not None:
        raise AblateError("--minutes chooses the number of seeds, and --lock has fixed it: leave --minutes out")
    plain = replace(request, minutes=None, seeds=str(TIMED_SEEDS))
    sample = plan_invocation(home, plain, say)

    def invocation_of(choice: Begun) -> Invocation:
        settings = (*request.settings, *choice.settings)
        asked_for = replace(plain, seeds=str(choice.seeds), settings=settings)
        return plan_invocation(home, asked_for, lambda text: None, sample.data)  # what it says was said for the sample

    file, key = home.folder / "minutes.json", _key(asked, request, sample)
    known = _read(file)
    choice, seconds, ends_early = known.get(key), None, False
    if choice is None:
        choice, seconds, ends_early = _chosen(asked, request, sample, invocation_of)
    invocation = invocation_of(choice)
    begun = "as chosen when it was begun (--seeds asks for others)"
    about = begun if seconds is None else f"about {duration(seconds)}"
    early = " More seeds would find hardly more, so it ends before the time is over." if ends_early else ""
    say(f"{asked:g} minute{'s' * (asked != 1)}: {_size(invocation)}, {about}. {_power(invocation.record())}{early}")
    if choice.settings:
        say(f"  {_trained_less(choice, _whole_budget(request, sample.profile))}")
    if training:
        write_atomically(file, json.dumps(to_json(AllBegun({**known, key: choice})), indent=1).encode())
    say(f"  the same by number: {invocation.command}{request.where()}")
    return invocation, seconds


def _chosen(
    asked: float, request: PlanRequest, sample: Invocation, invocation_of: Callable[[Begun], Invocation]
) -> tuple[Begun, float, bool]:
    """The choice, about how many seconds it takes, and whether there is time for more seeds that would find no more.

    sample: the plan with TIMED_SEEDS seeds. A part of the budget that the request sets stays as it is set.
    """
    first, plan = _whole_budget(request, sample.profile), sample.record()
    named = {setting.partition("=")[0].removeprefix("budget.") for setting in request.settings}

    def settings(budget: Budget) -> tuple[str, ...]:
        changed = ((name, value) for name, value in vars(budget).items() if value != getattr(first, name))
        return tuple(f"budget.{name}={value}" for name, value in changed)

    def seconds(budget: Budget) -> float:
        timed = sample if budget == first else invocation_of(Begun(TIMED_SEEDS, settings(budget)))
        return estimated_seconds(timed, list(timed.members())) / TIMED_SEEDS

    sizes = minutes.budgets(first, named)
    choice = minutes.choose(60 * asked, sizes, seconds, lambda n: _chance(plan, n), lambda n: _decides(plan, n))
    per_seed = (choice.seconds - minutes.START_AND_REPORT_SECONDS) / choice.seeds
    ends_early = choice.budget == first and choice.seconds + per_seed <= 60 * asked
    return Begun(choice.seeds, settings(choice.budget)), choice.seconds, ends_early


def _whole_budget(request: PlanRequest, profile: Profile) -> Budget:
    """The budget of a training where the time suffices: the profile's, with what the request sets of it."""
    recipe = profile.apply(catalog.notebook_recipe())
    for setting in request.settings:
        recipe = recipe.set(setting) if setting.startswith("budget.") else recipe
    return recipe.budget


def _trained_less(choice: Begun, whole: Budget) -> str:
    """By how much every training is smaller than the whole budget, and what that means."""
    parts = [setting.removeprefix("budget.").split("=") for setting in choice.settings]
    now = " and ".join(f"{int(n):,} {name.replace('_', ' ')} in place of {getattr(whole, name):,}" for name, n in parts)
    return (
        f"Trained less: {count(choice.seeds, 'seed')}, the fewest that say anything, do not fit with the whole budget, "
        f"so it is {now}. The effects are those in networks that have learned less: what speeds learning up looks "
        "better there than after a whole training, and what regularises looks worse."
    )


def _size(invocation: Invocation) -> str:
    budget, seeds = invocation.plan.arms[0].recipe.budget, count(len(invocation.plan.seeds), "seed")
    images, epochs = f"{budget.train_images:,} images", count(budget.epochs, "epoch")
    return f"{count(len(invocation.plan.arms), 'arm')} × {seeds} of {images} × {epochs}"


def _power(plan: PlanRecord) -> str:
    """How likely the page finds an effect, in the words of `ablate plan`, or why it gives no verdicts."""
    if not plan.claims:
        return "Nothing is claimed, so there are no verdicts: more seeds make its intervals narrower."
    seeds = len(plan.seeds)
    if not _decides(plan, seeds):
        return f"With {count(seeds, 'seed')} there are intervals, and no verdicts."
    design, words, _ = power.designs(plan)[0]
    if_half = f", if half of its {len(plan.claims)} claims are true" if len(plan.claims) > 1 else ""
    return (
        f"The page finds an effect of {_effect(design):.2g} standard deviations (sd) of one arm's runs between {words} "
        f"with about {100 * min(_chance(plan, seeds), 0.99):.0f} % probability{if_half}."
    )


def _effect(design: power.Design) -> float:
    """As large, in standard errors, as EFFECT between two arms."""
    return EFFECT * math.sqrt(design.squares / 2)


def _chance(plan: PlanRecord, seeds: int) -> float:
    """The probability that EFFECT is found with so many seeds; 0 for a plan that claims nothing."""
    if not plan.claims:
        return 0.0
    design, _, _ = power.designs(plan)[0]
    return design.chance(_effect(design), seeds)


def _decides(plan: PlanRecord, seeds: int) -> bool:
    """Whether a page of so many seeds gives verdicts, or, where nothing is claimed, could say how runs vary."""
    if not plan.claims:
        return seeds > 1
    wider = replace(plan, seeds=tuple(range(seeds)))
    return verdict.error_rate(verdict.shape_of(wider)) <= decision.ALPHA


def _key(asked: float, request: PlanRequest, sample: Invocation) -> str:
    """All of a request that the choice depends on, and by which it is found again."""
    changes = "".join(f", {change}" for change in sample.overrides)
    first = f", first seed {request.first_seed}" if request.first_seed else ""
    where = (
        f"{sample.data.name} ({sample.data.digest}) on {sample.device} by {sample.backend}, {sample.workers} workers"
    )
    return f"{asked:g} minutes of {request.plan}, profile {sample.profile.name}{first}{changes}, {where}"


def _read(file: Path) -> dict[str, Begun]:
    """What was begun. Raises RecordError for a file that was damaged."""
    return dict(from_json(AllBegun, file.read_bytes(), file.name).choices) if file.exists() else {}
