"""What a search is asked to do: its size, data, place, samplers and rungs, and how that is logged."""

from __future__ import annotations

from dataclasses import dataclass

from cifar_ablations.ablations import catalog, extensions
from cifar_ablations.ablations.recipe import Recipe, digest_of
from cifar_ablations.ablations.record import BaselineRecord, SearchRecord
from cifar_ablations.ablations.search import Study
from cifar_ablations.study.execution.invocation import Surroundings
from cifar_ablations.study.search.optuna_study import REDUCTION_FACTOR, Settings

FIRST_TUNING_SEED = 100_000
"""Seeds that choose are never seeds that confirm; plans count from 0."""

AT_ONCE = {"cpu": 8, "cuda": 32}
"""Trials of a batch, by kind of device: all are sampled before the first of them is reported. The number of workers has
no say in it, so that a search samples the same trials with any number of them."""

LEAST_AT_ONCE = 2
"""Trials of each study in a batch, however many studies there are."""


@dataclass(frozen=True, kw_only=True)
class SearchInvocation(Surroundings):
    """A search with all that surrounds it."""

    name: str
    baseline: Recipe
    trials: int
    sampler: str = "tpe"
    pruner: str = "halving"
    seed: int = 0
    seeds_per_trial: int = 1
    pareto: bool = False
    baseline_name: str = "the notebook's recipe"
    baseline_seeds: tuple[int, ...] = ()
    """The seeds that chose the baseline, where it was an adopted recipe."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that every trial is trained with."""
        return tuple(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + self.seeds_per_trial))

    @property
    def epochs(self) -> int:
        """How long a trial is trained that is not pruned."""
        return self.baseline.sized.budget.epochs

    @property
    def settings(self) -> Settings:
        """How each of its studies is carried out."""
        return Settings(self.sampler, self.pruner, self.seed, self.rungs, self.epochs, self.pareto)

    @property
    def rungs(self) -> tuple[int, ...]:
        """Where the pruner is asked: after a quarter and half of the epochs; for `wilcoxon`, after each seed but the
        last."""
        if self.pruner == "none" or self.pareto:
            return ()
        if self.pruner == "wilcoxon":
            return tuple(range(1, self.seeds_per_trial))
        rungs, rung = [], max(1, -(-self.epochs // 4))
        while rung < self.epochs:
            rungs.append(rung)
            rung *= REDUCTION_FACTOR
        return tuple(rungs)

    def stages(self) -> list[tuple[tuple[int, ...], int]]:
        """What is trained between two askings of the pruner: up to which seeds, and to which epoch."""
        if self.pruner == "wilcoxon" and not self.pareto:
            return [(self.seeds[: count + 1], self.epochs) for count in range(self.seeds_per_trial)]
        return [(self.seeds, epoch) for epoch in (*self.rungs, self.epochs)]

    def digest(self, trials: int | None = None) -> str:
        """Of what decides the trials, and not how things are called, where they lie, or how many are asked for.

        trials: how many versions before this one were asked for, which then were part of it.
        """
        fixed = {
            "name": self.name,
            "epochs": self.epochs,
            "seeds": self.seeds,
            "seed": self.seed,
            "sampler": self.sampler,
            "pruner": self.pruner,
            "rungs": self.rungs,
            "pareto": self.pareto,
            "at_once": AT_ONCE[self.device.type],
            "data": self.data.digest,
            "recipe": self.baseline.digest(),
        }
        if code := self._code():
            fixed["extension"] = code
        return digest_of(fixed if trials is None else fixed | {"trials": trials})

    def _code(self) -> str:
        """The extensions, with their versions, that define the search, its baseline, or knobs that it samples."""
        if not extensions.known():
            return extensions.code_of(self.baseline)
        begins = studies_of(self)
        knobs = [parameter.name for study in begins for parameter in study.parameters if "." in parameter.name]
        touched = {knob.partition(".")[0] for knob in knobs}
        used = {one.code for name, one in extensions.of_kind(extensions.TECHNIQUES).items() if name in touched}
        if own := extensions.of_kind(extensions.SEARCHES).get(self.name.replace("-", "_")):
            used.add(own.code)
        for recipe in (self.baseline, *(study.recipe for study in begins)):
            used |= set(extensions.parts(extensions.code_of(recipe)))
        return extensions.BETWEEN.join(sorted(used))

    def record(self, digest: str | None = None) -> SearchRecord:
        """What is logged before the first trial; digest: where it goes on under that of an earlier version."""
        rungs, at_once = self.rungs, AT_ONCE[self.device.type]
        return SearchRecord(
            name=self.name,
            question=catalog.search_module(self.name).QUESTION,
            profile=self.profile.record(),
            data=self.data_record(),
            model=str(self.baseline.model),
            budget=str(self.baseline.budget),
            titles=self.baseline.titles(),
            reasons=self.baseline.reasons(),
            overrides=self.overrides,
            epochs=self.epochs,
            baseline=BaselineRecord(self.baseline_name, self.baseline.digest(), self.baseline.knobs()),
            seeds=self.seeds,
            seed=self.seed,
            sampler=self.sampler,
            pruner=self.pruner,
            rungs=rungs,
            trials=self.trials,
            pareto=self.pareto,
            at_once=at_once,
            chance=1 / len(self.data.classes),
            digest=digest or self.digest(),
            command=self.command,
            baseline_seeds=self.baseline_seeds,
        )


def recipes_of(invocation: SearchInvocation) -> list[Recipe]:
    """The baseline, and for each choice that a search begins with a recipe that has it: every network of its trials."""
    recipes = [invocation.baseline]
    for study in studies_of(invocation):
        choices = [{p.name: choice} for p in study.parameters for choice in p.choices or ()]
        recipes += [study.recipe, *map(study.with_values, choices)]
    return list(dict.fromkeys(recipes))


def studies_of(invocation: SearchInvocation) -> list[Study]:
    """The studies that a search begins with."""
    return next(catalog.search_module(invocation.name).search(invocation.baseline, invocation.trials))
