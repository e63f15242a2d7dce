"""Optuna's side: planted optima are found, seeds repeat, and what was interrupted goes on as if it had not been."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from optuna.storages import InMemoryStorage
from optuna.trial import Trial, TrialState

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.search import Parameter, Study, around
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


@pytest.mark.exhaustive
@pytest.mark.parametrize("sampler", ["gp", "cmaes"])
def test_the_slow_samplers_find_it_too(sampler: str, tmp_path: Path) -> None:
    parameters = (around("optimizer.rate", 0.03, 4.0), around("weight_decay.strength", 1e-4, 2.0))
    definition = Study("two", catalog.notebook_recipe(), parameters, 24, sampler=sampler)
    study = OptunaStudy(storage_at(None, tmp_path / "one"), "s", definition, _settings())
    _carry_out(study)
    assert study.best() is not None
    assert study.best().value > 0.78  # type: ignore[union-attr]


@pytest.mark.slow
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
    wider = Study("s", first.recipe, (around("optimizer.rate", 0.003, 3.0),), 20, first.first, widened=1)
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


@pytest.mark.parametrize("sampler", ["random", "tpe"])
@pytest.mark.parametrize("at", [1, 2, 4, 5])
def test_what_was_killed_while_it_was_sampled_is_sampled_the_same_again(
    at: int, sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = tuple(around(name, 0.003, 4.0) for name in ("optimizer.rate", "weight_decay.strength"))
    definition = Study("two", catalog.notebook_recipe(), parameters, 4, sampler=sampler)
    undisturbed = OptunaStudy(storage_at(None, tmp_path / "one"), "s", definition, _settings())
    _carry_out(undisturbed)

    real, calls = optuna_study._suggest, 0

    def suggest(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        return real(*arguments)  # type: ignore[arg-type]

    study = OptunaStudy(storage_at(None, tmp_path / "two"), "s", definition, _settings())
    monkeypatch.setattr(optuna_study, "_suggest", suggest)
    with pytest.raises(KeyboardInterrupt):
        _carry_out(study)
    again = OptunaStudy(storage_at(None, tmp_path / "two"), "s", definition, _settings())
    again.recover(lambda coordinator: True)
    _carry_out(again)
    ended = [[t.params for t in one.trials() if t.state == TrialState.COMPLETE] for one in (undisturbed, again)]
    assert ended[0] == ended[1]


@pytest.mark.parametrize("interrupted", [0, 3])
def test_a_trial_that_was_interrupted_does_not_compete_with_its_repetition(interrupted: int, tmp_path: Path) -> None:
    settings = _settings(pruner="halving", rungs=(1, 3))
    study = OptunaStudy(storage_at(None, tmp_path / "one"), "s", _study(9), settings)
    for _ in range(interrupted):
        killed = study.ask("gone")
        killed.report(0.5, 1)
        assert not killed.should_prune()
        study.recover(lambda coordinator: coordinator == "gone")
    decided = []
    for value in (0.5, 0.9, 0.8):
        trial = study.ask(ME)
        trial.report(value, 1)
        decided.append(trial.should_prune())
    assert decided == [False, False, True]


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_kill_while_trials_are_put_back_loses_none(
    calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Put back is two calls of Optuna for each of them: one queues what it sampled, one tells that it has failed."""
    study = OptunaStudy(storage_at(None, tmp_path / "one"), "s", _study(3), _settings("random"))
    sampled = [study.ask("gone").params for _ in range(3)]
    left = calls

    def counted(real: Callable[..., None]) -> Callable[..., None]:
        def call(*given: object, **named: object) -> None:
            nonlocal left
            if not left:
                raise KeyboardInterrupt
            left -= 1
            real(*given, **named)

        return call

    with monkeypatch.context() as patched:
        for name in ("tell", "enqueue_trial"):
            patched.setattr(study._optuna, name, counted(getattr(study._optuna, name)))
        with pytest.raises(KeyboardInterrupt):
            study.recover(lambda coordinator: coordinator == "gone")
    study.recover(lambda coordinator: coordinator == "gone")
    assert study.due(3) == 3
    again = sorted((study.ask(ME) for _ in range(3)), key=lambda trial: study.first_number(trial.number))
    assert [trial.params for trial in again] == sampled
    assert not [trial for trial in study.trials() if trial.state == TrialState.WAITING]


def test_trials_are_put_in_the_order_of_their_first_asking(tmp_path: Path) -> None:
    study = OptunaStudy(storage_at(None, tmp_path / "one"), "s", _study(3), _settings("random"))
    sampled = [study.ask("gone").params for _ in range(3)]
    study.recover(lambda coordinator: coordinator == "gone")
    for _ in range(2):  # the third is still waiting when the next call puts these two back
        study.ask("gone too")
    study.recover(lambda coordinator: coordinator == "gone too")
    asked = [study.ask(ME) for _ in range(3)]
    assert [trial.params for trial in asked] != sampled
    asked.sort(key=lambda trial: study.first_number(trial.number))
    assert [trial.params for trial in asked] == sampled


def test_a_kill_before_a_trial_says_whose_it_is_changes_no_order(tmp_path: Path) -> None:
    study = OptunaStudy(storage_at(None, tmp_path / "one"), "s", _study(2), _settings("random"))
    sampled = [study.ask("gone").params for _ in range(2)]
    study.recover(lambda coordinator: True)
    study._optuna.ask()  # the first of them; the process ends here
    study.recover(lambda coordinator: True)
    asked = sorted((study.ask(ME) for _ in range(2)), key=lambda trial: study.first_number(trial.number))
    assert [trial.params for trial in asked] == sampled


def test_what_has_come_to_an_end_is_not_put_back(tmp_path: Path) -> None:
    study = OptunaStudy(storage_at(None, tmp_path / "one"), "s", _study(2), _settings())
    trial = study.ask(ME)
    study.complete(trial, 0.5, 1.0)
    study.fail(trial, None)
    assert [(t.state, t.value) for t in study.trials()] == [(TrialState.COMPLETE, 0.5)]


@given(st.lists(st.sampled_from([0.1, 0.5, 0.6, 0.7, 0.8, 0.9]), min_size=2, max_size=8), st.integers(0, 8))
@example([0.5, 0.9, 0.6], 3)
def test_a_trial_that_is_repeated_is_decided_as_if_it_had_not_been_interrupted(
    values: list[float], decided: int
) -> None:
    """Those that the pruner ended keep their end; the others are asked for again."""

    def asked(study: OptunaStudy, of: list[int], coordinator: str) -> dict[int, Trial]:
        trials = {number: study.ask(coordinator) for number in of}
        for number, trial in trials.items():
            trial.report(values[number], 1)
        return trials

    def pruned(study: OptunaStudy, trials: dict[int, Trial]) -> set[int]:
        ended = {number for number, trial in trials.items() if trial.should_prune()}
        for number in ended:
            study.prune(trials[number])
        return ended

    def opened() -> OptunaStudy:
        settings = _settings(sampler="random", pruner="halving", rungs=(1, 3))
        return OptunaStudy(InMemoryStorage(), "s", _study(len(values)), settings)

    everyone, interrupted = list(range(len(values))), opened()
    trials = asked(interrupted, everyone, "gone")
    ended = pruned(interrupted, {number: trials[number] for number in everyone[:decided]})
    interrupted.recover(lambda coordinator: coordinator == "gone")
    again = asked(interrupted, [number for number in everyone if number not in ended], ME)
    assert [t.params for t in again.values()] == [trials[number].params for number in again]
    undisturbed = opened()
    assert ended | pruned(interrupted, again) == pruned(undisturbed, asked(undisturbed, everyone, ME))


def test_a_trial_that_is_tried_again_competes_once(tmp_path: Path) -> None:
    """Its worker was lost after a rung."""
    values, decided = (0.9, 0.5, 0.6), []
    for lost in (False, True):
        study = OptunaStudy(
            storage_at(None, tmp_path / str(lost)), "s", _study(3), _settings("random", "halving", (1, 3))
        )
        trial = study.ask(ME)
        trial.report(values[0], 1)
        assert not trial.should_prune()
        if lost:
            study.fail(trial, "its worker died", lost=True)
            assert study.forget(study.lost()) == 1
            again = study.ask(ME)
            assert again.params == trial.params
            again.report(values[0], 1)
            assert not again.should_prune()
        trials = [study.ask(ME) for _ in values[1:]]
        for trial, value in zip(trials, values[1:], strict=True):
            trial.report(value, 1)
        decided.append(([trial.should_prune() for trial in trials], _competitors(study)))
    assert decided[0] == decided[1]


def _competitors(study: OptunaStudy) -> int:
    """How many trials the last one competes with, as the pruner sees it."""
    seen: list[int] = []

    def count(pruner: object, shown: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        seen.append(len(shown.get_trials(deepcopy=False)))
        return False

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(optuna.pruners.SuccessiveHalvingPruner, "prune", count)
        study._optuna.pruner.prune(study._optuna, study.trials()[-1])
    return seen[0]


def test_two_objectives_have_a_front(tmp_path: Path) -> None:
    study = OptunaStudy(storage_at(None, tmp_path / "one"), "s", _study(4), _settings(pareto=True))
    for accuracy, seconds in ((0.5, 1.0), (0.6, 3.0), (0.55, 4.0), (0.7, 9.0)):
        study.complete(study.ask(ME), accuracy, seconds)
    assert [(t.value, t.seconds) for t in study.front()] == [(0.5, 1.0), (0.6, 3.0), (0.7, 9.0)]
    assert study.best().value == 0.7  # type: ignore[union-attr]


def test_a_readable_name_changes_no_draw_and_a_study_of_before_goes_on_under_its_own(tmp_path: Path) -> None:
    title = "optimizer: RMSProp · quick · cifar10-images · 3f2a91b0"

    def opened(journal: str, trials: int, title: str = "") -> OptunaStudy:
        return OptunaStudy(
            storage_at(None, tmp_path / journal), "optimizer/rmsprop/feed", _study(trials), _settings(), title
        )

    before, now = opened("before", 10), opened("now", 10, title)
    assert (before.name, now.name) == ("optimizer/rmsprop/feed", title)
    _carry_out(before)
    _carry_out(now)
    assert _sampled(now) == _sampled(before)
    for journal, name in (("before", before.name), ("now", title)):
        again = opened(journal, 14, title)
        assert (again.name, again.missing()) == (name, 4)
        _carry_out(again)
        assert optuna.get_all_study_names(storage_at(None, tmp_path / journal)) == [name]
    assert _sampled(opened("now", 14, title)) == _sampled(opened("before", 14, title))


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


def test_a_diverged_trial_is_never_best(tmp_path: Path) -> None:
    study = OptunaStudy(storage_at(None, tmp_path / "one"), "s", _study(3), _settings(pareto=True))
    study.complete(study.ask(ME), 0.9, 1.0, schema.DIVERGED)
    assert study.best() is None
    assert study.front() == ()
    study.complete(study.ask(ME), 0.2, 2.0)
    assert (study.best().trial, study.best_of_round().trial, study.diverged()) == (1, 1, 1)  # type: ignore[union-attr]


QUEUED = [
    ({"optimizer.rate": 1e9}, "and 0.0003 to 3 is searched"),
    ({"optimizer.rate": -1.0}, "and 0.0003 to 3 is searched"),
    ({"optimizer.rate": math.nan}, "and 0.0003 to 3 is searched"),
    ({"optimizer.rate": "fast"}, "'fast', which is no number"),
    ({"optimizer.rate": "0.01"}, "'0.01', which is no number"),
    ({"optimizer.rate": True}, "True, which is no number"),
    ({"optimizer.rate": None}, "None, which is no number"),
    ({"optimizer.rate": [0.01]}, "[0.01], which is no number"),
    ({"optimizer.rat": 0.01}, "'optimizer.rat', which is not searched; did you mean optimizer.rate"),
    ({"augmentation.padding": 2.5}, "and whole numbers are searched"),
    ({"schedule.shape": "zigzag"}, "'zigzag', which is not among constant, cosine"),
    ({"schedule.shape": 3}, "3, which is not among constant, cosine"),
]


@pytest.mark.parametrize(("queued", "why"), QUEUED, ids=[str(queued) for queued, _ in QUEUED])
def test_what_is_queued_by_hand_and_cannot_be_tried_fails_alone_and_once(
    queued: dict, why: str, tmp_path: Path
) -> None:
    parameters = (
        around("optimizer.rate", 0.03, 4.0),
        Parameter("augmentation.padding", 0, 8, integer=True),
        Parameter("schedule.shape", choices=("constant", "cosine")),
    )
    definition = Study("quadratic", catalog.notebook_recipe(), parameters, 4)

    def opened(name: str) -> OptunaStudy:
        return OptunaStudy(storage_at(None, tmp_path / name), "s", definition, _settings())

    untouched = opened("untouched")
    _carry_out(untouched)
    opened("one")
    by_hand = optuna.load_study(study_name="s", storage=storage_at(None, tmp_path / "one"))
    by_hand.enqueue_trial(queued)
    by_hand.enqueue_trial({"optimizer.rate": 0.5})
    study = opened("one")
    _carry_out(study)
    assert list(study.refused) == [0]
    assert why in study.refused[0]
    assert study.trials()[0].state == TrialState.FAIL
    assert study.trials()[1].params["optimizer.rate"] == 0.5
    assert study.counted() == 4, "what was not tried is none of the trials"
    assert _sampled(study)[1:] == _sampled(untouched)[1:], "and changes no draw"
    again = opened("one")
    assert again.recover(lambda coordinator: True) == []
    assert (again.missing(), again.refused) == (0, {})


def test_a_trial_that_a_version_before_left_unasked_is_not_queued_for_ever(tmp_path: Path) -> None:
    storage = storage_at(None, tmp_path / "one")
    by_hand = optuna.create_study(storage=storage, study_name="s", direction="maximize")
    by_hand.enqueue_trial({"optimizer.rate": "fast"})
    by_hand.ask().set_user_attr(optuna_study.COORDINATOR, ME)
    for _ in range(3):
        study = OptunaStudy(storage_at(None, tmp_path / "one"), "s", _study(2), _settings())
        study.recover(lambda coordinator: True)
        _carry_out(study)
    assert [t.state for t in study.trials()] == [TrialState.FAIL, TrialState.FAIL, *[TrialState.COMPLETE] * 2]


def test_the_baselines_own_value_is_tried_also_where_a_trial_was_queued_first(tmp_path: Path) -> None:
    own = {"optimizer.rate": 0.003}
    first = Study("s", catalog.notebook_recipe(), (around("optimizer.rate", 0.003, 1.0),), 4, (own,))
    optuna.create_study(storage=storage_at(None, tmp_path / "one"), study_name="s", direction="maximize").enqueue_trial(
        {"optimizer.rate": 0.004}
    )
    study = OptunaStudy(storage_at(None, tmp_path / "one"), "s", first, _settings())
    _carry_out(study)
    assert _sampled(study)[:2] == [0.004, 0.003]
    assert _sampled(study).count(0.003) == 1


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ({"direction": "minimize"}, "looks for the lowest value"),
        ({"directions": ["maximize", "minimize"]}, "has 2 objectives, and this search has 1"),
    ],
)
def test_a_study_of_another_direction_is_not_gone_on_with(before: dict, said: str, tmp_path: Path) -> None:
    optuna.create_study(storage=storage_at(None, tmp_path / "one"), study_name="s", **before)
    with pytest.raises(AblateError, match=f"the study 's' .* {said}.*--seed"):
        OptunaStudy(storage_at(None, tmp_path / "one"), "s", _study(4), _settings())


def test_a_study_of_another_space_or_sampler_is_not_gone_on_with(tmp_path: Path) -> None:
    rate = around("optimizer.rate", 0.03, 4.0)

    def opened(*parameters: Parameter, sampler: str = "random", widened: int = 0) -> OptunaStudy:
        definition = Study("s", catalog.notebook_recipe(), parameters, 3, sampler=sampler, widened=widened)
        return OptunaStudy(storage_at(None, tmp_path / "one"), "s", definition, _settings())

    _carry_out(opened(rate))
    for other, said in (
        (
            (around("optimizer.rate", 0.3, 4.0),),
            r"searched optimizer\.rate \(0\.0003.* looks for optimizer\.rate \(0\.003",
        ),
        ((rate, Parameter("dropout.p", 0.0, 0.5)), r"searched no more, and this search looks for dropout\.p"),
        ((Parameter("dropout.p", 0.0, 0.5),), r"searched optimizer\.rate"),
        ((Parameter("optimizer.rate", rate.low, rate.high),), r"logarithm"),
    ):
        with pytest.raises(AblateError, match=said):
            opened(*other)
    with pytest.raises(AblateError, match="was sampled by random, and this search samples by tpe"):
        opened(rate, sampler="tpe")
    assert opened(rate).missing() == 0
    assert opened(around("optimizer.rate", 0.03, 5.0), widened=1).missing() == 0, "ranges may grow"


def test_a_study_of_before_is_known_by_what_its_trials_sampled(tmp_path: Path) -> None:
    by_hand = optuna.create_study(storage=storage_at(None, tmp_path / "one"), study_name="s", direction="maximize")
    by_hand.add_trial(
        optuna.trial.create_trial(
            value=0.5,
            params={"optimizer.rate": 0.01},
            distributions={"optimizer.rate": optuna.distributions.FloatDistribution(0.001, 0.1)},
        )
    )
    with pytest.raises(AblateError, match=r"searched optimizer\.rate in FloatDistribution"):
        OptunaStudy(storage_at(None, tmp_path / "one"), "s", _study(4), _settings())


def test_a_larger_grid_tries_the_points_that_are_new(tmp_path: Path) -> None:
    def grid(*rates: float) -> OptunaStudy:
        parameters = (around("optimizer.rate", 0.03, 4.0),)
        definition = Study("s", catalog.notebook_recipe(), parameters, len(rates), sampler="grid")
        definition = replace(definition, grid={"optimizer.rate": rates})
        return OptunaStudy(storage_at(None, tmp_path / "one"), "s", definition, _settings())

    _carry_out(grid(0.001, 0.1))
    more = grid(0.001, 0.01, 0.1)
    assert more.missing() == 1
    _carry_out(more)
    assert _sampled(more) == [0.001, 0.1, 0.01]
    assert more.best().sampled["optimizer.rate"] == 0.01  # type: ignore[union-attr]
    assert grid(0.001, 0.1).best_of_round().sampled["optimizer.rate"] != 0.01  # type: ignore[union-attr]


def test_a_round_is_judged_by_its_own_trials_when_more_have_followed(tmp_path: Path) -> None:
    def opened(trials: int) -> OptunaStudy:
        return OptunaStudy(storage_at(None, tmp_path / "one"), "s", _study(trials), _settings("random"))

    study = opened(4)
    _carry_out(study)
    best = study.best()
    more = opened(40)
    _carry_out(more)
    assert more.best() != best
    assert opened(4).best_of_round().trial == best.trial  # type: ignore[union-attr]
    assert opened(4).best().trial == more.best().trial  # type: ignore[union-attr]


def test_a_trial_that_is_forgotten_is_tried_again_once(tmp_path: Path) -> None:
    study = OptunaStudy(storage_at(None, tmp_path / "one"), "s", _study(3), _settings())
    _carry_out(study)
    rate = _sampled(study)[1]
    for _ in range(2):
        again = OptunaStudy(storage_at(None, tmp_path / "one"), "s", _study(3), _settings())
        again.forget([1])
        _carry_out(again)
        assert (len(again.trials()), again.counted()) == (4, 3)
        assert again.trials()[3].params["optimizer.rate"] == rate
        assert 1 not in [trial.number for trial, _, _ in again.reported()]
