"""A step that is captured as a CUDA graph is the step itself, and waits for nothing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.techniques.optimizer import Optimizer
from cifar_ablations.study.training.backend import TORCH
from cifar_ablations.study.training.engine import Epoch, Outcome, Training
from cifar_ablations.study.training.fleet import Member
from tests.gpu.conftest import CUDA, backend_on


def _after_an_epoch(
    members: list[Member], data, device: torch.device, capturing: bool, backend: str = ""
) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights [K, P] after an epoch, and the way that they came from the first ones."""
    training = Training(members, data, device, backend=backend or backend_on(device))
    first = training.fleet.weights.clone()
    training._stepper._capturing = capturing and device.type == "cuda"
    stepper = training._stepper
    training.run_epoch()
    assert bool(stepper._graphs) == (capturing and device.type == "cuda")
    return training.fleet.weights, training.fleet.weights - first


def _apart(one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]) -> float:
    """How far two fleets are apart, as a share of the way that training took them: of the worst member."""
    distance = torch.linalg.vector_norm(one[0] - other[0], dim=1)
    return float((distance / torch.linalg.vector_norm(other[1], dim=1)).max())


@pytest.mark.gpu
def test_a_captured_step_is_the_step_itself(on_network: Recipe, arms: list[Member], tiny_data) -> None:
    """Captured and uncaptured steps give the same weights: the arms of a plan, on every kind of network."""
    eager = _after_an_epoch(arms, tiny_data, CUDA, capturing=False)
    # A bias before a normalisation has no gradient but rounding, which Adam makes as large as any.
    limit = 0.1 if on_network.model.name.startswith("own_networks") else 0.02
    assert _apart(_after_an_epoch(arms, tiny_data, CUDA, capturing=True), eager) < limit


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "limit"), [("fp32", 0.01), ("bf16", 0.1)])
def test_the_kernels_train_what_torch_trains(precision: str, limit: float, mixed: list[Member], tiny_data) -> None:
    """Weights after an epoch are those by torch's own operations: every technique at every level."""
    members = [Member(m.recipe.set(f"budget.precision={precision}"), m.seed) for m in mixed]
    by_torch = _after_an_epoch(members, tiny_data, CUDA, capturing=True, backend=TORCH)
    assert _apart(_after_an_epoch(members, tiny_data, CUDA, capturing=True), by_torch) < limit


@pytest.mark.exhaustive
@pytest.mark.parametrize(("precision", "limit"), [("fp32", 0.01), ("bf16", 0.1)])
def test_every_technique_is_captured_as_it_is(
    precision: str, limit: float, mixed: list[Member], device: torch.device, tiny_data
) -> None:
    """Captured and uncaptured steps give the same weights: every technique at every level, in fp32 and bf16."""
    members = [Member(m.recipe.set(f"budget.precision={precision}"), m.seed) for m in mixed]
    eager = _after_an_epoch(members, tiny_data, device, capturing=False)
    assert _apart(_after_an_epoch(members, tiny_data, device, capturing=True), eager) < limit


@pytest.mark.gpu
def test_the_notebooks_network_is_captured_at_its_own_width(recipe: Recipe, tiny_data) -> None:
    """Captured and uncaptured steps give the same weights: the notebook's network at full width, in bf16."""
    wide = recipe.set("model.width=1").set("budget.precision=bf16").set("budget.train_images=192")
    wide = wide.set("budget.batch_size=128").set("budget.validation_images=0")
    members = [Member(wide, seed) for seed in range(10)]
    eager = _after_an_epoch(members, tiny_data, CUDA, capturing=False)
    assert _apart(_after_an_epoch(members, tiny_data, CUDA, capturing=True), eager) < 0.1


def test_those_that_stay_are_captured_anew(recipe: Recipe, device: torch.device, tiny_data, trained) -> None:
    """When a member diverges and leaves, the others train on as if it had never been there."""
    longer = recipe.set("budget.epochs=3")
    wild = Member(longer.with_technique(Optimizer(rate=100.0)).set("weight_decay.strength=1"), 0)
    calm = [Member(longer, 0), Member(longer.without("optimizer"), 0), Member(longer, 1)]
    together, alone = trained([wild, *calm], device), trained(calm, device)
    ending = together[wild][-1]
    assert isinstance(ending, Outcome)
    assert ending.outcome == schema.DIVERGED
    assert ending.epochs < 3
    for member in calm:
        assert _losses(together[member]) == pytest.approx(_losses(alone[member]), rel=1e-2)


def test_a_step_waits_for_nothing(mixed: list[Member], device: torch.device, tiny_data) -> None:
    """No step makes the host wait for the GPU, captured or not: every technique at every level."""
    training = Training(mixed, tiny_data, device, backend=backend_on(device))
    stepper, steps = training._stepper, range(training.budget.steps_per_epoch)
    training.fleet.train(True)
    for capturing in (True, False):
        stepper._graphs.clear()
        stepper._capturing = capturing and device.type == "cuda"
        stepper.begin(0, training._images())
        for step in steps:  # captures, and chooses kernels
            stepper.run(step)
        stepper.begin(1, training._images())
        with _no_waiting(device):
            for step in steps:
                stepper.run(step)
    assert torch.isfinite(stepper.losses).all()


def test_a_network_that_reads_in_its_forward_is_trained_without_a_graph(
    recipe: Recipe, own_networks: str, device: torch.device, trained
) -> None:
    """A network that cannot be captured is trained all the same, to the same losses, and a warning says so."""
    plain = recipe.without("dropout")  # whose masks are another recipe's
    members = [Member(plain.set(f"model.name={own_networks}:{name}"), 0) for name in ("factory", "that_looks")]
    expected = _losses(trained(members[:1], device)[members[0]])
    warning = pytest.warns(UserWarning, match="cannot be captured") if device.type == "cuda" else nullcontext()
    with warning:
        found = _losses(trained(members[1:], device)[members[1]])
    assert found == pytest.approx(expected, rel=1e-2)


def _losses(events: list[Epoch | Outcome]) -> list[float]:
    return [event.metrics[schema.TRAIN_LOSS] for event in events if isinstance(event, Epoch)]


@contextmanager
def _no_waiting(device: torch.device) -> Iterator[None]:
    """Within it, torch raises an error where an operation makes the host wait for the GPU."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.synchronize(device)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
