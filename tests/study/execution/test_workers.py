"""Worker processes that stand still: noticed, ended, given a second try, and named. The processes are real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import psutil
import pytest
import torch

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.techniques.optimizer import Optimizer
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.execution.events import Done, Event, Failed, Stalled, Started
from cifar_ablations.study.execution.pool import WorkerPool
from cifar_ablations.study.execution.workers import Processes, Settings, default_workers, gpus, local_pool
from cifar_ablations.study.training.backend import KERNELS, TORCH
from cifar_ablations.study.training.engine import Checkpoints, Epoch, Outcome, train
from cifar_ablations.study.training.fleet import Member
from cifar_ablations.study.training.kernels import build
from tests.standing_still import IMPATIENT, put_stuck_network, send_workers

pytestmark = pytest.mark.slow

TIMES = {schema.SECONDS, schema.IMAGES_PER_SECOND}


def _events(
    pool: WorkerPool,
    fleets: list[list[Member]],
    checkpoints: Checkpoints | None = None,
) -> list[Event]:
    return [event for event in pool.train(fleets, checkpoints) if event is not None]


def _numbers(events: list[Event], member: Member) -> dict[object, str]:
    """What was told of a member, without times, as text: NaN equals NaN there. What is told again must be the same."""
    told: dict[object, str] = {}
    for event in events:
        if isinstance(event, Epoch | Outcome) and event.member == member:
            metrics = {name: value for name, value in event.metrics.items() if name not in TIMES}
            details = {k: v.tolist() for k, v in event.details.items()} if isinstance(event, Outcome) else {}
            key, numbers = event.epoch if isinstance(event, Epoch) else event.outcome, repr((metrics, details))
            assert told.setdefault(key, numbers) == numbers
    return told


@pytest.mark.exhaustive
def test_a_worker_that_stands_still_is_replaced_and_its_fleet_goes_on_bitwise(
    recipe: Recipe, tiny_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    name, stood_still = put_stuck_network(tmp_path, step=10)  # three steps an epoch
    longer = recipe.set("budget.epochs=6").set(f"model.name={name}")
    wild = Member(longer.with_technique(Optimizer(rate=100.0)).set("weight_decay.strength=1"), 0)
    calm = (Member(longer, 0), Member(longer.without("dropout"), 0))
    stood_still.touch()
    undisturbed: list[Event] = []
    train([wild, *calm], tiny_data, torch.device("cpu"), undisturbed.append)
    stood_still.unlink()
    assert tiny_data.folder is not None
    with local_pool(tiny_data.folder, "cpu", 1, IMPATIENT) as pool:
        events = _events(pool, [[wild, *calm]], Checkpoints(tmp_path, 0))
    (stalled,) = [e for e in events if isinstance(e, Stalled)]
    assert stalled.members == calm, "one that had ended is not trained again"
    assert stalled.why in {f"its worker made no progress for {s} s; it was ended" for s in range(1, 60)}
    assert [e.members for e in events if isinstance(e, Started)] == [(wild, *calm), calm]
    assert [e.members for e in events if isinstance(e, Done)] == [calm]
    assert not [e for e in events if isinstance(e, Failed)]
    outcomes = [e.member for e in events if isinstance(e, Outcome)]
    assert len(outcomes) == len(set(outcomes)) == 3
    again = [e for e in events[events.index(stalled) :] if isinstance(e, Epoch) and e.member == calm[0]]
    assert [(e.epoch, e.past) for e in again] == [(epoch, epoch < 4) for epoch in range(1, 7)]
    for member in (wild, *calm):
        assert _numbers(events, member) == _numbers(undisturbed, member)


@pytest.mark.exhaustive
def test_a_fleet_that_stands_still_twice_has_failed_and_the_others_go_on(
    recipe: Recipe, tiny_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    name, _ = put_stuck_network(tmp_path, step=5, always=True)
    stuck = recipe.set(f"model.name={name}")
    fleets = [[Member(stuck, 0), Member(stuck, 1)], [Member(recipe, 0)], [Member(recipe, 1)]]
    assert tiny_data.folder is not None
    with local_pool(tiny_data.folder, "cpu", 1, IMPATIENT) as pool:
        events = _events(pool, fleets)
    assert len([e for e in events if isinstance(e, Stalled)]) == 1
    (failed,) = [e for e in events if isinstance(e, Failed)]
    assert failed.members == tuple(fleets[0])
    assert failed.why in {
        f"its worker made no progress for {s} s; it was ended, for the second time" for s in range(1, 60)
    }
    assert [e.member for e in events if isinstance(e, Outcome)] == [Member(recipe, 0), Member(recipe, 1)]
    assert not active_children()


@pytest.mark.exhaustive
def test_nobody_is_stuck_because_everybody_slept(recipe: Recipe, tiny_data: Dataset) -> None:
    assert tiny_data.folder is not None
    patience = replace(IMPATIENT, floor_seconds=2.0)
    found: list[Event] = []
    quiet = 0
    with local_pool(tiny_data.folder, "cpu", 1, patience) as pool:
        for event in pool.train([[Member(recipe.set("budget.epochs=20"), 0)]]):
            if event is not None:
                found.append(event)
                if isinstance(event, Epoch) and event.epoch == 1:
                    send_workers(signal.SIGSTOP)
            elif isinstance(found[-1], Epoch):
                quiet += 1
                if quiet == 1:
                    time.sleep(patience.floor_seconds + 0.5)
                elif quiet == 2:  # the coordinator is awake first, and has looked around
                    send_workers(signal.SIGCONT)
    assert quiet > 1
    assert not [e for e in found if isinstance(e, Stalled | Failed)]
    assert isinstance(found[-1], Done)


def test_a_stopped_worker_is_ended_with_the_iterator_and_with_its_pool(recipe: Recipe, tiny_data: Dataset) -> None:
    assert tiny_data.folder is not None
    pool = local_pool(tiny_data.folder, "cpu", 2, IMPATIENT)
    events = pool.train([[Member(recipe.set("budget.epochs=50"), 0)], [Member(recipe, 1)]])
    for event in events:
        if isinstance(event, Done):
            break
    send_workers(signal.SIGSTOP)
    began = time.monotonic()
    events.close()
    assert len(active_children()) == 1, "the one at rest"
    pool.close()
    assert not active_children()
    assert time.monotonic() - began < 5


SAME_BITS = """
import json, os, sys
from pathlib import Path

def main():
    folder, workers, cores = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:cores]))
    from dataclasses import replace
    from cifar_ablations.ablations import catalog, schema
    from cifar_ablations.ablations.budget import Budget, Network
    from cifar_ablations.study.execution.pool import WorkerPool
    from cifar_ablations.study.execution.workers import local_pool
    from cifar_ablations.study.training.engine import Outcome
    from cifar_ablations.study.training.fleet import Member

    TIMES = (schema.SECONDS, schema.IMAGES_PER_SECOND)
    recipe = replace(catalog.notebook_recipe(), model=Network("notebook", 0.5), budget=Budget(2, 64, 128, 40, 60))
    found = {}
    for backend in sys.argv[4:]:
        with local_pool(folder, "cpu", workers, backend=backend) as pool:
            for event in pool.train([[Member(recipe, 0)], [Member(recipe, 1)]]):
                if isinstance(event, Outcome):
                    numbers = {name: float(value).hex() for name, value in event.metrics.items() if name not in TIMES}
                    found[f"{backend} {event.member.seed}"] = numbers
    print(json.dumps(found, sort_keys=True))

if __name__ == "__main__":
    main()
"""


def _trained(data: Dataset, tmp_path: Path, workers: int, cores: int = 0, **variables: str) -> dict[str, object]:
    """What two trainings come to by each backend there is, in processes of their own with these variables."""
    (tmp_path / "same_bits.py").write_text(SAME_BITS)
    try:
        build.library()
        backends = [TORCH, KERNELS]
    except build.UnavailableError:
        backends = [TORCH]
    words = [sys.executable, str(tmp_path / "same_bits.py"), str(data.folder), str(workers), str(cores), *backends]
    done = subprocess.run(words, env={**os.environ, **variables}, capture_output=True, text=True, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    assert len(found) == 2 * len(backends)
    return found


@pytest.mark.exhaustive
def test_no_bit_depends_on_workers_threads_or_cores(tiny_data: Dataset, tmp_path: Path) -> None:
    usual = _trained(tiny_data, tmp_path, 2, OMP_NUM_THREADS="1")
    assert _trained(tiny_data, tmp_path, 1, OMP_NUM_THREADS="4", MKL_NUM_THREADS="4") == usual
    assert _trained(tiny_data, tmp_path, 4, cores=1, OMP_NUM_THREADS="3", MKL_DYNAMIC="FALSE") == usual


ORPHANS = """
import sys
from multiprocessing import active_children
from pathlib import Path
from cifar_ablations.ablations.catalog import notebook_recipe
from cifar_ablations.study.execution.events import Failed
from cifar_ablations.study.execution.pool import WorkerPool
from cifar_ablations.study.execution.workers import Processes, Settings, default_workers, gpus, local_pool
from cifar_ablations.study.training.fleet import Member

def main():
    recipe = notebook_recipe().set("model.name=silent_network:Silent")
    recipe = recipe.set("budget.train_images=100").set("budget.validation_images=100")
    with local_pool(Path(sys.argv[1]), "cpu", 2) as pool:
        for event in pool.train([[Member(recipe, seed)] for seed in range(2)]):
            if isinstance(event, Failed):
                raise SystemExit(event.why)
            if Path("silent").exists():
                print(*(child.pid for child in active_children()), flush=True)

if __name__ == "__main__":
    main()
"""
SILENT = """
import time
from pathlib import Path
from cifar_ablations.study.training.model import NotebookNetwork
class Silent(NotebookNetwork):
    def forward(self, images):
        if self.training:
            Path("silent").touch()
            time.sleep(600)
        return super().forward(images)
"""


def test_workers_end_at_once_when_their_coordinator_is_killed(tiny_data: Dataset, tmp_path: Path) -> None:
    """Also in the middle of an epoch that takes hours: they need not report to notice."""
    assert tiny_data.folder is not None
    (tmp_path / "coordinator.py").write_text(ORPHANS)
    (tmp_path / "silent_network.py").write_text(SILENT)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    command = [sys.executable, "coordinator.py", str(tiny_data.folder)]
    with subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    ) as coordinator:
        assert coordinator.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in coordinator.stdout.readline().split()]
        assert len(workers) == 2
        coordinator.kill()
        _, left = psutil.wait_procs(workers, timeout=5)
    assert not left


def test_each_gpu_of_the_first_ones_model_gets_a_worker_and_a_lost_one_is_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    models = ["H100", "H100", "T4", "H100"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(models))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: models[index])
    assert gpus("cuda") == ("cuda:0", "cuda:1", "cuda:3")
    assert gpus("cuda:2") == ("cuda:2",)
    assert default_workers(torch.device("cuda")) == 3
    assert default_workers(torch.device("cuda:2")) == 1
    crew = Processes(Settings(tmp_path, "cuda", 1), leaving_seconds=5)
    started = [crew.start() for _ in range(3)]
    try:
        assert [worker.device for worker in started] == ["cuda:0", "cuda:1", "cuda:3"]
        crew.end([started[1]])
        started.append(crew.start())
        assert started[-1].device == "cuda:1"
    finally:
        crew.end([started[0], *started[2:]])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert gpus("cuda") == ("cuda",)
