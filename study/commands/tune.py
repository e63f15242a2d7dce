"""Carries out `ablate tune --dry-run` and `ablate adopt`, given their parsed arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.adopted import SUFFIX, adopted_from
from cifar_ablations.ablations.durations import duration
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import write_atomically
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import AdoptionRecord, SearchRecord, Value
from cifar_ablations.study.commands.baseline import adopted_recipe
from cifar_ablations.study.data.dataset import Dataset, load, option
from cifar_ablations.study.execution.sizing import estimated_seconds
from cifar_ablations.study.search.invocation import SearchInvocation, studies_of
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.training.fleet import Member

Say = Callable[[str], None]


def dry(invocation: SearchInvocation, say: Say) -> None:
    """Say what a search would train, and for how long, without training it."""
    studies = studies_of(invocation)
    say(f"{catalog.search_module(invocation.name).QUESTION}")
    say(f"  {invocation.profile.name}: {invocation.baseline.budget}; {invocation.data.name}")
    for study in studies:
        ranges = ", ".join(
            f"{p.name} {' or '.join(map(str, p.choices))}"
            if p.choices
            else f"{p.name} {p.low:.3g} to {p.high:.3g}{' (log)' * p.log}"
            for p in study.parameters
        )
        say(f"  {study.name}: {study.trials} trials; {ranges}")
    recipes = [study.recipe for study in studies for _ in range(study.trials)] * invocation.seeds_per_trial
    seconds = estimated_seconds(invocation, [Member(recipe, seed) for seed, recipe in enumerate(recipes)])
    say(
        f"{len(recipes)} trainings in the first round, at most {duration(seconds)} on {invocation.device} with "
        f"{invocation.workers} worker{'s' * (invocation.workers > 1)}"
        f"{', less what is pruned at epochs ' + ', '.join(map(str, invocation.rungs)) if invocation.rungs else ''}. "
        "Later rounds depend on what the first one finds."
    )


def adopt(home: Home, search: str, name: str, data: str | None, say: Say) -> Dataset:
    """Write a search's best recipe as a file, and return the data. Raises AblateError where it has not ended."""
    from cifar_ablations.study.store.search_log import SearchLog
    from cifar_ablations.study.store.tracking import open_store

    catalog.search_module(search)
    if not name.replace("-", "").replace("_", "").isalnum():
        raise AblateError(f"--as {name!r}: a recipe's name is of letters, digits, - and _")
    loaded = load(data, home.data, say=say)
    ended = SearchLog(open_store(home)).newest_ended(search, loaded)
    if ended is None:
        raise AblateError(
            f"no search {search!r} has ended on {loaded.name} yet; run `ablate tune {search}`, or give the data that "
            "it had with --data"
        )
    asked, winner = ended.asked, ended.outcome.winner
    earlier = [seed for seed in _baseline_seeds(home, asked) if seed not in asked.seeds]
    provenance = AdoptionRecord(
        search=search,
        search_digest=asked.digest,
        mlflow_run=ended.run_id,
        commit=ended.commit,
        profile=asked.profile.name,
        budget=asked.budget,
        data=asked.data.name,
        data_digest=asked.data.digest,
        seeds=(*earlier, *asked.seeds),
        adopted=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        command=asked.command,
        study=winner.study if winner else None,
        trial=winner.trial if winner else None,
        validation_accuracy=winner.value if winner else None,
    )
    recipe = _from_knobs(winner.knobs if winner else asked.baseline.knobs)
    adopted = adopted_from(name, recipe, ended.outcome.retuned, provenance)
    path = home.recipes / f"{name}{SUFFIX}"
    write_atomically(path, adopted.as_toml().encode())
    say(f"Recipe: {home.shown(path)}")
    say(f"Put it to the test: ablate run tuned --profile {asked.profile.name} --baseline {name}{option(data)}")
    return loaded


def _baseline_seeds(home: Home, asked: SearchRecord) -> Sequence[int]:
    """The seeds that chose the recipe which the search started from, where it was an adopted one."""
    if asked.baseline_seeds is not None:
        return asked.baseline_seeds
    for override in asked.overrides:  # a record of 0.1.0 has no more than the recipe's name
        if override.startswith("baseline="):
            try:
                behind = adopted_recipe(home, override.removeprefix("baseline=").split(" (")[0])
            except AblateError:
                return ()
            return behind.seeds if behind else ()
    return ()


def _from_knobs(knobs: Mapping[str, Value]) -> Recipe:
    """The techniques of a recipe whose knobs were logged, on any network and budget."""
    recipe = catalog.notebook_recipe()
    for name, cls in catalog.techniques().items():
        own = {knob: knobs[f"{name}.{knob}"] for knob in cls.knobs() if f"{name}.{knob}" in knobs}
        recipe = recipe.with_technique(cls(**own))
    return recipe
