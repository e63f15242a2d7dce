"""Runs read many at once: the same from a database as from a server, in as many questions for any number."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from mlflow.entities import Metric
from sqlalchemy import event

from cifar_ablations.ablations import schema
from cifar_ablations.reports.pages import findings
from cifar_ablations.reports.reading import load, stored
from tests.reports.conftest import Writer, planted_runs, small_plan

TRAININGS = {schema.KIND: schema.KIND_TRAINING}


@pytest.fixture
def server(monkeypatch):
    """From now on every store is asked as a tracking server is."""
    monkeypatch.setattr(stored, "database", lambda client: None)


@pytest.mark.parametrize(
    "tags", [TRAININGS, {schema.KIND: schema.KIND_PLAN}, TRAININGS | {schema.DATA_DIGEST: "ffff"}, {"none": "such"}]
)
def test_a_database_says_what_mlflow_says(written, tags, request):
    client = load.connect(written.uri)
    assert stored.database(client) is not None
    found = stored.find(client, tags)
    request.getfixturevalue("server")
    assert found == stored.find(client, tags)
    assert bool(found) == ("none" not in tags)


def test_histories_are_those_of_mlflow_too(written, request):
    client = load.connect(written.uri)
    runs = [run.run_id for run in stored.find(client, TRAININGS)]
    metrics = [schema.VALIDATION_ACCURACY, schema.TRAIN_LOSS, schema.TEST_ACCURACY]
    found = stored.histories(client, runs, metrics)
    assert list(found) == stored.HISTORY_COLUMNS
    assert len(found) > len(runs)
    request.getfixturevalue("server")
    pd.testing.assert_frame_equal(found, stored.histories(client, runs, metrics))


def test_histories_of_more_runs_than_can_be_named_are_read_at_once(written, monkeypatch):
    """In parts of 5,000 names the values of a metric were all gone through for each part."""
    client, asked = load.connect(written.uri), []
    runs = [run.run_id for run in stored.find(client, TRAININGS)][1:]  # another one has values too
    metrics = [schema.VALIDATION_ACCURACY, schema.TRAIN_LOSS]
    named = stored.histories(client, runs, metrics)
    monkeypatch.setattr(stored, "MOST_IDS", 2)
    monkeypatch.setattr(stored, "ROWS_AT_ONCE", 7)
    engine = stored.database(client)
    event.listen(engine, "before_cursor_execute", listener := lambda *about: asked.append(about[2]))
    try:
        pd.testing.assert_frame_equal(stored.histories(client, runs, metrics), named)
        assert len(asked) == 1
        monkeypatch.setattr(engine.dialect, "name", "another")  # which finds a run's values by its id
        pd.testing.assert_frame_equal(stored.histories(client, runs, metrics), named)
        assert len(asked) == 1 + math.ceil(len(runs) / 2)
    finally:
        event.remove(engine, "before_cursor_execute", listener)


@pytest.fixture
def writer(tmp_path):
    return Writer(tmp_path)


@pytest.mark.parametrize("asked", ["database", "server"])
def test_the_later_of_two_values_of_an_epoch_stands(writer, asked, request):
    if asked == "server":
        request.getfixturevalue("server")
    run = writer.client.create_run(writer.experiment("a")).info.run_id
    values = [(2, 20, 0.2), (1, 10, 0.1), (1, 30, 0.4), (3, 30, math.nan), (1, 20, 0.3)]
    for step, timestamp, value in values:
        writer.client.log_batch(run, metrics=[Metric("loss", value, timestamp, step)])
    found = stored.histories(writer.client, ["another", run], ["else", "loss"])
    assert found[["run", "metric", "epoch"]].to_numpy().tolist() == [[1, 1, 1], [1, 1, 2], [1, 1, 3]]
    assert found["value"].to_list()[:2] == [0.4, 0.2]
    assert math.isnan(found["value"].iloc[2])
    assert stored.histories(writer.client, [], ["loss"]).empty


@pytest.mark.parametrize("asked", ["database", "server"])
def test_what_was_deleted_is_left_out_and_quotes_break_nothing(writer, asked, request):
    if asked == "server":
        request.getfixturevalue("server")
    first, second = writer.experiment("first"), writer.experiment("second")
    tags, places = {"word": "it's", **schema.MARKED}, (first, first, second)
    kept, gone, _ = (writer.client.create_run(place, tags=tags).info.run_id for place in places)
    writer.client.create_run(first, tags={"word": "another", **schema.MARKED})
    writer.client.delete_run(gone)
    writer.client.delete_experiment(second)
    assert [run.run_id for run in stored.find(writer.client, {"word": "it's"})] == [kept]


@pytest.mark.parametrize("asked", ["database", "server"])
def test_the_deleted_ones_are_those_of_ours_that_were_or_whose_experiment_was(writer, asked, request):
    experiments = [writer.client.create_experiment(name) for name in "ab"]
    runs = [
        [writer.client.create_run(one, tags=dict(schema.MARKED)).info.run_id for _ in range(2)] for one in experiments
    ]
    others = writer.client.create_run(experiments[0]).info.run_id
    for run in (runs[0][0], others):
        writer.client.delete_run(run)
    writer.client.delete_experiment(experiments[1])
    if asked == "server":
        request.getfixturevalue("server")
    assert {run.run_id for run in stored.every(writer.client, {})} == {runs[0][1]}
    assert {run.run_id for run in stored.every(writer.client, {}, deleted=True)} == {runs[0][0], *runs[1]}
    engine = writer.client._tracking_client.store.engine
    assert stored.run_ids(engine) == {*runs[0], *runs[1], others}


def test_a_number_that_is_none_is_read_as_none(writer):
    run = writer.client.create_run(writer.experiment("first"), tags={"a": "b", **schema.MARKED}).info.run_id
    writer.client.log_metric(run, "loss", math.nan)
    (found,) = stored.find(writer.client, {"a": "b"})
    assert math.isnan(found.metrics["loss"])


@pytest.mark.parametrize("place", ["", "file"])
def test_the_content_of_a_file_or_none(writer, place):
    run = writer.client.create_run(writer.experiment("with a blank é")).info
    writer.client.log_text(run.run_id, "what é", "a.txt")
    where = run.artifact_uri if place else ""
    assert stored.content(writer.client, run.run_id, where, "a.txt") == "what é".encode()
    assert stored.content(writer.client, run.run_id, where, "b.txt") is None


@pytest.mark.exhaustive
def test_a_page_asks_as_often_for_many_runs_as_for_few(writer):
    """It asked once a run and metric: 32 seconds for 10,000 runs."""
    plan = small_plan()
    experiment = writer.experiment("first")
    parent = writer.invoke(experiment, plan)
    rows, asked = planted_runs(plan).to_dict("records"), []
    client = load.connect(writer.uri)
    engine = client._tracking_client.store.engine
    event.listen(engine, "before_cursor_execute", lambda *about: asked.append(about[2]))
    counts = []
    for some in (rows[:3], rows[3:]):
        for row in some:
            writer.train(experiment, parent, plan, row)
        known = load.invocations(writer.uri)
        asked.clear()
        results = findings.of_invocation(client, known[0], known)
        counts.append((len(results.runs), len(asked)))
    (few, one), (many, other) = counts
    assert few < many
    assert 0 < one == other < 15
