"""How large a fleet, in which arithmetic, and what happens where it does not fit."""

from __future__ import annotations

import pytest
import torch

import cifar_ablations.study.training.engine
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.execution import sizing
from cifar_ablations.study.training.backend import KERNELS
from cifar_ablations.study.training.engine import Epoch, Outcome, Training, train
from cifar_ablations.study.training.fleet import Member

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("free", "taken", "expected"),
    [
        (80e9, 0.5e9, 64),  # as many as are allowed
        (8e9, 0.5e9, 12),  # as many as fit into most of what is free
        (1e9, 0.9e9, 1),
        (1e9, None, 1),  # even one takes more than there is: training it will say so
    ],
)
def test_a_fleet_is_as_large_as_a_gpus_memory(
    free: float, taken: float | None, expected: int, recipe: Recipe, tiny_data, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tried:
        def __init__(self, members, data, device, backend):
            assert (len(members), backend) == (1, KERNELS)

        def time_steps(self, count: int) -> float:
            if taken is None:
                raise torch.OutOfMemoryError
            return 0.1

    monkeypatch.setattr(sizing, "Training", Tried)
    monkeypatch.setattr(Dataset, "to", lambda self, device: self)
    for name, value in {
        "empty_cache": None,
        "mem_get_info": (int(free), 80 * 10**9),
        "reset_peak_memory_stats": None,
        "memory_allocated": 10**9,
        "max_memory_allocated": int(10**9 + (taken or 0)),
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda *given, value=value: value)
    assert sizing.fleet_size(recipe, tiny_data, torch.device("cuda"), KERNELS) == expected


@pytest.mark.exhaustive
@pytest.mark.parametrize("at", ["the start", "an epoch's end"])
def test_a_fleet_that_does_not_fit_is_halved_and_its_results_stay(
    at: str, recipe: Recipe, tiny_data, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(Training):
        def run_epoch(self):
            events = super().run_epoch()
            if len(self.fleet.members) > 2 and self.epoch == (1 if at == "the start" else 2):
                raise torch.OutOfMemoryError
            return events

    members = [Member(recipe, seed) for seed in range(5)]
    plain: list[Epoch | Outcome] = []
    train(members, tiny_data, CPU, plain.append)
    monkeypatch.setattr(cifar_ablations.study.training.engine, "Training", Small)
    halved: list[Epoch | Outcome] = []
    train(members, tiny_data, CPU, halved.append)
    for member in members:
        assert _numbers(halved, member) == _numbers(plain, member)


def test_one_member_that_does_not_fit_is_an_error(recipe: Recipe, tiny_data, monkeypatch: pytest.MonkeyPatch) -> None:
    class Never(Training):
        def run_epoch(self):
            raise torch.OutOfMemoryError

    monkeypatch.setattr(cifar_ablations.study.training.engine, "Training", Never)
    with pytest.raises(MemoryError, match="does not fit into the memory of cpu"):
        train([Member(recipe, 0), Member(recipe, 1)], tiny_data, CPU, lambda event: None)


def _numbers(events: list[Epoch | Outcome], member: Member) -> list:
    return [(type(e), {k: v for k, v in e.metrics.items() if "second" not in k}) for e in events if e.member == member]
