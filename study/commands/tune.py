"""What `ablate tune` and `ablate adopt` do, once their arguments are understood."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import torch

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.adopted import SUFFIX, adopted_from
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import write_atomically
from cifar_ablations.ablations.profiles import PROFILES, Profile
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import AdoptionRecord, SearchOutcomeRecord, SearchRecord, Value
from cifar_ablations.study.commands.baseline import adopted_recipe, baseline_recipe, overrides_of, settings_named
from cifar_ablations.study.data.dataset import Dataset, load, option
from cifar_ablations.study.execution.runner import check_recipe, estimated_seconds_of
from cifar_ablations.study.search.invocation import SearchInvocation, studies_of
from cifar_ablations.study.search.optuna_study import check_names
from cifar_ablations.study.store.home import Home

Say = Callable[[str], None]


@dataclass(frozen=True)
class SearchRequest:
    """A search as the command line asks for it."""

    search: str
    profile: Profile
    device: torch.device
    workers: int
    trials: int | None = None
    """Of each study; None for as many as the search says."""
    sampler: str = "tpe"
    pruner: str = "halving"
    seed: int = 0
    seeds_per_trial: int = 1
    pareto: bool = False
    baseline: str | None = None
    """An adopted recipe, by name or file; None for the notebook's."""
    settings: Sequence[str] = ()
    data: str | None = None

    def command(self, trials: int) -> str:
        """The command that asks for the same, with this many trials."""
        words = ["ablate", "tune", self.search, "--profile", self.profile.name, "--trials", str(trials)]
        words += ["--sampler", self.sampler, "--pruner", self.pruner, "--seed", str(self.seed)]
        words += ["--seeds-per-trial", str(self.seeds_per_trial)] if self.seeds_per_trial > 1 else []
        words += ["--pareto"] if self.pareto else []
        words += ["--baseline", self.baseline] if self.baseline else []
        for setting in self.settings:
            words += ["--set", setting]
        return " ".join(words)


def search_invocation(home: Home, request: SearchRequest, say: Say) -> SearchInvocation:
    """What a request comes to, its data loaded. Raises AblateError, in a sentence, for what cannot be."""
    module = catalog.search_module(request.search)
    check_names(request.sampler, request.pruner)
    for name, value in (("--trials", request.trials), ("--seeds-per-trial", request.seeds_per_trial)):
        if value is not None and value < 1:
            raise AblateError(f"{name} must be at least 1, not {value}")
    if request.pruner == "wilcoxon" and request.seeds_per_trial < 3 and not request.pareto:
        raise AblateError("--pruner wilcoxon compares seeds; it needs --seeds-per-trial of at least 3")
    adopted = adopted_recipe(home, request.baseline)
    recipe = baseline_recipe(request.profile, adopted, request.settings, request.device)
    if not recipe.sized.budget.validation_images:
        raise AblateError("budget.validation_images is 0, and a search chooses on validation images; set some aside")
    trials = request.trials or (SMOKE_TRIALS if request.profile == PROFILES["smoke"] else module.DEFAULT_TRIALS)
    loaded = load(request.data, home.data, say=say)
    with settings_named():
        check_recipe(recipe, loaded)
    return SearchInvocation(
        name=request.search, baseline=recipe, profile=request.profile, data=loaded, device=request.device,
        workers=request.workers, trials=trials, sampler=request.sampler, pruner=request.pruner, seed=request.seed,
        seeds_per_trial=request.seeds_per_trial, pareto=request.pareto,
        baseline_name=f"the adopted recipe {adopted.name}" if adopted else "the notebook's recipe",
        baseline_seeds=adopted.seeds if adopted else (),
        overrides=overrides_of(adopted, request.settings), command=request.command(trials),
    )  # fmt: skip


SMOKE_TRIALS = 4
"""Of each study, where all that is asked is whether everything works."""


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
    count = sum(study.trials for study in studies) * invocation.seeds_per_trial
    seconds = estimated_seconds_of(
        [study.recipe for study in studies for _ in range(study.trials)] * invocation.seeds_per_trial,
        invocation.data, invocation.device, invocation.workers,
    )  # fmt: skip
    from cifar_ablations.study.commands.show import clock

    say(
        f"{count} trainings in the first round, at most {clock(seconds)} on {invocation.device} with "
        f"{invocation.workers} worker{'s' * (invocation.workers > 1)}"
        f"{', less what is pruned at epochs ' + ', '.join(map(str, invocation.rungs)) if invocation.rungs else ''}. "
        "Later rounds depend on what the first one finds."
    )


def tune(
    home: Home,
    invocation: SearchInvocation,
    storage: str | None,
    stopped: Callable[[], bool],
    say: Say,
    data: str | None = None,
) -> bool:
    """Carry out a search, say what it found and write its report; returns whether trials failed.

    data: what was asked for, which the next command must ask for too.
    """
    from cifar_ablations.reports.pages.index_page import write_index
    from cifar_ablations.reports.pages.search_page import write_search_reports
    from cifar_ablations.study.commands.show import search_progress_shown
    from cifar_ablations.study.search.optuna_study import storage_at
    from cifar_ablations.study.search.search import carry_out
    from cifar_ablations.study.store.provenance import provenance
    from cifar_ablations.study.store.tracking import open_store

    store = open_store(home)
    ended = store.reconcile()
    if ended:
        say(f"Closed {ended} run{'s' * (ended > 1)} that an earlier call left unfinished.")
    say(
        f"{catalog.search_module(invocation.name).QUESTION}\n"
        f"  search {invocation.name}, profile {invocation.profile.name}: {invocation.trials} trials of each study, "
        f"{invocation.sampler}, {invocation.pruner}\n"
        f"  {invocation.baseline.budget}\n"
        f"  {invocation.data.name} ({invocation.data.digest}) on {invocation.device}, "
        f"{invocation.workers} worker{'s' * (invocation.workers > 1)}"
    )
    began = time.perf_counter()
    facts = provenance(invocation.device, invocation.workers)
    with search_progress_shown() as show:
        outcome, done = carry_out(invocation, storage_at(storage, home.journal), store, facts, show, stopped)
    from cifar_ablations.study.commands.show import clock

    if done.trials_done:
        say(
            f"{done.trials_done} trials in {clock(time.perf_counter() - began)}: {done.pruned} pruned, {done.diverged} "
            f"diverged, {len(done.failed)} failed."
        )
    else:
        say("Nothing left to try: every trial is already done.")
    for line in _in_words(outcome):
        say(line)
    for sentence in done.stalled:
        say(f"Stalled: {sentence}.")
    for name, why in done.failed.items():
        say(f"Failed: {name}: {why.strip().splitlines()[-1]}")
    for page in write_search_reports(store.uri, home.reports, search=invocation.name, digest=outcome.search_digest):
        say(f"Report: {home.shown(page)}")
    write_index(store.uri, home.reports)
    say(f"Take it up: ablate adopt {invocation.name}{option(data)}")
    return bool(done.failed)


def _in_words(outcome: SearchOutcomeRecord) -> list[str]:
    """The best trial of each study, and which knobs of the baseline the best of all changes."""
    lines = []
    for study in outcome.studies:
        if study.best is None:
            lines.append(f"  {study.name}: no trial came to an end")
            continue
        sampled = ", ".join(f"{name} {_short(value)}" for name, value in study.best.sampled.items())
        edge = f"; best at the edge of {', '.join(study.edge)}" if study.edge else ""
        lines.append(f"  {study.name}: {100 * study.best.value:.2f} % on validation images with {sampled}{edge}")
    if winner := outcome.winner:
        changes = ", ".join(f"{name} {_short(now)}" for name, _, now in winner.changes) or "nothing"
        lines.append(f"Best: trial {winner.trial} of {winner.study}; it changes {changes}.")
    return lines


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


def _short(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
