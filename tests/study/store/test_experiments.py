"""Experiments of a store that others write to as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from cifar_ablations.ablations.stores import StoreError
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.tracking import Store
from tests.fresh_store import put_fresh_store
from tests.reports.conftest import small_plan

PLAN = small_plan()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "out")


def test_one_that_another_makes_at_the_same_moment_is_used(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    put_fresh_store(home.folder)
    here, there = Store(home), Store(home)
    create, made = here.client.create_experiment, list[str]()

    def too_late(*words: Any, **named: Any) -> str:
        if not made:
            made.append(there.experiment(PLAN.name, PLAN.data))
        return create(*words, **named)

    monkeypatch.setattr(here.client, "create_experiment", too_late)
    assert here.experiment(PLAN.name, PLAN.data) == made[0]


def test_files_on_another_machine_are_a_sentence_before_anything_is_trained(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    put_fresh_store(shared)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shared / 'mlflow.db'}")
    first = Home(tmp_path / "first")
    Store(first).experiment(PLAN.name, PLAN.data)
    again = Store(home)
    again.experiment(PLAN.name, PLAN.data)
    first.artifacts.rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=r"lie in .*/first/artifacts, which is not on this machine: share that folder"):
        again.experiment(PLAN.name, PLAN.data)


def test_a_view_that_another_puts_there_at_the_same_moment_is_no_error(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_fresh_store(home.folder)
    store = Store(home)
    put = store.client.set_experiment_tag

    def too_late(experiment: str, name: str, value: str) -> None:
        put(experiment, name, value)
        raise MlflowException("duplicate key value violates unique constraint")

    monkeypatch.setattr(store.client, "set_experiment_tag", too_late)
    store.experiment(PLAN.name, PLAN.data, "a view")
    monkeypatch.setattr(store.client, "set_experiment_tag", lambda *words: (_ for _ in ()).throw(MlflowException("no")))
    with pytest.raises(MlflowException, match="no"):
        store.experiment(PLAN.name, PLAN.data, "another view")
