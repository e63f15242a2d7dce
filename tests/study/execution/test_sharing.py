"""Coordinators that share a plan: one is real and trains, the others have leases in a database beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import torch

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.profiles import Profile
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import ProvenanceRecord
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.execution import runner
from cifar_ablations.study.execution.fleets import Progress
from cifar_ablations.study.execution.runner import Invocation, claimed, run
from cifar_ablations.study.execution.shard import Shard
from cifar_ablations.study.store.claims import Claims
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.tracking import Store, open_store
from tests.fresh_store import put_fresh_store

pytestmark = pytest.mark.slow

FACTS = ProvenanceRecord(commit="unknown", device="cpu")
ELSEWHERE = "other-machine/boot/4711/12.50"


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database of claims beside a store that is a file, which would need none."""
    url = f"sqlite:///{tmp_path / 'claims.db'}"
    monkeypatch.setattr(Home, "claims", url)
    monkeypatch.setattr(runner, "LOOK_SECONDS", 0.2)
    return url


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Home(put_fresh_store(tmp_path / "out")))


def _invocation(recipe: Recipe, data: Dataset, seeds: int = 4, shard: Shard | None = None) -> Invocation:
    profile = Profile("tiny", "for tests", recipe.model, recipe.budget, seeds, 0.01)
    plan = catalog.make_plan("notebook", recipe, profile, tuple(range(seeds)))
    return Invocation(plan, profile=profile, data=data, device=torch.device("cpu"), workers=1, shard=shard)


def _runs(store: Store) -> list:
    client = mlflow.MlflowClient(tracking_uri=store.uri)
    experiments = [e.experiment_id for e in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.kind = '{schema.KIND_TRAINING}'", max_results=1000))


def _outcomes(store: Store) -> Counter[str]:
    return Counter(run.data.tags.get(schema.OUTCOME, "") for run in _runs(store))


def _carry_out(
    invocation: Invocation,
    store: Store,
    show: Callable[[Progress], None] = lambda progress: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Progress:
    with store.delivering():
        return run(invocation, store, FACTS, show, stopped)


def test_what_another_has_is_waited_for_and_trained_once_its_lease_has_run_out(
    database: str, store: Store, recipe: Recipe, tiny_data: Dataset
) -> None:
    invocation, said = _invocation(recipe, tiny_data), set[str]()
    names = [claimed(invocation, store, member) for member in invocation.members()]
    Claims(database, ELSEWHERE, lease_seconds=4).take(names[:2])  # and renewed no more
    progress = _carry_out(invocation, store, lambda progress: said.update(progress.waiting_for))
    assert said == {"process 4711 on other-machine"}
    assert _outcomes(store) == {schema.FINISHED: 4}
    assert (progress.done, progress.elsewhere, progress.total) == (4, 0, 4)
    assert Claims(database, "later").take(names) == set(names), "all leases are given back"


def test_what_another_has_trained_meanwhile_is_not_trained_again(
    database: str, store: Store, recipe: Recipe, tiny_data: Dataset
) -> None:
    invocation = _invocation(recipe, tiny_data)
    names = [claimed(invocation, store, member) for member in invocation.members()]
    other = Claims(database, ELSEWHERE)
    other.take(names[::2])

    def show(progress: Progress) -> None:
        if progress.waiting_for:  # then the other one trains its share, and ends
            run(_invocation(recipe, tiny_data, shard=Shard(1, 2)), store, FACTS, lambda progress: None)
            other.release()

    def shown(progress: Progress) -> None:
        Home.claims, kept = None, Home.claims  # type: ignore[misc, assignment]
        try:
            show(progress)
        finally:
            Home.claims = kept  # type: ignore[method-assign]

    progress = _carry_out(invocation, store, shown)
    assert _outcomes(store) == {schema.FINISHED: 4}
    assert (progress.done, progress.elsewhere) == (4, 2)
    assert progress.seeds_done == 4
    assert progress.epochs_elsewhere == 2 * recipe.sized.budget.epochs
    assert progress.epochs_done == progress.epochs_total


def test_what_a_dead_one_had_finished_is_found_in_the_store(
    database: str, store: Store, recipe: Recipe, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    invocation = _invocation(recipe, tiny_data)
    names = [claimed(invocation, store, member) for member in invocation.members()]
    _carry_out(_invocation(recipe, tiny_data, shard=Shard(1, 2)), store)
    Claims(database, ELSEWHERE, lease_seconds=1e-9).take(names)  # it died before it could give them back
    results, reads = store.results, list[int]()

    def stale(*words: object, **named: object) -> set[tuple[str, int]]:
        reads.append(1)
        return results(*words, **named) if len(reads) > 1 else set()  # type: ignore[arg-type]

    monkeypatch.setattr(store, "results", stale)
    _carry_out(invocation, store)
    assert _outcomes(store) == {schema.FINISHED: 4}, "none of them twice"


def test_what_failed_here_is_not_kept_from_others_while_one_waits_for_them(
    database: str, store: Store, recipe: Recipe, tiny_data: Dataset
) -> None:
    invocation = _invocation(recipe.set("model.name=nonsense"), tiny_data, seeds=2)
    mine, theirs = (claimed(invocation, store, member) for member in invocation.members())
    other, got = Claims(database, ELSEWHERE), set[str]()
    other.take([theirs])

    def show(progress: Progress) -> None:
        if progress.waiting_for:
            got.update(other.take([mine]))

    with pytest.raises(KeyboardInterrupt):
        _carry_out(invocation, store, show, lambda: bool(got))
    assert got == {mine}, "else two whose trainings fail would wait for each other for ever"


def test_a_training_whose_lease_was_lost_counts_for_whoever_has_it_and_is_tried_again_once_it_is_free(
    database: str, store: Store, recipe: Recipe, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    invocation, holds, asked = _invocation(recipe, tiny_data, seeds=2), Claims.holds, list[str]()

    def once(claims: Claims, training: str) -> bool:
        asked.append(training)
        return len(asked) > 1 and holds(claims, training)

    monkeypatch.setattr(Claims, "holds", once)
    progress = _carry_out(invocation, store)
    assert _outcomes(store) == {schema.FINISHED: 2, schema.INTERRUPTED: 1}
    assert progress.done == 2


def test_runs_of_one_that_died_are_closed_when_its_trainings_are_taken_over(
    database: str, store: Store, recipe: Recipe, tiny_data: Dataset
) -> None:
    invocation = _invocation(recipe, tiny_data, seeds=2)
    names = [claimed(invocation, store, member) for member in invocation.members()]
    (first, _), record = invocation.members(), invocation.record()
    experiment = store.experiment(invocation.plan.name, tiny_data)
    dead = store.start(experiment, "", "notebook's recipe", first, record, invocation.environment())
    late = store.start(experiment, "", "notebook's recipe", first, record, invocation.environment())
    store.client.set_tag(dead, schema.COORDINATOR, ELSEWHERE)
    store.client.set_tag(late, schema.COORDINATOR, "somebody/else/1/2")
    Claims(database, ELSEWHERE, lease_seconds=1e-9).take(names)
    _carry_out(invocation, store)
    assert store.client.get_run(dead).info.status == "KILLED"
    assert store.client.get_run(late).info.status == "RUNNING", "which nobody took anything from"
    assert _outcomes(store)[schema.FINISHED] == 2


def test_leases_are_not_given_back_while_the_store_does_not_have_what_was_trained(
    database: str, store: Store, recipe: Recipe, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    invocation = _invocation(recipe, tiny_data, seeds=2)
    names = [claimed(invocation, store, member) for member in invocation.members()]
    monkeypatch.setattr(runner, "_delivered", lambda *words: False)
    with pytest.raises(KeyboardInterrupt):
        _carry_out(invocation, store, stopped=lambda: True)
    assert Claims(database, ELSEWHERE).take(names) == set(), "until they have run out"
