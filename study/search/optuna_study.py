"""Optuna's side of a search: studies in a storage, samplers and pruners by name, trials asked for and reported.

One coordinator does both; workers never see Optuna. What a trial samples depends on nothing but the search's seed, the
trial's place and what was reported before it, so that an interrupted study goes on as if it had not been.
"""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.ablations.record import FrontRecord, Value
from cifar_ablations.ablations.search import Best, Parameter, Study

SAMPLERS = ("tpe", "gp", "cmaes", "qmc", "random", "grid")
PRUNERS = ("halving", "median", "hyperband", "wilcoxon", "none")

REDUCTION_FACTOR = 2
"""From a rung to the next the epochs grow by this factor, and successive halving keeps one in so many trials."""

PLACE, COORDINATOR, RUN, ERROR, ENDED = "place", "coordinator", "mlflow_run", "error", "ended"
"""Attributes of a trial: its place in the order of asking, from 0; the process that trains it; its MLflow run's id;
what went wrong; what it ended as."""

COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)


def storage_at(url: str | None, file: Path) -> BaseStorage:
    """The storage of an RDB URL, or a journal in a file. Raises AblateError where it cannot be opened."""
    optuna.logging.set_verbosity(logging.ERROR)
    if url is None:
        file.parent.mkdir(parents=True, exist_ok=True)
        # A killed process leaves its lock behind; whoever holds the output folder is the only one who could hold it.
        Path(f"{file}.lock").unlink(missing_ok=True)
        return JournalStorage(JournalFileBackend(str(file)))
    try:
        return RDBStorage(url)
    except Exception as error:  # each database's driver has exceptions of its own
        reason = str(error).strip().splitlines()[0]
        shown = re.sub(r"://([^:/@]*):[^@]*@", r"://\1:***@", url)  # a password is nobody's business
        reason = reason.replace(url, shown)
        raise AblateError(
            f"--storage {shown} cannot be opened ({reason}); it takes a URL such as "
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


class OptunaStudy:
    """An Optuna study that carries out one of a search's."""

    def __init__(self, storage: BaseStorage, name: str, study: Study, settings: Settings):
        if (study.sampler or settings.sampler) == "grid":
            # Queued, not sampled: Optuna's grid sampler loses track of the points of trials that are tried again.
            points = _grid(study)
            study = replace(study, first=tuple(points[: study.trials]), trials=min(study.trials, len(points)))
        self.definition, self.settings = study, settings
        directions = [StudyDirection.MAXIMIZE, *([StudyDirection.MINIMIZE] if settings.pareto else [])]
        self._optuna = optuna.create_study(
            storage=storage, study_name=name, directions=directions, load_if_exists=True, pruner=_pruner(settings)
        )

    @property
    def name(self) -> str:
        """The name in the storage."""
        return self._optuna.study_name

    def trials(self) -> list[FrozenTrial]:
        """All trials, in the order in which they were asked."""
        return self._optuna.get_trials(deepcopy=False)

    def counted(self) -> int:
        """How many trials have come to an end that need not be repeated."""
        return sum(_counts(trial) for trial in self.trials())

    def missing(self) -> int:
        """How many are still to come."""
        return max(0, self.definition.trials - self.counted())

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
        for trial in stale:
            self._optuna.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        waiting = [t.system_attrs.get("fixed_params") for t in self.trials() if t.state == TrialState.WAITING]
        for trial in stale:
            sampled = trial.params or trial.system_attrs.get("fixed_params", {})
            if sampled and sampled not in waiting:
                self._optuna.enqueue_trial(sampled)
        return stale

    def ask(self, coordinator: str) -> Trial:
        """The next trial, its values sampled."""
        asked = [t for t in self.trials() if t.state == TrialState.RUNNING or _counts(t)]
        if not self.trials():
            for values in self.definition.first:
                self._optuna.enqueue_trial(dict(values))
        self._optuna.sampler = _sampler(self.definition, self.settings, self.name, len(asked))
        trial = self._optuna.ask()
        trial.set_user_attr(COORDINATOR, coordinator)
        trial.set_user_attr(PLACE, len(asked))
        sampled: dict[str, Value] = {}
        for parameter in self.definition.parameters:
            if parameter.wanted(sampled):
                sampled[parameter.name] = _suggest(trial, parameter)
        return trial

    def complete(self, trial: Trial, accuracy: float, seconds: float, outcome: str = schema.FINISHED) -> None:
        """Report what a trial reached, and as what it ended."""
        trial.set_user_attr(ENDED, outcome)
        self._optuna.tell(trial, [accuracy, seconds] if self.settings.pareto else accuracy)

    def prune(self, trial: Trial) -> None:
        """Report that a trial was ended by the pruner."""
        self._optuna.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: Trial, why: str | None) -> None:
        """Report that a trial has no result: for good where something went wrong, else to be asked again."""
        if why is not None:
            trial.set_user_attr(ERROR, why[-1_000:])
        self._optuna.tell(trial, state=TrialState.FAIL)
        if why is None:
            self._optuna.enqueue_trial(trial.params)

    def best(self) -> Best | None:
        """The finished trial with the highest accuracy; of equals the first."""
        finished = [t for t in self.trials() if t.state == TrialState.COMPLETE]
        if not finished:
            return None
        top = max(finished, key=lambda t: (t.values[0], -t.number))
        return Best(self.definition, top.number, top.values[0], top.params)

    def reported(self) -> list[tuple[FrozenTrial, str, float]]:
        """The trials that have come to an end, with what they ended as and where they stood, as the store has it."""
        ended = []
        for trial in self.trials():
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
        return tuple(FrontRecord(t.number, t.values[0], t.values[1], t.params) for t in best)


def _counts(trial: FrozenTrial) -> bool:
    return trial.state in COUNTED or (trial.state == TrialState.FAIL and ERROR in trial.user_attrs)


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


def _sampler(study: Study, settings: Settings, name: str, place: int) -> optuna.samplers.BaseSampler:
    """A sampler for one trial, seeded by the search's seed, the study's name and the trial's place.

    The quasi-random sampler keeps its place in the storage, and needs the same seed for every trial.
    """
    which = study.sampler or settings.sampler
    seed, own = _number(settings.seed, name), _number(settings.seed, name, place)
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


def _pruner(settings: Settings) -> optuna.pruners.BasePruner:
    if not settings.rungs or settings.pareto:
        return optuna.pruners.NopPruner()
    first = settings.rungs[0]
    match settings.pruner:
        case "halving":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=REDUCTION_FACTOR)
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
