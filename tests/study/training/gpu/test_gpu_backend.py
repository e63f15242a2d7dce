"""A fleet trained with the kernels for a GPU is the fleet that torch alone trains."""

from __future__ import annotations

import pytest
import torch

from cifar_ablations.study.training import lockstep
from cifar_ablations.study.training.backend import TORCH, backend_of
from cifar_ablations.study.training.fleet import Member
from cifar_ablations.study.training.gpu.gpu_backend import GpuBackend
from cifar_ablations.study.training.lockstep import Training


def _trained(members: list[Member], data, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    """The same members after two epochs by torch and by the kernels."""
    found = []
    for make in (backend_of, lambda name, fleet, where: GpuBackend(fleet, where)):
        with monkeypatch.context() as patch:
            patch.setattr(lockstep, "backend_of", make)
            training = Training(members, data, device, backend=TORCH)
            for _ in range(2):
                training.run_epoch()
            found.append(training)
    return found


@pytest.mark.parametrize(
    ("network", "precision", "limit"),
    # On a GPU sums differ in their order; RMSProp's first steps are as large for a small gradient as for a large one.
    [("notebook", "fp32", 1e-3), ("notebook", "bf16", 0.25), ("resnet9", "fp32", 2e-2)],
)
def test_weights_go_the_same_way(
    network: str, precision: str, limit: float, mixed: list[Member], tiny_data, device, monkeypatch
) -> None:
    members = [
        Member(m.recipe.set(f"model.name={network}").set(f"budget.precision={precision}"), m.seed) for m in mixed
    ]
    plain, ours = _trained(members, tiny_data, device, monkeypatch)
    first = Training(members, tiny_data, device).fleet.weights
    apart = torch.linalg.vector_norm(plain.fleet.weights - ours.fleet.weights, dim=1)
    assert float((apart / torch.linalg.vector_norm(plain.fleet.weights - first, dim=1)).max()) < limit
