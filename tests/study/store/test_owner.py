"""A store belongs to its owner: what was deleted stays deleted, and what is another's is not touched or read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from mlflow.entities import RunStatus

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import EffectRecord, ProvenanceRecord
from cifar_ablations.reports.reading import load, searches, stored
from cifar_ablations.study.store.answers import write_answer
from cifar_ablations.study.store.foundations_log import FoundationsLog
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.search_log import SearchLog
from cifar_ablations.study.store.tracking import Store, StoreError, is_running, this_process
from tests.reports.conftest import ENVIRONMENT, Writer, planted_runs, small_plan

pytestmark = pytest.mark.slow

PLAN = small_plan()
ROW = planted_runs(PLAN).iloc[0].to_dict()
TRAINING = {(ROW["digest"], ROW["seed"])}


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path)


def _results(writer: Writer) -> set[tuple[str, int]]:
    return writer.store.results(PLAN.data, ENVIRONMENT)  # type: ignore[arg-type]


def _of_plan(writer: Writer) -> str:
    return writer.experiment("first")


def _of_search(writer: Writer) -> str:
    return SearchLog(writer.store).experiment("found", PLAN.data)  # type: ignore[arg-type]


def _of_foundations(writer: Writer) -> str:
    return FoundationsLog(writer.store).open(0, ProvenanceRecord())[0]


@pytest.mark.parametrize("experiment", [_of_plan, _of_search, _of_foundations])
def test_a_deleted_experiment_stays_deleted(writer: Writer, experiment: Callable[[Writer], str]) -> None:
    first = experiment(writer)
    assert experiment(writer) == first
    name = writer.client.get_experiment(first).name
    for number in (2, 3):
        writer.client.delete_experiment(experiment(writer))
        assert writer.client.get_experiment(experiment(writer)).name == f"{name} ({number})"
    assert writer.client.get_experiment(first).lifecycle_stage == "deleted"
    places = {e.artifact_location for e in writer.client.search_experiments(view_type=3) if e.name.startswith(name)}
    assert len(places) == 3, "each has a folder of its own"


def test_runs_of_a_deleted_experiment_do_not_count(writer: Writer) -> None:
    parent = writer.invoke(_of_plan(writer), PLAN)
    old = writer.train(_of_plan(writer), parent, PLAN, ROW)
    assert _results(writer) == TRAINING
    writer.client.delete_experiment(_of_plan(writer))
    assert _results(writer) == set()
    parent = writer.invoke(_of_plan(writer), PLAN)
    new = writer.train(_of_plan(writer), parent, PLAN, ROW)
    assert [one.run_id for one in load.invocations(writer.uri)] == [parent]
    assert list(load.matching_runs(writer.client, PLAN)["run_id"]) == [new]
    assert writer.client.get_run(old).info.lifecycle_stage == "deleted"


@pytest.mark.exhaustive
def test_a_renamed_experiment_goes_on(writer: Writer) -> None:
    first = _of_plan(writer)
    writer.client.rename_experiment(first, "what dropout does")
    assert _of_plan(writer) == first
    assert writer.client.get_experiment(first).name == "what dropout does"


def test_a_deleted_invocation_is_logged_anew_and_nothing_is_trained_again(writer: Writer) -> None:
    parent = writer.invoke(_of_plan(writer), PLAN)
    run = writer.train(_of_plan(writer), parent, PLAN, ROW)
    assert writer.store.invoked(PLAN.digest, PLAN.data)  # type: ignore[arg-type]
    writer.client.delete_run(parent)
    assert not writer.store.invoked(PLAN.digest, PLAN.data)  # type: ignore[arg-type]
    assert load.invocations(writer.uri) == []
    assert _results(writer) == TRAINING
    again = writer.invoke(_of_plan(writer), PLAN)
    assert [one.run_id for one in load.invocations(writer.uri)] == [again]
    assert list(load.matching_runs(writer.client, PLAN)["run_id"]) == [run]


def test_deleted_trainings_are_trained_again(writer: Writer) -> None:
    parent = writer.invoke(_of_plan(writer), PLAN)
    writer.client.delete_run(writer.train(_of_plan(writer), parent, PLAN, ROW))
    assert _results(writer) == set()
    assert load.matching_runs(writer.client, PLAN).empty
    assert [one.run_id for one in load.invocations(writer.uri)] == [parent]


def test_what_a_person_deletes_in_mid_training_is_let_go(writer: Writer) -> None:
    from cifar_ablations.study.training.engine import Epoch, Outcome
    from cifar_ablations.study.training.fleet import Member
    from tests.reports.conftest import Unmade

    store, experiment = writer.store, _of_plan(writer)
    parent = store.open_invocation(experiment, PLAN, ProvenanceRecord(), load.GalleryRecord())
    member = Member(Unmade(ROW["digest"]), ROW["seed"])  # type: ignore[arg-type]
    runs = [store.start(experiment, parent, ROW["arm"], member, PLAN, ENVIRONMENT) for _ in range(4)]
    for run in runs:
        store.epoch(run, Epoch(member, 1, {schema.TRAIN_LOSS: 1.0}))
        writer.client.delete_run(run)
    ended, failed, stalled, waiting = runs
    store.end(ended, Outcome(member, schema.FINISHED, 1, {}))
    store.fail(failed, "ValueError")
    store.stall(stalled, "no progress")
    assert store.deleted == [ended, failed, stalled]
    assert store._outbox.runs() == [waiting]
    assert Store(Home(writer.folder)).reconcile() == 0, "no training is left open"
    assert not store.home.pending.exists()
    assert {writer.client.get_run(run).info.lifecycle_stage for run in runs} == {"deleted"}


def test_an_experiment_deleted_in_mid_training_ends_the_call_in_a_sentence(writer: Writer) -> None:
    experiment = _of_plan(writer)
    parent = writer.store.open_invocation(experiment, PLAN, ProvenanceRecord(), load.GalleryRecord())
    writer.client.delete_experiment(experiment)
    with pytest.raises(StoreError, match=r"The experiment 'first on cifar10 \(aa11bb22\)' was deleted in MLflow"):
        writer.train(experiment, parent, PLAN, ROW)
    writer.store.interrupt(parent)
    assert writer.store.deleted == [parent]


@pytest.fixture
def stranger(writer: Writer, tmp_path: Path) -> Callable[..., str]:
    """Makes a run of somebody else's program, in an experiment of theirs or in ours."""

    def make(kind: str, experiment: str | None = None, **tags: str) -> str:
        found = writer.client.get_experiment_by_name("theirs")
        place = experiment or (
            found.experiment_id
            if found
            else writer.client.create_experiment("theirs", artifact_location=(tmp_path / "theirs").as_uri())
        )
        about = {schema.KIND: kind, schema.OUTCOME: schema.FINISHED, schema.DATA_DIGEST: PLAN.data.digest, **tags}
        return str(writer.client.create_run(place, tags=about).info.run_id)

    return make


def test_runs_of_others_are_neither_ended_nor_read(writer: Writer, stranger: Callable[..., str]) -> None:
    ours = writer.invoke(_of_plan(writer), PLAN)
    kinds = (schema.KIND_PLAN, schema.KIND_TRAINING, schema.KIND_SEARCH, schema.KIND_TRIAL, schema.KIND_FOUNDATIONS)
    tags = {schema.DIGEST: ROW["digest"], schema.SEED: "0", schema.PLAN_DIGEST: "ffff", schema.SEARCH_DIGEST: "ffff"}
    tags |= {schema.STUDY: "a study", schema.TRIAL: "0"}
    theirs = [stranger(kind, **tags) for kind in kinds]
    writer.client.log_text(theirs[0], (writer.folder / "artifacts").as_uri(), schema.PLAN_FILE)
    unreadable: list[str] = []
    assert writer.store.reconcile() == 0
    assert {writer.client.get_run(run).info.status for run in theirs} == {"RUNNING"}
    assert _results(writer) == set()
    assert not writer.store.invoked("ffff", PLAN.data)  # type: ignore[arg-type]
    assert SearchLog(writer.store).trials("ffff") == []
    assert [one.run_id for one in load.invocations(writer.uri, unreadable)] == [ours]
    assert searches.searches(writer.uri, unreadable) == unreadable == []
    assert load.matching_runs(writer.client, PLAN, unreadable=unreadable).empty
    assert load.search(writer.client, f"tags.kind = '{schema.KIND_FOUNDATIONS}'") == []
    assert {run.run_id for run in stored.find(writer.client, {})} == {ours}


def test_an_effect_of_others_is_not_deleted(writer: Writer, stranger: Callable[..., str], tmp_path: Path) -> None:
    experiment = _of_plan(writer)
    parent = writer.invoke(experiment, PLAN)
    page = tmp_path / "page.html"
    page.write_text("a page")
    theirs = stranger(schema.KIND_ARM, experiment, arm="full recipe", profile=PLAN.profile.name)
    effect = EffectRecord("full recipe", 0.1, 0.0, 0.2, "helps", "dropout")
    for effects in ([effect], []):
        write_answer(writer.store, parent, PLAN, page, "an answer", effects)
    run = writer.client.get_run(theirs)
    assert (run.info.lifecycle_stage, run.data.metrics) == ("active", {})


def test_an_experiment_of_others_is_not_ours_for_its_name(writer: Writer) -> None:
    theirs = writer.client.create_experiment("foundations")
    writer.client.create_run(theirs)
    assert writer.client.get_experiment(_of_foundations(writer)).name == "foundations (2)"
    assert len(writer.client.search_runs([theirs])) == 1
    assert writer.client.get_experiment(theirs).tags == {}


def test_an_experiment_of_an_earlier_version_is_ours(writer: Writer) -> None:
    """It had no mark, and that of the demonstrations no tags at all."""
    before = writer.client.create_experiment("foundations")
    writer.client.create_run(before, tags={schema.COORDINATOR: "a-machine/boot/7/1.00"})
    assert _of_foundations(writer) == before


@pytest.fixture
def another() -> Iterator[subprocess.Popen[bytes]]:
    """A process beside this one."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def _coordinated_by(process: subprocess.Popen[bytes]) -> str:
    host, boot, _, _ = this_process().split("/")
    return f"{host}/{boot}/{process.pid}/{psutil.Process(process.pid).create_time():.2f}"


@pytest.mark.parametrize("own", [True, False], ids=["its own folder's store", "a store elsewhere"])
def test_runs_of_a_living_process_go_on(
    writer: Writer, another: subprocess.Popen[bytes], own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two output folders may share a store: the lock of one says nothing about the other's trainings."""
    if not own:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", writer.uri)
    home = Home(writer.folder if own else tmp_path / "second")
    parent = writer.invoke(_of_plan(writer), PLAN)
    run = writer.train(_of_plan(writer), parent, PLAN, ROW | {"outcome": ""})
    writer.client.set_tag(run, schema.COORDINATOR, _coordinated_by(another))
    assert Store(home).reconcile() == 0
    assert writer.client.get_run(run).info.status == "RUNNING"
    another.kill()
    another.wait()
    assert Store(home).reconcile() == 1
    assert writer.client.get_run(run).info.status == "KILLED"


@pytest.mark.parametrize("own", [True, False], ids=["its own folder's store", "a store elsewhere"])
@pytest.mark.parametrize("coordinator", ["another-machine/boot/7/1.00", "by hand", "a/b/c/d", None])
def test_runs_whose_process_cannot_be_looked_for_are_ended_in_a_store_of_ones_own_alone(
    writer: Writer, coordinator: str | None, own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not own:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", writer.uri)
    store = Store(Home(writer.folder if own else tmp_path / "second"))
    run = writer.train(_of_plan(writer), writer.invoke(_of_plan(writer), PLAN), PLAN, ROW | {"outcome": ""})
    if coordinator is None:
        writer.client.delete_tag(run, schema.COORDINATOR)
    else:
        writer.client.set_tag(run, schema.COORDINATOR, coordinator)
    assert store.reconcile() == own
    assert RunStatus.is_terminated(RunStatus.from_string(writer.client.get_run(run).info.status)) == own


@pytest.mark.parametrize("pid", ["0x7", "-1", "", "1.5"])
def test_a_coordinator_edited_by_hand_is_not_known(pid: str) -> None:
    host, boot, _, started = this_process().split("/")
    assert is_running(f"{host}/{boot}/{pid}/{started}") is None


def test_processes_are_told_apart() -> None:
    host, boot, pid, started = this_process().split("/")
    assert is_running(this_process()) is True
    assert int(pid) == os.getpid()
    assert is_running(f"{host}/{boot}/{pid}/1.00") is False, "the number was given anew"
    assert is_running(f"{host}/before/{pid}/{started}") is False
    assert is_running(f"elsewhere/{boot}/{pid}/{started}") is None


def test_what_is_trained_here_is_marked(writer: Writer) -> None:
    experiment = _of_plan(writer)
    run = writer.train(experiment, writer.invoke(experiment, PLAN), PLAN, ROW)
    assert schema.MARK in writer.client.get_run(run).data.tags
    assert schema.MARK in writer.client.get_experiment(experiment).tags


@pytest.mark.parametrize(
    ("tags", "ours"),
    [
        (schema.MARKED, True),
        ({schema.COORDINATOR: "a-machine/boot/7/1.00"}, True),
        ({schema.COORDINATOR: "tcp:127.0.0.1"}, False),
        ({schema.KIND: schema.KIND_TRAINING}, False),
        ({}, False),
    ],
)
def test_a_mark_tells_what_is_ours(tags: dict[str, str], ours: bool) -> None:
    assert schema.is_ours(tags) is ours
