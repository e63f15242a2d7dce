"""An output folder that was moved or copied: all is read, nothing is written to where it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.reports.pages import findings
from cifar_ablations.reports.reading import load
from cifar_ablations.study.store.foundations_log import FoundationsLog
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.tracking import Store
from tests.reports.conftest import ProvenanceRecord, Writer, planted_runs, small_plan

pytestmark = pytest.mark.slow

PLAN = small_plan()
ROWS = planted_runs(PLAN).to_dict("records")


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Writer:
    """A plan with two of its runs in a folder of an odd name, and runs of others in the same store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    writer = Writer(tmp_path / "first 100%20 ?")
    experiment = writer.experiment("techniques")
    parent = writer.invoke(experiment, PLAN)
    for row in ROWS[:2]:
        writer.train(experiment, parent, PLAN, row)
    return writer


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def copied(writer: Writer, name: str = "second #") -> Home:
    return Home(Path(shutil.copytree(writer.folder, writer.folder.parent / name)))


def places(store: Store) -> set[str]:
    found = {e.artifact_location for e in store.client.search_experiments() if e.name != "Default"}
    return found | {run.info.artifact_uri for run in store.search_runs("")}


@pytest.mark.parametrize("moved", [True, False])
def test_it_is_read_where_it_is(writer: Writer, moved: bool) -> None:
    home = copied(writer)
    if moved:
        shutil.rmtree(writer.folder)
    (known,) = load.invocations(home.tracking_uri)
    assert known.plan == PLAN
    results = findings.of_invocation(load.connect(home.tracking_uri), known, [known])
    assert len(results.runs) == 2
    assert results.lost == []


def test_a_copy_writes_to_itself_and_leaves_the_original_as_it_is(writer: Writer) -> None:
    home, before = copied(writer), files(writer.folder)
    store = Store(home)
    store.reconcile()
    assert {place.partition("artifacts")[0] for place in places(store)} == {home.folder.as_uri() + "/"}
    copy = Writer.__new__(Writer)
    copy.folder, copy.store, copy.uri, copy.client = home.folder, store, store.uri, store.client
    experiment = copy.experiment("techniques")
    run = copy.train(experiment, copy.invoke(experiment, PLAN), PLAN, ROWS[2])
    assert [file for file in home.artifacts.rglob(schema.DETAILS_FILE) if run in file.parts]
    assert files(writer.folder) == before
    assert [one.plan for one in load.invocations(home.tracking_uri)] == [PLAN, PLAN]


def test_the_demonstrations_move_too(writer: Writer) -> None:
    FoundationsLog(writer.store).open(0, ProvenanceRecord())
    store = Store(copied(writer))
    store.reconcile()
    assert all(place.startswith(store.home.artifacts.as_uri()) for place in places(store))


def test_what_is_not_ours_keeps_its_address(writer: Writer) -> None:
    theirs = (writer.folder.parent / "theirs" / "artifacts" / "x").as_uri()
    client = writer.client
    experiment = client.create_experiment("theirs", artifact_location=theirs, tags={"plan": "mine"})
    run = client.create_run(experiment, tags={"kind": "training"}).info
    store = Store(copied(writer))
    store.reconcile()
    assert store.client.get_experiment(experiment).artifact_location == theirs
    assert store.client.get_run(run.run_id).info.artifact_uri == run.artifact_uri


def test_files_that_stayed_behind_are_still_found(writer: Writer) -> None:
    """Only the database was copied: what is new is written beside it, what is old is read where it is."""
    home = Home(writer.folder.parent / "second")
    home.folder.mkdir()
    shutil.copy(writer.folder / "mlflow.db", home.folder)
    store = Store(home)
    store.reconcile()
    (known,) = load.invocations(home.tracking_uri)
    assert known.plan == PLAN
    assert known.artifacts.startswith(writer.folder.as_uri())
    experiment = store.experiment("techniques", PLAN.data)
    assert store.client.get_experiment(experiment).artifact_location.startswith(home.artifacts.as_uri())


def test_a_store_elsewhere_and_one_in_its_place_are_left_as_they_are(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = places(writer.store)
    Store(Home(writer.folder)).reconcile()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", writer.uri)
    store = Store(Home(writer.folder.parent / "another"))
    store.reconcile()
    assert places(store) == before


def test_epochs_that_waited_when_it_was_moved_are_not_lost(writer: Writer) -> None:
    assert copied(writer).pending.name == writer.store.home.pending.name
