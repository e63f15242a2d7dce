"""A block of the notebook's network: convolution, 2×2 max-pooling, bias and ReLU, without what lies between them.

Pooling, bias and ReLU are one pass, with one byte per output to say where its gradient goes. The first block, whose
convolution of three channels is nothing but bytes, is one pass altogether, and its output before pooling is never
written.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from cifar_ablations.study.training import model

ELEMENTS = 2_048
"""Outputs that a program of pooling writes at a time."""
PROGRAMS = 264
"""Programs that share a pass back through pooling, each with a sum of its own: two per multiprocessor of an H100."""
FIRST = (64, 4)
"""Outputs per channel that a program of the first block computes, and its warps."""
FIRST_BACK = (32, 4, 1_056)
"""Outputs per channel that a program of its way back looks at at a time, its warps, and at most so many programs."""
TAPS = 27
"""Weights of a 3×3 convolution of three channels, per channel of its output."""
SUMMED = (128, 16)
"""Rows and columns of sums that a program adds up at a time."""


def block(x: Tensor, weight: Tensor, bias: Tensor, activation: nn.Module) -> Tensor:
    """As `model.block`; the bias is added in fp32, and only the sum is rounded.

    ReLU is part of the pass unless somebody listens to it.
    """
    if x.shape[2] % 2 or x.shape[3] % 2:
        return model.block(x, weight, bias, activation)
    fused = type(activation) is nn.ReLU and not activation._forward_hooks
    if weight.shape[1:] == (3, 3, 3) and weight.dtype == torch.bfloat16 and not x.requires_grad:
        found: Tensor = _First.apply(x, weight, bias, fused)
    else:
        found = _Pooled.apply(F.conv2d(x, weight, padding=1), bias, fused)
    return found if fused else activation(found)


class _Pooled(torch.autograd.Function):
    """Images [B, C, H, W] and bias [C] to [B, C, H / 2, W / 2], both channels last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, relu: bool) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        y, choices = _outputs(x, x.shape[1], x.dtype)
        positions, columns, rows = _sizes(choices)
        _pool[(triton.cdiv(positions, rows),)](
            *(x, bias, y, choices, positions, *choices.shape[2:], x.shape[1], relu, rows, columns)
        )
        ctx.save_for_backward(choices)
        ctx.shape, ctx.dtype = x.shape, x.dtype
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (choices,) = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        found = torch.empty(ctx.shape, dtype=ctx.dtype, device=gradient.device, memory_format=torch.channels_last)
        positions, columns, rows = _sizes(choices)
        rounds = triton.cdiv(positions, rows * PROGRAMS)
        programs, channels = triton.cdiv(positions, rows * rounds), ctx.shape[1]
        sums = torch.empty(programs, channels, device=gradient.device)
        _unpool[(programs,)](
            *(gradient, choices, found, sums, positions, *choices.shape[2:], channels, rounds, rows, columns)
        )
        of_bias = torch.empty(channels, device=gradient.device)
        _sum[(triton.cdiv(channels, SUMMED[1]),)](sums, of_bias, of_bias, programs, channels, 1, *SUMMED)
        return found, of_bias, None


class _First(torch.autograd.Function):
    """Images [B, 3, H, W], weights [C, 3, 3, 3] and bias [C] to [B, C, H / 2, W / 2], all channels last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, relu: bool) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        weight = weight.contiguous(memory_format=torch.channels_last)
        channels = len(weight)
        y, choices = _outputs(x, channels, weight.dtype)
        positions = choices.numel() // channels
        columns = max(16, triton.next_power_of_2(channels))
        rows, warps = FIRST
        _convolve[(triton.cdiv(positions, rows),)](
            *(x, weight, bias, y, choices, positions, *choices.shape[2:], channels, relu, rows, columns),
            FACTOR=_factor(x),
            num_warps=warps,
        )
        ctx.save_for_backward(x, choices)
        ctx.weight = weight.shape, weight.dtype
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, Tensor, None]:
        x, choices = ctx.saved_tensors
        shape, dtype = ctx.weight
        channels = shape[0]
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        positions = choices.numel() // channels
        columns = max(16, triton.next_power_of_2(channels))
        rows, warps, most = FIRST_BACK
        rounds = triton.cdiv(positions, rows * most)
        programs = triton.cdiv(positions, rows * rounds)
        sums = torch.empty(programs, (TAPS + 1) * channels, device=x.device)
        _correlate[(programs,)](
            *(x, gradient, choices, sums, positions, *choices.shape[2:], channels, rounds, rows, columns),
            FACTOR=_factor(x),
            num_warps=warps,
            num_stages=1,  # there is nothing to fetch ahead but single pixels
        )
        of_weight = torch.empty(shape, dtype=dtype, device=x.device, memory_format=torch.channels_last)
        of_bias = torch.empty(channels, device=x.device)
        grid = (triton.cdiv(sums.shape[1], SUMMED[1]),)
        _sum[grid](sums, of_bias, of_weight, programs, channels, TAPS + 1, *SUMMED)
        return None, of_weight, of_bias, None


def _outputs(x: Tensor, channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Room for the block's output, and for the choices that pooling makes."""
    batch, _, height, width = x.shape
    shape = (batch, channels, height // 2, width // 2)
    y = torch.empty(shape, dtype=dtype, device=x.device, memory_format=torch.channels_last)
    return y, torch.empty(shape, dtype=torch.uint8, device=x.device, memory_format=torch.channels_last)


def _factor(x: Tensor) -> tl.dtype:
    """The arithmetic of products: Triton's interpreter, by which a CPU tests this, multiplies bf16 as integers."""
    return tl.bfloat16 if x.is_cuda else tl.float32


def _sizes(choices: Tensor) -> tuple[int, int, int]:
    """Positions of an output, and the shape of a program's block: channels as a power of two, and positions."""
    channels = choices.shape[1]
    columns = triton.next_power_of_2(channels)
    return choices.numel() // channels, columns, max(1, ELEMENTS // columns)


@triton.jit
def _corner(position, height, width, channels):
    """Where in the input the upper left of an output's window begins; height and width are the output's."""
    row = position // width
    image = row // height
    return ((image * 2 * height + 2 * (row % height)) * 2 * width + 2 * (position % width)) * channels


@triton.jit
def _activated(largest, choice, shift, RELU: tl.constexpr):
    """The output for the largest of a window, and the choice, which is 4 where the gradient goes nowhere."""
    found = largest + shift
    if RELU:
        choice = tl.where(found <= 0, 4, choice).to(tl.uint8)
        found = tl.where(found <= 0, 0.0, found)
    return found, choice


@triton.jit
def _pool(
    x,
    bias,
    y,
    choices,
    positions,
    height,
    width,
    channels,
    RELU: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    position = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    channel = tl.arange(0, COLUMNS)[None, :]
    inside = (position < positions) & (channel < channels)
    at = _corner(position, height, width, channels) + channel
    largest = tl.load(x + at, inside).to(tl.float32)
    choice = tl.zeros([ROWS, COLUMNS], tl.uint8)
    for i in tl.static_range(1, 4):
        value = tl.load(x + at + ((i // 2) * 2 * width + i % 2) * channels, inside).to(tl.float32)
        # The first of equals, and what is no number goes through, as in torch.
        taken = (value > largest) | (value != value)
        largest = tl.where(taken, value, largest)
        choice = tl.where(taken, i, choice).to(tl.uint8)
    shift = tl.load(bias + channel, channel < channels).to(tl.float32)
    found, choice = _activated(largest, choice, shift, RELU)
    tl.store(y + position * channels + channel, found.to(y.dtype.element_ty), inside)
    tl.store(choices + position * channels + channel, choice, inside)


@triton.jit
def _unpool(
    gradient,
    choices,
    found,
    sums,
    positions,
    height,
    width,
    channels,
    rounds,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    channel = tl.arange(0, COLUMNS)[None, :]
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for i in range(rounds):
        position = (tl.program_id(0) * rounds + i) * ROWS + tl.arange(0, ROWS)[:, None]
        inside = (position < positions) & (channel < channels)
        value = tl.load(gradient + position * channels + channel, inside, other=0.0)
        choice = tl.load(choices + position * channels + channel, inside, other=4)
        total += tl.where(choice < 4, value.to(tl.float32), 0.0)
        at = _corner(position, height, width, channels) + channel
        for k in tl.static_range(4):
            part = tl.where(choice == k, value, tl.zeros_like(value))
            tl.store(found + at + ((k // 2) * 2 * width + k % 2) * channels, part, inside)
    columns = tl.arange(0, COLUMNS)
    tl.store(sums + tl.program_id(0) * channels + columns, tl.sum(total, axis=0), columns < channels)


@triton.jit
def _patches(x, position, positions, height, width, K: tl.constexpr, FACTOR: tl.constexpr):
    """FACTOR [POSITIONS, 32]: the pixels under a 3×3 convolution of three channels at corner K of each window.

    In column 27 stand ones, which make the gradient of the bias one of a weight.
    """
    tap = tl.arange(0, 32)[None, :]
    position = position[:, None]
    row = 2 * ((position // width) % height) + K // 2 + tap // 9 - 1
    column = 2 * (position % width) + K % 2 + (tap // 3) % 3 - 1
    image = position // (width * height)
    inside = (position < positions) & (tap < 27) & (row >= 0) & (row < 2 * height) & (column >= 0)
    inside = inside & (column < 2 * width)
    at = ((image * 2 * height + row) * 2 * width + column) * 3 + tap % 3
    pixels = tl.load(x + at, inside, other=0.0).to(tl.float32)
    return tl.where(tap == 27, 1.0, pixels).to(FACTOR)


@triton.jit
def _convolve(
    x,
    weight,
    bias,
    y,
    choices,
    positions,
    height,
    width,
    channels,
    RELU: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    FACTOR: tl.constexpr,
):
    position = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, COLUMNS)[None, :]
    tap = tl.arange(0, 32)[:, None]
    weights = tl.load(weight + channel * 27 + tap, (channel < channels) & (tap < 27), other=0.0).to(FACTOR)
    largest = tl.dot(_patches(x, position, positions, height, width, 0, FACTOR), weights)
    choice = tl.zeros([ROWS, COLUMNS], tl.uint8)
    for k in tl.static_range(1, 4):
        value = tl.dot(_patches(x, position, positions, height, width, k, FACTOR), weights)
        taken = (value > largest) | (value != value)
        largest = tl.where(taken, value, largest)
        choice = tl.where(taken, k, choice).to(tl.uint8)
    shift = tl.load(bias + channel, channel < channels).to(tl.float32)
    found, choice = _activated(largest, choice, shift, RELU)
    at = position[:, None] * channels + channel
    inside = (position < positions)[:, None] & (channel < channels)
    tl.store(y + at, found.to(y.dtype.element_ty), inside)
    tl.store(choices + at, choice, inside)


@triton.jit
def _correlate(
    x,
    gradient,
    choices,
    sums,
    positions,
    height,
    width,
    channels,
    rounds,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    FACTOR: tl.constexpr,
):
    channel = tl.arange(0, COLUMNS)[None, :]
    tap = tl.arange(0, 32)[:, None]
    total = tl.zeros([32, COLUMNS], tl.float32)
    for i in range(rounds):
        position = (tl.program_id(0) * rounds + i) * ROWS + tl.arange(0, ROWS)
        inside = (position < positions)[:, None] & (channel < channels)
        at = position[:, None] * channels + channel
        value = tl.load(gradient + at, inside, other=0.0)
        choice = tl.load(choices + at, inside, other=4)
        for k in tl.static_range(4):
            part = tl.where(choice == k, value, tl.zeros_like(value)).to(FACTOR)
            total += tl.dot(tl.trans(_patches(x, position, positions, height, width, k, FACTOR)), part)
    at = tl.program_id(0) * 28 * channels + channel * 28 + tap
    tl.store(sums + at, total, (tap < 28) & (channel < channels))


@triton.jit
def _sum(sums, of_bias, of_weight, rows, channels, TAPS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Add up [rows, channels, TAPS]: the last of the taps is the bias, and those before it are weights."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < channels * TAPS
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, rows, ROWS):
        row = start + tl.arange(0, ROWS)[:, None]
        total += tl.load(sums + row * channels * TAPS + column, inside & (row < rows), other=0.0)
    found = tl.sum(total, axis=0)
    channel, tap = column // TAPS, column % TAPS
    tl.store(of_bias + channel, found, inside & (tap == TAPS - 1))
    if TAPS > 1:
        at = of_weight + channel * (TAPS - 1) + tap
        tl.store(at, found.to(of_weight.dtype.element_ty), inside & (tap < TAPS - 1))
