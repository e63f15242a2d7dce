"""A fleet trained with the kernels for a GPU is the fleet that torch alone trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime.interpreter import GridExecutor

from cifar_ablations.ablations.catalog import make_plan
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.study.training import lockstep
from cifar_ablations.study.training.backend import TORCH, backend_of
from cifar_ablations.study.training.evaluation import Evaluator
from cifar_ablations.study.training.fleet import Member
from cifar_ablations.study.training.gpu.gpu_backend import GpuBackend
from cifar_ablations.study.training.lockstep import Training

pytestmark = pytest.mark.exhaustive


@pytest.fixture(autouse=True)
def nothing_but_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter takes long to look at 64 images of every untrained network."""
    monkeypatch.setattr(Evaluator, "probe", lambda self, row: {})


def _trained(
    members: list[Member], steps: int, data, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> list[Training]:
    """The same members after some steps by torch and by the kernels."""
    found = []
    for make in (backend_of, lambda name, fleet, where: GpuBackend(fleet, where)):
        with monkeypatch.context() as patch:
            patch.setattr(lockstep, "backend_of", make)
            training = Training(members, data, device, backend=TORCH)
            training.fleet.train(True)
            training._stepper.begin(0, training._images())
            for step in range(steps):
                training._stepper.run(step)
            found.append(training)
    return found


def _apart(one: torch.Tensor, other: torch.Tensor, size: torch.Tensor) -> float:
    """The distance of rows of two matrices as a share of that of a third one from zero: of the worst row."""
    return float((torch.linalg.vector_norm(one - other, dim=1) / torch.linalg.vector_norm(size, dim=1)).max())


@pytest.mark.parametrize(("network", "limit"), [("notebook", 1e-4), ("resnet9", 1e-3)])
def test_weights_go_the_same_way(
    network: str, limit: float, mixed: list[Member], tiny_data, device, monkeypatch
) -> None:
    members = [Member(m.recipe.set(f"model.name={network}").set("budget.batch_size=4"), m.seed) for m in mixed]
    plain, ours = _trained(members, 3, tiny_data, device, monkeypatch)
    first = Training(members, tiny_data, device).fleet.weights
    if network == "resnet9" and device.type == "cuda":
        limit = 2e-2  # there cuDNN adds up in another order, and normalisation of few images makes much of it
    assert _apart(ours.fleet.weights, plain.fleet.weights, plain.fleet.weights - first) < limit
    torch.testing.assert_close(ours._stepper.losses, plain._stepper.losses, rtol=limit, atol=0)
    torch.testing.assert_close(ours._stepper.norms, plain._stepper.norms, rtol=10 * limit, atol=0)


def test_gradients_in_bf16_are_torchs_but_for_rounding(mixed: list[Member], tiny_data, device, monkeypatch) -> None:
    """In which pooling's choices may differ: the direction is the same."""
    members = [Member(m.recipe.set("budget.precision=bf16").set("budget.batch_size=4"), m.seed) for m in mixed[:2]]
    plain, ours = (training.fleet.gradients for training in _trained(members, 1, tiny_data, device, monkeypatch))
    assert torch.nn.functional.cosine_similarity(ours, plain).min() > 0.95


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.999), ("bf16", 0.9)])
@pytest.mark.parametrize("setting", ["normalisation=on", "normalisation=group", "sharpness_aware.rho=5"])
def test_normalised_and_sharpness_aware_members_have_torchs_gradients(
    setting: str, precision: str, least: float, mixed: list[Member], tiny_data, device, monkeypatch
) -> None:
    recipe = mixed[0].recipe.set(setting).set(f"budget.precision={precision}").set("budget.batch_size=4")
    trained = _trained([Member(recipe, 3)], 1, tiny_data, device, monkeypatch)
    plain, ours = (training.fleet.gradients for training in trained)
    assert torch.nn.functional.cosine_similarity(ours, plain).min() > least
    for dtype, buffers in trained[0].fleet.buffers.items():
        torch.testing.assert_close(trained[1].fleet.buffers[dtype], buffers, rtol=2e-2, atol=1e-2)


class _Counted(TorchDispatchMode):
    """Counts the operations that reach a device, apart from views and from what its interpreter copies."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        if not function.is_view and function.overloadpacket.__name__ not in {"empty", "empty_like", "detach"}:
            self.names.append(function.overloadpacket.__name__)
        return function(*arguments, **(named or {}))


def _counted(members: list[Member], data, device: torch.device, monkeypatch, gradients: bool) -> list[str]:
    """The operations of a fleet's second step, launches of kernels among them, outside of the members' branches.

    gradients: whether those within are counted instead.
    """
    monkeypatch.setattr(lockstep, "backend_of", lambda name, fleet, where: GpuBackend(fleet, where))
    training = Training(members, data, device, backend=TORCH)
    stepper, backend = training._stepper, training._stepper.backend
    if not gradients:
        monkeypatch.setattr(backend, "gradients", lambda row, images, targets: torch.zeros((), device=device))
    training.fleet.train(True)
    stepper.begin(0, training._images())
    stepper.run(0)
    counted, branch = _Counted(), stepper._branch

    @contextmanager
    def apart(index: int) -> Iterator[None]:
        before = len(counted.names)
        with branch(index):
            yield
        inside = counted.names[before:]
        del counted.names[before:]
        within.extend(inside)

    within: list[str] = []
    monkeypatch.setattr(stepper, "_branch", apart)
    monkeypatch.setattr(GridExecutor, "__call__", _launch(GridExecutor.__call__, counted))
    with counted:
        stepper.run(1)
    return within if gradients else counted.names


def _launch(call, counted: _Counted):
    def launch(self, *arguments, **named) -> None:
        before = len(counted.names)
        call(self, *arguments, **named)
        counted.names[before:] = [self.fn.__name__]

    return launch


@pytest.mark.skipif(torch.cuda.is_available(), reason="counts what the interpreter runs")
def test_hardly_anything_stands_before_the_members_branches(tiny_data, recipe, device, monkeypatch) -> None:
    """A factorial of 64 arms: torch's operations were 1,434 one after another."""
    arms = make_plan("factorial", recipe.set("budget.batch_size=2"), PROFILES["smoke"], (0,)).arms
    names = _counted([Member(arm.recipe, 0) for arm in arms], tiny_data, device, monkeypatch, gradients=False)
    assert len(arms) == 64
    assert len(names) <= 40, names


@pytest.mark.skipif(torch.cuda.is_available(), reason="counts what the interpreter runs")
def test_a_member_launches_few_kernels(tiny_data, recipe, device, monkeypatch) -> None:
    """Its batch's preparation among them: torch's operations were 413."""
    member = Member(recipe.set("budget.precision=bf16").set("budget.batch_size=2"), 0)
    names = _counted([member], tiny_data, device, monkeypatch, gradients=True)
    assert len(names) <= 80, names
    assert names.count("_pool") == names.count("_unpool") == 3
