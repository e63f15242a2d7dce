"""Fleets on Ray: the same numbers as on this machine, whatever becomes of nodes and workers. The cluster is real."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.execution import on_node
from cifar_ablations.study.execution.events import Done, Event, Failed, Stalled
from cifar_ablations.study.execution.on_ray import RayTasks, connect
from cifar_ablations.study.execution.pool import PATIENCE, Patience, WorkerPool
from cifar_ablations.study.execution.workers import THREADS, train_fleets
from cifar_ablations.study.store.provenance import environment
from cifar_ablations.study.training.backend import TORCH
from cifar_ablations.study.training.engine import Checkpoints, Epoch, Outcome
from cifar_ablations.study.training.fleet import Member
from tests.standing_still import IMPATIENT, put_stuck_network

ray = pytest.importorskip("ray", reason="the extra `cluster` is not installed")

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
TIMES = {schema.SECONDS, schema.IMAGES_PER_SECOND}
ADDRESS = "127.0.0.2"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster whose head has no room for fleets, and one node with room for one."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    made = Cluster(head_node_args={"num_cpus": 0, "node_ip_address": ADDRESS, "include_dashboard": False})
    made.add_node(num_cpus=1, node_ip_address=ADDRESS)
    made.wait_for_nodes()
    assert connect(made.address, None, CPU) == 1
    yield made
    ray.shutdown()
    made.shutdown()


def _pool(data: Dataset, workers: int, patience: Patience = PATIENCE, **changes: Any) -> WorkerPool[Any]:
    assert data.folder is not None
    here = replace(environment(CPU, THREADS, TORCH), **changes)
    return WorkerPool(RayTasks(data.folder, data.digest, CPU, workers, TORCH, (), here), workers, patience)


def _results(events: Sequence[Event | None]) -> dict[Member, tuple[Any, ...]]:
    """By member its epochs, those told again once, and its end, without what a clock measured."""
    found: dict[Member, tuple[Any, ...]] = {}
    for event in events:
        if isinstance(event, Outcome):
            epochs = {e.epoch: dict(e.metrics) for e in events if isinstance(e, Epoch) and e.member == event.member}
            for metrics in epochs.values():
                for name in TIMES:
                    metrics.pop(name, None)
            assert event.member not in found, "a training has one end"
            ended = {name: value for name, value in event.metrics.items() if name not in TIMES}
            found[event.member] = (event.outcome, event.epochs, ended, epochs)
    return found


def _trained(
    pool: WorkerPool[Any],
    fleets: Sequence[Sequence[Member]],
    checkpoints: Checkpoints | None,
    see: Callable[[Event], None] = lambda event: None,
) -> list[Event]:
    events = list[Event]()
    with pool:
        for event in pool.train(fleets, checkpoints):
            if event is not None:
                events.append(event)
                see(event)
    return events


def test_a_node_that_is_taken_out_costs_nothing_but_time(
    cluster: Any, recipe: Recipe, tiny_data: Dataset, tmp_path: Path
) -> None:
    longer = recipe.set("budget.epochs=12")
    fleets = [[Member(longer, seed), Member(longer.without("dropout"), seed)] for seed in range(4)]
    second = cluster.add_node(num_cpus=1, node_ip_address=ADDRESS)
    cluster.wait_for_nodes()
    removed = list[Event]()

    def see(event: Event) -> None:
        if not removed and isinstance(event, Epoch) and event.epoch == 3:
            removed.append(event)
            cluster.remove_node(second, allow_graceful=False)

    (tmp_path / "checkpoints").mkdir()
    events = _trained(_pool(tiny_data, 2), fleets, Checkpoints(tmp_path / "checkpoints", 0), see)
    stalled = [event for event in events if isinstance(event, Stalled)]
    assert len(stalled) == 1, "the node had one fleet in hand"
    assert not [event for event in events if isinstance(event, Failed)]
    assert len([event for event in events if isinstance(event, Done)]) == len(fleets)
    assert tiny_data.folder is not None
    here = list(train_fleets(fleets, tiny_data.folder, "cpu", 2))
    assert _results(events) == _results(here)
    assert len(_results(events)) == 8


def test_a_task_that_stands_still_is_killed_and_another_goes_on_from_its_checkpoint(
    cluster: Any, recipe: Recipe, tiny_data: Dataset, tmp_path: Path
) -> None:
    name, _ = put_stuck_network(tmp_path, step=10)
    stuck = recipe.set("budget.epochs=6").set(f"model.name={name}")
    (tmp_path / "checkpoints").mkdir()
    events = _trained(_pool(tiny_data, 1, IMPATIENT), [[Member(stuck, 0)]], Checkpoints(tmp_path / "checkpoints", 0))
    (stalled,) = [event for event in events if isinstance(event, Stalled)]
    assert "made no progress" in stalled.why
    again = events[events.index(stalled) :]
    assert [event for event in again if isinstance(event, Epoch) and event.past], "what was saved is told again"
    (ended,) = [event for event in events if isinstance(event, Outcome)]
    assert ended.outcome == schema.FINISHED


def test_a_node_that_computes_otherwise_is_refused(cluster: Any, recipe: Recipe, tiny_data: Dataset) -> None:
    with pytest.raises(AblateError, match=r"the node .* of the Ray cluster has torch '.*' and not '0\.1', as this"):
        _trained(_pool(tiny_data, 1, torch="0.1"), [[Member(recipe, 0)]], None)


def test_what_a_training_raises_is_told_as_on_this_machine(
    cluster: Any, recipe: Recipe, tiny_data: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "raising.py").write_text(
        "from cifar_ablations.study.training.model import NotebookNetwork\n"
        "class Raising(NotebookNetwork):\n"
        "    def forward(self, images):\n"
        "        raise ValueError('no such layer')\n"
    )
    broken, fine = Member(recipe.set("model.name=raising:Raising"), 0), Member(recipe, 0)
    events = _trained(_pool(tiny_data, 1), [[broken], [fine]], None)
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert failed.members == (broken,)
    assert "no such layer" in failed.why
    assert not failed.lost
    assert list(_results(events)) == [fine]


def test_data_are_fetched_once_for_a_node_and_again_where_they_are_damaged(
    tiny_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(on_node, "_OPENED", {})
    assert tiny_data.folder is not None
    files = {file.name: file.read_bytes() for file in tiny_data.folder.iterdir()}
    fetched = list[object]()

    def get(reference: object) -> dict[str, bytes]:
        fetched.append(reference)
        return files

    monkeypatch.setattr(ray, "get", get)
    for _ in range(2):
        found = on_node._data_on_node(tiny_data.digest, ["reference"])
        assert torch.equal(found.train_images, tiny_data.train_images)
        on_node._OPENED.clear()
    assert fetched == ["reference"], "the second process of a node finds them"
    damaged = tmp_path / "cifar-ablations" / "data" / tiny_data.digest / "train_labels.npy"
    damaged.write_bytes(damaged.read_bytes()[:-8] + bytes(8))
    found = on_node._data_on_node(tiny_data.digest, ["reference"])
    assert torch.equal(found.train_labels, tiny_data.train_labels)
    assert len(fetched) == 2


def test_without_the_package_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(AblateError, match=r"needs the package ray: pip install 'cifar-ablations\[cluster\]'"):
        connect(None, 1, CPU)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", r"nobody answers at 127.0.0.1:1 \(.*\); is that the address that `ray start` printed"),
        ("no.such.host.invalid:6379", "nobody answers at no.such.host.invalid:6379"),
        ("10.0.0.1", "must be auto or host:port, such as 10.0.0.1:6379, not '10.0.0.1'"),
        ("10.0.0.1:99999", "must be auto or host:port"),
        (".:6379", r"nobody answers at \.:6379"),
        (f"{'x' * 70}.example:6379", "nobody answers at x"),
        ("[::1]:1", r"nobody answers at \[::1\]:1"),
        ("ray://127.0.0.1:10001", "run the command on a node of the cluster, and name auto"),
    ],
)
def test_an_address_where_no_cluster_is_is_a_sentence_within_15_seconds(address: str, said: str) -> None:
    began = time.monotonic()
    with pytest.raises(AblateError, match=said):
        connect(address, None, CPU)
    assert time.monotonic() - began < 15


def test_where_no_cluster_runs_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(**words: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nPlease specify the one to connect to.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", none)  # one that another test has started would be found
    with pytest.raises(AblateError, match=r"no Ray cluster could be reached at auto \(Could not find any .*\); `ray"):
        connect("auto", None, CPU)


def test_a_node_without_this_package_is_refused_and_no_fleet_fails_for_it(
    cluster: Any, recipe: Recipe, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing_there(*words: Any) -> Iterator[None]:
        raise ModuleNotFoundError("No module named 'cifar_ablations.study.execution.on_node'")
        yield

    monkeypatch.setattr("cifar_ablations.study.execution.on_ray.train_on_node", nothing_there)
    with pytest.raises(AblateError, match=r"a node of the Ray cluster cannot train \(.*\); is this package installed"):
        _trained(_pool(tiny_data, 1), [[Member(recipe, 0)], [Member(recipe, 1)]], None)
