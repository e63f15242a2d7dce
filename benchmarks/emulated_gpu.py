"""A GPU that a CPU plays: streams, captures and replays, so that the way there is proved where there is none.

Operations compute on the CPU, and mean the same. What is played is what a GPU adds to them:

- A capture notes operations and takes back what they did; a replay does what was noted, on the same tensors, and runs
  none of the program's Python. What depends on Python from step to step comes out wrong.
- Streams have vector clocks (Mattern 1989). An operation that touches memory without having waited for another
  stream's write to it, or that writes what another may still be reading, is a race.
- What waits for the host, or draws from torch's generators, may not be captured.

What is not played: the order in which memory is given out again, other devices' pointers, and cuDNN's own choices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cifar_ablations.study.training import step

OF_THE_HOST = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "lift_fresh", "bincount"}
"""Operations that wait for a GPU's numbers, or bring some of the host's."""
DRAWING = {"rand", "randn", "randint", "randperm", "bernoulli", "bernoulli_", "uniform_", "normal_", "native_dropout"}
"""Operations on torch's own generators."""
WRITES = {
    "_pool": ("y", "choices"),
    "_unpool": ("found", "sums"),
    "_convolve": ("y", "choices"),
    "_correlate": ("sums",),
    "_sum": ("of_bias", "of_weight"),
    "_uniform": ("found",),
    "_losses": ("losses", "gradient"),
    "_copy": ("row",),
    "_step": ("weights", "first", "second"),
}
"""What each kernel of `study.training.gpu` writes, by the names of its arguments."""


class ForbiddenError(RuntimeError):
    """An operation that a GPU would not capture."""


@dataclass
class Stream:
    """A queue of operations, and how far it has waited for each of the others."""

    number: int
    clock: dict[int, int] = field(default_factory=dict)

    def wait_stream(self, other: Stream) -> None:
        """Let what comes from now on begin after all that the other has been given."""
        for number, tick in other.clock.items():
            self.clock[number] = max(self.clock.get(number, 0), tick)

    def after(self, number: int, tick: int) -> bool:
        """Whether what comes next begins after that operation of a stream."""
        return number == self.number or self.clock.get(number, 0) >= tick


@dataclass(frozen=True)
class _Access:
    """An operation's reading or writing of bytes `start` to `end` of a storage."""

    start: int
    end: int
    stream: int
    tick: int
    writes: bool
    name: str

    def meets(self, other: _Access) -> bool:
        return self.start < other.end and other.start < self.end


class Graph:
    """What was captured, and can be done again."""

    def __init__(self) -> None:
        self.noted: list[Callable[[], None]] = []
        self.own: set[int] = set()
        """The storages that were made within the capture."""
        self.before: dict[int, tuple[Any, Tensor]] = {}
        """What others held before the capture wrote to them."""

    def pool(self) -> None:
        """Its memory, which is not played."""

    def replay(self) -> None:
        """Do it again, without a line of the program's Python."""
        with torch.no_grad():
            for act in self.noted:
                act()


class EmulatedGpu(TorchDispatchMode):
    """To be entered: within it torch.cuda is played. Captures, replays and races are counted."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.races: list[str] = []
        self.captures = self.replays = self.operations = 0
        self._streams = [Stream(0)]
        self._current = self._streams[0]
        self._graph: Graph | None = None
        self._aside = False
        self._accesses: dict[int, list[_Access]] = {}
        self._patches = ExitStack()

    def __enter__(self) -> EmulatedGpu:
        branches = [self._stream() for _ in range(step.BRANCHES)]
        played: dict[str, Any] = {
            "Stream": lambda device=None: self._stream(),
            "current_stream": lambda device=None: self._current,
            "stream": self._on,
            "synchronize": lambda device=None: self._wait_for_all(),
            "empty_cache": lambda: None,
            "CUDAGraph": Graph,
            "graph": self._capture,
            "memory_stats": lambda device: {"num_alloc_retries": 0},
            "get_sync_debug_mode": lambda: 0,
            "set_sync_debug_mode": lambda mode: None,
        }
        for name, function in played.items():
            self._patches.enter_context(mock.patch.object(torch.cuda, name, function))
        self._patches.enter_context(mock.patch.object(step, "_on", return_value=True))
        self._patches.enter_context(mock.patch.object(step, "_streams", return_value=branches))
        self._patches.enter_context(mock.patch.object(step, "tune"))
        self._patches.enter_context(mock.patch.object(step, "_captured", set()))
        for module, kernels in _kernels().items():
            for kernel in kernels:
                launched = _Kernel(getattr(module, kernel), self)
                self._patches.enter_context(mock.patch.object(module, kernel, launched))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *about: Any) -> None:
        super().__exit__(*about)  # type: ignore[no-untyped-call]
        self._patches.close()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        named = named or {}
        if self._aside:
            return function(*arguments, **named)
        name = function.overloadpacket.__name__
        if self._graph is not None and name in OF_THE_HOST | DRAWING:
            raise ForbiddenError(f"operation not permitted when stream is capturing: {name}")
        read, written = _of_schema(function, arguments, named)
        self._keep(written)
        found = function(*arguments, **named)
        made = [t for t in tree_leaves(found) if isinstance(t, Tensor)]
        there = {_storage(t) for t in (*read, *written) if name != "lift_fresh"}  # that is of what Python has made
        fresh = [t for t in made if _storage(t) not in there]
        for tensor in fresh:
            self._accesses[_storage(tensor)] = []
        if not written and not fresh:  # a view
            return found
        if self._graph is not None:
            self._graph.own |= {_storage(t) for t in fresh}
            self._graph.noted.append(_again(function, arguments, named, found if fresh else None))
        if not name.startswith(("empty", "new_empty")):
            self._touch(name, read, [*written, *fresh])
        return found

    def launch(self, kernel: Any, grid: Any, arguments: Sequence[Any], named: Mapping[str, Any]) -> None:
        """Run a kernel, by Triton's interpreter, as one operation."""
        name = kernel.__name__
        given = dict(zip(kernel.arg_names, arguments, strict=False)) | dict(named)
        tensors = {key: value for key, value in given.items() if isinstance(value, Tensor)}
        written = [tensors[key] for key in WRITES[name]]
        self._keep(written)

        def act() -> None:
            with self._unnoted():
                kernel[grid](*arguments, **named)

        act()
        if self._graph is not None:
            self._graph.noted.append(act)
        self._touch(name, list(tensors.values()), written)

    def _touch(self, name: str, read: Sequence[Tensor], written: Sequence[Tensor]) -> None:
        """Note an operation on the current stream, and the races that it is in."""
        self.operations += 1
        stream = self._current
        stream.clock[stream.number] = stream.clock.get(stream.number, 0) + 1
        tick = stream.clock[stream.number]
        for tensor, writes in (*((t, False) for t in read), *((t, True) for t in written)):
            if not tensor.numel():
                continue
            known = self._accesses.setdefault(_storage(tensor), [])
            one = _Access(*_bytes(tensor), stream.number, tick, writes, name)
            for other in known:
                if (writes or other.writes) and one.meets(other) and not stream.after(other.stream, other.tick):
                    self.races.append(f"{name} on stream {stream.number} and {other.name} on stream {other.stream}")
            known[:] = [other for other in known if not _replaces(one, other)]
            known.append(one)

    def _keep(self, written: Sequence[Tensor]) -> None:
        """Within a capture, keep what is about to be written over, once."""
        if self._graph is None:
            return
        with self._unnoted():
            for tensor in written:
                key = _storage(tensor)
                if key not in self._graph.own and key not in self._graph.before:
                    storage = tensor.untyped_storage()
                    self._graph.before[key] = storage, storage.clone()

    @contextmanager
    def _unnoted(self) -> Iterator[None]:
        """Within it, what torch is asked to do is no part of what the program does."""
        before, self._aside = self._aside, True
        try:
            yield
        finally:
            self._aside = before

    @contextmanager
    def _capture(self, graph: Graph, pool: object = None) -> Iterator[None]:
        assert self._graph is None, "one capture at a time"
        self._wait_for_all()
        self._graph, before = graph, self._current
        self._current = self._stream()
        self._current.wait_stream(before)
        try:
            yield
        finally:
            self._graph = None
            unjoined = [s for s in self._streams if not all(map(self._current.after, *_ticks(s)))]
            before.wait_stream(self._current)
            self._current = before
            with self._unnoted():
                for storage, values in graph.before.values():
                    storage.copy_(values)
        if unjoined:
            raise ForbiddenError("capturing stream has unjoined work")
        self.captures += 1
        replay = graph.replay

        def counted() -> None:
            self.replays += 1
            with self._unnoted():
                replay()

        graph.replay = counted  # type: ignore[method-assign]

    def _stream(self) -> Stream:
        self._streams.append(Stream(len(self._streams)))
        return self._streams[-1]

    @contextmanager
    def _on(self, stream: Stream) -> Iterator[None]:
        before, self._current = self._current, stream
        try:
            yield
        finally:
            self._current = before

    def _wait_for_all(self) -> None:
        for stream in self._streams:
            self._current.wait_stream(stream)
        for stream in self._streams:
            stream.wait_stream(self._current)


class _Kernel:
    """A kernel whose launches the played GPU notes."""

    def __init__(self, kernel: Any, gpu: EmulatedGpu):
        self._kernel, self._gpu = kernel, gpu

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return lambda *arguments, **named: self._gpu.launch(self._kernel, grid, arguments, named)


def _kernels() -> dict[Any, tuple[str, ...]]:
    from cifar_ablations.study.training.gpu import blocks, fleet_draws, gather, loss, update

    return {
        blocks: ("_pool", "_unpool", "_convolve", "_correlate", "_sum"),
        fleet_draws: ("_uniform",),
        gather: ("_copy",),
        loss: ("_losses",),
        update: ("_step",),
    }


STATISTICS = ("running_mean", "running_var")
"""What batch normalisation writes to while it trains, which its schema does not declare."""


def _of_schema(function: Any, arguments: Sequence[Any], named: Mapping[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """The tensors that an operation reads, and those that it writes to, by what it declares."""
    read: list[Tensor] = []
    written: list[Tensor] = []
    for place, declared in enumerate(function._schema.arguments):
        value = arguments[place] if place < len(arguments) else named.get(declared.name)
        tensors = [t for t in tree_leaves(value) if isinstance(t, Tensor)]
        writes = declared.alias_info is not None and declared.alias_info.is_write
        writes = writes or (declared.name in STATISTICS and "backward" not in function._schema.name)
        (written if writes else read).extend(tensors)
    return read, written


def _again(function: Any, arguments: Any, named: Any, found: Any) -> Callable[[], None]:
    """Does an operation again, into what it found the first time."""
    kept = [t for t in tree_leaves(found) if isinstance(t, Tensor)]

    def act() -> None:
        again = [t for t in tree_leaves(function(*arguments, **named)) if isinstance(t, Tensor)]
        for before, now in zip(kept, again, strict=False):
            before.copy_(now)

    return act


def _ticks(stream: Stream) -> tuple[list[int], list[int]]:
    """A stream's own last operation, for `Stream.after`."""
    tick = stream.clock.get(stream.number, 0)
    return ([stream.number], [tick]) if tick else ([], [])


def _replaces(now: _Access, before: _Access) -> bool:
    """Whether whoever meets an earlier access also meets this one, so that it need not be kept."""
    inside = now.start <= before.start and before.end <= now.end
    return inside and (now.writes or (before.stream == now.stream and not before.writes))


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _bytes(tensor: Tensor) -> tuple[int, int]:
    """The first byte in its storage, and the one behind the last."""
    size = tensor.element_size()
    start = int(tensor.storage_offset()) * size
    last = sum((int(n) - 1) * int(s) for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    return start, start + (last + 1) * size
