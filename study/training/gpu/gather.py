"""A member's gradients into its row of the fleet's, several tensors in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 2_048
TOGETHER = 12
"""Tensors of a pass: all of the notebook's network."""


class Gather:
    """Copies tensors into places of a row, whatever their arithmetic; places: (start, size) of each tensor."""

    def __init__(self, places: Sequence[tuple[int, int]], device: torch.device):
        self._places = list(places)
        self._tables = [
            torch.tensor(self._places[i : i + TOGETHER], device=device) for i in range(0, len(places), TOGETHER)
        ]

    def copy(self, tensors: Sequence[Tensor], row: Tensor) -> None:
        """tensors: in the order of the places, their elements as they lie in the row; row: float32 [P]."""
        for index, table in enumerate(self._tables):
            some = [_as_it_lies(t) for t in tensors[index * TOGETHER : (index + 1) * TOGETHER]]
            longest = max(t.numel() for t in some)
            padded = some + some[:1] * (TOGETHER - len(some))
            _copy[(triton.cdiv(longest, BLOCK), len(some))](*padded, table, row, BLOCK)


def _as_it_lies(tensor: Tensor) -> Tensor:
    """Convolution weights channels last, the others as usual; copied where they lie otherwise."""
    return tensor.contiguous(memory_format=torch.channels_last if tensor.ndim == 4 else torch.contiguous_format)


@triton.jit
def _copy(a, b, c, d, e, f, g, h, i, j, k, l, table, row, BLOCK: tl.constexpr):  # noqa: E741
    which = tl.program_id(1)
    start, size = tl.load(table + 2 * which), tl.load(table + 2 * which + 1)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    value = tl.zeros([BLOCK], tl.float32)
    if which == 0:
        value = tl.load(a + at, inside).to(tl.float32)
    elif which == 1:
        value = tl.load(b + at, inside).to(tl.float32)
    elif which == 2:
        value = tl.load(c + at, inside).to(tl.float32)
    elif which == 3:
        value = tl.load(d + at, inside).to(tl.float32)
    elif which == 4:
        value = tl.load(e + at, inside).to(tl.float32)
    elif which == 5:
        value = tl.load(f + at, inside).to(tl.float32)
    elif which == 6:
        value = tl.load(g + at, inside).to(tl.float32)
    elif which == 7:
        value = tl.load(h + at, inside).to(tl.float32)
    elif which == 8:
        value = tl.load(i + at, inside).to(tl.float32)
    elif which == 9:
        value = tl.load(j + at, inside).to(tl.float32)
    elif which == 10:
        value = tl.load(k + at, inside).to(tl.float32)
    else:
        value = tl.load(l + at, inside).to(tl.float32)
    tl.store(row + start + at, value, inside)
