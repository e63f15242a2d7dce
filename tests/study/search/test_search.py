"""Searches carried out for real: trials in MLflow and Optuna, rungs, resuming, and no test image read."""

from __future__ import annotations

import json
import multiprocessing
import re
import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import optuna
import pytest
import torch
from optuna.trial import TrialState

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.profiles import Profile
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import BestRecord, ProvenanceRecord, SearchOutcomeRecord, WinnerRecord
from cifar_ablations.reports.pages import search_page
from cifar_ablations.reports.reading import searches
from cifar_ablations.study.commands.tune import nothing_to_adopt
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.execution.fleets import Progress
from cifar_ablations.study.search import search as module
from cifar_ablations.study.search.invocation import FIRST_TUNING_SEED, SearchInvocation
from cifar_ablations.study.search.optuna_study import COUNTED, storage_at
from cifar_ablations.study.search.search import carry_out
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.search_log import SearchLog
from cifar_ablations.study.store.tracking import open_store
from tests.fresh_store import put_fresh_store
from tests.standing_still import IMPATIENT, put_stuck_network

pytestmark = pytest.mark.slow

FACTS = ProvenanceRecord(commit="unknown", device="cpu")


def _invocation(recipe: Recipe, data: Dataset, **more) -> SearchInvocation:
    longer = replace(recipe, budget=replace(recipe.budget, epochs=4))
    profile = Profile("tiny", "for tests", longer.model, longer.budget, 2, 0.01)
    given = {"name": "regularization", "trials": 10, "sampler": "random", "workers": 2, **more}
    return SearchInvocation(baseline=longer, profile=profile, data=data, device=torch.device("cpu"), **given)


def test_a_search_is_logged_whole(recipe: Recipe, tiny_data: Dataset) -> None:
    how = {"pruner": "median", "seed": 3, "seeds_per_trial": 2, "pareto": True}
    origin = {"baseline_name": "mine", "baseline_seeds": (7,), "overrides": ("dropout.p=0.2",)}
    asked = _invocation(recipe, tiny_data, **how, **origin, command="ablate tune")
    record = asked.record()
    for name in ("name", "trials", "sampler", "pruner", "seed", "seeds", "pareto", "rungs", "epochs"):
        assert getattr(record, name) == getattr(asked, name)
    assert (record.overrides, record.command, record.baseline_seeds) == (asked.overrides, "ablate tune", (7,))
    assert (record.profile, record.data, record.chance) == (asked.profile.record(), asked.data_record(), 0.1)
    assert (record.model, record.budget) == (str(asked.baseline.model), str(asked.baseline.budget))
    assert record.baseline.name == "mine"
    assert (record.baseline.digest, record.baseline.knobs) == (asked.baseline.digest(), asked.baseline.knobs())
    assert set(record.titles) == set(record.reasons) == {technique.name for technique in recipe.techniques}
    assert all((record.question, record.digest, record.at_once))


def _tune(home: Home, invocation: SearchInvocation, stop_after: int | None = None):
    """A search carried out; asked to stop after so many events, if a number is given."""
    seen = 0

    def stopped() -> bool:
        nonlocal seen
        seen += 1
        return stop_after is not None and seen > stop_after

    def show(progress: Progress) -> None:
        pass

    return carry_out(invocation, storage_at(None, home.journal), open_store(home), FACTS, show, stopped)


def _runs(home: Home, kind: str = schema.KIND_TRIAL) -> list:
    client = mlflow.MlflowClient(tracking_uri=home.tracking_uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.kind = '{kind}'", max_results=1000))


def _studies(home: Home) -> dict[str, list]:
    storage = storage_at(None, home.journal)
    names = optuna.get_all_study_names(storage)
    return {name: optuna.load_study(study_name=name, storage=storage).trials for name in names}


@pytest.fixture(scope="module")
def carried_out(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe, tiny_data: Dataset):
    home = Home(put_fresh_store(tmp_path_factory.mktemp("home")))
    invocation = _invocation(recipe, tiny_data)
    outcome, progress = _tune(home, invocation)
    return home, invocation, outcome, progress


@pytest.mark.exhaustive
def test_every_trial_is_a_run_with_its_knobs_its_number_and_its_state(carried_out) -> None:
    home, invocation, _, progress = carried_out
    (trials,) = _studies(home).values()
    runs = {int(r.data.tags[schema.TRIAL]): r for r in _runs(home)}
    assert len(runs) == len(trials) == progress.done == 10
    states = {TrialState.COMPLETE: ("FINISHED", schema.FINISHED), TrialState.PRUNED: ("KILLED", schema.PRUNED)}
    for trial in trials:
        run = runs[trial.number]
        assert (run.info.status, run.data.tags[schema.OUTCOME]) == states[trial.state]
        assert json.loads(run.data.tags[schema.SAMPLED]) == trial.params
        for name, value in trial.params.items():
            if "." in name:
                assert run.data.params[name] == str(value)
        client = mlflow.MlflowClient(tracking_uri=home.tracking_uri)
        curve = client.get_metric_history(run.info.run_id, schema.VALIDATION_ACCURACY)
        assert [point.step for point in curve] == list(range(1, int(run.data.metrics[schema.EPOCHS]) + 1))
        assert run.data.metrics[schema.OBJECTIVE] == curve[-1].value
        assert trial.intermediate_values[1] == curve[0].value
        if trial.state == TrialState.COMPLETE:
            assert trial.value == curve[-1].value
            assert curve[-1].step == invocation.epochs
    assert {t.state for t in trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    (parent,) = _runs(home, schema.KIND_SEARCH)
    assert parent.info.status == "FINISHED"
    assert {r.data.tags["mlflow.parentRunId"] for r in runs.values()} == {parent.info.run_id}


def test_the_study_has_a_name_that_a_person_can_read(carried_out) -> None:
    home, invocation, outcome, _ = carried_out
    (name,) = _studies(home)
    *words, digest = name.split(" · ")
    assert words == ["regularization", "tiny", invocation.data.name]
    assert re.fullmatch("[0-9a-f]{8}", digest)
    assert [study.storage_name for study in outcome.studies] == [name]


def test_epochs_that_a_pruned_trial_no_longer_needs_count_as_done(carried_out) -> None:
    _, invocation, _, progress = carried_out
    assert progress.pruned
    assert progress.epochs_done == progress.epochs_total == 10 * invocation.epochs


def test_no_trial_has_seen_a_test_image_or_a_seed_of_a_plan(carried_out) -> None:
    home, invocation, _, _ = carried_out
    for run in _runs(home):
        assert not [name for name in run.data.metrics if name.startswith("test/") or "gap" in name]
    assert min(invocation.seeds) >= FIRST_TUNING_SEED


def test_the_winner_is_the_best_finished_trial_and_is_told_with_what_it_changes(carried_out) -> None:
    home, invocation, outcome, _ = carried_out
    (trials,) = _studies(home).values()
    best = max((t for t in trials if t.state == TrialState.COMPLETE), key=lambda t: t.value)
    winner = outcome.winner
    assert (winner.trial, winner.value) == (best.number, best.value)
    knobs = invocation.baseline.knobs()
    for name, before, after in winner.changes:
        assert knobs[name] == before != after == winner.knobs[name]
    ended = SearchLog(open_store(home)).newest_ended("regularization", invocation.data)
    assert ended is not None
    assert ended.outcome == outcome
    assert ended.asked == invocation.record()
    assert ended.asked.digest == outcome.search_digest


def test_a_second_call_tries_nothing_and_finds_the_same(carried_out) -> None:
    home, invocation, outcome, _ = carried_out
    again, progress = _tune(home, invocation)
    assert (again, progress.done, progress.total) == (outcome, 0, 0)
    assert len(_runs(home)) == 10
    assert len(_runs(home, schema.KIND_SEARCH)) == 1


def test_a_trial_that_was_told_but_not_written_when_the_power_went_is_written(carried_out) -> None:
    home, invocation, _, _ = carried_out
    store = open_store(home)
    before = {r.info.run_id: (r.info.status, r.data.tags[schema.OUTCOME], r.data.metrics) for r in _runs(home)}
    for state in (schema.FINISHED, schema.PRUNED):
        store.interrupt(next(run_id for run_id, (_, outcome, _) in before.items() if outcome == state))
    (parent,) = _runs(home, schema.KIND_SEARCH)
    store.interrupt(parent.info.run_id)
    _, progress = _tune(home, invocation)
    assert progress.done == 0
    parents = {r.info.status for r in _runs(home, schema.KIND_SEARCH)}
    assert parents == {"KILLED", "FINISHED"}, "what was found is written by the next call"
    mlflow.MlflowClient(tracking_uri=home.tracking_uri).delete_run(parent.info.run_id)
    after = {r.info.run_id: (r.info.status, r.data.tags[schema.OUTCOME], r.data.metrics) for r in _runs(home)}
    assert after == before


@pytest.mark.exhaustive
def test_the_same_seed_tries_the_same_elsewhere(carried_out, tmp_path: Path) -> None:
    home, invocation, outcome, _ = carried_out
    other = Home(put_fresh_store(tmp_path))
    again, _ = _tune(other, replace(invocation, workers=1))
    (first,), (second,) = _studies(home).values(), _studies(other).values()
    assert [(t.params, t.state, t.values) for t in first] == [(t.params, t.state, t.values) for t in second]
    assert again.winner == outcome.winner


@pytest.mark.parametrize("events", [3, pytest.param(25, marks=pytest.mark.exhaustive)])
def test_an_interrupted_search_ends_with_the_same_trials(carried_out, events: int, tmp_path: Path) -> None:
    home, invocation, outcome, _ = carried_out
    other = Home(put_fresh_store(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        _tune(other, invocation, stop_after=events)
    assert not [r for r in (*_runs(other), *_runs(other, schema.KIND_SEARCH)) if r.info.status == "RUNNING"]
    before = [t for t in next(iter(_studies(other).values())) if t.state in COUNTED]
    again, _ = _tune(other, invocation)
    (whole,), (trials,) = _studies(home).values(), _studies(other).values()
    ended = [t for t in trials if t.state in COUNTED]
    assert len(ended) == 10
    if not before:
        assert [t.params for t in ended] == [t.params for t in whole]
    # A trial that was in flight is asked again, under a later number than those that had ended.
    drawn, expected = ({repr(sorted(t.params.items())): t for t in some} for some in (ended, whole))
    assert len(drawn) == 10
    assert set(drawn) == set(expected)
    assert {d: (t.state, t.values) for d, t in drawn.items()} == {d: (t.state, t.values) for d, t in expected.items()}
    assert {t.state for t in trials if t not in ended} <= {TrialState.FAIL}
    assert again.winner.value == outcome.winner.value
    assert not list(other.checkpoints.glob("search-*"))


@pytest.mark.parametrize("times", [1, 2])
def test_trials_of_a_worker_that_was_killed_go_on_with_another_and_later_with_the_next_call(
    carried_out, times: int, tmp_path: Path
) -> None:
    home, invocation, outcome, _ = carried_out
    invocation, other = replace(invocation, workers=1), Home(put_fresh_store(tmp_path))
    killed = list[int]()

    def kill(progress: Progress) -> None:
        for worker in multiprocessing.active_children():
            if len(killed) < times and worker.pid not in killed and progress.epochs_done > 2:
                killed.append(worker.pid or 0)
                worker.kill()

    def tune() -> tuple[SearchOutcomeRecord, Progress]:
        return carry_out(invocation, storage_at(None, other.journal), open_store(other), FACTS, kill)

    _, progress = tune()
    assert len(killed) == times
    assert all(" worker process ended with exit code -9, and another goes on" in said for said in progress.stalled)
    assert bool(progress.failed) == (times == 2)
    again, progress = tune()
    assert (progress.done > 0, progress.failed) == (times == 2, {})
    assert tune()[1].done == 0
    (whole,), (trials,) = _studies(home).values(), _studies(other).values()
    drawn, expected = (
        {repr(sorted(t.params.items())): t for t in some if t.state in COUNTED} for some in (trials, whole)
    )
    assert drawn.keys() == expected.keys()
    if times == 1:
        assert {d: t.values for d, t in drawn.items()} == {d: t.values for d, t in expected.items()}
        assert again.winner == outcome.winner


@pytest.mark.exhaustive
def test_trials_of_a_worker_that_stands_still_go_on_in_their_runs(
    tmp_path: Path, recipe: Recipe, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    name, _ = put_stuck_network(tmp_path, step=8)  # three steps an epoch
    home = Home(put_fresh_store(tmp_path / "home"))
    invocation = _invocation(
        recipe.set(f"model.name={name}"), tiny_data, trials=2, workers=1, pruner="none", patience=IMPATIENT
    )
    storage, store = storage_at(None, home.journal), open_store(home)
    _, progress = carry_out(invocation, storage, store, FACTS, lambda progress: None)
    assert (progress.done, progress.failed) == (2, {})
    assert progress.epochs_done == 2 * invocation.epochs
    (sentence,) = progress.stalled
    names, why = sentence.split(": ")
    assert names.endswith(", trial 0 and 1 more")
    assert why.startswith("its worker made no progress for ")
    (trials,) = _studies(home).values()
    assert {t.state for t in trials} == {TrialState.COMPLETE}
    runs = _runs(home)
    assert len(runs) == 2
    client = mlflow.MlflowClient(tracking_uri=home.tracking_uri)
    for run in runs:
        assert (run.info.status, run.data.tags[schema.OUTCOME]) == ("FINISHED", schema.FINISHED)
        assert why.startswith(run.data.tags[schema.STALLED])
        curve = client.get_metric_history(run.info.run_id, schema.VALIDATION_ACCURACY)
        assert [point.step for point in curve] == list(range(1, invocation.epochs + 1)), "each epoch once"


@pytest.mark.exhaustive
def test_a_search_of_rates_widens_and_a_retuning_keeps_its_baseline(
    tmp_path: Path, recipe: Recipe, tiny_data: Dataset
) -> None:
    home = Home(put_fresh_store(tmp_path))
    invocation = _invocation(recipe, tiny_data, name="learning-rate", trials=2, pruner="none")
    outcome, progress = _tune(home, invocation)
    assert len(outcome.studies) == 7
    widened = {study.widened for study in outcome.studies}
    assert len(widened) == 1
    per_study = [len(trials) for trials in _studies(home).values()]
    assert per_study == [2 + widened.pop()] * 7
    assert progress.done == sum(per_study)
    kept, _ = _tune(home, _invocation(recipe, tiny_data, name="retune", trials=1))
    assert kept.winner is None
    assert set(kept.retuned) == {t.name for t in invocation.baseline.techniques if not t.is_off}


@pytest.mark.exhaustive
@pytest.mark.parametrize("pruner", ["wilcoxon", "median"])
def test_a_trial_of_several_seeds_is_worth_their_mean(
    pruner: str, tmp_path: Path, recipe: Recipe, tiny_data: Dataset
) -> None:
    home = Home(put_fresh_store(tmp_path))
    invocation = _invocation(recipe, tiny_data, trials=4, pruner=pruner, seeds_per_trial=3)
    _tune(home, invocation)
    assert len(_runs(home)) == 4
    for run in _runs(home):
        if run.data.tags[schema.OUTCOME] == schema.FINISHED:
            assert run.data.metrics[schema.EPOCHS] == 3 * invocation.epochs
            # A mean of three shares of 40 images.
            assert run.data.metrics[schema.OBJECTIVE] * 120 == pytest.approx(
                round(run.data.metrics[schema.OBJECTIVE] * 120)
            )


@pytest.mark.exhaustive
def test_a_diverged_trial_counts_as_guessing_and_is_not_called_pruned(
    tmp_path: Path, recipe: Recipe, tiny_data: Dataset
) -> None:
    wild = recipe.set("optimizer.kind=sgd").set("optimizer.rate=100").set("weight_decay.strength=1")
    home = Home(put_fresh_store(tmp_path))
    outcome, progress = _tune(home, _invocation(wild, tiny_data, name="retune", trials=1, workers=1))
    diverged = [r for r in _runs(home) if r.data.tags[schema.OUTCOME] == schema.DIVERGED]
    assert progress.diverged == len(diverged) > 0
    assert {r.data.metrics[schema.OBJECTIVE] for r in diverged} == {0.1}
    assert {r.info.status for r in diverged} == {"FINISHED"}
    assert progress.best is None or progress.best > 0.1
    for study in outcome.studies:
        assert (study.best is None, study.diverged) in ((True, 1), (False, 0))
    assert not all(study.name in outcome.retuned for study in outcome.studies)


@pytest.mark.exhaustive
def test_two_objectives_end_with_a_front(tmp_path: Path, recipe: Recipe, tiny_data: Dataset) -> None:
    outcome, progress = _tune(Home(put_fresh_store(tmp_path)), _invocation(recipe, tiny_data, trials=3, pareto=True))
    assert progress.pruned == 0
    (study,) = outcome.studies
    assert 1 <= len(study.front) <= 3
    assert max(t.value for t in study.front) == outcome.winner.value


def _told(home: Home, invocation: SearchInvocation):
    """What a search came to, what was done, and what was said of the two storages."""
    said: list[str] = []
    storage, store = storage_at(None, home.journal, said.append), open_store(home)
    outcome, progress = carry_out(invocation, storage, store, FACTS, lambda progress: None, say=said.append)
    return outcome, progress, said


def _reached(home: Home) -> dict:
    """What every trial that ended came to, by its number."""
    ended = [r for r in _runs(home) if r.data.tags.get(schema.OUTCOME) in (*schema.RESULTS, schema.PRUNED)]
    assert len({r.data.tags[schema.TRIAL] for r in ended}) == len(ended), "each once"
    return {
        int(r.data.tags[schema.TRIAL]): (
            r.data.tags[schema.OUTCOME],
            r.data.metrics[schema.OBJECTIVE],
            r.data.metrics.get(schema.RUNG),
            r.data.tags[schema.SAMPLED],
            r.data.tags[schema.DIGEST],
        )
        for r in ended
    }


@pytest.fixture
def copied(carried_out, tmp_path: Path):
    """An output folder of its own with all that the search has found."""
    home, invocation, outcome, _ = carried_out
    shutil.copytree(home.folder, tmp_path / "copied")
    return Home(tmp_path / "copied"), invocation, outcome


def test_trials_of_another_output_folder_are_told_on_the_page_too(carried_out, tmp_path: Path) -> None:
    home, invocation, outcome, _ = carried_out
    other = Home(put_fresh_store(tmp_path))
    shutil.copy(home.journal, other.journal)
    again, progress, said = _told(other, invocation)
    assert (again, progress.done) == (outcome, 0)
    (sentence,) = said
    assert sentence.startswith("10 trials in Optuna's storage had no run in this MLflow store")
    assert _reached(other) == _reached(home)
    assert {r.data.tags[schema.ORIGIN] for r in _runs(other)} == {schema.FROM_OPTUNA}
    assert _told(other, invocation)[2] == []
    (search,) = searches.searches(other.tracking_uri)
    trials = searches.trials_of(mlflow.MlflowClient(other.tracking_uri), search)
    best = searches.best_of(trials)
    assert best is not None
    assert (best["trial"], best["value"]) == (again.winner.trial, again.winner.value)
    page = " ".join(search_page.answer(search, searches.studies_of(search, trials), trials))
    assert "Of 10 trials the result was taken from Optuna's storage, which has no curves" in page


def test_a_lost_journal_is_written_anew_from_the_store(copied) -> None:
    home, invocation, outcome = copied
    (before,) = _studies(home).values()
    reached = _reached(home)
    home.journal.unlink()
    again, progress, said = _told(home, invocation)
    assert (again.winner, progress.done, len(said)) == (outcome.winner, 0, 1)
    assert "10 trials had ended in the MLflow store, and Optuna's storage did not know" in said[0]
    (after,) = _studies(home).values()
    for old, new in zip(before, after, strict=True):
        assert (old.number, old.state, old.params, old.intermediate_values) == (
            new.number,
            new.state,
            new.params,
            new.intermediate_values,
        )
        assert old.state == TrialState.PRUNED or old.value == new.value
    assert _reached(home) == reached
    assert _told(home, invocation)[2] == []


@pytest.mark.parametrize("lines", [1, 40])
def test_what_a_torn_journal_has_lost_is_not_trained_again(copied, lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    home, invocation, outcome = copied
    monkeypatch.setattr(module, "is_gone", lambda coordinator: True)  # it was this very process
    whole = home.journal.read_bytes()
    home.journal.write_bytes(b"".join(whole.splitlines(keepends=True)[:-lines]) + b'{"op_code":6,"wor')
    reached = _reached(home)
    again, progress, said = _told(home, invocation)
    assert (again.winner, progress.done) == (outcome.winner, 0)
    assert said[0].startswith("optuna.journal ended in a line that cannot be read")
    assert _reached(home) == reached


def test_a_trial_whose_run_a_person_deleted_is_tried_again_and_counts_no_more(copied) -> None:
    home, invocation, outcome = copied
    reached, winner = _reached(home), outcome.winner.trial
    client = mlflow.MlflowClient(tracking_uri=home.tracking_uri)
    (best,) = (r for r in _runs(home) if int(r.data.tags[schema.TRIAL]) == winner)
    client.delete_run(best.info.run_id)
    again, progress, said = _told(home, invocation)
    assert progress.done == 1
    assert said == [
        "1 trial had a run that was deleted in MLflow, which counts no longer; the same values were tried again."
    ]
    assert client.get_run(best.info.run_id).info.lifecycle_stage == "deleted"
    assert (again.winner.trial, again.winner.value) == (10, outcome.winner.value)
    assert _reached(home) == {**{n: v for n, v in reached.items() if n != winner}, 10: reached[winner]}
    _, progress, said = _told(home, invocation)
    assert (progress.done, said) == (0, [])


def test_more_trials_go_on_with_what_is_done(copied) -> None:
    home, invocation, outcome = copied
    reached = _reached(home)
    more, progress = _tune(home, replace(invocation, trials=12))
    assert (progress.done, progress.total) == (2, 2)
    assert {n: v for n, v in _reached(home).items() if n < 10} == reached
    assert len(_reached(home)) == 12
    assert more.search_digest == outcome.search_digest
    assert more.winner.value >= outcome.winner.value
    newest, *_ = searches.searches(home.tracking_uri)
    assert (newest.plan.trials, newest.outcome) == (12, more)
    fewer, progress = _tune(home, invocation)
    assert (fewer, progress.done) == (more, 0)


@pytest.mark.exhaustive
def test_a_search_that_was_begun_by_a_version_before_goes_on(
    tmp_path: Path, recipe: Recipe, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, invocation = Home(put_fresh_store(tmp_path)), _invocation(recipe, tiny_data, trials=1, pruner="none")
    of_before = {n: invocation.digest(n) for n in range(1, 1_001)}
    assert len({invocation.digest(), *of_before.values()}) == 1_001
    with monkeypatch.context() as before:
        before.setattr(SearchInvocation, "digest", lambda self, trials=None: of_before[trials or self.trials])
        before.setattr(module, "_digest_of_before", lambda *given: None)
        for trials in (2, 1):
            _tune(home, replace(invocation, trials=trials))
    assert {r.data.tags[schema.SEARCH_DIGEST] for r in _runs(home)} == {of_before[1], of_before[2]}
    more, progress = _tune(home, replace(invocation, trials=3))
    assert (progress.done, more.search_digest) == (1, of_before[2]), "the one with the most trials"
    assert len(_studies(home)) == 2
    assert _tune(home, replace(invocation, trials=1))[1].done == 0


@pytest.mark.exhaustive
def test_where_all_diverged_nothing_is_best(tmp_path: Path, recipe: Recipe, tiny_data: Dataset) -> None:
    wild = recipe.set("optimizer=off").set("learning_rate.factor=1000000")
    home = Home(put_fresh_store(tmp_path))
    asked = _invocation(wild, tiny_data, trials=2, workers=1, pruner="none", overrides=("optimizer=off",))
    outcome, progress = _tune(home, asked)
    assert (progress.diverged, progress.best, outcome.winner) == (2, None, None)
    assert nothing_to_adopt(outcome).startswith("all 2 trials that came to an end diverged")
    (search,) = searches.searches(home.tracking_uri)
    trials = searches.trials_of(mlflow.MlflowClient(home.tracking_uri), search)
    (sentence,) = search_page.answer(search, searches.studies_of(search, trials), trials)
    assert sentence == "No recipe is best: all 2 trials that came to an end diverged, and nothing can be adopted."
    (study,) = outcome.studies
    chosen = WinnerRecord(study.name, 0, 0.1, "feed", {}, ())
    of_before = replace(outcome, winner=chosen, studies=(replace(study, best=BestRecord(0, 0.1, {})),))
    found = searches.without_diverged(replace(search, outcome=of_before), trials)
    assert found.winner is None
    assert [one.best for one in found.outcome.studies] == [None]


def test_what_was_queued_by_hand_and_cannot_be_tried_is_named(
    tmp_path: Path, recipe: Recipe, tiny_data: Dataset
) -> None:
    home = Home(put_fresh_store(tmp_path))
    asked = _invocation(recipe, tiny_data, trials=1, pruner="none")
    _tune(home, asked)
    (name,) = _studies(home)
    optuna.load_study(study_name=name, storage=storage_at(None, home.journal)).enqueue_trial({"dropout.p": 7})
    _, progress = _tune(home, replace(asked, trials=2))
    assert progress.failed == {"regularization, trial 1": "it was queued with dropout.p = 7, and 0 to 0.7 is searched"}
    assert progress.done == 1
    assert _tune(home, replace(asked, trials=2))[1].failed == {}


def test_the_best_at_small_budgets_go_on_and_the_whole_budget_decides(
    tmp_path: Path, recipe: Recipe, tiny_data: Dataset
) -> None:
    how = {"name": "multi-fidelity", "trials": 32, "pruner": "none"}
    recipe = recipe.set("budget.epochs=1").set("model.width=0.25").set("dropout=off").set("augmentation=off")
    home = Home(put_fresh_store(tmp_path / "out"))
    invocation = _invocation(recipe, tiny_data, **how)
    with pytest.raises(KeyboardInterrupt):
        _tune(home, invocation, stop_after=150)
    outcome, _ = _tune(home, invocation)
    smallest, larger, whole = outcome.studies
    trials = {name.split(" · ")[0].removeprefix("multi-fidelity: "): found for name, found in _studies(home).items()}
    done = {name: [t for t in found if t.state == TrialState.COMPLETE] for name, found in trials.items()}
    assert [len(done[study.name]) for study in outcome.studies] == [32, 8, 2]
    for before, after in ((smallest, larger), (larger, whole)):
        ranked = sorted(done[before.name], key=lambda trial: (-trial.value, trial.number))
        best = [trial.params for trial in ranked[: len(done[after.name])]]
        assert sorted(map(str, best)) == sorted(str(trial.params) for trial in done[after.name])
    assert outcome.winner is not None
    assert outcome.winner.study == whole.name
    assert outcome.winner.value == max(trial.value for trial in done[whole.name])
    again, progress = _tune(home, invocation)
    assert again == outcome
    assert progress.done == 0
