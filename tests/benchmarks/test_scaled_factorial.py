"""The factorial whose time is calculated is the plan's, and all that is trained of it is on the clock."""

from __future__ import annotations

import pytest
import torch

from benchmarks import scaled_factorial
from benchmarks.deadline import Deadline
from benchmarks.scaled_factorial import Scaled
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.execution.sizing import LARGEST_FLEET
from cifar_ablations.study.training.backend import TORCH

CPU = torch.device("cpu")


def test_it_has_320_trainings_each_once(recipe: Recipe) -> None:
    packed = scaled_factorial.fleets("full", recipe, LARGEST_FLEET)
    members = [member for fleet in packed for member in fleet]
    assert len(members) == len(set(members)) == 320
    assert [len({member.seed for member in fleet}) for fleet in packed] == [1] * 5


def test_all_of_it_is_on_the_clock(recipe: Recipe, tiny_data: Dataset) -> None:
    packed = [fleet[:2] for fleet in scaled_factorial.fleets("full", recipe.set("budget.epochs=2"), 64)[:2]]
    found = scaled_factorial.measured(packed, 20, tiny_data, CPU, TORCH, Deadline())
    assert (found.trainings, found.of, found.epochs, found.of_epochs) == (4, 4, 2, 20)
    assert 0 < found.last_epochs < found.seconds
    assert found.estimated == pytest.approx(found.seconds + 18 * found.last_epochs)


def test_what_the_time_left_out_is_calculated_and_said(recipe: Recipe, tiny_data: Dataset) -> None:
    packed = [fleet[:1] for fleet in scaled_factorial.fleets("full", recipe.set("budget.epochs=2"), 64)]
    found = scaled_factorial.measured(packed, 20, tiny_data, CPU, TORCH, Deadline(0.0))
    assert (found.trainings, found.of) == (1, 5)
    assert found.estimated == pytest.approx(5 * (found.seconds + 18 * found.last_epochs))
    assert "1 of 5 trainings for 2 of 20 epochs" in found.sentence()
    assert "of 320" not in Scaled(320, 320, 2, 20, 30.0, 10.0).sentence()
