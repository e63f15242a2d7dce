"""How large a fleet, in which arithmetic, and what happens where it does not fit."""

from __future__ import annotations

import pytest
import torch

import cifar_ablations.study.training.engine
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.execution import sizing
from cifar_ablations.study.training.engine import Epoch, Outcome, Training, train
from cifar_ablations.study.training.fleet import Member

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("fixed", "each", "fits", "expected"),
    [
        (1.0, 0.0, 1000, 64),  # a step costs the same however many members: as many as allowed
        (0.0, 1.0, 1000, 1),  # nothing is shared: one is as good
        (1.0, 0.5, 1000, 32),  # 64 members would be 3 % faster per member than 32
        (1.0, 0.0, 11, 8),  # memory ends before the gain
    ],
)
def test_a_fleet_grows_while_it_fits_and_pays(fixed: float, each: float, fits: int, expected: int) -> None:
    def seconds(size: int) -> float:
        if size > fits:
            raise torch.OutOfMemoryError
        return fixed + each * size

    assert sizing.largest_that_pays(seconds, 64) == expected


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
