"""Carries out `ablate tune --dry-run` and `ablate adopt`, given their parsed arguments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.adopted import SUFFIX, Adopted, adopted_from, is_as_marked, marked, read
from cifar_ablations.ablations.durations import duration
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import read_named, write_atomically
from cifar_ablations.ablations.naming import shown
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import AdoptionRecord, SearchOutcomeRecord, SearchRecord, Value
from cifar_ablations.ablations.search import Best, Study
from cifar_ablations.study.commands.baseline import adopted_recipe
from cifar_ablations.study.data.dataset import Dataset, load
from cifar_ablations.study.data.typed import option, program
from cifar_ablations.study.execution.sizing import estimated_seconds
from cifar_ablations.study.search.invocation import SearchInvocation, studies_of
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.training.fleet import Member

Say = Callable[[str], None]
MOST_NAME = 100
"""Bytes of a recipe's name: with what is put behind it, file systems take 255."""


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
    foreseen = _foreseen(invocation)
    recipes = [study.recipe for study in foreseen for _ in range(study.trials)] * invocation.seeds_per_trial
    seconds = estimated_seconds(invocation, [Member(recipe, seed) for seed, recipe in enumerate(recipes)])
    say(
        f"{len(recipes)} trainings, at most {duration(seconds)} on {invocation.device} with "
        f"{invocation.workers} worker{'s' * (invocation.workers > 1)}"
        f"{', less what is pruned at epochs ' + ', '.join(map(str, invocation.rungs)) if invocation.rungs else ''}. "
        "Where the best is found at the edge of a range, there may be more."
    )


def _foreseen(invocation: SearchInvocation) -> list[Study]:
    """The studies of all rounds, with their trials, where the best of each lies in the middle of its ranges."""
    rounds = catalog.search_module(invocation.name).search(invocation.baseline, invocation.trials)
    asked: dict[str, Study] = {}
    studies = next(rounds)
    while True:
        asked |= {study.name: study for study in studies}
        bests: list[Best | None] = []
        for study in studies:
            values = study.middle()
            bests.append(Best(study, 0, 0.5, values, (values,) * study.trials))
        try:
            studies = rounds.send(bests)
        except StopIteration:
            return list(asked.values())


def adopt(home: Home, search: str, name: str, data: str | None, say: Say, *, replace_file: bool = False) -> Dataset:
    """Write a search's best recipe as a file, and return the data.

    A file of that name is written anew only where this very search wrote it and nobody has edited it since; with
    `replace_file` any is, and what was there is kept beside it. Raises AblateError where there is another one, where
    the search has not ended, and where it has no best recipe.
    """
    from cifar_ablations.study.store.search_log import SearchLog
    from cifar_ablations.study.store.tracking import open_store

    if plan := catalog.plan_of_search(search):
        raise AblateError(f"the search {search!r} finds no recipe; `ablate run {plan} --retune` takes what it found")
    if not name.replace("-", "").replace("_", "").isalnum() or len(name.encode()) > MOST_NAME:
        raise AblateError(
            f"--as {shown(name)}: a recipe's name is of letters, digits, - and _, and of at most {MOST_NAME} bytes"
        )
    loaded = load(data, home.data, say=say)
    log = SearchLog(open_store(home, say))
    ended = log.newest_ended(search, loaded)
    if ended is None:
        raise AblateError(
            f"no search {search!r} has ended on {loaded.name} yet; run `ablate tune {search}`, or give the data that "
            "it had with --data"
        )
    asked = ended.asked
    trials = [run for run in log.trials(asked.digest) if not run.is_deleted]
    diverged = {(run.about.study, run.about.trial) for run in trials if run.about.outcome == schema.DIVERGED}
    outcome = _without(ended.outcome, diverged)
    if reason := nothing_to_adopt(outcome):
        raise AblateError(f"nothing is adopted of the search {search!r}: {reason}")
    winner = outcome.winner
    if ended.outcome.winner and not winner:  # as versions before this one chose it
        raise AblateError(
            f"nothing is adopted of the search {search!r}: its best trial diverged. `{asked.command or 'ablate tune'}` "
            "trains nothing anew and finds the best of the others"
        )
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
    recipe = from_knobs(winner.knobs if winner else asked.baseline.knobs)
    adopted = adopted_from(name, recipe, outcome.retuned, provenance)
    path = home.recipes / f"{name}{SUFFIX}"
    if reason := _keeps(path, adopted):
        if not replace_file:
            raise AblateError(
                f"{home.shown(path)} {reason}, and is left as it is. Give another name with --as, or --replace to have "
                "it written anew"
            )
        kept = path.with_name(f"{path.name}.old")
        write_atomically(kept, path.read_bytes())
        say(f"The recipe that was there {reason}; kept as {home.shown(kept)}")
    write_atomically(path, marked(adopted.as_toml()).encode())
    say(f"Recipe: {home.shown(path)}")
    say(f"Next: {program()} run tuned --profile {asked.profile.name} --baseline {name}{option(data)}")
    return loaded


def nothing_to_adopt(outcome: SearchOutcomeRecord) -> str:
    """Why a search has no best recipe, in a sentence without its end; "" where it has one."""
    if not outcome.studies or any(study.best for study in outcome.studies):
        return ""
    count = sum(study.diverged for study in outcome.studies)
    if not count:
        return "no trial came to an end"
    return (
        f"{f'all {count} trials' if count > 1 else 'the one trial'} that came to an end diverged; try lower learning "
        "rates, or leave out a --set that raises them"
    )


def _without(outcome: SearchOutcomeRecord, diverged: Collection[tuple[str, int]]) -> SearchOutcomeRecord:
    """An outcome in which no trial that diverged is best; diverged: by study and number."""
    wrong = [study.name for study in outcome.studies if study.best and (study.name, study.best.trial) in diverged]
    counts = Counter(study for study, _ in diverged)
    winner = outcome.winner
    return replace(
        outcome,
        studies=tuple(
            replace(study, best=None if study.name in wrong else study.best, diverged=counts[study.name])
            for study in outcome.studies
        ),
        winner=None if winner and (winner.study, winner.trial) in diverged else winner,
        retuned={study: values for study, values in outcome.retuned.items() if study not in wrong},
    )


def _keeps(path: Path, new: Adopted) -> str:
    """Why a recipe's file must not be written anew, as half a sentence; "" where it may be."""
    try:
        text = read_named(path).decode()
        known = read(path)
    except FileNotFoundError:
        return ""
    except ValueError:
        return "is no recipe that `ablate adopt` has written"
    before, now = known.record.provenance, new.record.provenance
    if not before.search:
        return "was written by hand"
    same = (known.record.techniques, known.record.retuned, before.search_digest)
    if is_as_marked(text) is None and same == (new.record.techniques, new.record.retuned, now.search_digest):
        return ""  # of a version that did not mark what it wrote
    if not is_as_marked(text):
        return f"{'may have' if is_as_marked(text) is None else 'has'} been edited since it was adopted"
    if before.search_digest != now.search_digest:
        of = f"the search {before.search!r}" if before.search != now.search else "that search as invoked otherwise"
        return f"is the recipe of {of} (`{before.command}`)"
    return ""


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


def from_knobs(knobs: Mapping[str, Value]) -> Recipe:
    """The techniques of a recipe whose knobs were logged, on any network and budget."""
    recipe = catalog.notebook_recipe()
    for name, cls in catalog.techniques().items():
        own = {knob: knobs[f"{name}.{knob}"] for knob in cls.knobs() if f"{name}.{knob}" in knobs}
        recipe = recipe.with_technique(cls(**own))
    return recipe
