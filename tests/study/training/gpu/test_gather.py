"""Gradients of any arithmetic and layout land where a row has its places for them."""

from __future__ import annotations

import torch

from cifar_ablations.study.training.gpu.gather import TOGETHER, Gather


def test_tensors_land_in_their_places(device: torch.device) -> None:
    torch.manual_seed(0)
    weights = torch.randn(4, 3, 3, 3, device=device)
    tensors = [weights, weights.contiguous(memory_format=torch.channels_last).bfloat16()]
    tensors += [torch.randn(5, 7, device=device).t(), torch.randn(3_000, device=device).bfloat16()]
    tensors += [torch.randn(i + 1, device=device) for i in range(TOGETHER)]
    places, start = [], 0
    for tensor in tensors:
        places.append((start, tensor.numel()))
        start += tensor.numel() + 2
    row = torch.full((start,), -9.0, device=device)
    Gather(places, device).copy(tensors, row)
    for (begin, size), tensor in zip(places, tensors, strict=True):
        flat = (tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor).reshape(-1).float()
        assert torch.equal(row[begin : begin + size], flat)
        assert row[begin + size : begin + size + 2].tolist() == [-9.0, -9.0]
