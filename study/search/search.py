"""From a search to its best recipe: trials are asked, trained as fleets, pruned at rungs and told.

Asking and telling is `optuna_study`'s; here is what happens in between. A batch of trials is trained to the first rung,
the pruner says who goes on, and the rest is packed into fleets anew: a rung is a checkpoint that all have reached.
Nothing here reads a test image.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from optuna.storages import BaseStorage
from optuna.trial import Trial

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.search import Best, Study
from cifar_ablations.study.execution.runner import enumerated, pack
from cifar_ablations.study.execution.sizing import fleet_size
from cifar_ablations.study.execution.workers import PATIENCE, Crew, Failed, Patience, Stalled
from cifar_ablations.study.search.invocation import AT_ONCE, LEAST_AT_ONCE, SearchInvocation
from cifar_ablations.study.search.optuna_study import RUN, Tuned
from cifar_ablations.study.store.search_log import SearchLog
from cifar_ablations.study.store.tracking import Store, is_gone, this_process
from cifar_ablations.study.training import checkpoint
from cifar_ablations.study.training.engine import Checkpoints, Epoch, Extent, Outcome
from cifar_ablations.study.training.fleet import Member


@dataclass
class Tried:
    """A trial in training."""

    tuned: Tuned
    trial: Trial
    recipe: Recipe
    run_id: str
    curves: dict[int, dict[int, dict[str, float]]] = field(default_factory=dict)
    """By seed and epoch, the metrics of the epoch."""
    ended: dict[int, Outcome] = field(default_factory=dict)
    logged: set[int] = field(default_factory=set)
    """The epochs that are in the store."""
    failed: str = ""

    def accuracy(self, seed: int, chance: float, epoch: int | None = None) -> float:
        """Validation accuracy of one seed: after an epoch, or of the weights that count in the end.

        Those are the last epoch's, or where training was stopped early those of the lowest validation loss; one that
        diverged counts as guessing.
        """
        curve, outcome = self.curves.get(seed, {}), self.ended.get(seed)
        if outcome is not None and outcome.outcome == schema.DIVERGED:
            return chance
        at = max(curve) if epoch is None else min(epoch, max(curve))
        if outcome is not None and outcome.outcome == schema.STOPPED:
            at = min(curve, key=lambda e: curve[e][schema.VALIDATION_LOSS])
        return curve[at][schema.VALIDATION_ACCURACY]

    def mean_accuracy(self, seeds: Sequence[int], chance: float, epoch: int | None = None) -> float:
        """The mean of that over seeds."""
        return float(np.mean([self.accuracy(seed, chance, epoch) for seed in seeds]))


@dataclass
class SearchProgress:
    """How far a search has come; handed to whoever shows it after every event."""

    trials_total: int = 0
    trials_done: int = 0
    epochs_done: int = 0
    pruned: int = 0
    diverged: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    stalled: list[str] = field(default_factory=list)
    """A sentence for each fleet whose worker stood still and was ended: which trials go on with another, and why."""
    best: float | None = None
    study: str = ""


def tune(
    invocation: SearchInvocation,
    storage: BaseStorage,
    store: Store,
    facts: dict[str, str],
    show: Callable[[SearchProgress], None],
    stopped: Callable[[], bool] = lambda: False,
    save_every: float = 20.0,
    patience: Patience = PATIENCE,
) -> tuple[dict[str, Any], SearchProgress]:
    """Carry out a search, or what an earlier call left of it; returns its outcome, as logged, and what was done now.

    Trainings of a worker that stood still longer than `patience` has it go on with another one, once. Their trials keep
    their runs: as at a rung, the epochs of a trial before and after its checkpoint are in one run.
    Raises KeyboardInterrupt when `stopped` says so: trials in flight are put back, and go on from where they were.
    """
    return _Coordinator(invocation, storage, store, facts, show, stopped, save_every, patience).run()


class _Coordinator:
    """One call of a search."""

    def __init__(self, invocation, storage, store, facts, show, stopped, save_every, patience):
        self._invocation: SearchInvocation = invocation
        self._storage: BaseStorage = storage
        self._store: Store = store
        self._log = SearchLog(store)
        self._facts, self._show, self._stopped = facts, show, stopped
        self._described = invocation.described()
        self._folder: Path = store.home.checkpoints / f"search-{self._described['digest']}"
        self._checkpoints = Checkpoints(self._folder, save_every)
        self._chance: float = self._described["chance"]
        self._progress = SearchProgress()
        self._parent = self._experiment = ""
        self._fleet_size = 0
        assert invocation.data.folder is not None, "workers open the data set from its folder"
        self._interrupted = self._log.interrupted(self._described["digest"])
        self._crew = Crew(invocation.data.folder, str(invocation.device), invocation.workers, patience)

    def run(self) -> tuple[dict[str, Any], SearchProgress]:
        """All rounds of the search."""
        rounds = catalog.search_module(self._invocation.name).search(self._invocation.baseline, self._invocation.trials)
        known: dict[str, Tuned] = {}
        try:
            studies = next(rounds)
            while True:
                tuned = [self._open(study) for study in studies]
                known |= {t.study.name: t for t in tuned}
                self._carry_out(tuned)
                try:
                    studies = rounds.send([t.best() for t in tuned])
                except StopIteration:
                    break
            outcome = self._outcome(list(known.values()))
            if not self._log.has_ended(self._described["digest"]):
                self._open_parent()  # the power went after the last trial
            if self._parent:
                self._log.close(self._parent, outcome, bool(self._progress.failed))
        except BaseException:
            if self._parent:
                self._store.interrupt(self._parent)
            raise
        finally:
            self._crew.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        return outcome, self._progress

    def _open(self, study: Study) -> Tuned:
        name = f"{self._invocation.name}/{study.name}/{self._described['digest']}"
        if study.recipe != self._invocation.baseline:
            name += f"/{study.recipe.digest()[:8]}"
        tuned = Tuned(self._storage, name, study, self._invocation.settings)
        for trial in tuned.recover(is_gone):
            if run_id := trial.user_attrs.get(RUN):
                self._store.interrupt(run_id)
        self._mend(tuned)
        return tuned

    def _mend(self, tuned: Tuned) -> None:
        """End the runs of trials that were told when the process was killed, but not yet written."""
        for trial, outcome, value in tuned.told():
            run_id = trial.user_attrs.get(RUN, "")
            if run_id in self._interrupted:
                self._log.end_trial(run_id, outcome, {schema.OBJECTIVE: value}, "")

    def _carry_out(self, studies: Sequence[Tuned]) -> None:
        """Batch after batch, each with as many trials of every study that still needs some."""
        self._progress.trials_total += sum(t.missing() for t in studies)
        while open_ones := [t for t in studies if t.missing()]:
            share = max(LEAST_AT_ONCE, AT_ONCE[self._invocation.device.type] // len(studies))
            batch = [self._ask(t) for t in open_ones for _ in range(t.due(share))]
            try:
                self._train(batch)
            except BaseException:
                for tried in batch:
                    if tried.run_id:
                        self._store.interrupt(tried.run_id)
                        tried.tuned.fail(tried.trial, None)
                raise
            shutil.rmtree(self._folder, ignore_errors=True)

    def _ask(self, tuned: Tuned) -> Tried:
        self._open_parent()
        trial = tuned.ask(this_process())
        recipe = tuned.study.with_values(trial.params)
        run_id = self._log.start_trial(
            self._experiment, self._parent, self._described, tuned.study.name, trial.number, trial.params, recipe
        )
        trial.set_user_attr(RUN, run_id)
        return Tried(tuned, trial, recipe, run_id)

    def _open_parent(self) -> None:
        """The parent run of this call, opened when it is first needed."""
        if not self._parent:
            self._experiment = self._log.experiment(self._invocation.name, self._invocation.data)
            self._parent = self._log.open(self._experiment, self._described, self._facts)

    def _train(self, batch: list[Tried]) -> None:
        """Train a batch from stage to stage, with fewer trials each time, and tell what became of them."""
        stages = self._invocation.stages()
        going = list(batch)
        for number, (seeds, epoch) in enumerate(stages):
            self._train_stage(going, seeds, epoch)
            for tried in [t for t in going if t.failed]:
                self._end(tried, schema.FAILED, seeds)
            going = [t for t in going if not t.failed]
            if number == len(stages) - 1:
                break
            if epoch < self._invocation.epochs:  # one that diverged or stopped early is at its end, not at a rung
                for tried in [t for t in going if all(seed in t.ended for seed in seeds)]:
                    self._end(tried, _ending(tried), seeds)
                    going.remove(tried)
            for tried in going:
                self._report(tried, seeds, epoch)
            # In the order of asking, once all have reported: what is decided does not depend on who was faster.
            for tried in [t for t in going if t.trial.should_prune()]:
                self._end(tried, schema.PRUNED, seeds)
                going.remove(tried)
        for tried in going:
            self._end(tried, _ending(tried), self._invocation.seeds)

    def _train_stage(self, going: list[Tried], seeds: Sequence[int], epoch: int) -> None:
        by_member: dict[Member, list[Tried]] = {}
        for tried in going:
            for seed in seeds:
                if seed not in tried.ended:
                    by_member.setdefault(Member(tried.recipe, seed), []).append(tried)
        if not by_member:
            return
        if not self._fleet_size:
            self._fleet_size = fleet_size(going[0].recipe, self._invocation.data, self._invocation.device)
        saved = checkpoint.find(self._folder, self._invocation.data.digest, self._invocation.device)
        behind = {m: saved[checkpoint.identity(m)].epoch for m in by_member if checkpoint.identity(m) in saved}
        fleets = pack(list(by_member), self._invocation.workers, self._fleet_size, behind)
        until = epoch if epoch < self._invocation.epochs else None
        events = self._crew.train(fleets, self._checkpoints, Extent(until, tested=False))
        try:
            for event in events:
                if isinstance(event, Epoch):
                    for tried in by_member[event.member]:
                        self._learnt(tried, event, seeds)
                elif isinstance(event, Outcome):
                    for tried in by_member[event.member]:
                        tried.ended[event.member.seed] = event
                elif isinstance(event, Stalled):
                    self._stalled([tried for member in event.members for tried in by_member[member]], event.why)
                elif isinstance(event, Failed):
                    for member in event.members:
                        for tried in by_member[member]:
                            if member.seed not in tried.ended:
                                tried.failed = event.why
                self._show(self._progress)
                if self._stopped():
                    raise KeyboardInterrupt
        finally:
            events.close()

    def _stalled(self, trials: Sequence[Tried], why: str) -> None:
        names = dict.fromkeys(_name(tried) for tried in trials)
        self._progress.stalled.append(f"{enumerated(list(names))}: {why}, and another goes on")
        for run_id in {tried.run_id for tried in trials}:
            self._store.stall(run_id, why)

    def _learnt(self, tried: Tried, event: Epoch, seeds: Sequence[int]) -> None:
        """Keep an epoch's metrics, and log their mean over seeds once all seeds have them."""
        curve = tried.curves.setdefault(event.member.seed, {})
        self._progress.epochs_done += event.epoch not in curve
        curve[event.epoch] = event.metrics
        have = [tried.curves[s][event.epoch] for s in seeds if event.epoch in tried.curves.get(s, {})]
        if event.epoch not in tried.logged and len(have) == len(seeds):
            tried.logged.add(event.epoch)
            means = {name: float(np.mean([metrics[name] for metrics in have])) for name in event.metrics}
            self._store.epoch(tried.run_id, Epoch(event.member, event.epoch, means))

    def _report(self, tried: Tried, seeds: Sequence[int], epoch: int) -> None:
        """Tell the pruner where a trial stands."""
        if self._invocation.pruner == "wilcoxon":
            step, value = len(seeds) - 1, tried.accuracy(seeds[-1], self._chance)
        else:
            step, value = epoch, tried.mean_accuracy(seeds, self._chance, epoch)
        tried.trial.report(value, step)
        self._log.rung(tried.run_id, step, value)

    def _end(self, tried: Tried, outcome: str, seeds: Sequence[int]) -> None:
        name = _name(tried)
        metrics: dict[str, float] = {}
        if outcome == schema.FAILED:
            tried.tuned.fail(tried.trial, tried.failed)
            self._progress.failed[name] = tried.failed
        else:
            value = tried.mean_accuracy(seeds, self._chance)
            seconds = sum(o.metrics.get(schema.SECONDS, 0.0) for o in tried.ended.values())
            epochs = sum(max(curve) for curve in tried.curves.values())
            metrics = {schema.OBJECTIVE: value, schema.EPOCHS: float(epochs)}
            if outcome == schema.PRUNED:
                tried.tuned.prune(tried.trial)
                self._progress.pruned += 1
            else:
                metrics[schema.SECONDS] = seconds
                tried.tuned.complete(tried.trial, value, seconds, outcome)
                self._progress.diverged += outcome == schema.DIVERGED
                self._progress.best = max(value, self._progress.best or 0.0)
        self._log.end_trial(tried.run_id, outcome, metrics, tried.failed)
        tried.run_id = ""
        self._progress.trials_done += 1
        self._progress.study = tried.tuned.study.name
        self._show(self._progress)

    def _outcome(self, studies: Sequence[Tuned]) -> dict[str, Any]:
        """What the search found, as JSON values."""
        found = [t.best() for t in studies]
        module = catalog.search_module(self._invocation.name)
        best = max((b for b in found if b), key=lambda b: b.value, default=None)
        keeps = getattr(module, "KEEPS_BASELINE", False)
        return {
            "search_digest": self._described["digest"],
            "studies": [_study_outcome(t, b, self._invocation.baseline) for t, b in zip(studies, found, strict=True)],
            "winner": None if best is None or keeps else _winner(best, self._invocation.baseline),
            "retuned": {b.study.name: dict(b.drawn) for b in found if b} if keeps else {},
        }


def _name(tried: Tried) -> str:
    return f"{tried.tuned.study.name}, trial {tried.trial.number}"


def _ending(tried: Tried) -> str:
    """What a trial ended as, given its seeds: diverged if one did."""
    outcomes = {outcome.outcome for outcome in tried.ended.values()}
    return schema.DIVERGED if schema.DIVERGED in outcomes else outcomes.pop()


def _study_outcome(tuned: Tuned, best: Best | None, baseline: Recipe) -> dict[str, Any]:
    return {
        "name": tuned.study.name,
        "storage_name": tuned.name,
        "fixed": {name: now for name, _, now in _changes(baseline, tuned.study.recipe)},
        "parameters": [
            {
                "name": p.name, "doc": p.doc, "low": p.low, "high": p.high, "log": p.log, "integer": p.integer,
                "choices": list(p.choices) if p.choices else None,
            }
            for p in tuned.study.parameters
        ],
        "sampler": tuned.study.sampler or tuned.settings.sampler,
        "widened": tuned.study.widened,
        "edge": list(best.edges) if best else [],
        "best": {"trial": best.trial, "value": best.value, "sampled": dict(best.drawn)} if best else None,
        "front": tuned.front(),
    }  # fmt: skip


def _winner(best: Best, baseline: Recipe) -> dict[str, Any]:
    return {
        "study": best.study.name,
        "trial": best.trial,
        "value": best.value,
        "digest": best.recipe.digest(),
        "knobs": best.recipe.knobs(),
        "changes": [list(change) for change in _changes(baseline, best.recipe)],
    }


def _changes(baseline: Recipe, recipe: Recipe) -> list[tuple[str, Any, Any]]:
    """The knobs that differ, with their values before and after."""
    before, after = baseline.knobs(), recipe.knobs()
    return [(name, before[name], after[name]) for name in before if before[name] != after[name]]
