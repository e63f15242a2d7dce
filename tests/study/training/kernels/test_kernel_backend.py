"""The kernels, against torch: each step of a training by itself, for every technique and level."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.techniques.optimizer import Optimizer
from cifar_ablations.ablations.update_rule import UpdateRule
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.training import model
from cifar_ablations.study.training.backend import KERNELS, TORCH, TorchBackend
from cifar_ablations.study.training.events import Outcome
from cifar_ablations.study.training.fleet import Fleet, Member
from cifar_ablations.study.training.kernels import build
from cifar_ablations.study.training.kernels.kernel_backend import OVERHANG, KernelBackend, supports
from cifar_ablations.study.training.lockstep import Training
from cifar_ablations.study.training.optimizer import FleetOptimizer
from cifar_ablations.study.training.randomness import StepDraws, halves

CPU = torch.device("cpu")
LEVELS = [(cls.name, level) for cls in catalog.techniques().values() for level in cls.levels]


@pytest.fixture(scope="module", autouse=True)
def kernels_are_here() -> None:
    """Where the kernels cannot be had, torch trains, and there is nothing to test."""
    try:
        build.library()
    except build.UnavailableError as reason:
        pytest.skip(str(reason))


def _batch(size: int, classes: int = 10) -> tuple[Tensor, Tensor]:
    torch.manual_seed(size)
    images = torch.randn(size, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    return images, torch.rand(size, classes).softmax(dim=1)


def _apart(a: Tensor, b: Tensor) -> float:
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b).clamp_min(1e-30))


@pytest.mark.slow
@pytest.mark.parametrize(("technique", "level"), LEVELS)
def test_the_first_step_of_every_level_is_torchs(
    technique: str, level: str, recipe: Recipe, tiny_data: Dataset
) -> None:
    made = recipe.set(f"{technique}={level}")
    if not supports(model.network_of(made, 10)) or made.sized.budget.precision != "fp32":
        pytest.skip("computed by torch")
    trainings = {name: Training([Member(made, 3)], tiny_data, CPU, backend=name) for name in (TORCH, KERNELS)}
    losses = {}
    for name, training in trainings.items():
        training.fleet.train(True)
        training._stepper.begin(0, training._images())
        training._stepper.run(0)
        losses[name] = float(training._stepper.losses)
    reference, found = trainings[TORCH].fleet, trainings[KERNELS].fleet
    assert losses[KERNELS] == pytest.approx(losses[TORCH], rel=1e-6)
    for parameter, _ in reference.networks[0].named_parameters():
        assert _apart(found.part(found.gradients, parameter), reference.part(reference.gradients, parameter)) < 3e-6
    # Adam's first step is ±the rate, however small a gradient is: rounding may turn some about.
    assert _apart(found.weights, reference.weights) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("width", [0.0625, 0.25, 0.3])
@pytest.mark.parametrize("size", [1, 2, 7, 33])
@pytest.mark.parametrize("classes", [2, 10, 100])
def test_gradients_and_logits_at_odd_sizes(width: float, size: int, classes: int, recipe: Recipe) -> None:
    made = replace(recipe, model=replace(recipe.model, width=width))
    fleet = Fleet([Member(made, 0)], classes, CPU)
    images, targets = _batch(size, classes)
    network = fleet.networks[0].train()
    network.dropout.mask = (torch.rand(size, *network.dropout.shape) < 0.5) * 2.0
    loss = TorchBackend(fleet, CPU).gradients(0, images, targets)
    expected = fleet.gradients.clone()
    fleet.gradients.fill_(torch.nan)
    found = KernelBackend(fleet).gradients(0, images, targets)
    assert float(found) == pytest.approx(float(loss), rel=1e-6)
    for name, _ in network.named_parameters():
        assert _apart(fleet.part(fleet.gradients, name), fleet.part(expected, name)) < 3e-6
    network.train(False)
    logits = KernelBackend(fleet).logits(0, images)
    torch.testing.assert_close(logits, TorchBackend(fleet, CPU).logits(0, images).detach(), rtol=1e-5, atol=1e-5)


def _spaced(channels: int) -> int:
    """As vectors.h has it."""
    lines = -(-channels // 16)
    return 16 * (lines + (lines + 1) % 2)


@pytest.mark.parametrize("block", [0, 1, 2, 3])
@pytest.mark.parametrize("width", [0.125, 0.25, 1.0])
def test_a_block_is_torchs_and_leaving_out_zeros_changes_no_bit(block: int, width: float, recipe: Recipe) -> None:
    made = replace(recipe, model=replace(recipe.model, width=width))
    fleet = Fleet([Member(made, 0)], 10, CPU)
    backend, images = KernelBackend(fleet), 5
    about, weights, packed = backend._prepared(0)
    convolution = fleet.networks[0].convolutions[block]
    inputs, side = convolution.in_channels, 32 >> block
    torch.manual_seed(block)
    x = torch.randn(images, inputs, side, side)
    x = x * (torch.rand_like(x) < 0.3)
    stride = inputs if block == 0 else _spaced(inputs)
    bordered = torch.zeros(images, side + 2, side + 2, stride)
    bordered[:, 1:-1, 1:-1, :inputs] = x.permute(0, 2, 3, 1)
    bordered = torch.cat([bordered.flatten(), torch.zeros(OVERHANG)])
    half, columns, border = side // 2, -(-convolution.out_channels // 16) * 16, int(block < 3)
    outs, choices = [], []
    for sparse in (False, True) if block else (False,):
        out = torch.zeros(images, half + 2 * border, half + 2 * border, _spaced(columns) if border else columns)
        choice = torch.zeros(images, half, half, columns, dtype=torch.int8)
        opened = backend._library.block_forward(
            *(about, block, weights, packed, backend._workspaces[0].data_ptr(), backend._most),
            *(bordered.data_ptr(), images, sparse, out.data_ptr(), choice.data_ptr(), None),
        )
        assert opened == int((choice != 4).sum())
        outs.append(out[:, border : border + half, border : border + half, : convolution.out_channels])
        choices.append(choice[..., : convolution.out_channels])
    with torch.no_grad():
        pooled, index = F.max_pool2d(F.conv2d(x, convolution.weight, padding=1), 2, return_indices=True)
        expected = F.relu(pooled + convolution.bias[:, None, None])
    torch.testing.assert_close(outs[0].permute(0, 3, 1, 2), expected, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(outs[0], out) for out in outs)
    assert all(torch.equal(choices[0], choice) for choice in choices)
    row, column = index // side % 2, index % side % 2
    which = torch.where(expected > 0, 2 * row + column, 4)
    # Sums that differ in their last bit only may change places.
    assert float((choices[0].permute(0, 3, 1, 2) != which).float().mean()) < 1e-3


def test_the_first_block_is_bitwise_torchs_where_no_sum_is_rounded(recipe: Recipe) -> None:
    fleet = Fleet([Member(recipe, 0)], 10, CPU)
    network = fleet.networks[0].train(False)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_((8 * parameter).round() / 8)
    images = torch.randint(-4, 5, (3, 3, 32, 32)).float().contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert torch.equal(KernelBackend(fleet).logits(0, images), network(images))


@pytest.fixture(scope="module")
def backend(recipe: Recipe) -> KernelBackend:
    """Of one member."""
    return KernelBackend(Fleet([Member(recipe, 0)], 10, CPU))


@given(shape=st.lists(st.integers(1, 9), min_size=1, max_size=4), name=st.integers(0, 2**40), calls=st.integers(1, 3))
def test_draws_are_bitwise_the_same(backend: KernelBackend, shape: list[int], name: int, calls: int) -> None:
    key = torch.tensor(halves(name, "test"), dtype=torch.int32)
    ours, reference = backend.begin(key[None], 1)(0), StepDraws(key)
    for _ in range(calls):
        assert torch.equal(ours.uniform(shape), reference.uniform(shape))
    assert torch.equal(ours.integers(17, shape), reference.integers(17, shape))


RULES = [
    UpdateRule(rate=0.1, adaptive=True, first_decay=0.9, first_gain=0.1, second_decay=0.999),
    UpdateRule(rate=0.01, adaptive=True, first_decay=0.9, first_gain=0.1, second_decay=0.99, decoupled_decay=0.1),
    UpdateRule(rate=0.01, adaptive=True, second_decay=0.9, correct_bias=False, coupled_decay=0.01, max_norm=0.5),
    Optimizer.at("muon").update(UpdateRule(max_norm=2.0, decoupled_decay=0.1)),
    UpdateRule(rate=0.05, first_decay=0.9, coupled_decay=5e-4, max_norm=1.0),
    UpdateRule(rate=0.05, first_decay=0.9, nesterov=True, max_norm=1e9),
]


def test_updates_are_the_optimizers(recipe: Recipe) -> None:
    fleets = [Fleet([Member(recipe, seed) for seed in range(len(RULES))], 10, CPU) for _ in range(2)]
    steps = 4
    rates = torch.tensor([[rule.rate * (1 + step) for rule in RULES] for step in range(steps)], dtype=torch.float64)
    norms = []
    for fleet, backend in zip(fleets, (TorchBackend(fleets[0], CPU), KernelBackend(fleets[1])), strict=True):
        optimizer = FleetOptimizer(fleet.weights, RULES, rates, fleet.matrices)
        torch.manual_seed(0)
        for step in range(steps):
            fleet.gradients.copy_(torch.randn_like(fleet.gradients))
            norms.append(backend.step(optimizer, torch.tensor([step])).clone())
    for row in range(len(RULES)):
        assert _apart(fleets[1].weights[row], fleets[0].weights[row]) < 1e-6
    torch.testing.assert_close(torch.stack(norms[steps:]).float(), torch.stack(norms[:steps]), rtol=1e-5, atol=0)


@pytest.mark.parametrize("what", ["weight", "bias"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_member_whose_weights_are_no_numbers_has_diverged(
    what: str, value: float, recipe: Recipe, tiny_data: Dataset
) -> None:
    training = Training([Member(recipe, 0), Member(recipe, 1)], tiny_data, CPU, backend=KERNELS)
    with torch.no_grad():
        parameter = getattr(training.fleet.networks[0].convolutions[2], what)
        parameter[(0,) * parameter.ndim] = value
    ended = [event for event in training.run_epoch() if isinstance(event, Outcome)]
    assert [(event.member.seed, event.outcome) for event in ended] == [(0, schema.DIVERGED)]


def test_an_image_that_is_not_a_number_reaches_loss_and_gradients(recipe: Recipe) -> None:
    fleet = Fleet([Member(recipe, 0)], 10, CPU)
    images, targets = _batch(8)
    images[3, 0, 5, 5] = torch.nan
    fleet.networks[0].train(True)
    assert torch.isnan(KernelBackend(fleet).gradients(0, images, targets))
    assert torch.isnan(fleet.gradients).any()


def test_masks_and_targets_of_other_shapes_and_formats_are_as_torch_has_them(recipe: Recipe) -> None:
    fleet = Fleet([Member(recipe, 0)], 10, CPU)
    network, (images, targets) = fleet.networks[0].train(True), _batch(8)
    network.dropout.mask = 2 * (torch.arange(8) % 2)[:, None].float()
    TorchBackend(fleet, CPU).gradients(0, images, targets)
    expected = fleet.gradients.clone()
    KernelBackend(fleet).gradients(0, images.double(), targets.double().T.contiguous().T)
    assert _apart(fleet.gradients, expected) < 3e-6
    with pytest.raises(AssertionError):
        KernelBackend(fleet).gradients(0, images, targets[:, :9])


@pytest.mark.parametrize("setting", ["model.name=resnet9", "budget.precision=bf16"])
def test_what_the_kernels_do_not_know_is_refused(setting: str, recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="ask for the backend torch"):
        KernelBackend(Fleet([Member(recipe.set(setting), 0)], 10, CPU))


def test_more_threads_change_no_bit(recipe: Recipe) -> None:
    images, targets = _batch(32)
    fleet = Fleet([Member(recipe, 0)], 10, CPU)
    fleet.networks[0].train(True)
    found = []
    for threads in (1, 2, 8):
        loss = KernelBackend(fleet, threads).gradients(0, images, targets)
        found.append((float(loss), fleet.gradients.clone()))
    assert all(loss == found[0][0] and torch.equal(found[0][1], gradients) for loss, gradients in found)


def test_the_memory_between_members_and_batches_is_not_seen(recipe: Recipe) -> None:
    """A batch after a larger one, another member's, and images that are seen again give the same bits."""
    fleet = Fleet([Member(recipe, seed) for seed in range(3)], 10, CPU)
    fleet.train(True)
    small, large = _batch(5), _batch(32)
    fresh = KernelBackend(fleet)
    fresh.gradients(1, *small)
    expected = fleet.gradients[1].clone()
    used = KernelBackend(fleet)
    for row, (images, targets) in [(0, large), (2, small), (0, small), (1, large)]:
        used.gradients(row, images, targets)
        used.logits(row, images)
    used.gradients(1, *small)
    assert torch.equal(fleet.gradients[1], expected)


def test_only_the_notebooks_network_is_known(recipe: Recipe) -> None:
    networks = {n: Fleet([Member(recipe.set(f"model.name={n}"), 0)], 10, CPU).networks[0] for n in model.NETWORKS}
    assert [name for name, network in networks.items() if supports(network)] == ["notebook"]
    mixed = networks["notebook"]
    mixed.activations[2] = torch.nn.Tanh()
    assert not supports(mixed)
    mixed.activations = torch.nn.ModuleList(torch.nn.GELU(approximate="tanh") for _ in mixed.activations)
    assert not supports(mixed)
