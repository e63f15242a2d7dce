"""All draws of a step in one pass: the numbers of `randomness.StepDraws`, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from cifar_ablations.study.training.randomness import STREAM, StepDraws

BLOCK = 1_024


@dataclass(frozen=True)
class _Call:
    """One call for uniform numbers: the slot that it draws from, its place among the calls of that slot, its size."""

    slot: int
    number: int
    size: int


@dataclass(frozen=True)
class _Table:
    """The calls of a step as the kernel reads them, int64 [calls, 4] (slot, stream, start, size), and their sum."""

    rows: Tensor
    longest: int
    total: int

    @classmethod
    def of(cls, calls: Sequence[_Call], device: torch.device) -> _Table:
        start, rows = 0, []
        for call in calls:
            rows.append([call.slot, call.number * STREAM & 0xFFFFFFFF, start, call.size])
            start += call.size
        return cls(torch.tensor(rows, device=device), max(call.size for call in calls), start)


class FleetDraws:
    """Draws what the techniques of a fleet asked for the last time that they saw a batch of this size.

    The first step of a size draws call by call, and notes what was asked; a step that asks for something else does so
    too. Steps that warm up before a capture see to it that the captured one draws in one pass.
    """

    def __init__(self) -> None:
        self._tables: dict[int, dict[_Call, int]] = {}
        self._laid_out: dict[int, _Table] = {}

    def begin(self, keys: Tensor, size: int) -> Callable[[int], StepDraws]:
        """The draws of a step by slot; keys: int32 [slots, 2], halves of the keys; size: of its batch."""
        places = self._tables.setdefault(size, {})
        drawn = None
        if places:
            if size not in self._laid_out or len(self._laid_out[size].rows) != len(places):
                self._laid_out[size] = _Table.of(list(places), keys.device)
            table = self._laid_out[size]
            drawn = _drawn(keys, table)
        known = dict(places) if drawn is not None else {}
        return lambda slot: _Planned(keys, slot, known, drawn, places)


class _Planned(StepDraws):
    """The draws of one slot: slices of what was drawn in one pass, or drawn now and noted for the next step."""

    def __init__(
        self, keys: Tensor, slot: int, known: dict[_Call, int], drawn: Tensor | None, places: dict[_Call, int]
    ):
        super().__init__(keys[slot])
        self._keys, self._slot, self._known, self._drawn, self._places = keys, slot, known, drawn, places

    def uniform(self, shape: Sequence[int]) -> Tensor:
        self._calls += 1
        call = _Call(self._slot, self._calls, math.prod(shape))
        if self._drawn is not None and call in self._known:
            start = self._known[call]
            return self._drawn[start : start + call.size].view(*shape)
        if call not in self._places:
            self._places[call] = sum(known.size for known in self._places)
        return _drawn(self._keys, _Table.of([call], self._keys.device)).view(*shape)


def _drawn(keys: Tensor, table: _Table) -> Tensor:
    """float32 [total]: the numbers of all calls of a table, one after the other."""
    found = torch.empty(table.total, device=keys.device)
    _uniform[(triton.cdiv(table.longest, BLOCK), len(table.rows))](keys, table.rows, found, BLOCK)
    return found


@triton.jit
def _mixed(x):
    """`randomness._mix`."""
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def _uniform(keys, table, found, BLOCK: tl.constexpr):
    call = table + tl.program_id(1) * 4
    slot, stream, start, size = tl.load(call), tl.load(call + 1), tl.load(call + 2), tl.load(call + 3)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    low = tl.load(keys + 2 * slot).to(tl.uint32)
    high = tl.load(keys + 2 * slot + 1).to(tl.uint32)
    x = _mixed(i.to(tl.uint32) * 0x9E3779B9 + low)
    x = _mixed(x ^ (high + stream.to(tl.uint32)))
    tl.store(found + start + i, (x >> 8).to(tl.float32) * (1.0 / 16777216.0), i < size)
