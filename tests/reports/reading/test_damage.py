"""What was edited by hand, or damaged, is left out by name; no page of anything else is stopped."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.reports.pages import index_page, plan_page
from cifar_ablations.reports.reading import load
from tests.reports.conftest import ENVIRONMENT, Writer, planted_runs
from tests.reports.reading.test_load import changed, damage

pytestmark = pytest.mark.slow

BIG = str(2**63)


@pytest.fixture
def store(plan, tmp_path):
    """A store with two plans that share two trainings: the writer, the plans' runs, and the trainings."""
    writer = Writer(tmp_path)
    experiment = writer.experiment("first")
    other = replace(plan, name="notebook", digest="0123012301230123")
    parents = [writer.invoke(experiment, plan), writer.invoke(experiment, other, started=2_000)]
    rows = planted_runs(plan).iloc[:2].to_dict("records")
    return writer, parents, [writer.train(experiment, parents[0], plan, row) for row in rows]


def edit(client, run, tag, value):
    if value is None:
        client.delete_tag(run, tag)
    else:
        client.set_tag(run, tag, value)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("tag", "value", "said"),
    [
        (schema.SEED, "zero", "the tag seed input should be a valid integer"),
        (schema.SEED, BIG, f"the tag seed is beyond 64 bits, {BIG}"),
        (schema.SEED, "-" + BIG, f"the tag seed is beyond 64 bits, -{BIG}"),
        (schema.DIGEST, None, "the tag digest is missing"),
        (schema.STAND_IN, "perhaps", "the tag stand_in input should be a valid boolean"),
        (schema.DATA_DIGEST, "another", ""),
        (schema.DATA_DIGEST, None, ""),
        (schema.KIND, None, ""),
        (schema.KIND, "lunch", ""),
        (schema.OUTCOME, "splendid", "the tag outcome is 'splendid', and outcomes are finished, stopped early"),
        (schema.OUTCOME, None, ""),
        (schema.MARK, None, ""),
        (schema.PARENT, "nobody", ""),
        (schema.ENVIRONMENT + "threads", "many", ""),
        (schema.NUMBER, "first", ""),
    ],
)
def test_a_training_whose_tags_were_edited_harms_itself_alone(store, plan, tmp_path, tag, value, said):
    writer, _, (edited, whole) = store
    edit(writer.client, edited, tag, value)
    heard = []
    pages = plan_page.write_reports(writer.uri, tmp_path / "pages", tell=heard.append)
    index_page.write_index(writer.uri, tmp_path / "pages")
    assert len(pages) == 2
    assert whole in set(load.runs_of(writer.client, plan)["run_id"])
    told = [sentence for sentence in heard if sentence.startswith(f"Left out: run {edited}: {said}")]
    assert len(told) == bool(said), "once, though both plans have the run"
    for page in pages:
        assert page.read_text(encoding="utf-8").count(f"Left out: run {edited}") == bool(said)
    assert writer.store.reconcile() == 0
    assert writer.store.results(plan.data, ENVIRONMENT)


@pytest.mark.exhaustive
@pytest.mark.parametrize("value", [math.nan, math.inf, -1e300])
def test_metrics_that_are_no_results_stop_no_page(store, plan, tmp_path, value):
    writer, _, (edited, _) = store
    for name in (schema.TEST_ACCURACY, schema.TRAIN_ACCURACY, schema.SECONDS, schema.VALIDATION_ACCURACY):
        writer.client.log_metric(edited, name, value, step=9)
    assert len(plan_page.write_reports(writer.uri, tmp_path / "pages")) == 2


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (schema.NUMBER, "first"),
        (schema.NUMBER, BIG),
        (schema.STAND_IN, "perhaps"),
        (schema.KIND, "lunch"),
        (schema.PLAN_DIGEST, None),
        (schema.DATA_DIGEST, None),
        (schema.MARK, None),
    ],
)
def test_a_plan_whose_tags_were_edited_harms_itself_alone(store, plan, tmp_path, tag, value):
    writer, (whole, edited), _ = store
    edit(writer.client, edited, tag, value)
    unreadable = []
    assert whole in [one.run_id for one in load.invocations(writer.uri, unreadable)]
    assert all(sentence.startswith(f"run {edited}: the tag {tag}") for sentence in unreadable)
    assert plan_page.write_reports(writer.uri, tmp_path / "pages")
    del writer.store.next_number
    assert writer.store.next_number() == 1


def of_claims(**values):
    def change(text):
        kept = json.loads(text)
        return json.dumps(kept | {"claims": [claim | values for claim in kept["claims"]]})

    return change


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "change",
    [
        changed(rule={"margin": 0.005, "alpha": 5.0, "test": "welch t", "correction": "weighted holm"}),
        changed(rule={"margin": 0.005, "test": "a coin"}),
        changed(factors=["x"]),
        of_claims(metric="beauty"),
        of_claims(treatment="lunch"),
    ],
    ids=["a level above 1", "an unknown test", "an unknown factor", "an unknown metric", "an unknown arm"],
)
def test_a_plan_that_cannot_be_judged_stops_no_other_page(store, tmp_path, change):
    writer, (_, edited), _ = store
    damage(writer, edited, schema.PLAN_FILE, change)
    heard = []
    (page,) = plan_page.write_reports(writer.uri, tmp_path / "pages", tell=heard.append)
    assert page.name.startswith("techniques")
    said = f"no page can be made of plan 'notebook' (run {edited}) as it is stored ("
    assert sum(sentence.startswith(f"Left out: {said}") for sentence in heard) == 1
    with pytest.raises(AblateError, match="no page can be made of plan 'notebook'"):
        plan_page.write_reports(writer.uri, tmp_path / "pages", plan="notebook")


@pytest.mark.exhaustive
@pytest.mark.parametrize("kept", [b"", b"PK\x03\x04", b"no archive at all"])
def test_damaged_details_are_said_and_all_other_numbers_stand(store, plan, tmp_path, kept):
    writer, _, (edited, _) = store
    (path,) = [found for found in writer.folder.rglob(schema.DETAILS_FILE) if edited in found.parts]
    path.write_bytes(kept)
    pages = plan_page.write_reports(writer.uri, tmp_path / "pages")
    assert all("is missing or damaged" in page.read_text(encoding="utf-8") for page in pages)
    assert len(load.runs_of(writer.client, plan)) == 2
