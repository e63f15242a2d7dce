"""The suite from Python. What it does is in the store as if a command had done it: the same numbers, bit for bit, gone
on with by the same call, and shown by `ablate report` and `ablate ui`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cifar_ablations.ablations import catalog, extensions, profiles, schema
from cifar_ablations.ablations.budget import Budget, Network
from cifar_ablations.ablations.comparison import NAME, comparison
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.metrics import known as known_metrics
from cifar_ablations.ablations.naming import check_range, shown
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import RuleRecord
from cifar_ablations.reports.pages.result import Result, SearchResult, trials_in
from cifar_ablations.reports.pages.result import load as load_from
from cifar_ablations.study.commands import arguments, execute
from cifar_ablations.study.commands.tune import from_knobs
from cifar_ablations.study.data.typed import typed_source
from cifar_ablations.study.execution.backends import AUTO, with_precision
from cifar_ablations.study.execution.fleets import Progress
from cifar_ablations.study.execution.runner import Invocation
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.weights import check_choice
from cifar_ablations.study.training import model

Say = Callable[[str], None]


OWN = "custom"
"""What a plan's profile is called where every recipe has its own network and budget."""


def use_extension(folder: str | Path) -> None:
    """Make the techniques, plans, searches, metrics and networks of a folder known, beside the suite's own.

    Here and in the processes that train, from now on: `notebook_recipe()` then has its techniques, at `off`. It is what
    `--extensions` is to a command. Raises AblateError, and leaves all as it was, for a folder that cannot be used.
    """
    before = extensions.named()
    extensions.name(*before, folder)
    try:
        catalog.techniques(), catalog.plan_names(), catalog.search_names(), known_metrics(), model.networks()
    except AblateError:
        extensions.name(*before)
        raise


def compare(
    arms: Mapping[str, Recipe],
    *,
    seeds: int | Sequence[int] = 5,
    profile: str | None = "quick",
    metrics: Sequence[str] = (schema.TEST_ACCURACY,),
    name: str = NAME,
    question: str = "",
    margin: float | None = None,
    data: str | Path | None = None,
    image_size: int | None = None,
    device: str | None = None,
    workers: int | None = None,
    backend: str = AUTO,
    keep_weights: str = schema.KEEP_NONE,
    folder: str | Path | None = None,
    quiet: bool = False,
) -> Result:
    """Train recipes over the same seeds, each against the first, and return what that found.

    arms: by the names that tables and figures show. seeds: a number, counted from 0, or the seeds themselves.
    profile: whose network and budget all arms get; None leaves each recipe its own. metrics: what is claimed about,
    such as "test/accuracy". name: that of the plan in the store, and of its page. margin: the smallest difference that
    would matter, as a fraction (default: the profile's). data, image_size, device, workers, backend, keep_weights: as
    the options of `ablate run`. folder: the output folder (default: ABLATE_HOME, or out). quiet: whether nothing is
    printed.

    Trainings that the store has already are not done again. Raises AblateError for what cannot be, and where trainings
    failed; KeyboardInterrupt leaves all that has ended, and the same call goes on.
    """
    say = _say(quiet)
    if profile is not None:
        size = profiles.profile(profile)
        for arm, recipe in arms.items():
            if recipe.model not in (Network(), size.model) or recipe.budget not in (Budget(), size.budget):
                raise AblateError(
                    f"arm {arm!r} has a network or a budget of its own, which profile={profile!r} would replace; "
                    "pass profile=None to keep it"
                )
        arms = {arm: size.apply(recipe) for arm, recipe in arms.items()}
    request = arguments.Request(
        profile=profile, data=_source(data, image_size), device=device, workers=workers, backend=backend
    )
    place, size, _ = request.place()
    if profile is None:
        size = replace(size, name=OWN, summary="every recipe at its own network and budget")
    arms = {arm: with_precision(recipe, place, backend) for arm, recipe in arms.items()}
    rule = RuleRecord(margin=size.margin if margin is None else margin, test="welch t", correction="weighted holm")
    plan = comparison(arms, _seeds(seeds), rule, metrics=tuple(metrics), name=name, question=question)
    plan = catalog.without_unused(plan)
    check_choice(keep_weights)
    home = Home(None if folder is None else Path(folder))
    with home.locked(f"comparing {len(arms)} arms", say):
        invocation = arguments.invocation_of(home, request, plan, say, profile=size, keep_weights=keep_weights)
        return _carried_out(home, invocation, say, quiet)


def run(
    plan: str = "techniques",
    *,
    seeds: int | str | None = None,
    first_seed: int = 0,
    profile: str | None = None,
    baseline: str | None = None,
    settings: Sequence[str] = (),
    data: str | Path | None = None,
    image_size: int | None = None,
    device: str | None = None,
    workers: int | None = None,
    backend: str = AUTO,
    keep_weights: str = schema.KEEP_NONE,
    folder: str | Path | None = None,
    quiet: bool = False,
) -> Result:
    """Carry out a plan as `ablate run` does, and return what it found.

    plan: a name that `ablate list` shows. seeds: how many, "adaptive" or "open". settings: changes of the baseline, as
    `dropout.p=0.3`. The others, and what is raised, as of `compare`; the default profile is full with a GPU, else
    quick.
    """
    say = _say(quiet)
    request = arguments.PlanRequest(
        plan,
        None if seeds is None else str(seeds),
        first_seed,
        keep_weights=keep_weights,
        profile=profile,
        baseline=baseline,
        settings=tuple(settings),
        data=_source(data, image_size),
        device=device,
        workers=workers,
        backend=backend,
    )
    home = Home(None if folder is None else Path(folder))
    with home.locked(f"running plan {plan}", say):
        return _carried_out(home, arguments.plan_invocation(home, request, say), say, quiet)


def tune(
    search: str,
    *,
    trials: int | None = None,
    profile: str | None = None,
    baseline: str | None = None,
    settings: Sequence[str] = (),
    sampler: str = "tpe",
    pruner: str = "halving",
    seed: int = 0,
    storage: str | None = None,
    data: str | Path | None = None,
    image_size: int | None = None,
    device: str | None = None,
    workers: int | None = None,
    backend: str = AUTO,
    folder: str | Path | None = None,
    quiet: bool = False,
) -> SearchResult:
    """Carry out a search as `ablate tune` does, and return what it found.

    search: a name that `ablate list` shows. trials: of each study. sampler, pruner, seed, storage: as the options of
    `ablate tune`. The others, and what is raised, as of `run`.
    """
    say = _say(quiet)
    request = arguments.SearchRequest(
        search,
        trials,
        sampler,
        pruner,
        seed,
        profile=profile,
        baseline=baseline,
        settings=tuple(settings),
        data=_source(data, image_size),
        device=device,
        workers=workers,
        backend=backend,
    )
    home = Home(None if folder is None else Path(folder))
    with home.locked(f"searching {search}", say):
        invocation = arguments.search_invocation(home, request, say)
        progress, outcome, pages = execute.carry_out_search(home, invocation, storage, say, quiet=quiet)
        _raise_failed(progress)
        winner = outcome.winner
        return SearchResult(
            search,
            from_knobs(winner.knobs) if winner else None,
            {knob: after for knob, _, after in winner.changes} if winner else {},
            trials_in(home.tracking_uri, outcome.search_digest),
            pages[0],
        )


def load(where: str | Path | None = None, plan: str | None = None) -> Result:
    """What the newest invocation of a plan found, or that of the only plan there is; nothing is trained or written.

    where: an output folder (default: ABLATE_HOME, or out) or an address of an MLflow store. Raises AblateError where
    there is no such store or plan, and where several plans are there and none is named.
    """
    if isinstance(where, str) and "://" in where:
        return load_from(where, plan)
    return load_from(Home(None if where is None else Path(where)).tracking_uri, plan)


def _carried_out(home: Home, invocation: Invocation, say: Say, quiet: bool) -> Result:
    progress, results, _ = execute.carry_out_plan(home, invocation, say, quiet=quiet)
    _raise_failed(progress)
    return Result(results[0], home.tracking_uri)


def _raise_failed(progress: Progress) -> None:
    if progress.failed:
        name, why = next(iter(progress.failed.items()))
        raise AblateError(
            f"{len(progress.failed)} {progress.unit} failed, the first of them {name}: {why.strip().splitlines()[-1]}. "
            "What has ended is kept; the same call tries the others again"
        )


def _source(data: str | Path | None, image_size: int | None) -> str | None:
    """The data as a command takes them: named, or by ABLATE_DATA."""
    return typed_source(str(data) if data is not None else os.environ.get("ABLATE_DATA") or None, image_size)


def _say(quiet: bool) -> Say:
    return (lambda text: None) if quiet else print


def _seeds(asked: int | Sequence[int]) -> tuple[int, ...]:
    if isinstance(asked, int):
        check_range("the number of seeds", asked, 1, arguments.MOST_SEEDS)
        return tuple(range(asked))
    seeds = tuple(asked)
    if not seeds or any(not isinstance(seed, int) or seed < 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise AblateError(f"seeds must be a number, or different whole numbers from 0, not {shown(asked)}")
    return seeds
