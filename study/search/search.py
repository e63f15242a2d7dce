"""From a search to its best recipe: trials are asked for, trained as fleets, pruned at rungs and reported.

Asking and reporting is `optuna_study`'s; here is what happens in between. A batch of trials is trained to the first
rung, the pruner says who goes on, and the rest is packed into fleets anew: a rung is a checkpoint that all have
reached. Nothing here reads a test image.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from optuna.storages import BaseStorage
from optuna.trial import Trial

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import (
    BestRecord,
    ParameterRecord,
    ProvenanceRecord,
    SearchOutcomeRecord,
    StudyRecord,
    Value,
    WinnerRecord,
)
from cifar_ablations.ablations.search import Best, Parameter, Study
from cifar_ablations.study.execution.fleets import Listener, Progress, Trainer
from cifar_ablations.study.execution.workers import Failed, Stalled
from cifar_ablations.study.search.invocation import AT_ONCE, LEAST_AT_ONCE, SearchInvocation
from cifar_ablations.study.search.optuna_study import RUN, OptunaStudy
from cifar_ablations.study.store.search_log import Parent, SearchLog
from cifar_ablations.study.store.tracking import Store, is_gone, this_process
from cifar_ablations.study.training.engine import Epoch, Outcome
from cifar_ablations.study.training.fleet import Member


@dataclass
class RunningTrial:
    """A trial in training."""

    study: OptunaStudy
    asked: Trial
    """As Optuna has it."""
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
        """The mean of `accuracy` over seeds."""
        return float(np.mean([self.accuracy(seed, chance, epoch) for seed in seeds]))


def carry_out(
    invocation: SearchInvocation,
    storage: BaseStorage,
    store: Store,
    facts: ProvenanceRecord,
    show: Callable[[Progress], None],
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[SearchOutcomeRecord, Progress]:
    """Carry out a search, or what an earlier call left of it; returns its outcome, as logged, and what was done now.

    Trainings of a worker that stood still longer than the invocation's patience has it go on with another one, once.
    Their trials keep their runs: as at a rung, the epochs of a trial before and after its checkpoint are in one run.
    Raises KeyboardInterrupt when `stopped` says so: trials in flight are put back, and go on from where they were.
    """
    return _Coordinator(invocation, storage, store, facts, show, stopped).run()


class _Coordinator:
    """One call of a search."""

    def __init__(
        self,
        invocation: SearchInvocation,
        storage: BaseStorage,
        store: Store,
        facts: ProvenanceRecord,
        show: Callable[[Progress], None],
        stopped: Callable[[], bool],
    ):
        self._invocation, self._storage, self._store, self._facts = invocation, storage, store, facts
        self._log = SearchLog(store)
        self._record = invocation.record()
        self._folder = store.home.checkpoints / f"search-{self._record.digest}"
        self._progress = Progress("trials")
        self._parent: Parent | None = None
        self._interrupted = self._log.interrupted(self._record.digest)
        self._trainer = Trainer(invocation, self._folder, self._progress, show, stopped)

    def run(self) -> tuple[SearchOutcomeRecord, Progress]:
        """All rounds of the search."""
        rounds = catalog.search_module(self._invocation.name).search(self._invocation.baseline, self._invocation.trials)
        known: dict[str, OptunaStudy] = {}
        try:
            asked = next(rounds)
            while True:
                studies = [self._open(study) for study in asked]
                known |= {s.definition.name: s for s in studies}
                self._carry_out(studies)
                try:
                    asked = rounds.send([s.best() for s in studies])
                except StopIteration:
                    break
            outcome = self._outcome(list(known.values()))
            if not self._log.has_ended(self._record.digest):
                self._open_parent()  # the power went after the last trial
            if self._parent:
                self._log.close(self._parent, outcome, bool(self._progress.failed))
        except BaseException:
            if self._parent:
                self._store.interrupt(self._parent.run_id)
            raise
        finally:
            self._trainer.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        return outcome, self._progress

    def _open(self, study: Study) -> OptunaStudy:
        name = f"{self._invocation.name}/{study.name}/{self._record.digest}"
        if study.recipe != self._invocation.baseline:
            name += f"/{study.recipe.digest()[:8]}"
        opened = OptunaStudy(self._storage, name, study, self._invocation.settings)
        for trial in opened.recover(is_gone):
            if run_id := trial.user_attrs.get(RUN):
                self._store.interrupt(run_id)
        self._mend(opened)
        return opened

    def _mend(self, study: OptunaStudy) -> None:
        """End the runs of trials that were reported when the process was killed, but not yet written."""
        for trial, outcome, value in study.reported():
            run_id = trial.user_attrs.get(RUN, "")
            if run_id in self._interrupted:
                self._log.end_trial(run_id, outcome, {schema.OBJECTIVE: value}, "")

    def _carry_out(self, studies: Sequence[OptunaStudy]) -> None:
        """Train what the studies miss, in batches that have an equal share of trials of every study not yet done."""
        missing = sum(s.missing() for s in studies)
        self._progress.total += missing
        self._progress.epochs_total += missing * self._epochs_each
        while open_ones := [s for s in studies if s.missing()]:
            share = max(LEAST_AT_ONCE, AT_ONCE[self._invocation.device.type] // len(studies))
            batch = [self._ask(s) for s in open_ones for _ in range(s.due(share))]
            try:
                self._train(batch)
            except BaseException:
                for trial in batch:
                    if trial.run_id:
                        self._store.interrupt(trial.run_id)
                        trial.study.fail(trial.asked, None)
                raise
            shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _epochs_each(self) -> int:
        """How many epochs a trial is trained that is not pruned, over all its seeds."""
        return self._invocation.epochs * self._invocation.seeds_per_trial

    def _ask(self, study: OptunaStudy) -> RunningTrial:
        parent = self._open_parent()
        asked = study.ask(this_process())
        recipe = study.definition.with_values(asked.params)
        run_id = self._log.start_trial(parent, study.definition.name, asked.number, asked.params, recipe)
        asked.set_user_attr(RUN, run_id)
        return RunningTrial(study, asked, recipe, run_id)

    def _open_parent(self) -> Parent:
        """The parent run of this call, opened when it is first needed."""
        if not self._parent:
            experiment = self._log.experiment(self._invocation.name, self._invocation.data)
            self._parent = self._log.open(experiment, self._record, self._facts)
        return self._parent

    def _train(self, batch: list[RunningTrial]) -> None:
        """Train a batch from stage to stage, with fewer trials each time, and report what became of them."""
        stages = self._invocation.stages()
        going = list(batch)
        for number, (seeds, epoch) in enumerate(stages):
            self._train_stage(going, seeds, epoch)
            for trial in [t for t in going if t.failed]:
                self._end(trial, schema.FAILED, seeds)
            going = [t for t in going if not t.failed]
            if number == len(stages) - 1:
                break
            if epoch < self._invocation.epochs:  # one that diverged or stopped early is at its end, not at a rung
                for trial in [t for t in going if all(seed in t.ended for seed in seeds)]:
                    self._end(trial, _ending(trial), seeds)
                    going.remove(trial)
            for trial in going:
                self._report(trial, seeds, epoch)
            # In the order of asking, once all have reported: what is decided does not depend on who was faster.
            for trial in [t for t in going if t.asked.should_prune()]:
                self._end(trial, schema.PRUNED, seeds)
                going.remove(trial)
        for trial in going:
            self._end(trial, _ending(trial), self._invocation.seeds)

    def _train_stage(self, going: list[RunningTrial], seeds: Sequence[int], epoch: int) -> None:
        trials: dict[Member, list[RunningTrial]] = {}
        for trial in going:
            for seed in seeds:
                if seed not in trial.ended:
                    trials.setdefault(Member(trial.recipe, seed), []).append(trial)
        if trials:
            until = epoch if epoch < self._invocation.epochs else None
            stage = _Stage(self._store, self._progress, trials, seeds)
            self._trainer.train(list(trials), stage, until, evaluate_test=False)

    def _report(self, trial: RunningTrial, seeds: Sequence[int], epoch: int) -> None:
        """Report to the pruner where a trial stands."""
        if self._invocation.pruner == "wilcoxon":
            step, value = len(seeds) - 1, trial.accuracy(seeds[-1], self._record.chance)
        else:
            step, value = epoch, trial.mean_accuracy(seeds, self._record.chance, epoch)
        trial.asked.report(value, step)
        self._log.rung(trial.run_id, step, value)

    def _end(self, trial: RunningTrial, outcome: str, seeds: Sequence[int]) -> None:
        name = _name(trial)
        metrics: dict[str, float] = {}
        if outcome == schema.FAILED:
            trial.study.fail(trial.asked, trial.failed)
            self._progress.failed[name] = trial.failed
        else:
            value = trial.mean_accuracy(seeds, self._record.chance)
            seconds = sum(o.metrics.get(schema.SECONDS, 0.0) for o in trial.ended.values())
            epochs = sum(max(curve) for curve in trial.curves.values())
            metrics = {schema.OBJECTIVE: value, schema.EPOCHS: float(epochs)}
            if outcome == schema.PRUNED:
                trial.study.prune(trial.asked)
                self._progress.pruned += 1
            else:
                metrics[schema.SECONDS] = seconds
                trial.study.complete(trial.asked, value, seconds, outcome)
                self._progress.diverged += outcome == schema.DIVERGED
                self._progress.best = max(value, self._progress.best or 0.0)
        self._log.end_trial(trial.run_id, outcome, metrics, trial.failed)
        trial.run_id = ""
        self._progress.done += 1
        self._progress.epochs_done += self._epochs_each - sum(len(curve) for curve in trial.curves.values())
        self._trainer.show()

    def _outcome(self, studies: Sequence[OptunaStudy]) -> SearchOutcomeRecord:
        """What the search found."""
        baseline = self._invocation.baseline
        bests = {study.definition.name: study.best() for study in studies}
        top = max((best for best in bests.values() if best), key=lambda best: best.value, default=None)
        keeps = getattr(catalog.search_module(self._invocation.name), "KEEPS_BASELINE", False)
        return SearchOutcomeRecord(
            search_digest=self._record.digest,
            studies=tuple(_study_outcome(study, bests[study.definition.name], baseline) for study in studies),
            winner=None if top is None or keeps else _winner(top, baseline),
            retuned={name: dict(best.sampled) for name, best in bests.items() if best} if keeps else {},
        )


class _Stage(Listener):
    """A stage of a batch: what its members report is kept with their trials, and logged in the trials' runs.

    trials: those that each member is trained for; seeds: all that the stage trains a trial with.
    """

    def __init__(
        self, store: Store, progress: Progress, trials: Mapping[Member, Sequence[RunningTrial]], seeds: Sequence[int]
    ):
        self._store, self._progress, self._trials, self._seeds = store, progress, trials, seeds

    def epoch(self, event: Epoch) -> None:
        for trial in self._trials[event.member]:
            curve = trial.curves.setdefault(event.member.seed, {})
            self._progress.epochs_done += event.epoch not in curve
            curve[event.epoch] = event.metrics
            have = [trial.curves[s][event.epoch] for s in self._seeds if event.epoch in trial.curves.get(s, {})]
            if event.epoch not in trial.logged and len(have) == len(self._seeds):
                trial.logged.add(event.epoch)
                means = {name: float(np.mean([metrics[name] for metrics in have])) for name in event.metrics}
                self._store.epoch(trial.run_id, Epoch(event.member, event.epoch, means))

    def outcome(self, event: Outcome) -> None:
        for trial in self._trials[event.member]:
            trial.ended[event.member.seed] = event

    def stalled(self, event: Stalled) -> None:
        trials = {trial.run_id: trial for member in event.members for trial in self._trials[member]}
        self._progress.add_stalled([_name(trial) for trial in trials.values()], event.why)
        for run_id in trials:
            self._store.stall(run_id, event.why)

    def failed(self, event: Failed) -> None:
        for member in event.members:
            for trial in self._trials[member]:
                if member.seed not in trial.ended:
                    trial.failed = event.why


def _name(trial: RunningTrial) -> str:
    return f"{trial.study.definition.name}, trial {trial.asked.number}"


def _ending(trial: RunningTrial) -> str:
    """What a trial ended as, given its seeds: diverged if one did."""
    outcomes = {outcome.outcome for outcome in trial.ended.values()}
    return schema.DIVERGED if schema.DIVERGED in outcomes else outcomes.pop()


def _study_outcome(study: OptunaStudy, best: Best | None, baseline: Recipe) -> StudyRecord:
    asked = study.definition
    return StudyRecord(
        name=asked.name,
        storage_name=study.name,
        fixed={name: now for name, _, now in _changes(baseline, asked.recipe)},
        parameters=tuple(_parameter(p) for p in asked.parameters),
        sampler=asked.sampler or study.settings.sampler,
        widened=asked.widened,
        edge=best.edges if best else (),
        best=BestRecord(best.trial, best.value, dict(best.sampled)) if best else None,
        front=study.front(),
    )


def _parameter(p: Parameter) -> ParameterRecord:
    return ParameterRecord(p.name, p.doc, p.low, p.high, p.log, p.integer, p.choices)


def _winner(best: Best, baseline: Recipe) -> WinnerRecord:
    return WinnerRecord(
        study=best.study.name,
        trial=best.trial,
        value=best.value,
        digest=best.recipe.digest(),
        knobs=best.recipe.knobs(),
        changes=_changes(baseline, best.recipe),
    )


def _changes(baseline: Recipe, recipe: Recipe) -> tuple[tuple[str, Value, Value], ...]:
    """The knobs that differ, with their values before and after."""
    before, after = baseline.knobs(), recipe.knobs()
    return tuple((name, before[name], after[name]) for name in before if before[name] != after[name])
