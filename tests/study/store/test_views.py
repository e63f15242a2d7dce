"""The view that MLflow's UI opens: what is stored of it, and where it is stored."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import ProfileRecord
from cifar_ablations.study.commands.ui import page_address
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.store import views
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.search_log import SEARCH_VIEW
from cifar_ablations.study.store.tracking import open_store
from tests.reports.conftest import Writer, small_plan


def _state(value: str) -> dict:
    head, _, body = value.partition(";")
    assert head == "deflate"
    return json.loads(zlib.decompress(base64.b64decode(body)))


def test_runs_are_grouped_by_arm_and_trials_by_study() -> None:
    state = _state(views.of_plan(small_plan()))
    assert state["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": schema.ARM}]
    assert state["searchFilter"] == "tags.kind != 'plan' and tags.profile = 'quick'"
    assert _state(SEARCH_VIEW)["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": schema.STUDY}]
    assert _state(SEARCH_VIEW)["searchFilter"] == f"tags.{schema.KIND} = '{schema.KIND_TRIAL}'"


def test_arms_are_folded_and_ranked_with_accuracy_gap_and_effect_in_sight() -> None:
    plan = small_plan()
    state = _state(views.of_plan(plan))
    assert state["groupsExpanded"] == {f"tag.arm.{arm.name}": False for arm in plan.arms}
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`test/accuracy`", False)
    assert state["selectedColumns"][:3] == [
        "metrics.`test/accuracy`",
        "metrics.`generalisation_gap`",
        "metrics.`effect`",
    ]
    # What MLflow leaves of 1280 pixels beside its navigation and its assistant.
    seen = ["attributes.`Run Name`", "runDateAndNestInfo", *state["selectedColumns"][:3]]
    assert state["columnOrder"][: len(seen)] == seen
    assert sum(state["columnWidths"][name] for name in seen) <= 613


def test_a_view_is_never_too_long_for_mlflow_nor_broken_by_a_name() -> None:
    plan = small_plan()
    arms = tuple(replace(plan.arms[0], name=hashlib.sha256(bytes([i])).hexdigest()) for i in range(200))
    value = views.of_plan(replace(plan, arms=arms, profile=ProfileRecord("it's")))
    assert len(value) <= views.MOST
    assert _state(value)["groupsExpanded"] == {}
    assert _state(value)["searchFilter"] == "tags.kind != 'plan'"


@pytest.mark.exhaustive
def test_every_experiment_has_it_also_one_made_before(tmp_path: Path, tiny_data: Dataset) -> None:
    home = Home(tmp_path)
    store = open_store(home)
    experiment = store.experiment("search joint", tiny_data, SEARCH_VIEW)
    client = mlflow.MlflowClient(tracking_uri=home.tracking_uri)
    assert client.get_experiment(experiment).tags[views.TAG] == SEARCH_VIEW
    client.set_experiment_tag(experiment, views.TAG, "of an older version")
    assert store.experiment("search joint", tiny_data, SEARCH_VIEW) == experiment
    assert client.get_experiment(experiment).tags[views.TAG] == SEARCH_VIEW


def test_a_plan_brings_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    writer, plan = Writer(tmp_path), small_plan()
    experiment = writer.experiment("techniques")
    for asked in (plan, replace(plan, arms=plan.arms[:2], digest="0123")):
        writer.invoke(experiment, asked)
        assert writer.client.get_experiment(experiment).tags[views.TAG] == views.of_plan(asked)
    assert page_address(Home(tmp_path), 5000).endswith(
        f"/runs?workflowType=machine_learning&viewStateShareKey={schema.GROUPED_VIEW}"
    )
