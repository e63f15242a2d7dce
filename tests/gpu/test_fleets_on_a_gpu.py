"""Fleets on a GPU: the same members in any company, as on a CPU, after an interruption, and where memory is short."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch

import cifar_ablations.study.training.engine
from cifar_ablations.ablations import schema
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.techniques.optimizer import Optimizer
from cifar_ablations.study.execution.events import Done, Started
from cifar_ablations.study.execution.sizing import LARGEST_FLEET, fleet_size
from cifar_ablations.study.execution.workers import train_fleets
from cifar_ablations.study.training import checkpoint
from cifar_ablations.study.training.backend import KERNELS
from cifar_ablations.study.training.engine import Epoch, Outcome, Training
from cifar_ablations.study.training.fleet import Member
from tests.gpu.conftest import CUDA, backend_on

CPU = torch.device("cpu")


def _losses(events: list[Epoch | Outcome]) -> list[float]:
    return [event.metrics[schema.TRAIN_LOSS] for event in events if isinstance(event, Epoch)]


@pytest.mark.gpu
def test_a_gpu_fleet_of_any_size_trains_the_same_members(arms: list[Member], trained) -> None:
    """A run's losses do not depend on the fleet that it is in: the arms of a plan, on every kind of network."""
    together = trained(arms, CUDA)
    for member in arms[:3]:
        alone = trained([member], CUDA)[member]
        assert _losses(alone) == pytest.approx(_losses(together[member]), rel=1e-2)


@pytest.mark.gpu
def test_a_gpu_run_agrees_with_a_cpu_run(arms: list[Member], trained) -> None:
    """Losses on a GPU are those on a CPU: the arms of a plan, on every kind of network."""
    on_cpu, on_gpu = trained(arms, CPU), trained(arms, CUDA)
    for member in arms:
        for cpu, gpu in zip(on_cpu[member][:-1], on_gpu[member][:-1], strict=True):
            assert gpu.metrics[schema.TRAIN_LOSS] == pytest.approx(cpu.metrics[schema.TRAIN_LOSS], rel=2e-2)


@pytest.mark.slow
def test_every_technique_trains_in_a_fleet_as_alone(mixed: list[Member], device: torch.device, trained) -> None:
    """A run's losses do not depend on the fleet that it is in: every technique at every level."""
    together = trained(mixed, device)
    for member in mixed:
        alone = trained([member], device)[member]
        assert _losses(alone) == pytest.approx(_losses(together[member]), rel=1e-2)


@pytest.mark.slow
def test_every_technique_agrees_with_a_cpu(mixed: list[Member], device: torch.device, trained) -> None:
    """Losses, and what is measured of the untrained networks, are those on a CPU: every technique at every level."""
    on_cpu, here = trained(mixed, CPU), trained(mixed, device)
    for member in mixed:
        assert _losses(here[member]) == pytest.approx(_losses(on_cpu[member]), rel=2e-2)
        first = [
            {name: value for name, value in reported[member][-1].metrics.items() if name.startswith(schema.INITIAL)}
            for reported in (on_cpu, here)
        ]
        assert first[0]
        assert first[1] == pytest.approx(first[0], rel=2e-2, abs=2e-2)


def test_bf16_follows_fp32_on_a_gpu(recipe: Recipe, device: torch.device, trained) -> None:
    """In bf16 the losses are near those in fp32, and not the same."""
    fp32, bf16 = (Member(recipe.set(f"budget.precision={precision}"), 0) for precision in ("fp32", "bf16"))
    losses = [_losses(trained([member], device)[member]) for member in (fp32, bf16)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-1)
    assert losses[1] != losses[0]


def test_a_run_goes_on_from_its_checkpoint(
    recipe: Recipe, device: torch.device, tiny_data, tmp_path: Path, trained
) -> None:
    """A fleet that was saved is taken up bitwise, and ends with the losses of one that was never interrupted."""
    pytest.importorskip("pydantic", reason="checks what is read of a checkpoint")
    longer = recipe.set("budget.epochs=3")
    members = [Member(longer.with_technique(Optimizer.at(level)), 0) for level in ("on", "momentum", "off")]
    whole = trained(members, device)
    first = Training(members, tiny_data, device, backend=backend_on(device))
    first.run_epoch()
    checkpoint.save(checkpoint.path_of(tmp_path, members, tiny_data.digest, backend_on(device)), *first.copied())
    second = Training(members, tiny_data, device, backend=backend_on(device))
    past = second.go_on(checkpoint.find(tmp_path, tiny_data.digest, device, backend_on(device)))
    assert {(event.member, event.epoch) for event in past} == {(member, 1) for member in members}
    before, after = ({**t.fleet.state(), **t.optimizer.state()} for t in (first, second))
    assert all(torch.equal(after[name], matrix) for name, matrix in before.items())
    later = [event for _ in range(2) for event in second.run_epoch()]
    for member in members:
        found = _losses([event for event in later if event.member == member])
        assert found == pytest.approx(_losses(whole[member])[1:], rel=1e-2)


def test_a_worker_trains_fleets_on_the_device(recipe: Recipe, device: torch.device, tiny_data) -> None:
    """A worker process trains one fleet after the other, beside a process that holds the GPU too."""
    Training([Member(recipe, 0)], tiny_data, device).run_epoch()
    fleets = [[Member(recipe, seed), Member(recipe.without("dropout"), seed)] for seed in (0, 1)]
    events = [
        e for e in train_fleets(fleets, tiny_data.folder, str(device), 1, backend=backend_on(device)) if e is not None
    ]
    assert [e.members for e in events if isinstance(e, Started)] == [tuple(fleet) for fleet in fleets]
    assert [e.members for e in events if isinstance(e, Done)] == [tuple(fleet) for fleet in fleets]
    outcomes = {e.member: e.outcome for e in events if isinstance(e, Outcome)}
    assert outcomes == dict.fromkeys([member for fleet in fleets for member in fleet], schema.FINISHED)


@pytest.mark.gpu
def test_a_fleet_that_memory_cannot_hold_is_halved(
    recipe: Recipe, tiny_data, monkeypatch: pytest.MonkeyPatch, trained
) -> None:
    """A fleet that the GPU's memory cannot hold is halved until it fits, and its members end as they would."""
    wide = recipe.set("model.width=1").set("budget.batch_size=80")
    members = [Member(wide, seed) for seed in range(8)]

    def taken(some: list[Member]) -> tuple[dict[Member, list[Epoch | Outcome]], int]:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return trained(some, CUDA), torch.cuda.max_memory_reserved()

    (_, one), (plain, all_of_them) = taken(members[:1]), taken(members)
    sizes: list[int] = []

    class Counted(Training):
        def __init__(self, members: list[Member], *rest: object):
            sizes.append(len(members))
            super().__init__(members, *rest)

    monkeypatch.setattr(cifar_ablations.study.training.engine, "Training", Counted)
    gc.collect()
    torch.cuda.empty_cache()
    enough_for_half = (one + all_of_them) / 2
    torch.cuda.set_per_process_memory_fraction(enough_for_half / torch.cuda.get_device_properties(0).total_memory)
    try:
        halved = trained(members, CUDA)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert sizes[0] == 8
    assert len(sizes) > 1
    for member in members:
        ending = halved[member][-1]
        assert isinstance(ending, Outcome)
        assert ending.outcome == schema.FINISHED
        assert _losses(halved[member]) == pytest.approx(_losses(plain[member]), rel=1e-2)


@pytest.mark.gpu
def test_a_fleet_size_is_found(recipe: Recipe, tiny_data) -> None:
    """As many small networks as are allowed fit into a GPU."""
    assert fleet_size(recipe, tiny_data, CUDA, KERNELS) == LARGEST_FLEET
