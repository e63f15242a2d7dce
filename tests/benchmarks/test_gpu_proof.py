"""The way to a GPU is proved on a played one, and the proof fails where a step would go wrong on a real one."""

from __future__ import annotations

import pytest
import torch

from benchmarks import gpu_proof
from benchmarks.gpu_proof import Case, prove
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.training import step
from cifar_ablations.study.training.fleet import Member
from cifar_ablations.study.training.lockstep import Training


@pytest.fixture
def small(recipe: Recipe) -> Recipe:
    for setting in (*(f"budget.{size}" for size in gpu_proof.SMALL["kernels"]), "model.width=0.05", "budget.epochs=2"):
        recipe = recipe.set(setting)
    return recipe


def _case(recipe: Recipe, by: str = "torch") -> Case:
    recipes = (recipe, recipe.set("dropout=off").set("augmentation=off"), recipe.set("optimizer=off"))
    return Case("a mixed fleet", tuple(Member(one, 0) for one in recipes), by)


@pytest.mark.slow
@pytest.mark.parametrize("by", ["torch", pytest.param("kernels", marks=pytest.mark.exhaustive)])
def test_a_mixed_fleet_is_captured_and_the_same_bit_for_bit(by: str, small: Recipe, tiny_data: Dataset) -> None:
    before = torch.cuda.Stream, torch.cuda.graph, step._on
    proof = prove(_case(small, by), tiny_data)
    assert (torch.cuda.Stream, torch.cuda.graph, step._on) == before
    assert proof.holds
    assert (proof.captures, proof.replays) == (2, 6), "whole batches and smaller ones, three steps in each epoch"
    assert proof.operations > 1_000


@pytest.mark.exhaustive
def test_every_technique_is_proved_by_torch(tiny_data: Dataset) -> None:
    case = next(gpu_proof.cases(["notebook"]))
    proof = prove(case, tiny_data)
    assert proof.holds
    assert proof.captures > 2, "anew once members have left"


@pytest.mark.slow
def test_a_join_that_is_left_out_is_noticed(small: Recipe, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(training: Training) -> None:
        monkeypatch.setattr(step.Stepper, "_join", lambda self, branches: None)

    with pytest.warns(UserWarning, match="unjoined work"):
        proof = prove(_case(small), tiny_data, without)
    assert not proof.holds
    assert proof.races


@pytest.mark.exhaustive
def test_a_number_that_python_counts_is_noticed(
    small: Recipe, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = 0
    honest = step.Stepper._set_gradients

    def counting(self: step.Stepper, size: int) -> None:
        nonlocal taken
        taken += 1
        honest(self, size)
        self.losses += 1e-3 * (taken % 3)

    monkeypatch.setattr(step.Stepper, "_set_gradients", counting)
    assert prove(_case(small), tiny_data).differing


@pytest.mark.slow
def test_a_step_that_reads_something_back_is_noticed(
    small: Recipe, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = step.Stepper._set_gradients

    def reading(self: step.Stepper, size: int) -> None:
        honest(self, size)
        self.losses.sum().item()

    monkeypatch.setattr(step.Stepper, "_set_gradients", reading)
    with pytest.warns(UserWarning, match="cannot be captured"):
        assert not prove(_case(small), tiny_data).holds
