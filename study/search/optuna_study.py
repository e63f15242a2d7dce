"""Optuna's side of a search: studies in a storage, samplers and pruners by name, trials asked for and reported.

One coordinator does both; workers never see Optuna. What a trial samples depends on nothing but the search's seed, the
trial's place and what was reported before it, so that an interrupted study goes on as if it had not been.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.ablations.record import FrontRecord, Value
from cifar_ablations.ablations.search import LISTED, Best, Parameter, Study
from cifar_ablations.ablations.secrets import without_password
from cifar_ablations.study.search import journal

SAMPLERS = ("tpe", "gp", "cmaes", "qmc", "random", "grid")
PRUNERS = ("halving", "median", "hyperband", "wilcoxon", "none")

REDUCTION_FACTOR = 2
"""From a rung to the next the epochs grow by this factor, and successive halving keeps one in so many trials."""

PLACE, COORDINATOR, RUN, ERROR, ENDED = "place", "coordinator", "mlflow_run", "error", "ended"
AGAIN, REFUSED, LOST = "again", "refused", "lost"
"""Attributes of a trial: its place in the order of asking, from 0; the process that trains it; its MLflow run's id;
what went wrong; what it ended as; the number of the trial that it tries again; why it was not tried, though queued;
whether its worker was lost."""

SPACE = "space"
"""The attribute of a study that says what is searched, and how; followed by how often its ranges were widened."""

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)


class _JournalLock(JournalFileOpenLock):
    """Optuna's lock of a journal, which other programs that know Optuna respect.

    Optuna's own choice is a symbolic link, which Windows lets an administrator make; and whatever the disk says when a
    lock cannot be removed, Optuna says that somebody else has it.
    """

    def __init__(self, file: Path):
        super().__init__(str(file))
        self._file = Path(f"{file}.lock")

    def release(self) -> None:
        """Remove the lock. Raises OSError where the disk does not let it."""
        self._file.unlink(missing_ok=True)


def storage_at(url: str | None, file: Path, say: Callable[[str], None] = lambda sentence: None) -> BaseStorage:
    """The storage of an RDB URL, or a journal in a file. Raises AblateError where it cannot be opened.

    A journal whose end cannot be read, as after a power cut, is mended first, and `say` is given a sentence about it.
    """
    optuna.logging.set_verbosity(logging.ERROR)
    if url is None:
        file.parent.mkdir(parents=True, exist_ok=True)
        # A killed process leaves its lock behind; whoever holds the output folder is the only one who could hold it.
        Path(f"{file}.lock").unlink(missing_ok=True)
        if sentence := journal.mend(file):
            say(sentence)
        try:
            return JournalStorage(JournalFileBackend(str(file), lock_obj=_JournalLock(file)))
        except Exception as error:  # of lines that are JSON, and none of Optuna's
            raise AblateError(
                f"{file.name} is no journal of Optuna's ({type(error).__name__}: {without_password(str(error))}); it "
                "was changed by hand: move it away, or put a copy in its place"
            ) from None
    try:
        # A connection that the database has closed meanwhile, as when it was started again, is made anew.
        return RDBStorage(url, engine_kwargs={} if url.startswith("sqlite") else {"pool_pre_ping": True})
    except Exception as error:  # each database's driver has exceptions of its own
        reason = str(error).strip().splitlines()[0]
        raise AblateError(
            f"--storage {without_password(url)} cannot be opened ({without_password(reason)}); it takes a URL such as "
            "postgresql+psycopg://user@host/database, and the database's driver"
        ) from None


def check_names(sampler: str, pruner: str) -> None:
    """Raise AblateError for a sampler or pruner that is not known."""
    if sampler not in SAMPLERS:
        raise AblateError(f"no sampler {sampler!r}{did_you_mean(sampler, SAMPLERS)}")
    if pruner not in PRUNERS:
        raise AblateError(f"no pruner {pruner!r}{did_you_mean(pruner, PRUNERS)}")


@dataclass(frozen=True)
class Settings:
    """How studies are carried out, the same for all of a search."""

    sampler: str
    pruner: str
    seed: int
    rungs: tuple[int, ...]
    """The epochs (or, for `wilcoxon`, the numbers of seeds) after which the pruner is asked."""
    epochs: int
    pareto: bool = False
    """Whether trials are also to be short: two objectives, accuracy and seconds."""


@dataclass(frozen=True)
class EndedTrial:
    """A trial that has ended, as MLflow has it."""

    run_id: str
    sampled: Mapping[str, Value]
    outcome: str
    value: float
    """What it reached; for one that was pruned, where it stood."""
    seconds: float
    rungs: Mapping[int, float]
    """What was reported to the pruner, by step."""


class OptunaStudy:
    """An Optuna study that carries out one of a search's.

    identity: what the study is known by, which decides its draws; title: what it is called in a storage that does not
    have it yet. Earlier versions called it by its identity, and under that name it goes on.
    """

    def __init__(self, storage: BaseStorage, identity: str, study: Study, settings: Settings, title: str = ""):
        if (study.sampler or settings.sampler) == "grid":
            # Queued, not sampled: Optuna's grid sampler loses track of the points of trials that are tried again.
            points = _grid(study)
            study = replace(study, first=tuple(points[: study.trials]), trials=min(study.trials, len(points)))
        self.definition, self.settings, self._identity, self._storage = study, settings, identity, storage
        self.forgotten: frozenset[int] = frozenset()
        """Trials that have come to an end and no longer count, by their numbers."""
        self.refused: dict[int, str] = {}
        """Why trials that were queued from outside were not tried, by their numbers; those of this object's life."""
        name = title if title and not _is_stored(storage, identity) else identity
        directions = [StudyDirection.MAXIMIZE, *([StudyDirection.MINIMIZE] if settings.pareto else [])]
        self._optuna = optuna.create_study(
            storage=storage, study_name=name, directions=directions, load_if_exists=True, pruner=_pruner(settings)
        )
        if difference := self._difference(directions):
            raise AblateError(
                f"the study {name!r} in Optuna's storage {difference}: trials of both would mean nothing together. "
                "Give --seed another number to begin a new one, or remove it with `optuna delete-study`"
            )

    @property
    def name(self) -> str:
        """The name in the storage."""
        return self._optuna.study_name

    def trials(self) -> list[FrozenTrial]:
        """All trials, in the order in which they were asked."""
        return self._optuna.get_trials(deepcopy=False)

    def _difference(self, directions: Sequence[StudyDirection]) -> str:
        """What of the stored study is not as this search has it, in half a sentence; "" if it is the same."""
        stored = self._optuna.directions
        if len(stored) != len(directions):
            return f"has {len(stored)} objective{'s' * (len(stored) > 1)}, and this search has {len(directions)}"
        if stored != list(directions):
            return "looks for the lowest value, and this search for the highest validation accuracy"
        study, attributes = self.definition, self._optuna.user_attrs
        sampler = study.sampler or self.settings.sampler
        # The points of a grid, and with them its range, depend on how many there are and on what was best before; so do
        # those of a list.
        whole = not self._is_listed
        now = {"sampler": sampler, "parameters": [_described(p, whole=whole) for p in study.parameters]}
        known = attributes.get(f"{SPACE} {study.widened}")
        if known is None:
            self._optuna.set_user_attr(f"{SPACE} {study.widened}", now)
        elif known["sampler"] != sampler:
            return f"was sampled by {known['sampler']}, and this search samples by {sampler}"
        elif known["parameters"] != now["parameters"]:
            before, after = (
                "; ".join(parameter for parameter in one if parameter not in other) or "no more"
                for one, other in (
                    (known["parameters"], now["parameters"]),
                    (now["parameters"], known["parameters"]),
                )
            )
            return f"searched {before}, and this search looks for {after}"
        asked = {p.name: _distribution(p) for p in study.parameters}
        for trial in self.trials():
            for name, distribution in trial.distributions.items():
                if name not in asked:
                    return f"searched {name}, and this search does not"
                try:
                    optuna.distributions.check_distribution_compatibility(distribution, asked[name])
                except ValueError:
                    return f"searched {name} in {distribution}, and this search looks in {asked[name]}"
        return ""

    def _counts(self, trial: FrozenTrial) -> bool:
        """Whether a trial has come to an end and need not be repeated."""
        if trial.number in self.forgotten:
            return False
        return trial.state in COUNTED or (trial.state == TrialState.FAIL and ERROR in trial.user_attrs)

    def counted(self) -> int:
        """How many trials have come to an end that need not be repeated."""
        return sum(self._counts(trial) for trial in self.trials())

    def missing(self) -> int:
        """How many are still to come: of a grid or a list its points that have not been tried."""
        if self._is_listed:
            tried = [trial.params for trial in self.trials() if self._counts(trial)]
            return sum(dict(point) not in tried for point in self.definition.first)
        return max(0, self.definition.trials - self.counted())

    @property
    def _is_listed(self) -> bool:
        return (self.definition.sampler or self.settings.sampler) in ("grid", LISTED)

    def forget(self, numbers: Collection[int]) -> int:
        """Have trials that have come to an end no longer count, and queue what they sampled, if it is not yet.

        Returns how many were queued.
        """
        self.forgotten |= frozenset(numbers)
        tried_again = {trial.user_attrs.get(AGAIN) for trial in self.trials()}
        again = [t for t in self.trials() if t.number in self.forgotten and t.number not in tried_again and t.params]
        for trial in again:
            self._queue(trial.params, trial.number)
        return len(again)

    def _queue(self, sampled: Mapping[str, Value], number: int) -> None:
        """Have what a trial sampled be tried again; number: the trial's."""
        self._optuna.enqueue_trial(dict(sampled), user_attrs={AGAIN: number})

    def due(self, at_once: int) -> int:
        """How many trials to ask for before any of them is reported.

        No more than complete a batch, so that after an interruption batches fall where they would have fallen.
        """
        return min(self.missing(), at_once - self.counted() % at_once)

    def recover(self, is_gone: Callable[[str | None], bool]) -> list[FrozenTrial]:
        """Fail the trials whose coordinator is gone, and queue what they sampled; returns them.

        is_gone: whether a coordinator, by its tag, no longer runs; None for a trial that does not say.
        """
        stale = [
            trial
            for trial in self.trials()
            if trial.state == TrialState.RUNNING and is_gone(trial.user_attrs.get(COORDINATOR))
        ]
        waiting = [t.system_attrs.get("fixed_params") for t in self.trials() if t.state == TrialState.WAITING]
        for trial in stale:
            # Of one whose coordinator ended while it was sampled, the rest would be drawn as if it came first.
            sampled = trial.params if self._is_whole(trial.params) else trial.system_attrs.get("fixed_params", {})
            if sampled and sampled not in waiting:
                if PLACE in trial.user_attrs or AGAIN in trial.user_attrs:
                    self._queue(sampled, trial.number)
                else:  # asked for by another program, and looked at like all that is queued from outside
                    self._optuna.enqueue_trial(sampled)
            # Last: what has failed and is not queued would be lost, if this process were to end in between.
            self._optuna.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        return stale

    def _is_whole(self, params: Mapping[str, Any]) -> bool:
        """Whether these are all parameters that a trial with them has."""
        sampled: dict[str, Value] = {}
        for parameter in self.definition.parameters:
            if parameter.wanted(sampled):
                if parameter.name not in params:
                    return False
                sampled[parameter.name] = params[parameter.name]
        return True

    def first_number(self, number: int) -> int:
        """The number that a trial, or the one that it repeats, had when it was asked for the first time."""
        return _first_numbers(self.trials())[number]

    def ask(self, coordinator: str) -> Trial:
        """The next trial, its values sampled.

        Before it, what was queued from outside and cannot be tried is refused: it has failed for good, with the reason,
        and counts as no trial.
        """
        offered = [{**t.system_attrs.get("fixed_params", {}), **t.params} for t in self.trials()]
        for values in self.definition.first:
            if not any(values.items() <= one.items() for one in offered):
                self._optuna.enqueue_trial(dict(values))
        while True:
            trial = self._next(coordinator)
            if trial is not None:
                return trial

    def _next(self, coordinator: str) -> Trial | None:
        """The next trial; None where it was queued and had to be refused."""
        place = sum(t.state == TrialState.RUNNING or self._counts(t) for t in self.trials())
        self._optuna.sampler = _sampler(self.definition, self.settings, self._identity, place)
        trial = self._optuna.ask()
        trial.set_user_attr(COORDINATOR, coordinator)
        asked = self.trials()[trial.number]
        queued: dict[str, Any] | None = asked.system_attrs.get("fixed_params")
        ours = AGAIN in asked.user_attrs or queued in [dict(values) for values in self.definition.first]
        why = "" if queued is None or ours else _obstacle(queued, self.definition)
        if not why:
            trial.set_user_attr(PLACE, place)
            try:
                sampled: dict[str, Value] = {}
                for parameter in self.definition.parameters:
                    if parameter.wanted(sampled):
                        sampled[parameter.name] = _suggest(trial, parameter)
                self.definition.with_values(trial.params)
            except (AblateError, TypeError, ValueError) as error:
                if queued is None:
                    raise
                why = str(error)
        if not why:
            return trial
        trial.set_user_attr(REFUSED, why)
        self._optuna.tell(trial, state=TrialState.FAIL)
        self.refused[trial.number] = why
        return None

    def complete(self, trial: Trial, accuracy: float, seconds: float, outcome: str = schema.FINISHED) -> None:
        """Report what a trial reached, and as what it ended."""
        trial.set_user_attr(ENDED, outcome)
        self._optuna.tell(trial, self._objectives(accuracy, seconds))

    def prune(self, trial: Trial) -> None:
        """Report that a trial was ended by the pruner."""
        self._optuna.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: Trial, why: str | None, lost: bool = False) -> None:
        """Report that a trial has no result: for good where something went wrong, else to be asked again.

        lost: whether its worker was lost. Such a trial counts in this object's life, and is `lost` to a later one. One
        that has come to an end before stays as it is.
        """
        if self.trials()[trial.number].state.is_finished():
            return
        if lost:
            trial.set_user_attr(LOST, True)
        if why is not None:
            trial.set_user_attr(ERROR, why[-1_000:])
        if why is None:
            self._queue(trial.params, trial.number)
        self._optuna.tell(trial, state=TrialState.FAIL)

    def lost(self) -> list[int]:
        """The numbers of the trials whose worker was lost."""
        return [trial.number for trial in self.trials() if trial.user_attrs.get(LOST)]

    def best(self) -> Best | None:
        """The finished trial with the highest accuracy, of equals the first; one that diverged is never best."""
        return self._best_of(self.trials())

    def best_of_round(self) -> Best | None:
        """The best of as many trials as were asked for, in their order, or of a grid's or a list's points.

        What is asked for next depends on it, and must not change when a search that went further is called again.
        """
        counted = [trial for trial in self.trials() if self._counts(trial)]
        if self._is_listed:
            points = [dict(point) for point in self.definition.first]
            return self._best_of([trial for trial in counted if trial.params in points])
        return self._best_of(counted[: self.definition.trials])

    def _best_of(self, trials: Sequence[FrozenTrial]) -> Best | None:
        finished = [t for t in trials if t.state == TrialState.COMPLETE and self._counts(t) and not _diverged(t)]
        if not finished:
            return None
        ranked = sorted(finished, key=lambda t: (-t.values[0], t.number))
        return Best(
            self.definition, ranked[0].number, ranked[0].values[0], ranked[0].params, tuple(t.params for t in ranked)
        )

    def diverged(self) -> int:
        """How many trials diverged."""
        return sum(_diverged(trial) for trial in self.trials() if self._counts(trial))

    def reported(self) -> list[tuple[FrozenTrial, str, float]]:
        """The trials that have come to an end, with what they ended as and where they stood, as the store has it."""
        ended = []
        for trial in self.trials():
            if trial.number in self.forgotten:
                continue
            if trial.state == TrialState.COMPLETE:
                ended.append((trial, trial.user_attrs.get(ENDED, schema.FINISHED), trial.values[0]))
            elif trial.state == TrialState.PRUNED and trial.intermediate_values:
                ended.append((trial, schema.PRUNED, trial.intermediate_values[max(trial.intermediate_values)]))
        return ended

    def front(self) -> tuple[FrontRecord, ...]:
        """The trials that no other beats in both objectives; empty where there is one objective."""
        if not self.settings.pareto:
            return ()
        best = sorted(self._optuna.best_trials, key=lambda t: t.number)
        best = [trial for trial in best if self._counts(trial) and not _diverged(trial)]
        return tuple(FrontRecord(t.number, t.values[0], t.values[1], t.params) for t in best)

    def settle(self, trial: FrozenTrial, ended: EndedTrial) -> None:
        """Report what a trial reached that is marked as running, though it has ended."""
        self._storage.set_trial_user_attr(trial._trial_id, ENDED, ended.outcome)
        if ended.outcome == schema.PRUNED:
            self._optuna.tell(trial.number, state=TrialState.PRUNED)
        else:
            self._optuna.tell(trial.number, self._objectives(ended.value, ended.seconds))

    def _objectives(self, accuracy: float, seconds: float) -> list[float]:
        return [accuracy, seconds] if self.settings.pareto else [accuracy]

    def add(self, number: int, ended: EndedTrial) -> bool:
        """Add a trial that has ended, which the storage has lost, under its number.

        Those between it and the last one are taken to have failed. Nothing is added where the number is taken, or where
        what it sampled cannot have been sampled here; returns whether it was.
        """
        asked = {p.name: _distribution(p) for p in self.definition.parameters}
        if number < len(self.trials()) or not ended.sampled or not ended.sampled.keys() <= asked.keys():
            return False
        pruned = ended.outcome == schema.PRUNED
        try:
            distributions = {name: _reaching(asked[name], value) for name, value in ended.sampled.items()}
            trial = optuna.trial.create_trial(
                state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
                values=None if pruned else self._objectives(ended.value, ended.seconds),
                params=dict(ended.sampled),
                distributions=distributions,
                intermediate_values=dict(ended.rungs),
                user_attrs={ENDED: ended.outcome, RUN: ended.run_id, PLACE: number},
            )
        except (TypeError, ValueError):
            return False
        while len(self.trials()) < number:
            self._optuna.add_trial(optuna.trial.create_trial(state=TrialState.FAIL))
        self._optuna.add_trial(trial)
        return True


def _is_stored(storage: BaseStorage, name: str) -> bool:
    """Whether a storage has a study of that name."""
    try:
        storage.get_study_id_from_name(name)
    except KeyError:
        return False
    return True


def _diverged(trial: FrozenTrial) -> bool:
    return trial.user_attrs.get(ENDED) == schema.DIVERGED


def _described(parameter: Parameter, *, whole: bool) -> str:
    """What is searched of a parameter, as text; whole: with its range."""
    if parameter.choices is not None:
        return f"{parameter.name} ({', '.join(map(str, parameter.choices))})"
    kind = ("whole numbers" if parameter.integer else "numbers") + ", by logarithm" * parameter.log
    span = f"{parameter.low!r} to {parameter.high!r}, " if whole else ""
    return f"{parameter.name} ({span}{kind})"


def _distribution(parameter: Parameter) -> BaseDistribution:
    """A parameter as Optuna has it."""
    if parameter.choices is not None:
        return CategoricalDistribution(parameter.choices)
    assert parameter.low is not None
    assert parameter.high is not None
    if parameter.integer:
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log)


def _reaching(distribution: BaseDistribution, value: Any) -> BaseDistribution:
    """A distribution whose range reaches to the value: ranges may have been wider."""
    if isinstance(distribution, IntDistribution | FloatDistribution):
        low, high = min(distribution.low, value), max(distribution.high, value)
        return type(distribution)(low, high, log=distribution.log)
    return distribution


def _obstacle(queued: Mapping[str, Any], study: Study) -> str:
    """Why values that were queued from outside cannot be tried, in half a sentence; "" if they can."""
    known = {p.name: p for p in study.parameters}
    for name, value in queued.items():
        if name not in known:
            return f"it was queued with {name!r}, which is not searched{did_you_mean(name, list(known))}"
        p = known[name]
        if p.choices is not None:
            if value not in p.choices:
                return f"it was queued with {name} = {value!r}, which is not among {', '.join(map(str, p.choices))}"
            continue
        assert p.low is not None
        assert p.high is not None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"it was queued with {name} = {value!r}, which is no number"
        if not p.low <= value <= p.high:
            return f"it was queued with {name} = {value!r}, and {p.low:.3g} to {p.high:.3g} is searched"
        if p.integer and value != int(value):
            return f"it was queued with {name} = {value!r}, and whole numbers are searched"
    return ""


def _suggest(trial: Trial, parameter: Parameter) -> Value:
    if parameter.choices is not None:
        chosen = trial.suggest_categorical(parameter.name, parameter.choices)
        assert chosen is not None
        return chosen
    assert parameter.low is not None
    assert parameter.high is not None
    if parameter.integer:
        return trial.suggest_int(parameter.name, int(parameter.low), int(parameter.high), log=parameter.log)
    return trial.suggest_float(parameter.name, parameter.low, parameter.high, log=parameter.log)


def _sampler(study: Study, settings: Settings, identity: str, place: int) -> optuna.samplers.BaseSampler:
    """A sampler for one trial, seeded by the search's seed, the study's identity and the trial's place.

    The quasi-random sampler keeps its place in the storage, and needs the same seed for every trial.
    """
    which = study.sampler or settings.sampler
    seed, own = _number(settings.seed, identity), _number(settings.seed, identity, place)
    match which:
        case "tpe":
            return optuna.samplers.TPESampler(seed=own, multivariate=True, n_startup_trials=8, constant_liar=True)
        case "gp":
            return optuna.samplers.GPSampler(seed=own, deterministic_objective=False)
        case "cmaes":
            return optuna.samplers.CmaEsSampler(seed=own)
        case "qmc":
            with _experimental():
                return optuna.samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
    return optuna.samplers.RandomSampler(seed=own)


def _grid(study: Study) -> list[dict[str, Value]]:
    """The points of the study's own grid, or of one of each parameter's choices or four values over its range."""
    grid: dict[str, Sequence[Any]] = dict(study.grid)
    for p in study.parameters:
        if p.when is not None:
            raise AblateError(
                f"--sampler grid: a grid cannot hold {p.name}, which is drawn only sometimes; choose another sampler"
            )
        if p.name in grid:
            continue
        if p.choices is not None:
            grid[p.name] = list(p.choices)
            continue
        assert p.low is not None
        assert p.high is not None
        shares = [i / 3 for i in range(4)]
        values = [p.low * (p.high / p.low) ** s if p.log else p.low + (p.high - p.low) * s for s in shares]
        grid[p.name] = sorted({round(v) for v in values}) if p.integer else values
    return [dict(zip(grid, point, strict=True)) for point in product(*grid.values())]


class _Halving(optuna.pruners.SuccessiveHalvingPruner):
    """Successive halving in which a trial competes with those that were asked for before it, whenever it is decided.

    One that is tried again does not compete beside its repetition, which takes its place: what is decided is what would
    have been without the interruption.
    """

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        trials = study.get_trials(deepcopy=False)
        first, tried_again = _first_numbers(trials), {one.user_attrs.get(AGAIN) for one in trials}
        seen: Any = copy(study)
        seen.get_trials = lambda **asked: [
            one
            for one in study.get_trials(**asked)
            if not _was_interrupted(one) and one.number not in tried_again and first[one.number] < first[trial.number]
        ]
        return super().prune(seen, trial)


def _first_numbers(trials: Sequence[FrozenTrial]) -> dict[int, int]:
    """By the number of each trial, the one that it had when it was asked for the first time."""
    first: dict[int, int] = {}
    for trial in trials:
        first[trial.number] = first.get(trial.user_attrs.get(AGAIN, trial.number), trial.number)
    return first


def _was_interrupted(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and ERROR not in trial.user_attrs


def _pruner(settings: Settings) -> optuna.pruners.BasePruner:
    if not settings.rungs or settings.pareto:
        return optuna.pruners.NopPruner()
    first = settings.rungs[0]
    match settings.pruner:
        case "halving":
            return _Halving(min_resource=first, reduction_factor=REDUCTION_FACTOR)
        case "median":
            return optuna.pruners.MedianPruner(n_startup_trials=4)
        case "hyperband":
            return optuna.pruners.HyperbandPruner(
                min_resource=first, max_resource=settings.epochs, reduction_factor=REDUCTION_FACTOR
            )
        case "wilcoxon":
            with _experimental():
                return optuna.pruners.WilcoxonPruner(p_threshold=0.1, n_startup_steps=2)
    return optuna.pruners.NopPruner()


@contextmanager
def _experimental() -> Iterator[None]:
    """Silences the warning of Optuna that a feature used within is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _number(*parts: object) -> int:
    """A seed of 32 bits, hashed from what it is for."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "little")
