"""The view that MLflow's UI opens: what is stored of it, and where it is stored."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import mlflow

from cifar_ablations.ablations import schema
from cifar_ablations.study.commands.ui import page_address
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.store import views
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.search_log import SEARCH_VIEW
from cifar_ablations.study.store.tracking import PLAN_VIEW, open_store


def _state(value: str) -> dict:
    head, _, body = value.partition(";")
    assert head == "deflate"
    return json.loads(zlib.decompress(base64.b64decode(body)))


def test_runs_are_grouped_by_arm_and_trials_by_study() -> None:
    assert _state(PLAN_VIEW)["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": schema.ARM}]
    assert _state(PLAN_VIEW)["searchFilter"] == f"tags.{schema.KIND} = '{schema.KIND_TRAINING}'"
    assert _state(SEARCH_VIEW)["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": schema.STUDY}]


def test_every_experiment_has_it_also_one_made_before(tmp_path: Path, tiny_data: Dataset) -> None:
    home = Home(tmp_path)
    store = open_store(home)
    experiment = store.experiment("techniques", tiny_data)
    client = mlflow.MlflowClient(tracking_uri=home.tracking_uri)
    assert client.get_experiment(experiment).tags[views.TAG] == PLAN_VIEW
    client.set_experiment_tag(experiment, views.TAG, "of an older version")
    assert store.experiment("techniques", tiny_data) == experiment
    assert client.get_experiment(experiment).tags[views.TAG] == PLAN_VIEW
    client.create_run(experiment, tags={schema.KIND: schema.KIND_PLAN})
    assert page_address(home, 5000).endswith(
        f"/runs?workflowType=machine_learning&viewStateShareKey={schema.GROUPED_VIEW}"
    )
