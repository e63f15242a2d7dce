"""Random numbers on a GPU."""

from __future__ import annotations

import pytest
import torch

from cifar_ablations.study.training.randomness import StepDraws

CPU = torch.device("cpu")


@pytest.mark.gpu
def test_a_gpu_draws_the_same_numbers() -> None:
    """A draw is bitwise the same on a GPU and on a CPU."""
    cuda = torch.device("cuda")
    assert torch.equal(
        StepDraws.named(cuda, 1, "a", 2).uniform((1000, 7)).cpu(), StepDraws.named(CPU, 1, "a", 2).uniform((1000, 7))
    )
    assert torch.equal(
        StepDraws.named(cuda, 1, "b").integers(9, (1000,)).cpu(), StepDraws.named(CPU, 1, "b").integers(9, (1000,))
    )
