"""What a store says of its plans, and what of it cannot be read."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import replace

import pandas as pd
import pytest

from cifar_ablations.ablations import checksums, schema
from cifar_ablations.ablations.record import GalleryRecord, PictureRecord
from cifar_ablations.reports.pages import index_page, plan_page
from cifar_ablations.reports.reading import load
from tests.reports.conftest import Writer, planted_runs

pytestmark = pytest.mark.slow


@pytest.fixture
def two(plan, tmp_path):
    """A store with two plans, and the ids of their runs."""
    writer = Writer(tmp_path)
    experiment = writer.experiment("first")
    other = replace(plan, name="notebook", digest="0123012301230123")
    return writer, writer.invoke(experiment, plan), writer.invoke(experiment, other, started=2_000)


def damage(writer, run, name, change):
    """Rewrite the file of a run with what `change` makes of its text, as if it had been logged without a checksum."""
    (path,) = [found for found in writer.folder.rglob(name) if run in found.parts]
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    writer.client.delete_tag(run, checksums.PREFIX + name)


def changed(**values):
    return lambda text: json.dumps(json.loads(text) | values)


def without(field):
    return lambda text: json.dumps({name: value for name, value in json.loads(text).items() if name != field})


DAMAGES = {
    "cut short": (lambda text: text[: len(text) // 2], "is not whole JSON"),
    "a field of another type": (changed(seeds="0 to 5"), "the field seeds"),
    "a field within": (changed(rule={"margin": "half a point"}), "the field rule.margin"),
    "a field that is missing": (without("rule"), "the field rule is missing"),
    "no record": (lambda text: "[]", "holds list"),
    "written by a newer version": (changed(format=99), "has format 99"),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize(("change", "said"), DAMAGES.values(), ids=DAMAGES)
def test_one_plan_that_cannot_be_read_does_not_stop_the_others(two, tmp_path, change, said):
    writer, whole, damaged = two
    damage(writer, damaged, schema.PLAN_FILE, change)
    unreadable = []
    assert [one.run_id for one in load.invocations(writer.uri, unreadable)] == [whole]
    (sentence,) = unreadable
    assert sentence.startswith(f"plan.json of run {damaged}")
    assert said in sentence
    assert load.invocations(writer.uri) == load.invocations(writer.uri, [])
    (page,) = plan_page.write_reports(writer.uri, tmp_path / "pages")
    assert page.name.startswith("techniques-")
    index = index_page.write_index(writer.uri, tmp_path / "pages").read_text(encoding="utf-8")
    assert f"plan.json of run {damaged}" in index
    assert page.name in index


def test_what_is_written_is_what_is_read(two, plan):
    writer, run, _ = two
    _, found = load.invocations(writer.uri)
    assert (found.run_id, found.plan) == (run, plan)
    assert (found.name, found.digest, found.profile) == (plan.name, plan.digest, plan.profile.name)
    assert (found.data_name, found.data_digest, found.stand_in) == (plan.data.name, plan.data.digest, False)


def test_a_plan_of_fields_that_are_not_known_is_read(two, plan):
    writer, run, _ = two
    damage(writer, run, schema.PLAN_FILE, changed(mood="hopeful"))
    assert load.invocations(writer.uri)[1].plan == plan


def test_pictures_come_back_and_say_why_they_cannot(two, plan):
    writer, none, _ = two
    picture = PictureRecord("augmentation", ("full recipe",), 0, "class 0", 1, base64.b64encode(b"png").decode())
    kept = GalleryRecord(3, (picture,))
    run = writer.invoke(writer.experiment("first"), replace(plan, name="pictured"), started=9_000, gallery=kept)
    client, known = load.connect(writer.uri), {one.run_id: one for one in load.invocations(writer.uri)}
    assert load.gallery_of(client, known[run]) == kept
    assert load.gallery_of(client, known[none]) == GalleryRecord()
    damage(writer, run, schema.GALLERY_FILE, lambda text: text[:-9])
    found = load.gallery_of(client, known[run])
    assert found.images == ()
    assert found.error == f"gallery.json of run {run} was changed or damaged since it was logged"


@pytest.mark.parametrize("drawn", [False, True])
def test_a_rehearsal_is_called_one(plan, drawn):
    plan = replace(plan, data=replace(plan.data, stand_in=drawn))
    assert load.rehearsal(plan) is drawn
    assert load.data_kind(plan) == (schema.REHEARSAL if drawn else "images")


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("tag", "value", "said"),
    [
        (
            schema.SEED,
            "zero",
            "the tag seed input should be a valid integer, unable to parse string as an integer, not 'zero'",
        ),
        (schema.DIGEST, None, "the tag digest is missing"),
    ],
)
def test_a_training_whose_tags_were_edited_is_left_out_and_said(two, plan, tmp_path, tag, value, said):
    writer, parent, _ = two
    rows = planted_runs(plan).iloc[:2].to_dict("records")
    edited, whole = (writer.train(writer.experiment("first"), parent, plan, row) for row in rows)
    if value is None:
        writer.client.delete_tag(edited, tag)
    else:
        writer.client.set_tag(edited, tag, value)
    client, unreadable, heard = load.connect(writer.uri), [], []
    assert list(load.matching_runs(client, plan, unreadable=unreadable)["run_id"]) == [whole]
    assert unreadable == [f"run {edited}: {said}"]
    assert load.matching_runs(client, plan).equals(load.matching_runs(client, plan, unreadable=[]))
    plan_page.write_reports(writer.uri, tmp_path / "pages", tell=heard.append)
    assert heard.count(f"Left out: run {edited}: {said}.") == 1, "once, though two plans share the run"


def test_a_plan_whose_tags_do_not_say_whether_it_was_a_rehearsal_is_left_out_and_said(two):
    writer, whole, edited = two
    writer.client.set_tag(edited, schema.STAND_IN, "perhaps")
    unreadable = []
    assert [one.run_id for one in load.invocations(writer.uri, unreadable)] == [whole]
    (sentence,) = unreadable
    assert sentence.startswith(f"run {edited}: the tag stand_in input should be a valid boolean")


def matching(*rows):
    """The frame of `load.matching_runs` of one arm, with every metric in each run."""
    blank = dict.fromkeys(load.RUN_COLUMNS, "") | dict.fromkeys(load.METRIC_COLUMNS, 0.5)
    frame = pd.DataFrame([blank | {"arm": "a", "seed": seed, **row} for seed, row in enumerate(rows)])
    return frame.assign(converged=frame["outcome"].isin(schema.CONVERGED))


def test_a_run_that_diverged_has_none_of_the_numbers_of_a_network_that_was_lost():
    """Statistics, 1: its accuracy counted as chance, its gap as nothing, a weight norm of 1e20 as that."""
    found = load.results_among(matching({"outcome": schema.DIVERGED}, {"outcome": schema.FINISHED}))
    diverged, finished = found.to_dict("records")
    assert [diverged["converged"], finished["converged"]] == [False, True]
    for name in (schema.TEST_ACCURACY, schema.TRAIN_ACCURACY, schema.GENERALISATION_GAP, schema.TEST_LOSS):
        assert math.isnan(diverged[name])
    for name in (schema.WEIGHT_NORM, schema.ENTROPY, schema.FINAL + schema.DEAD_UNITS, schema.VALIDATION_ACCURACY):
        assert math.isnan(diverged[name])
    known = {schema.SECONDS, schema.EPOCHS, schema.FIRST_EPOCH_LOSS, schema.INITIAL + schema.DEAD_UNITS}
    assert {name for name in load.METRIC_COLUMNS if diverged[name] == 0.5} >= known
    assert all(finished[name] == 0.5 for name in load.METRIC_COLUMNS)


@pytest.mark.parametrize("huge", [math.inf, -math.inf, 1.7e308])
def test_an_infinite_number_is_none(huge):
    (run,) = load.results_among(matching({"outcome": schema.FINISHED, schema.WEIGHT_NORM: huge})).to_dict("records")
    assert math.isnan(run[schema.WEIGHT_NORM])
    (large,) = load.results_among(matching({"outcome": schema.FINISHED, schema.WEIGHT_NORM: 1e20})).to_dict("records")
    assert large[schema.WEIGHT_NORM] == 1e20
