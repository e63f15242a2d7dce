"""Draws made in one pass are bitwise those that are made one by one."""

from __future__ import annotations

import torch

from cifar_ablations.study.training.gpu.fleet_draws import FleetDraws
from cifar_ablations.study.training.randomness import StepDraws, halves

CALLS = [(0, (64,)), (0, (64,)), (1, (5, 300)), (2, (1,)), (0, (7, 11))]


def test_a_step_draws_what_single_calls_would(device: torch.device) -> None:
    draws = FleetDraws()
    for number, calls in enumerate([CALLS, CALLS, CALLS[:2], [*CALLS, (2, (2_000,))], CALLS]):
        keys = torch.tensor([halves(slot, "test", number) for slot in range(3)], dtype=torch.int32, device=device)
        begun = draws.begin(keys, 64)
        ours = {slot: begun(slot) for slot in range(3)}
        reference = {slot: StepDraws(keys[slot]) for slot in range(3)}
        for slot, shape in calls:
            assert torch.equal(ours[slot].uniform(shape), reference[slot].uniform(shape))


def test_after_a_step_the_next_draws_all_at_once(device: torch.device, monkeypatch) -> None:
    from cifar_ablations.study.training.gpu import fleet_draws as module

    passes, drawn = [], module._drawn
    monkeypatch.setattr(module, "_drawn", lambda keys, table: passes.append(table.total) or drawn(keys, table))
    keys, draws = torch.zeros(3, 2, dtype=torch.int32, device=device), FleetDraws()
    for size in (64, 64, 32):
        begun = draws.begin(keys, size)
        for slot in range(3):
            begun(slot).uniform((size,))
    assert passes == [64, 64, 64, 3 * 64, 32, 32, 32]
