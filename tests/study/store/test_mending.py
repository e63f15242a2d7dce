"""What is damaged is put aside under the path that it had, and runs say so; nothing is deleted."""

from __future__ import annotations

from pathlib import Path

from cifar_ablations.ablations import schema
from cifar_ablations.reports.reading import load, stored
from cifar_ablations.study.store import mending
from cifar_ablations.study.store.home import Home
from tests.reports.conftest import ENVIRONMENT, Writer, planted_runs, small_plan

PLAN = small_plan()


def test_what_is_put_aside_keeps_its_path_and_overwrites_nothing(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for content in ("first", "second"):
        file = home.recipes / "mine.toml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
        mending.put_aside(home, file)
        assert not file.exists()
    assert (home.damaged / "recipes" / "mine.toml").read_text() == "first"
    assert (home.damaged / "recipes" / "mine.toml.2").read_text() == "second"


def test_what_lies_elsewhere_is_left_alone(tmp_path: Path) -> None:
    home, other = Home(tmp_path / "out"), tmp_path / "other"
    (other / "artifacts").mkdir(parents=True)
    (other / "artifacts" / "plan.json").write_text("theirs")
    home.folder.mkdir()
    home.artifacts.symlink_to(other / "artifacts")
    assert mending.put_aside(home, other / "artifacts" / "plan.json") is None
    assert mending.put_aside(home, home.artifacts / "plan.json") is None
    assert (other / "artifacts" / "plan.json").read_text() == "theirs"


def test_a_run_that_was_set_aside_is_read_nowhere_and_stays_in_mlflow(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    experiment = writer.experiment("first")
    parent = writer.invoke(experiment, PLAN)
    run, other = (writer.train(experiment, parent, PLAN, row) for row in planted_runs(PLAN).to_dict("records")[:2])
    mending.set_run_aside(writer.store, run, "its seed cannot be read")
    mending.note_double(writer.store, other, run)
    mending.note_file(writer.store, parent, schema.GALLERY_FILE, None)
    assert list(load.runs_of(writer.client, PLAN)["run_id"]) == [other], "a double is read as before"
    assert len(writer.store.results(PLAN.data, ENVIRONMENT)) == 1, "so that it is trained again"
    assert {one.info.run_id for one in load.search(writer.client, "")} == {parent, other}
    assert {one.run_id for one in stored.every(writer.client, {})} == {parent, run, other}
    kept = writer.client.get_run(run)
    assert (kept.info.lifecycle_stage, kept.data.tags[schema.SET_ASIDE]) == ("active", "its seed cannot be read")
    assert writer.client.get_run(parent).data.tags[f"{schema.SET_ASIDE}.{schema.GALLERY_FILE}"] == schema.GONE
