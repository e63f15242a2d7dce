"""Optuna's side: planted optima are found, seeds repeat, and what was interrupted goes on as if it had not been."""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.search import Study, around
from cifar_ablations.study.search import optuna_study
from cifar_ablations.study.search.optuna_study import OptunaStudy, Settings, storage_at

OPTIMUM = 0.0123
ME = "me"


def _study(trials: int, sampler: str | None = None) -> Study:
    return Study(
        "quadratic", catalog.notebook_recipe(), (around("optimizer.rate", 0.03, 4.0),), trials, sampler=sampler
    )


def _settings(sampler: str = "tpe", pruner: str = "none", rungs: tuple[int, ...] = (), **more) -> Settings:
    return Settings(sampler, pruner, seed=0, rungs=rungs, epochs=9, **more)


def _value(rate: float) -> float:
    return 0.8 - 0.1 * math.log10(rate / OPTIMUM) ** 2


def _carry_out(study: OptunaStudy, batch: int = 4, kill_after: int | None = None) -> None:
    """Report the quadratic's values; stops without a word after so many trials, as a killed process does."""
    reported = 0
    while study.missing():
        trials = [study.ask(ME) for _ in range(study.due(batch))]
        for trial in trials:
            if reported == kill_after:
                return
            study.complete(trial, _value(trial.params["optimizer.rate"]), 1.0)
            reported += 1


def _sampled(study: OptunaStudy) -> list[float]:
    return [t.params["optimizer.rate"] for t in study.trials() if t.state == TrialState.COMPLETE]


@pytest.mark.parametrize("sampler", [s for s in optuna_study.SAMPLERS if s not in ("gp", "cmaes")])
def test_a_planted_optimum_is_found_and_the_same_seed_draws_the_same(sampler: str, tmp_path: Path) -> None:
    sampled = []
    for name in ("one", "other"):
        study = OptunaStudy(storage_at(None, tmp_path / name), "s", _study(24, sampler), _settings())
        _carry_out(study)
        sampled.append(_sampled(study))
        best = study.best()
        assert best is not None
        assert best.value == max(_value(rate) for rate in sampled[-1])
        if sampler == "tpe":
            assert abs(math.log10(float(best.sampled["optimizer.rate"]) / OPTIMUM)) < 0.25
    assert sampled[0] == sampled[1]
    assert len(set(sampled[0])) == len(sampled[0]) == (4 if sampler == "grid" else 24)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["gp", "cmaes"])
def test_the_slow_samplers_find_it_too(sampler: str, tmp_path: Path) -> None:
    parameters = (around("optimizer.rate", 0.03, 4.0), around("weight_decay.strength", 1e-4, 2.0))
    definition = Study("two", catalog.notebook_recipe(), parameters, 24, sampler=sampler)
    study = OptunaStudy(storage_at(None, tmp_path / "one"), "s", definition, _settings())
    _carry_out(study)
    assert study.best() is not None
    assert study.best().value > 0.78  # type: ignore[union-attr]


@pytest.mark.parametrize("sampler", ["tpe", "qmc", "random", "grid"])
@pytest.mark.parametrize("kill_after", [0, 5, 9])
def test_a_killed_study_goes_on_as_if_it_had_not_been(sampler: str, kill_after: int, tmp_path: Path) -> None:
    whole = OptunaStudy(storage_at(None, tmp_path / "whole"), "s", _study(16, sampler), _settings())
    _carry_out(whole)
    killed = OptunaStudy(storage_at(None, tmp_path / "killed"), "s", _study(16, sampler), _settings())
    _carry_out(killed, kill_after=kill_after)
    again = OptunaStudy(storage_at(None, tmp_path / "killed"), "s", _study(16, sampler), _settings())
    stale = again.recover(lambda coordinator: coordinator == ME)
    if kill_after < again.definition.trials:
        assert stale
    _carry_out(again)
    assert again.counted() == whole.counted() == (4 if sampler == "grid" else 16)
    assert not [t for t in again.trials() if t.state in (TrialState.RUNNING, TrialState.WAITING)]
    if sampler in ("tpe", "grid"):
        assert _sampled(again) == _sampled(whole)
    assert len(set(_sampled(again))) == len(_sampled(again))


def test_another_process_keeps_its_trials(tmp_path: Path) -> None:
    study = OptunaStudy(storage_at(None, tmp_path / "one"), "s", _study(4), _settings())
    trial = study.ask("somebody who is alive")
    assert study.recover(lambda coordinator: False) == []
    study.complete(trial, 0.5, 1.0)
    assert study.counted() == 1


def test_what_went_wrong_counts_and_is_not_asked_again(tmp_path: Path) -> None:
    study = OptunaStudy(storage_at(None, tmp_path / "one"), "s", _study(3), _settings())
    study.fail(study.ask(ME), "a worker died")
    _carry_out(study)
    assert [t.state for t in study.trials()] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert study.recover(lambda coordinator: True) == []


def test_the_baselines_own_value_is_tried_first_and_ranges_may_grow(tmp_path: Path) -> None:
    first = Study(
        "s", catalog.notebook_recipe(), (around("optimizer.rate", 0.003, 1.0),), 6, ({"optimizer.rate": 0.003},)
    )
    study = OptunaStudy(storage_at(None, tmp_path / "one"), "s", first, _settings())
    _carry_out(study)
    assert _sampled(study)[0] == 0.003
    wider = Study("s", first.recipe, (around("optimizer.rate", 0.003, 3.0),), 20, first.first)
    grown = OptunaStudy(storage_at(None, tmp_path / "one"), "s", wider, _settings())
    _carry_out(grown)
    assert len(_sampled(grown)) == 20
    assert max(_sampled(grown)) > 0.003 * 10**0.5


def test_the_pruner_decides_at_the_rungs(tmp_path: Path) -> None:
    settings = _settings(pruner="halving", rungs=(1, 3))
    study = OptunaStudy(storage_at(None, tmp_path / "one"), "s", _study(9), settings)
    trials = [study.ask(ME) for _ in range(9)]
    for rank, trial in enumerate(trials):
        trial.report(rank / 10, 1)
    kept = [rank for rank, trial in enumerate(trials) if not trial.should_prune()]
    # Ranks come in ascending order, so each is the best of those before it.
    assert kept == list(range(9))
    falling = OptunaStudy(storage_at(None, tmp_path / "two"), "s", _study(9), settings)
    trials = [falling.ask(ME) for _ in range(9)]
    for rank, trial in enumerate(trials):
        trial.report(1 - rank / 10, 1)
    assert [rank for rank, trial in enumerate(trials) if not trial.should_prune()] == [0]


def test_two_objectives_have_a_front(tmp_path: Path) -> None:
    study = OptunaStudy(storage_at(None, tmp_path / "one"), "s", _study(4), _settings(pareto=True))
    for accuracy, seconds in ((0.5, 1.0), (0.6, 3.0), (0.55, 4.0), (0.7, 9.0)):
        study.complete(study.ask(ME), accuracy, seconds)
    assert [(t.value, t.seconds) for t in study.front()] == [(0.5, 1.0), (0.6, 3.0), (0.7, 9.0)]
    assert study.best().value == 0.7  # type: ignore[union-attr]


def test_a_database_serves_as_well(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    _carry_out(OptunaStudy(storage_at(url, tmp_path / "unused"), "s", _study(4), _settings()))
    assert len(optuna.load_study(study_name="s", storage=url).trials) == 4
    assert not (tmp_path / "unused").exists()
    with pytest.raises(ValueError, match=r"--storage nonsense://me:\*\*\*@x cannot be opened"):
        storage_at("nonsense://me:secret@x", tmp_path / "unused")


def test_a_grid_cannot_hold_what_is_drawn_only_sometimes(tmp_path: Path) -> None:
    (study,) = next(catalog.search_module("regularization").search(catalog.notebook_recipe(), 8))
    with pytest.raises(ValueError, match=r"--sampler grid: a grid cannot hold weight_decay\.strength"):
        OptunaStudy(storage_at(None, tmp_path / "one"), "s", study, _settings("grid"))


@pytest.mark.parametrize(
    ("sampler", "pruner", "said"),
    [("tpee", "none", "no sampler 'tpee'; did you mean tpe?"), ("tpe", "halfing", "no pruner 'halfing'; did you mean")],
)
def test_unknown_names_get_the_nearest(sampler: str, pruner: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("?", r"\?")):
        optuna_study.check_names(sampler, pruner)


def test_what_a_reported_trial_ended_as_is_kept(tmp_path: Path) -> None:
    study = OptunaStudy(storage_at(None, tmp_path / "one"), "s", _study(2), _settings())
    study.complete(study.ask(ME), 0.5, 1.0)
    study.complete(study.ask(ME), 0.1, 1.0, schema.DIVERGED)
    again = OptunaStudy(storage_at(None, tmp_path / "one"), "s", _study(2), _settings())
    assert [(outcome, value) for _, outcome, value in again.reported()] == [
        (schema.FINISHED, 0.5),
        (schema.DIVERGED, 0.1),
    ]
