"""Cross entropy with class probabilities, and its gradient, in one pass."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 16
"""Images that a program looks at."""


def cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over a batch as torch's `cross_entropy` has it, float32 [], and its gradient, as the logits are.

    logits: [B, classes]; targets: class probabilities, float32 [B, classes].
    """
    logits, targets = logits.contiguous(), targets.contiguous()
    batch, classes = logits.shape
    losses = torch.empty(batch, device=logits.device)
    gradient = torch.empty_like(logits)
    columns = triton.next_power_of_2(classes)
    _losses[(triton.cdiv(batch, ROWS),)](logits, targets, losses, gradient, batch, classes, ROWS, columns)
    return losses.mean(), gradient


@triton.jit
def _losses(logits, targets, losses, gradient, batch, classes, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    inside = (row < batch)[:, None] & (column < classes)[None, :]
    at = row[:, None] * classes + column[None, :]
    z = tl.load(logits + at, inside, other=float("-inf")).to(tl.float32)
    t = tl.load(targets + at, inside, other=0.0)
    z = z - tl.max(z, axis=1)[:, None]
    e = tl.exp(z)
    total = tl.sum(e, axis=1)
    loss = tl.sum(tl.where(t != 0, t * (tl.log(total)[:, None] - z), 0.0), axis=1)
    tl.store(losses + row, loss, row < batch)
    slope = (e / total[:, None] * tl.sum(t, axis=1)[:, None] - t) / batch
    tl.store(gradient + at, slope.to(gradient.dtype.element_ty), inside)
