"""What a plan came to, where MLflow shows its runs: written once, again where it changes, and away where it is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import EffectRecord
from cifar_ablations.reports.reading import load
from cifar_ablations.study.store import views
from cifar_ablations.study.store.answers import NOTE, write_answer
from tests.reports.conftest import Writer, planted_runs, small_plan

EFFECTS = [
    EffectRecord("without dropout", 0.06, 0.04, 0.08, "helps", "dropout in the full recipe"),
    EffectRecord("only dropout", 0.01, float("nan"), float("nan"), "open", "dropout on its own"),
]


@pytest.fixture
def written(tmp_path: Path):
    writer, plan = Writer(tmp_path), small_plan()
    experiment = writer.experiment(plan.name)
    parent = writer.invoke(experiment, plan)
    page = tmp_path / "page.html"
    page.write_text("<p>the answer")

    def write(note="**yes**", effects=EFFECTS):
        write_answer(writer.store, parent, plan, page, note, effects)
        return {
            run.data.tags[schema.ARM]: run
            for run in writer.client.search_runs([experiment], f"tags.kind = '{schema.KIND_ARM}'")
        }

    return writer, plan, experiment, parent, write


def test_the_run_of_a_plan_carries_page_and_answer(written):
    writer, plan, experiment, parent, write = written
    write()
    assert writer.client.get_run(parent).data.tags[NOTE] == "**yes**"
    assert Path(writer.client.download_artifacts(parent, "page.html")).read_text() == "<p>the answer"
    assert writer.client.get_experiment(experiment).tags[views.TAG] == views.of_plan(plan)
    write(note="no")
    assert writer.client.get_run(parent).data.tags[NOTE] == "no"


def test_an_effect_stands_among_the_trainings_of_its_arm(written):
    writer, plan, experiment, parent, write = written
    run = writer.train(experiment, parent, plan, planted_runs(plan).to_dict("records")[0])
    before = writer.client.get_run(run).to_dictionary()
    found = write()
    assert set(found) == {"without dropout", "only dropout"}
    effect = found["without dropout"]
    assert effect.data.metrics == {schema.EFFECT: 0.06, schema.EFFECT_LOW: 0.04, schema.EFFECT_HIGH: 0.08}
    assert found["only dropout"].data.metrics == {schema.EFFECT: 0.01}
    assert effect.data.tags[schema.VERDICT] == "helps"
    assert effect.info.run_name == "dropout in the full recipe: helps"
    assert effect.info.status == "FINISHED"
    assert effect.data.tags[schema.PARENT] == parent
    assert writer.client.get_run(run).to_dictionary() == before, "trainings are left as they are"
    assert list(load.runs_of(writer.client, plan)["run_id"]) == [run], "and an arm's run is none"


def test_it_is_written_once_and_again_where_it_has_changed(written):
    writer, _, _, _, write = written
    first = write()["without dropout"].info.run_id
    assert write()["without dropout"].info.run_id == first
    assert len(writer.client.get_metric_history(first, schema.EFFECT)) == 1
    changed = EffectRecord("without dropout", 0.05, 0.04, 0.08, "open", "dropout in the full recipe")
    again = write(effects=[changed])
    assert set(again) == {"without dropout"}, "a claim that is made no more has no effect"
    assert again["without dropout"].info.run_id == first
    assert again["without dropout"].data.metrics[schema.EFFECT] == 0.05
    assert again["without dropout"].info.run_name == "dropout in the full recipe: open"


def test_an_effect_of_another_profile_stays(written):
    writer, _, experiment, _, write = written
    tags = {schema.KIND: schema.KIND_ARM, schema.ARM: "only dropout", schema.PROFILE: "full"}
    other = writer.client.create_run(experiment, tags=tags).info.run_id
    write()
    assert writer.client.get_run(other).info.lifecycle_stage == "active"
    assert schema.EFFECT not in writer.client.get_run(other).data.metrics
