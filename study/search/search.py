"""From a search to its best recipe: trials are asked for, trained as fleets, pruned at rungs and reported.

Asking and reporting is `optuna_study`'s; here is what happens in between. A batch of trials is trained to the first
rung, the pruner says who goes on, and the rest is packed into fleets anew: a rung is a checkpoint that all have
reached. Nothing here reads a test image.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.recipe import Recipe, digest_of
from cifar_ablations.ablations.record import (
    BestRecord,
    ParameterRecord,
    ProvenanceRecord,
    SearchOutcomeRecord,
    SearchRecord,
    StudyRecord,
    Value,
    WinnerRecord,
)
from cifar_ablations.ablations.search import Best, Parameter, Study
from cifar_ablations.study.execution.events import Failed, Stalled
from cifar_ablations.study.execution.fleets import Listener, Progress, Trainer
from cifar_ablations.study.search.invocation import AT_ONCE, LEAST_AT_ONCE, SearchInvocation, studies_of
from cifar_ablations.study.search.optuna_study import COORDINATOR, COUNTED, RUN, EndedTrial, OptunaStudy
from cifar_ablations.study.store.search_log import LoggedTrial, Parent, SearchLog
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
    lost: bool = False
    """Whether it failed because its worker was lost."""

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
    say: Callable[[str], None] = lambda sentence: None,
    alone: bool = False,
) -> tuple[SearchOutcomeRecord, Progress]:
    """Carry out a search, or what an earlier call left of it; returns its outcome, as logged, and what was done now.

    More trials than an earlier call asked for go on with what that one has found. What the MLflow store and Optuna's
    storage do not both have is given to the other one: results that are in one alone are not lost, and trials whose
    runs a person deleted are tried again. `say` is given a sentence about each.

    Trainings of a worker that died, or stood still longer than the invocation's patience, go on with another, once.
    Their trials keep their runs: as at a rung, the epochs of a trial before and after its checkpoint are in one run.
    Raises KeyboardInterrupt when `stopped` says so: trials in flight are put back, and go on from where they were.

    alone: whether it is known that nobody else carries out this search, so that no process on another machine does
    either whose trials are marked as running.
    """
    return _Coordinator(invocation, storage, store, facts, show, stopped, say, alone).run()


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
        say: Callable[[str], None],
        alone: bool,
    ):
        self._is_gone = (lambda coordinator: coordinator != this_process()) if alone else is_gone
        self._invocation, self._storage, self._store, self._facts = invocation, storage, store, facts
        self._say = say
        self._log = SearchLog(store)
        self._record = invocation.record(_digest_of_before(invocation, storage))
        self._folder = store.home.checkpoints / f"search-{self._record.digest}"
        self._progress = Progress("trials")
        self._parent: Parent | None = None
        self._logged: dict[str, dict[int, list[LoggedTrial]]] = {}
        """The runs that the store had of this search when the call began, by study and number."""
        for run in self._log.trials(self._record.digest):
            self._logged.setdefault(run.about.study, {}).setdefault(run.about.trial, []).append(run)
        self._given = self._deleted = self._absent = 0
        """Trials that the store had and Optuna's storage did not, whose run was deleted, and that the store lacked."""
        self._trainer = Trainer(invocation, self._folder, self._progress, show, stopped)

    def run(self) -> tuple[SearchOutcomeRecord, Progress]:
        """All rounds of the search."""
        rounds = catalog.search_module(self._invocation.name).search(self._invocation.baseline, self._invocation.trials)
        known: dict[str, OptunaStudy] = {}
        try:
            asked = next(rounds)
            while True:
                studies = [self._open(study, known.get(study.name)) for study in asked]
                known |= {s.definition.name: s for s in studies}
                self._carry_out(studies)
                try:
                    asked = rounds.send([s.best_of_round() for s in studies])
                except StopIteration:
                    break
            outcome = self._outcome(list(known.values()))
            self._store.flush()
            if _found(self._log.outcome(self._record.digest)) != _found(outcome):
                self._open_parent()  # the power went after the last trial, or the best was found otherwise before
            if self._parent:
                self._log.close(self._parent, outcome, bool(self._progress.failed))
        except BaseException:
            if self._parent:
                self._store.interrupt(self._parent.run_id)
            raise
        finally:
            self._trainer.close()
            self._tell()
        shutil.rmtree(self._folder, ignore_errors=True)
        return outcome, self._progress

    def _open(self, study: Study, before: OptunaStudy | None) -> OptunaStudy:
        """The study in Optuna's storage; before: as an earlier round of this call had it."""
        identity, title = _names_of(self._record, study, self._invocation.baseline)
        opened = OptunaStudy(self._storage, identity, study, self._invocation.settings, title)
        if before:
            opened.forget(before.forgotten)
        else:
            self._reconcile(opened)
        for trial in opened.recover(self._is_gone):
            if run_id := trial.user_attrs.get(RUN):
                self._store.interrupt(run_id)
        opened.forget(opened.lost())
        return opened

    def _reconcile(self, study: OptunaStudy) -> None:
        """Have MLflow's store and Optuna's storage tell one story of a study, and say what was not so."""
        logged = self._logged.get(study.definition.name, {})
        ended = {number: found for number, runs in logged.items() if (found := self._ended(runs))}
        self._settle(study, ended)
        # A quasi-random sampler would not know how far it is: it draws, and has trained, the same once more.
        given = [
            number for number in sorted(ended) if study.settings.sampler != "qmc" and study.add(number, ended[number])
        ]
        self._given += len(given)
        deleted, absent = [], []
        for trial, outcome, value in study.reported():
            runs = logged.get(trial.number, [])
            if runs and all(run.is_deleted for run in runs):
                deleted.append(trial.number)
            elif not runs:
                absent.append((trial, outcome, value))
            elif all(run.about.outcome == schema.INTERRUPTED for run in runs if not run.is_deleted):
                # Reported when the process was killed, but not yet written.
                run_id = next(run.run_id for run in runs if not run.is_deleted)
                self._log.end_trial(run_id, outcome, {schema.OBJECTIVE: value}, "")
        self._deleted += study.forget(deleted)
        self._absent += len(absent)
        for trial, outcome, value in absent:
            self._copy(study, trial, outcome, value)

    def _tell(self) -> None:
        """Say in which trials MLflow's store and Optuna's storage were not one, and what was done about it."""
        if self._given:
            self._say(
                f"{_trials(self._given)} had ended in the MLflow store, and Optuna's storage did not know: it was lost "
                "or cut, or --storage names another one. What had ended counts as done."
            )
        if self._deleted:
            self._say(
                f"{_trials(self._deleted)} had a run that was deleted in MLflow, which counts no longer; the same "
                "values were tried again."
            )
        if self._absent:
            self._say(
                f"{_trials(self._absent)} in Optuna's storage had no run in this MLflow store: trained from another "
                "output folder, or the store was lost. What they reached counts, and was added to the store, without "
                "curves. To train all anew, give --seed another number."
            )

    def _ended(self, runs: Sequence[LoggedTrial]) -> EndedTrial | None:
        """What a trial came to, of its runs that were not deleted; None where none has come to an end."""
        for run in runs:
            about, value = run.about, run.metrics.get(schema.OBJECTIVE)
            if not run.is_deleted and about.outcome in (*schema.RESULTS, schema.PRUNED) and value is not None:
                seconds, settings = run.metrics.get(schema.SECONDS, 0.0), self._invocation.settings
                rungs = self._log.rungs(run.run_id) if settings.rungs else {}
                return EndedTrial(run.run_id, about.sampled, about.outcome, value, seconds, rungs)
        return None

    def _copy(self, study: OptunaStudy, trial: FrozenTrial, outcome: str, value: float) -> None:
        """Write to the store what Optuna's storage has of a trial."""
        recipe, number = study.definition.with_values(trial.params), trial.number
        run_id = self._log.start_trial(
            self._open_parent(), study.definition.name, number, trial.params, recipe, schema.FROM_OPTUNA
        )
        for step, reported in trial.intermediate_values.items():
            self._log.rung(run_id, step, reported)
        metrics = {schema.OBJECTIVE: value}
        if self._invocation.pareto:
            metrics[schema.SECONDS] = trial.values[1]
        self._log.end_trial(run_id, outcome, metrics, "")

    def _settle(self, study: OptunaStudy, ended: Mapping[int, EndedTrial]) -> None:
        """Report to Optuna what trials reached whose end is in the store alone: the last line of a journal was lost."""
        for trial in study.trials():
            if (
                trial.state == TrialState.RUNNING
                and trial.number in ended
                and self._is_gone(trial.user_attrs.get(COORDINATOR))
            ):
                study.settle(trial, ended[trial.number])

    def _carry_out(self, studies: Sequence[OptunaStudy]) -> None:
        """Train what the studies miss, in batches that have an equal share of trials of every study not yet done."""
        missing = sum(s.missing() for s in studies)
        budgets = {s.definition.recipe.sized.budget for s in studies}
        part = next(iter(studies)).definition.name if budgets != {self._invocation.baseline.sized.budget} else ""
        self._progress.part = part or ("the whole budget" if self._progress.part else "")
        self._progress.total += missing
        self._progress.epochs_total += missing * self._epochs_each
        while open_ones := [s for s in studies if s.missing()]:
            share = max(LEAST_AT_ONCE, AT_ONCE[self._invocation.device.type] // len(studies))
            batch = [trial for s in open_ones for trial in self._ask(s, s.due(share))]
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

    def _ask(self, study: OptunaStudy, count: int) -> list[RunningTrial]:
        """So many trials, in the order in which they would be without interruptions."""
        asked = [self._ask_one(study) for _ in range(count)]
        return sorted(asked, key=lambda trial: study.first_number(trial.asked.number))

    def _ask_one(self, study: OptunaStudy) -> RunningTrial:
        parent = self._open_parent()
        asked = study.ask(this_process())
        for number, why in study.refused.items():
            self._progress.failed[f"{study.definition.title or study.definition.name}, trial {number}"] = why
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
            trial.study.fail(trial.asked, trial.failed, trial.lost)
            self._progress.failed[name] = trial.failed + "; the same command tries it again" * trial.lost
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
                if outcome != schema.DIVERGED:
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
        top = max(
            (best for best in bests.values() if best and best.study.decides), key=lambda best: best.value, default=None
        )
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
                    trial.failed, trial.lost = event.why, event.lost


MOST_TRIALS = 1_000
"""Up to this number of trials a search of an earlier version, where the number was part of its digest, is found."""


def _digest_of_before(invocation: SearchInvocation, storage: BaseStorage) -> str | None:
    """The digest under which an earlier version began this very search in the storage; None where none did.

    Of several, begun anew with more trials each time, the one with the most.
    """
    stored = {study.study_name: study._study_id for study in storage.get_all_studies()}
    now = invocation.record()
    study = studies_of(invocation)[0]
    if not stored or any(name in stored for name in _names_of(now, study, invocation.baseline)):
        return None
    found: dict[str, int] = {}
    for trials in range(1, MOST_TRIALS + 1):
        digest = invocation.digest(trials)
        for name in _names_of(replace(now, digest=digest), study, invocation.baseline):
            if name in stored:
                found[digest] = storage.get_n_trials(stored[name], COUNTED)
    return max(found, key=lambda digest: found[digest], default=None)


def _names_of(asked: SearchRecord, study: Study, baseline: Recipe) -> tuple[str, str]:
    """What a study is known by, and what it is called in Optuna's dashboard."""
    identity = f"{asked.name}/{study.name}/{asked.digest}"
    if study.recipe != baseline:
        identity += f"/{study.recipe.digest()[:8]}"
    return identity, _title(asked, study, digest_of(identity)[:8])


def _trials(count: int) -> str:
    return f"{count} trial{'s' * (count > 1)}"


def _title(asked: SearchRecord, study: Study, digest: str) -> str:
    """What a study is called in Optuna's dashboard; digest: of what tells it from others of the same words."""
    called = study.title or study.name
    of_search = asked.name if called == asked.name else f"{asked.name}: {called}"
    return " · ".join([of_search, asked.profile.name, asked.data.name, digest])


def _name(trial: RunningTrial) -> str:
    study = trial.study.definition
    return f"{study.title or study.name}, trial {trial.asked.number}"


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
        diverged=study.diverged(),
        front=study.front(),
    )


def _parameter(p: Parameter) -> ParameterRecord:
    return ParameterRecord(p.name, p.doc, p.low, p.high, p.log, p.integer, p.choices)


def _found(outcome: SearchOutcomeRecord | None) -> SearchOutcomeRecord | None:
    """An outcome without the knobs of its best recipe, whose digest says as much: later versions have more of them."""
    if outcome is None or outcome.winner is None:
        return outcome
    return replace(outcome, winner=replace(outcome.winner, knobs={}))


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
