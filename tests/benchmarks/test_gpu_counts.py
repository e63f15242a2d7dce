"""What a step launches and moves is counted without a GPU."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="torch for CPUs comes without it")

from benchmarks.gpu_counts import counted
from cifar_ablations.study.training.fleet import Member, initialised


@pytest.mark.exhaustive
def test_the_kernels_launch_and_move_less_than_half(recipe, tiny_data) -> None:
    members = [Member(recipe.set("model.width=0.5").set("budget.precision=bf16"), seed) for seed in (0, 1)]
    by_torch, by_kernels = (counted(members, tiny_data, by_kernels=way) for way in (False, True))
    assert 2 * by_kernels.members < by_torch.members
    assert 2 * by_kernels.member_bytes < by_torch.member_bytes
    assert by_kernels.serial_bytes < by_torch.serial_bytes / 2


def test_bytes_are_those_of_the_tensors(recipe, tiny_data) -> None:
    """The update reads weights, gradients and moments, and writes all but the gradients."""
    one, two = (
        counted([Member(recipe, seed) for seed in range(size)], tiny_data, by_kernels=True).serial_bytes
        for size in (1, 2)
    )
    parameters = 4 * sum(p.numel() for p in initialised(Member(recipe, 0), 10).parameters())
    assert one >= 7 * parameters
    assert two - one >= 7 * parameters
