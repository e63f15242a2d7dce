"""How a step comes to be captured, on a torch.cuda that is played by a CPU: a graph is noted, and replays nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch

from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.training import step
from cifar_ablations.study.training.fleet import Member
from cifar_ablations.study.training.lockstep import Training
from cifar_ablations.study.training.step import Stepper, want_of_memory


class _Stream:
    def wait_stream(self, other: object) -> None:
        pass


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the played GPU says and has heard: `retries` of allocations, and `modes` of looking for synchronisation."""
    told = SimpleNamespace(retries=0, modes=[], captures=0)

    @contextmanager
    def graph(graph: object, pool: object = None) -> Iterator[None]:
        told.captures += 1
        yield

    played = {
        "Stream": lambda device: _Stream(),
        "current_stream": lambda device=None: _Stream(),
        "stream": lambda stream: nullcontext(),
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "CUDAGraph": lambda: SimpleNamespace(pool=lambda: None, replay=lambda: None),
        "graph": graph,
        "memory_stats": lambda device: {"num_alloc_retries": told.retries},
        "get_sync_debug_mode": lambda: 0,
        "set_sync_debug_mode": told.modes.append,
    }
    for name, function in played.items():
        monkeypatch.setattr(torch.cuda, name, function)
    monkeypatch.setattr(step, "_captured", set())
    return told


@pytest.fixture
def stepper(recipe: Recipe, tiny_data) -> Stepper:
    """Of one member, about to take the first step of its training."""
    training = Training([Member(recipe, 0)], tiny_data, torch.device("cpu"))
    training.fleet.train(True)
    found = training._stepper
    found._capturing = True
    found.begin(0, training._images())
    return found


def test_what_warms_up_is_undone(stepper: Stepper, gpu: SimpleNamespace) -> None:
    before, taken = stepper.fleet.weights.clone(), []
    stepper._step = lambda size, take=stepper._step: taken.append(size) or take(size)
    stepper.run(0)
    # The step within the capture is the last one, which a GPU would only note.
    assert len(taken) == step.WARM_UPS + 2
    assert gpu.captures == 1
    assert gpu.modes == ["error", 0]
    moved = (stepper.fleet.weights - before).abs().max()
    single = Training(stepper.fleet.members, stepper.data, torch.device("cpu"))
    single.fleet.train(True)
    single._stepper.begin(0, single._images())
    single._stepper.run(0)
    assert moved == (single.fleet.weights - before).abs().max()


def test_an_average_that_warms_up_is_undone_too(recipe: Recipe, tiny_data, gpu: SimpleNamespace) -> None:
    averaged = (
        recipe.set("weight_averaging=lookahead").set("weight_averaging.every=1").set("augmentation=alternating_flip")
    )
    found = []
    for capturing in (True, False):
        training = Training([Member(averaged, 0)], tiny_data, torch.device("cpu"))
        training.fleet.train(True)
        training._stepper._capturing = capturing
        training._stepper.begin(0, training._images())
        training._stepper.run(0)
        found.append((training.fleet.weights, training.average.weights))
    assert gpu.captures == 1
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_what_was_captured_before_is_not_looked_at_again(stepper: Stepper, gpu: SimpleNamespace) -> None:
    stepper.run(0)
    stepper._graphs.clear()
    stepper.run(0)
    assert gpu.captures == 2
    assert gpu.modes == ["error", 0]


def test_a_step_that_waits_is_not_captured(stepper: Stepper, gpu: SimpleNamespace) -> None:
    before = stepper.fleet.weights.clone()

    def taken(size: int, take=stepper._step) -> None:
        take(size)
        if gpu.modes[-1:] == ["error"]:
            raise RuntimeError("called a synchronizing CUDA operation")

    stepper._step = taken
    with pytest.warns(UserWarning, match="cannot be captured"):
        stepper.run(0)
    assert gpu.captures == 0
    assert not stepper._capturing
    assert not torch.equal(stepper.fleet.weights, before)  # it was taken all the same


def test_a_step_that_memory_hardly_holds_is_not_captured(stepper: Stepper, gpu: SimpleNamespace) -> None:
    def taken(size: int) -> None:
        gpu.retries += 1

    stepper._step = taken
    with pytest.raises(torch.OutOfMemoryError):
        stepper.run(0)
    assert gpu.captures == 0


NO_ENGINE = "FIND was unable to find an engine to execute this computation"


@pytest.mark.parametrize("first", [torch.OutOfMemoryError("out"), RuntimeError(NO_ENGINE)], ids=repr)
def test_want_of_memory_is_seen_behind_other_errors(first: RuntimeError) -> None:
    def capture() -> None:
        try:
            raise first
        finally:
            raise RuntimeError("capturing stream has unjoined work")

    with pytest.raises(RuntimeError, match="unjoined") as caught:
        capture()
    assert want_of_memory(caught.value)
    assert not want_of_memory(RuntimeError("operation not permitted when stream is capturing"))
    assert not want_of_memory(None)
