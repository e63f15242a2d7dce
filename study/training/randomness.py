"""Random numbers as pure functions of what they are for.

Every draw is named by a seed, a purpose and an epoch or step. Draws made once a run or once an epoch (split, first
weights, order) come from torch's CPU generator, seeded by that name, and are copied to the device. Draws made every
step (crops, flips, masks) hash a counter on the device itself: the same integers on a CPU and on a GPU, without a
generator's state, so that a captured CUDA graph can replay them from a key held in device memory.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

STREAM = 0x632BE5AB
"""From one call's stream of a step to the next one's."""


def key(*name: int | str) -> int:
    """63 bits (of SHA-256) that stand for a name such as (seed, "order", epoch).

    Examples:
        >>> key(0, "order", 1) == key(0, "order", 1), key(0, "order", 1) == key(0, "order", 2)
        (True, False)
    """
    digest = hashlib.sha256("\x1f".join(map(str, name)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def halves(*name: int | str) -> tuple[int, int]:
    """The key of a name as two numbers of 31 bits."""
    whole = key(*name)
    return whole & 0x7FFFFFFF, (whole >> 31) & 0x7FFFFFFF


def permutation(size: int, *name: int | str) -> Tensor:
    """A permutation of 0 … size - 1, int64 [size] on the CPU.

    Examples:
        >>> again = permutation(100, 0, "order", 1)  # whatever was drawn before, and on every machine
        >>> torch.equal(permutation(100, 0, "order", 1), again)
        True
    """
    return torch.randperm(size, generator=torch.Generator().manual_seed(key(*name)))


@contextmanager
def seeded(*name: int | str) -> Iterator[None]:
    """torch's global CPU generator, seeded by a name within the block and restored after it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key(*name))  # torch.manual_seed would seed a GPU's too, for good
        yield


class StepDraws:
    """The draws of one purpose at one step; satisfies `ablations.technique.Draws`.

    Each call takes the next stream of the step, so the order of calls matters and their number does not run out.
    """

    def __init__(self, halves: Tensor):
        # int32 [2], the halves of the step's key, on the device: a captured graph reads them from there.
        self._halves = halves
        self._calls = 0

    @classmethod
    def named(cls, device: torch.device, *name: int | str) -> StepDraws:
        """The draws of that name on a device."""
        return cls(torch.tensor(halves(*name), dtype=torch.int32, device=device))

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """float32 in [0, 1) on a grid of 2^-24, of the given shape, on the device."""
        low, high = self._halves[0], self._halves[1]
        self._calls += 1
        counter = torch.arange(math.prod(shape), dtype=torch.int32, device=self._halves.device)
        return _hashed(counter, low, high + _signed(self._calls * STREAM)).view(*shape)

    def integers(self, bound: int, shape: Sequence[int]) -> Tensor:
        """int64 in 0 … bound - 1 of the given shape, on the device; bound is at most 2^16."""
        assert 0 < bound <= 1 << 16, bound
        return (self.uniform(shape) * bound).to(torch.int64)


class ImageVisits:
    """The images of a batch in their epoch; satisfies `ablations.technique.Visits`.

    halves: int32 [2], of the key of what is drawn for; images: int64 [B], their places in the data set; step: int64
    [1], its number in the training. All lie on the device.
    """

    def __init__(self, halves: Tensor, images: Tensor, step: Tensor, steps_per_epoch: int):
        self._halves, self._images, self._step, self._steps_per_epoch = halves, images, step, steps_per_epoch

    def uniform(self) -> Tensor:
        """float32 [B] in [0, 1) on a grid of 2^-24, on the device: of each image the same in every epoch and batch."""
        return _hashed(self._images.to(torch.int32, copy=True), self._halves[0], self._halves[1])

    def epoch(self) -> Tensor:
        """int64 [1], from 0."""
        return self._step // self._steps_per_epoch


def _hashed(counter: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """float32 in [0, 1) on a grid of 2^-24, a number for each of int32 `counter`, which is used up."""
    mixed = _mix(counter.mul_(_signed(0x9E3779B9)).add_(low))
    mixed = _mix(mixed.bitwise_xor_(high))
    return mixed.bitwise_right_shift_(8).bitwise_and_(0xFFFFFF).to(torch.float32).mul_(2.0**-24)


def _mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit integers whose every output bit depends on every input bit, in place.

    Constants found by Chris Wellons' hash prospector ("lowbias32").
    """
    x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF)).mul_(_signed(0x7FEB352D))
    x.bitwise_xor_((x >> 15).bitwise_and_(0x1FFFF)).mul_(_signed(0x846CA68B))
    return x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF))


def _signed(value: int) -> int:
    """The 32-bit pattern of an integer, read as a signed one."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value
