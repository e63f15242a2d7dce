"""A block in one pass or two is torch's four operations and their gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_ablations.study.training import model
from cifar_ablations.study.training.gpu import blocks

Arguments = tuple[Tensor, Tensor, Tensor]


def _drawn(shape: tuple[int, ...], outputs: int, device: torch.device) -> Arguments:
    """Images, weights and bias on coarse grids, so that pooling has equals among which to choose."""
    torch.manual_seed(0)
    x = (torch.randn(shape, device=device) * 2).round().contiguous(memory_format=torch.channels_last)
    weight = (torch.randn(outputs, shape[1], 3, 3, device=device) * 2).round() / 4
    return x, weight.contiguous(memory_format=torch.channels_last), torch.randn(outputs, device=device)


def _looked_at(block, arguments: Arguments, activation: nn.Module, images_too: bool = True) -> list[Tensor]:
    """The output, and the gradients by images, weights and bias of a sum whose terms differ."""
    x, weight, bias = (a.clone(memory_format=torch.preserve_format).requires_grad_() for a in arguments)
    if not images_too:
        x = x.detach()
    y = block(x, weight, bias, activation)
    above = torch.linspace(-1, 1, y.numel(), device=y.device).view(y.shape).round(decimals=1).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, [x, weight, bias] if images_too else [weight, bias], above)]


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Tanh(), nn.LeakyReLU(0.1)], ids=lambda a: type(a).__name__)
@pytest.mark.parametrize(
    ("shape", "outputs"), [((3, 5, 8, 6), 7), ((2, 4, 4, 4), 64), ((7, 1, 2, 2), 1), ((2, 3, 5, 4), 3)]
)
def test_in_fp32_it_is_torchs(shape: tuple[int, ...], outputs: int, activation: nn.Module, device) -> None:
    arguments = _drawn(shape, outputs, device)
    expected, found = (_looked_at(b, arguments, activation) for b in (model.block, blocks.block))
    for ours, torchs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-5, atol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize(("shape", "outputs"), [((3, 3, 8, 6), 7), ((5, 3, 32, 32), 64), ((1, 3, 2, 2), 130)])
def test_the_first_block_in_bf16_is_exact_but_for_the_last_rounding(
    shape: tuple[int, ...], outputs: int, relu: bool, device: torch.device
) -> None:
    arguments = _drawn(shape, outputs, device)
    activation = nn.ReLU() if relu else nn.LeakyReLU(0.5)
    exact = tuple(a.double() for a in arguments)
    y, of_weight, of_bias = _looked_at(model.block, exact, activation, images_too=False)
    halved = (arguments[0], arguments[1].bfloat16(), arguments[2])
    found = _looked_at(blocks.block, halved, activation, images_too=False)
    torch.testing.assert_close(found[0].double(), y, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(found[1].double(), of_weight, rtol=1e-2, atol=float(of_weight.abs().max()) / 100)
    torch.testing.assert_close(found[2].double(), of_bias, rtol=1e-2, atol=float(of_bias.abs().max()) / 100)
    assert [a.dtype for a in found] == [torch.bfloat16, torch.bfloat16, torch.float32]


def test_pooling_in_bf16_rounds_once(device: torch.device) -> None:
    x, _, bias = _drawn((4, 8, 8, 8), 8, device)
    y = blocks._Pooled.apply(x.bfloat16(), bias, True)
    exact = (F.max_pool2d(x.double(), 2) + bias.double()[:, None, None]).relu()
    torch.testing.assert_close(y.double(), exact, rtol=2**-7, atol=0)


@pytest.mark.parametrize("channels", [3, 4])
def test_what_is_no_number_stays_none(channels: int, device: torch.device) -> None:
    """A diverged member must be seen as such."""
    x, weight, bias = _drawn((1, channels, 4, 4), 16, device)
    x[0, 1, 0, 0] = float("nan")
    y = blocks.block(x.bfloat16(), weight.bfloat16(), bias, nn.ReLU())
    assert y[0, :, 0, 0].isnan().all()
    assert not y[0, :, 1, 1].isnan().any()


def test_a_relu_that_somebody_listens_to_is_called(device: torch.device) -> None:
    heard: list[float] = []
    relu = nn.ReLU()
    relu.register_forward_hook(lambda module, inputs, output: heard.append(inputs[0].min().item()))
    x, weight, bias = torch.ones(1, 4, 4, 4, device=device), -torch.ones(2, 4, 3, 3, device=device), torch.zeros(2)
    y = blocks.block(x, weight, bias.to(device), relu)
    assert heard == [-16]
    assert y.max() == 0
