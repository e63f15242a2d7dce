"""A plan run for real into an MLflow store: what is written, resumed, killed, interrupted, failed."""

from __future__ import annotations

import pickle
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from multiprocessing import active_children
from pathlib import Path

import mlflow
import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.plan import with_looks
from cifar_ablations.ablations.profiles import Profile
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import (
    EnvironmentRecord,
    GalleryRecord,
    PlanRecord,
    ProvenanceRecord,
    from_json,
    from_tags,
)
from cifar_ablations.ablations.stores import StoreError
from cifar_ablations.ablations.training_key import TrainingKey
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.execution import runner
from cifar_ablations.study.execution.events import Failed, Stalled, Started
from cifar_ablations.study.execution.fleets import Progress
from cifar_ablations.study.execution.runner import Invocation, _Standing, run
from cifar_ablations.study.execution.sizing import pack
from cifar_ablations.study.execution.workers import local_pool, train_fleets
from cifar_ablations.study.store import tracking
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.tracking import open_store
from cifar_ablations.study.training.engine import Outcome
from cifar_ablations.study.training.fleet import Member
from tests.fresh_store import put_fresh_store
from tests.standing_still import IMPATIENT, put_stuck_network, send_workers

pytestmark = pytest.mark.slow

FACTS = ProvenanceRecord(commit="unknown", device="cpu")


def _invocation(recipe: Recipe, data: Dataset, seeds: int = 2, plan: str = "techniques") -> Invocation:
    profile = Profile("tiny", "for tests", recipe.model, recipe.budget, seeds, 0.01)
    made = catalog.make_plan(plan, recipe, profile, tuple(range(seeds)))
    device = torch.device("cpu")
    return Invocation(made, profile=profile, data=data, device=device, workers=2, command="ablate run techniques")


def _client(home: Home) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(tracking_uri=home.tracking_uri)


def _runs(home: Home, kind: str = schema.KIND_TRAINING) -> list:
    client = _client(home)
    experiments = [e.experiment_id for e in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.kind = '{kind}'", max_results=1000))


def _silent(progress: Progress) -> None:
    pass


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe, tiny_data: Dataset):
    """A home in which the techniques plan has run with one seed."""
    home = Home(put_fresh_store(tmp_path_factory.mktemp("home")))
    invocation = _invocation(recipe, tiny_data, seeds=1)
    shown: list[tuple[int, int]] = []
    progress = run(invocation, open_store(home), FACTS, lambda p: shown.append((p.epochs_done, p.done)))
    return home, invocation, progress, shown


@pytest.fixture
def copied(finished, tmp_path: Path):
    """A copy of that home, for a test that writes to it, and what ran in it."""
    home, invocation, *_ = finished
    return Home(shutil.copytree(home.folder, tmp_path / "copy")), invocation


@pytest.mark.exhaustive
def test_the_first_seed_says_which_arm_leads(finished) -> None:
    home, _, progress, _ = finished
    means = {r.data.tags[schema.ARM]: r.data.metrics[schema.TEST_ACCURACY] for r in _runs(home)}
    assert progress.seeds_done == 1
    arm, accuracy, seeds = progress.leading
    assert (means[arm], seeds) == (max(means.values()), 1)
    assert accuracy == max(means.values())


def test_arms_are_compared_over_seeds_that_a_call_has_trained_whole(recipe: Recipe, tiny_data: Dataset) -> None:
    invocation = _invocation(recipe, tiny_data, seeds=3)
    of_seed = [[m for m in invocation.members() if m.seed == seed] for seed in range(3)]
    standing = _Standing(invocation)
    standing.expect([*of_seed[0][1:], *of_seed[1]])  # one of the first seed has a result from before

    def end(member: Member, accuracy: float | None) -> None:
        metrics = {} if accuracy is None else {schema.TEST_ACCURACY: accuracy}
        outcome = schema.DIVERGED if accuracy is None else schema.FINISHED
        standing.add(Outcome(member, outcome, 1, metrics))

    for member in of_seed[0][1:]:
        assert standing.seeds_done == 0
        end(member, 0.9)
    assert (standing.seeds_done, standing.leading) == (1, None)
    for i, member in enumerate(of_seed[1]):
        assert standing.leading is None
        end(member, None if i == 13 else 0.1 + i / 100)
    names = [arm.name for arm in invocation.plan.arms]
    assert (standing.seeds_done, standing.leading) == (2, (names[12], pytest.approx(0.22), 1))
    standing.expect(of_seed[2])  # of the next look
    for i, member in enumerate(of_seed[2]):
        end(member, 0.5 - i / 50)
    assert (standing.seeds_done, standing.leading) == (3, (names[0], pytest.approx(0.3), 2))


def test_every_training_is_in_the_store(finished) -> None:
    home, invocation, progress, shown = finished
    runs = _runs(home)
    assert len(runs) == 14 == progress.done
    assert {r.data.tags[schema.ARM] for r in runs} == {arm.name for arm in invocation.plan.arms}
    assert {r.info.status for r in runs} == {"FINISHED"}
    assert shown[-1] == (progress.epochs_total, 14)
    digests = {arm.name: arm.recipe.digest() for arm in invocation.plan.arms}
    knobs = {arm.name: arm.recipe.knobs() for arm in invocation.plan.arms}
    for stored in runs:
        tags, arm = stored.data.tags, stored.data.tags[schema.ARM]
        assert tags[schema.DIGEST] == digests[arm]
        assert tags[schema.DATA_DIGEST] == invocation.data.digest
        assert tags[schema.OUTCOME] == schema.FINISHED
        assert {k: str(v) for k, v in knobs[arm].items()}.items() <= stored.data.params.items()
        assert set(stored.data.metrics) == {*schema.CURVES, *schema.ENDINGS, *schema.STATES}
        assert stored.inputs.dataset_inputs[0].dataset.digest == invocation.data.digest


def test_curves_have_a_point_per_epoch_and_endings_agree_with_their_parts(finished) -> None:
    home, invocation, *_ = finished
    client, stored = _client(home), _runs(home)[0]
    for name in schema.CURVES:
        history = client.get_metric_history(stored.info.run_id, name)
        assert [m.step for m in history] == list(range(1, invocation.plan.arms[0].recipe.budget.epochs + 1))
    metrics = stored.data.metrics
    gap = metrics[schema.TRAIN_ACCURACY] - metrics[schema.TEST_ACCURACY]
    assert metrics[schema.GENERALISATION_GAP] == pytest.approx(gap)
    local = client.download_artifacts(stored.info.run_id, schema.DETAILS_FILE)
    details = np.load(local)
    correct = details["correct"]
    assert correct.dtype == bool
    assert correct.mean() == pytest.approx(metrics[schema.TEST_ACCURACY])


def test_the_plan_is_logged_before_the_first_training(finished) -> None:
    home, invocation, *_ = finished
    (parent,) = _runs(home, schema.KIND_PLAN)
    assert parent.info.status == "FINISHED"
    assert all(r.info.start_time >= parent.info.start_time for r in _runs(home))
    assert {r.data.tags["mlflow.parentRunId"] for r in _runs(home)} == {parent.info.run_id}
    text = Path(_client(home).download_artifacts(parent.info.run_id, schema.PLAN_FILE)).read_text()
    plan = from_json(PlanRecord, text, schema.PLAN_FILE)
    assert plan == invocation.record()
    assert parent.data.tags[schema.PLAN_DIGEST] == invocation.plan.digest() == plan.digest
    own = {tag: value for tag, value in parent.data.tags.items() if tag.startswith(schema.PROVENANCE)}
    assert own == {schema.PROVENANCE + "commit": "unknown", schema.PROVENANCE + "device": "cpu"}
    assert "mlflow.source.git.commit" not in parent.data.tags


@pytest.mark.exhaustive
def test_a_second_call_trains_nothing_and_more_seeds_train_the_rest(copied, tiny_data: Dataset) -> None:
    home, invocation = copied
    store = open_store(home)
    before = {r.info.run_id for r in _runs(home)}
    assert run(invocation, store, FACTS, _silent).total == 0
    assert len(_runs(home, schema.KIND_PLAN)) == 1
    arms = invocation.plan.arms[0].recipe
    more = run(_invocation(arms, tiny_data, seeds=2), store, FACTS, _silent)
    assert more.total == more.done == 14
    assert {r.data.tags[schema.SEED] for r in _runs(home) if r.info.run_id not in before} == {"1"}


def test_every_training_says_where_it_was_trained(finished) -> None:
    home, invocation, *_ = finished
    here = EnvironmentRecord(1, torch.backends.cpu.get_cpu_capability(), 1, torch.__version__)
    assert invocation.environment() == here
    for stored in _runs(home):
        assert from_tags(EnvironmentRecord, stored.data.tags, schema.ENVIRONMENT, stored.info.run_id) == here
    (parent, *_) = _runs(home, schema.KIND_PLAN)
    assert not [tag for tag in parent.data.tags if tag.startswith(schema.ENVIRONMENT)]


@pytest.mark.exhaustive
def test_results_of_any_environment_are_taken_and_nothing_else_decides(copied, monkeypatch: pytest.MonkeyPatch) -> None:
    home, invocation = copied
    store, data, here = open_store(home), invocation.data, invocation.environment()
    done = store.results(data, here)
    assert done >= {(member.recipe.digest(), member.seed) for member in invocation.members()}
    assert store.results(data, replace(here, instructions="others", torch="0.1")) == done
    one, other, *_ = _runs(home)
    for tag in [tag for tag in one.data.tags if tag.startswith(schema.ENVIRONMENT)]:
        store.client.delete_tag(one.info.run_id, tag)  # as 0.1.0 wrote it
    store.client.set_tag(other.info.run_id, schema.ENVIRONMENT + "threads", "many")
    asked = []

    def only_from_here(found: TrainingKey, wanted: TrainingKey) -> bool:
        asked.append(wanted)
        return found.environment == wanted.environment

    assert store.results(data, here) == done
    monkeypatch.setattr(tracking, "same_training", only_from_here)
    assert done - store.results(data, here) == {
        (run.data.tags[schema.DIGEST], int(run.data.tags[schema.SEED])) for run in (one, other)
    }
    assert {(key.recipe, key.seed) for key in asked} == done
    assert {(key.data, key.environment) for key in asked} == {(data.digest, here)}


def test_runs_left_running_are_closed(copied) -> None:
    home, _ = copied
    client = _client(home)
    experiment = _runs(home)[0].info.experiment_id
    left = client.create_run(experiment, tags={schema.KIND: schema.KIND_TRAINING, **schema.MARKED})
    foreign = client.create_run(experiment, tags={schema.KIND: schema.KIND_TRAINING})
    assert open_store(home).reconcile() == 1
    closed = client.get_run(left.info.run_id)
    assert closed.info.status == "KILLED"
    assert closed.data.tags[schema.OUTCOME] == schema.INTERRUPTED
    assert client.get_run(foreign.info.run_id).info.status == "RUNNING", "not ours to close"


def test_an_error_in_a_fleet_is_a_failure_of_its_runs_alone(tmp_path: Path, recipe: Recipe, tiny_data) -> None:
    home = Home(put_fresh_store(tmp_path))
    broken = recipe.set("model.name=nonsense")
    good = _invocation(recipe, tiny_data, seeds=1, plan="notebook")
    bad = _invocation(broken, tiny_data, seeds=1, plan="notebook")
    store = open_store(home)
    progress = run(bad, store, FACTS, _silent)
    assert list(progress.failed) == ["notebook, seed 0"]
    (failed,) = _runs(home)
    assert failed.info.status == "FAILED"
    assert failed.data.tags[schema.OUTCOME] == schema.FAILED
    assert "nonsense" in failed.data.tags["error"]
    assert run(good, store, FACTS, _silent).done == 1
    assert run(bad, store, FACTS, _silent).total == 1, "a failure is tried again"


@pytest.mark.exhaustive
def test_stopping_marks_what_was_in_flight(tmp_path: Path, recipe: Recipe, tiny_data: Dataset) -> None:
    home = Home(put_fresh_store(tmp_path))

    def stop(progress: Progress) -> None:
        if progress.epochs_done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(_invocation(recipe, tiny_data, seeds=1), open_store(home), FACTS, stop)
    for stored in _runs(home) + _runs(home, schema.KIND_PLAN):
        assert stored.info.status == "KILLED"


# Workers import the script too, though not what it imports as the main program: mlflow takes seconds.
KILLED_RUN = """
import pickle, sys
from pathlib import Path
if __name__ == "__main__":
    from cifar_ablations.ablations.record import ProvenanceRecord
    from cifar_ablations.study.store.home import Home
    from cifar_ablations.study.execution.runner import run
    from cifar_ablations.study.store.tracking import open_store
    home = Home(Path(sys.argv[1]))
    invocation = pickle.loads(Path(sys.argv[2]).read_bytes())
    with home.locked("a test", print):
        store = open_store(home)
        store.reconcile()
        show = lambda progress: print(progress.done, progress.epochs_done, flush=True)
        run(invocation, store, ProvenanceRecord(), show)
"""


@pytest.mark.exhaustive
def test_kill_9_loses_only_what_was_in_flight(tmp_path: Path, recipe: Recipe, tiny_data: Dataset) -> None:
    home = Home(put_fresh_store(tmp_path / "home"))
    script, pickled = tmp_path / "coordinator.py", tmp_path / "invocation.pickle"
    script.write_text(KILLED_RUN)
    # The full recipe, those without one technique, and the bare one, twice: four fleets of four for two workers.
    invocation = _invocation(recipe.set("budget.epochs=5"), tiny_data)
    plan = replace(invocation.plan, arms=invocation.plan.arms[:8], claims=())
    invocation = replace(invocation, plan=plan, save_every=0)
    assert len(invocation.members()) == 16
    pickled.write_bytes(pickle.dumps(invocation))
    command = [sys.executable, str(script), str(home.folder), str(pickled)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            finished, epochs = map(int, line.split())
            if finished and epochs > finished * 5 + 8:  # some are done, others are in their middle
                break
        process.send_signal(signal.SIGKILL)
    kept = {r.info.run_id for r in _runs(home) if r.info.status == "FINISHED"}
    assert 0 < len(kept) < 16
    assert any(r.info.status == "RUNNING" for r in _runs(home))
    _wait_for_workers_to_end()

    said: list[str] = []
    with home.locked("a test", said.append):
        store = open_store(home)
        store.reconcile()
        run(invocation, store, ProvenanceRecord(), _silent)
    assert not said, "the killed coordinator's lock is free"
    runs = _runs(home)
    assert not [r for r in runs if r.info.status == "RUNNING"]
    results = [r for r in runs if r.data.tags.get(schema.OUTCOME) in schema.RESULTS]
    assert kept <= {r.info.run_id for r in results}
    assert len(results) == 16
    assert len({(r.data.tags[schema.DIGEST], r.data.tags[schema.SEED]) for r in results}) == 16
    in_flight = [r for r in runs if r.data.tags.get(schema.OUTCOME) == schema.INTERRUPTED]
    assert len(in_flight) <= 8, "two workers, a fleet of four each"
    # What was in flight has all its epochs under a new run: those before the kill and those after it.
    client = _client(home)
    losses = {
        (r.data.tags[schema.DIGEST], r.data.tags[schema.SEED], r not in in_flight): [
            (m.step, m.value) for m in client.get_metric_history(r.info.run_id, schema.TRAIN_LOSS)
        ]
        for r in runs
    }
    compared = 0
    for (digest, seed, whole), history in losses.items():
        if not whole:
            assert history == losses[digest, seed, True][: len(history)]
            compared += len(history)
    assert compared
    assert all([step for step, _ in h] == [1, 2, 3, 4, 5] for (*_, whole), h in losses.items() if whole)
    assert not list(home.checkpoints.iterdir())


def _wait_for_workers_to_end() -> None:
    """Workers of a killed coordinator end by themselves, at their next report."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        orphans = [p for p in psutil.process_iter(["cmdline", "ppid"]) if p.info["ppid"] == 1]
        commands = [" ".join(p.info["cmdline"] or ()) for p in orphans]
        if not any("spawn_main" in command or "multiprocessing.forkserver" in command for command in commands):
            return
        time.sleep(0.2)
    raise AssertionError("workers outlive their coordinator")


def test_two_at_once_wait_for_each_other(tmp_path: Path) -> None:
    home = Home(tmp_path)
    said: list[str] = []
    code = (
        "import sys, time; from pathlib import Path; from cifar_ablations.study.store.home import Home\n"
        "with Home(Path(sys.argv[1])).locked('running plan x', print): print('held', flush=True); time.sleep(1.5)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        began = time.monotonic()
        with home.locked("running plan y", said.append):
            waited = time.monotonic() - began
    assert waited > 0.5
    assert f"process {other.pid}, running plan x" in said[0]


def test_a_store_that_cannot_be_opened_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/no/such/folder/mlflow.db")
    with pytest.raises(StoreError, match=r"cannot be opened .* Set MLFLOW_TRACKING_URI or ABLATE_HOME"):
        open_store(Home(tmp_path))


def test_a_dead_worker_does_not_take_the_others_along(recipe: Recipe, tiny_data: Dataset, tmp_path: Path) -> None:
    fleets = [[Member(recipe, seed)] for seed in range(3)]
    events = list(train_fleets(fleets, tmp_path / "no data here", "cpu", workers=2))
    failures = [e for e in events if isinstance(e, Failed)]
    assert len(failures) == len([e for e in events if isinstance(e, Stalled)]) == 3, "each is tried twice"
    assert all(e.lost for e in failures)
    assert "exit code" in failures[0].why


def test_a_worker_that_died_at_rest_costs_nothing(recipe: Recipe, tiny_data: Dataset) -> None:
    assert tiny_data.folder is not None
    pool = local_pool(tiny_data.folder, "cpu", 1)
    try:
        list(pool.train([[Member(recipe, 0)]]))
        (resting,) = pool._idle
        resting.process.kill()
        resting.process.join()
        events = [e for e in pool.train([[Member(recipe, 1)], [Member(recipe, 2)]]) if e is not None]
    finally:
        pool.close()
    assert [type(e) for e in events[:3]] == [Started, Stalled, Started]
    assert events[1].members == events[2].members == (Member(recipe, 1),)
    assert [e.member for e in events if isinstance(e, Outcome)] == [Member(recipe, 1), Member(recipe, 2)]


@pytest.mark.exhaustive
def test_trainings_of_a_worker_that_stands_still_go_on_under_new_runs(
    tmp_path: Path, recipe: Recipe, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    name, _ = put_stuck_network(tmp_path, step=10)  # three steps an epoch
    home = Home(put_fresh_store(tmp_path / "home"))
    invocation = _invocation(recipe.set("budget.epochs=6").set(f"model.name={name}"), tiny_data, seeds=1)
    plan = replace(invocation.plan, arms=invocation.plan.arms[:2], claims=())
    invocation = replace(invocation, workers=1, plan=plan, save_every=0, patience=IMPATIENT)
    shown: list[tuple[int, int]] = []

    def show(progress: Progress) -> None:
        shown.append((progress.epochs_done, progress.epochs_total))

    progress = run(invocation, open_store(home), FACTS, show)
    assert (progress.done, progress.failed) == (2, {})
    assert all(before[0] <= after[0] <= after[1] == 12 for before, after in pairwise(shown))
    assert shown[-1] == (12, 12)
    (sentence,) = progress.stalled
    first, why = sentence.split(": ")
    assert first == f"{invocation.plan.arms[0].name}, seed 0 and 1 more"
    assert why.startswith("its worker made no progress for ")
    client = _client(home)
    for arm in invocation.plan.arms:
        ended, interrupted = sorted(
            (r for r in _runs(home) if r.data.tags[schema.ARM] == arm.name), key=lambda r: r.data.tags[schema.OUTCOME]
        )
        assert ended.data.tags[schema.OUTCOME] == schema.FINISHED
        assert (interrupted.info.status, interrupted.data.tags[schema.OUTCOME]) == ("KILLED", schema.INTERRUPTED)
        assert why.startswith(interrupted.data.tags[schema.STALLED])
        before, after = (
            [(m.step, m.value) for m in client.get_metric_history(r.info.run_id, schema.TRAIN_LOSS)]
            for r in (interrupted, ended)
        )
        assert [step for step, _ in after] == [1, 2, 3, 4, 5, 6]
        assert before == after[:3]
    assert not list(home.checkpoints.iterdir())


@pytest.mark.exhaustive
def test_trainings_that_stand_still_twice_are_named_and_the_others_end(
    tmp_path: Path, recipe: Recipe, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    home = Home(put_fresh_store(tmp_path / "home"))
    fine = _invocation(recipe, tiny_data, seeds=1)
    stuck, *others = fine.plan.arms[:3]
    name, _ = put_stuck_network(tmp_path, step=5, always=True)
    stuck = replace(stuck, recipe=recipe.set(f"model.name={name}"))
    plan = replace(fine.plan, arms=(stuck, *others), claims=())
    invocation = replace(fine, plan=plan, save_every=1e9, patience=IMPATIENT)
    progress = run(invocation, open_store(home), FACTS, _silent)
    assert progress.done == 2
    assert progress.epochs_done == 5 < progress.epochs_total == 6, "the first epoch of the stuck one counts once"
    assert len(progress.stalled) == 1
    ((name, why),) = progress.failed.items()
    assert name == f"{stuck.name}, seed 0"
    assert why in {f"its worker made no progress for {s} s; it was ended, for the second time" for s in range(1, 60)}
    runs = {r.data.tags[schema.OUTCOME]: r for r in _runs(home) if r.data.tags[schema.ARM] == stuck.name}
    assert set(runs) == {schema.INTERRUPTED, schema.FAILED}
    assert runs[schema.FAILED].data.tags["error"] == why


def test_a_stopped_worker_does_not_keep_a_command_from_being_stopped(
    tmp_path: Path, recipe: Recipe, tiny_data: Dataset
) -> None:
    home = Home(put_fresh_store(tmp_path))

    def stopped() -> bool:
        send_workers(signal.SIGSTOP)
        return True

    invocation = _invocation(recipe, tiny_data, plan="notebook")
    with pytest.raises(KeyboardInterrupt):
        run(invocation, open_store(home), FACTS, _silent, stopped)
    assert not active_children()
    assert {r.info.status for r in _runs(home)} == {"KILLED"}


def test_pictures_that_cannot_be_drawn_are_said_and_keep_nobody_from_training(
    recipe: Recipe, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_):
        raise ZeroDivisionError("in a technique")

    monkeypatch.setattr(runner.gallery, "of_arms", broken)
    found = runner._gallery(_invocation(recipe, tiny_data, seeds=1))
    assert found == GalleryRecord(0, error="ZeroDivisionError: in a technique")


@given(st.integers(1, 90), st.integers(1, 5), st.integers(1, 9))
def test_packing_keeps_order_and_balances(count: int, workers: int, size: int) -> None:
    members = [Member(catalog.notebook_recipe(), seed) for seed in range(count)]
    fleets = pack(members, workers, size)
    assert [m for fleet in fleets for m in fleet] == members
    lengths = [len(fleet) for fleet in fleets]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    assert len(fleets) % workers == 0 or len(fleets) == count


@pytest.mark.exhaustive
def test_training_stops_at_the_first_look_that_is_enough(tmp_path: Path, recipe: Recipe, tiny_data: Dataset) -> None:
    home = Home(put_fresh_store(tmp_path))
    fixed = _invocation(recipe, tiny_data, seeds=1, plan="a-a")
    looks = with_looks(fixed.plan, "adaptive")
    invocation = replace(fixed, plan=looks)
    asked: list[int] = []

    def enough() -> bool:
        asked.append(len(_runs(home)))
        return len(asked) == 2

    progress = run(invocation, open_store(home), FACTS, _silent, enough=enough)
    assert asked == [10, 20]
    assert progress.done == progress.total == 20
    assert {int(r.data.tags[schema.SEED]) for r in _runs(home)} == {s + o for s in range(10) for o in (0, 1000)}
    (parent,) = _runs(home, schema.KIND_PLAN)
    assert parent.info.status == "FINISHED"
    again = run(invocation, open_store(home), FACTS, _silent, enough=lambda: len(_runs(home)) >= 20)
    assert again.total == 0
    assert len(_runs(home, schema.KIND_PLAN)) == 1
