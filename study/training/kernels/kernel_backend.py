"""A fleet's losses, gradients and logits by the kernels: what `backend.TorchBackend` does by torch."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from cifar_ablations.ablations.update_rule import UpdateRule
from cifar_ablations.study.training.fleet import Fleet
from cifar_ablations.study.training.kernels import bindings
from cifar_ablations.study.training.model import NotebookNetwork
from cifar_ablations.study.training.optimizer import FleetOptimizer
from cifar_ablations.study.training.randomness import STREAM, StepDraws

SIDE = 32
PARTS = 2
"""A batch's images are split into so many parts, whose gradients are added in order: the bits of a training do not
depend on how many threads share the parts out."""
SEEN_TOGETHER = 64
"""Images that a prediction looks at together."""
OVERHANG = 16
"""Floats behind the last image, of which seven are read, and none is used."""

_threads = 1


def use_threads(threads: int) -> None:
    """Have the backends made from now on in this process share a batch's parts out over so many threads."""
    global _threads
    _threads = threads


FUNCTIONS: Mapping[type[nn.Module], int] = {nn.ReLU: 0, nn.LeakyReLU: 1, nn.Sigmoid: 2, nn.Tanh: 3, nn.GELU: 4}
"""By the numbers that pooling.h gives them."""


def supports(network: nn.Module) -> bool:
    """Whether the kernels compute this network: the notebook's, with one of FUNCTIONS everywhere, not normalised."""
    if type(network) is not NotebookNetwork or any(c.bias is None for c in network.convolutions):
        return False
    functions = {_function(activation) for activation in network.activations}
    return len(functions) == 1 and None not in functions


def _function(activation: nn.Module) -> tuple[int, float] | None:
    """An activation function's number and parameter; None for one that is not known."""
    if type(activation) not in FUNCTIONS or getattr(activation, "approximate", "none") != "none":
        return None
    return FUNCTIONS[type(activation)], float(getattr(activation, "negative_slope", 0.0))


class KernelBackend:
    """Looks at the members of a fleet one after another; made anew whenever members leave."""

    def __init__(self, fleet: Fleet, threads: int | None = None):
        """threads: over how many a batch's parts are shared out; None for those of `use_threads`.

        Raises ValueError for what the kernels do not know.
        """
        threads = _threads if threads is None else threads
        for member, network in zip(fleet.members, fleet.networks, strict=True):
            if not supports(network) or member.recipe.sized.budget.precision != "fp32":
                raise ValueError(
                    f"the kernels know the notebook's network in fp32 alone, and not {member.recipe.sized.model} in "
                    f"{member.recipe.sized.budget.precision} with these techniques; ask for the backend torch"
                )
        self._library = bindings.library()
        self._fleet = fleet
        self._networks = [_known(network) for network in fleet.networks]
        self._about = [_described(fleet, row) for row in range(len(fleet.members))]
        batch = fleet.members[0].recipe.sized.budget.batch_size
        self._most = max(-(-batch // PARTS), SEEN_TOGETHER)
        size = max(self._library.workspace_bytes(ctypes.byref(about), self._most) for about in self._about)
        # One for each part that is looked at at a time, and as zeros: the kernels count on the borders.
        self._workspaces = [torch.zeros(size, dtype=torch.uint8) for _ in range(PARTS if threads > 1 else 1)]
        self._packed = torch.zeros(self._library.packed_bytes(ctypes.byref(self._about[0])), dtype=torch.uint8)
        # The library counts its pieces of memory from here.
        assert all(memory.data_ptr() % 64 == 0 for memory in (*self._workspaces, self._packed))
        self._parts = torch.zeros(PARTS, fleet.weights.shape[1])
        self._pool = ThreadPoolExecutor(min(threads, PARTS)) if threads > 1 else None
        self._norms = torch.zeros(len(fleet.members), dtype=torch.float64)
        self._optimizer: FleetOptimizer | None = None
        self._bordered: dict[int, tuple[Tensor, Tensor]] = {}

    def gradients(self, row: int, images: Tensor, targets: Tensor) -> Tensor:
        """Write a member's gradients on images [B, 3, 32, 32] and class probabilities [B, classes] into its row.

        Returns the mean of the losses, float64 [].
        """
        mask = self._networks[row].dropout.mask
        bordered = self._with_border(images)
        targets = targets.float().contiguous()
        assert targets.shape == (len(images), self._about[row].classes), targets.shape
        if mask is not None:  # which may be one factor for several units, or in another format
            mask = mask.float().expand(len(images), self._about[row].hidden).contiguous()
        about, weights, packed = self._prepared(row)
        size = len(images)
        bounds = [size * part // PARTS for part in range(PARTS + 1)]
        image = bordered.shape[1]
        parts = [gradients.data_ptr() for gradients in self._parts]

        def learn(part: int) -> float:
            start, count = bounds[part], bounds[part + 1] - bounds[part]
            loss: float = self._library.learn(
                about,
                weights,
                packed,
                self._workspaces[part % len(self._workspaces)].data_ptr(),
                self._most,
                bordered.data_ptr() + 4 * start * image,
                targets.data_ptr() + 4 * start * targets.shape[1],
                None if mask is None else mask.data_ptr() + 4 * start * mask.shape[1],
                count,
                size,
                parts[part],
            )
            return loss

        losses = list(self._pool.map(learn, range(PARTS)) if self._pool else map(learn, range(PARTS)))
        torch.sum(self._parts, dim=0, out=self._fleet.gradients[row])
        return torch.tensor(sum(losses) / size, dtype=torch.float64)

    def moved(self, row: int) -> None:
        """Nothing is to be done: weights are packed whenever they are used."""

    def step(self, optimizer: FleetOptimizer, number: Tensor) -> Tensor:
        """Take step `number` (int64 [1], from 0) of all members; returns the norms of their gradients, float64 [K]."""
        if optimizer is not self._optimizer:
            self._optimizer = optimizer
            self._rules = (bindings.Rule * len(optimizer.rules))(*map(_rule, optimizer.rules))
        fleet, at = self._fleet, int(number)
        factors = (optimizer.step_sizes, optimizer.root_corrections, optimizer.shrinkage)
        matrices = (fleet.gradients, fleet.weights, optimizer.first, optimizer.second)
        with optimizer.orthogonalising(number, fleet.weights, fleet.gradients):
            self._library.update_fleet(
                *(len(fleet.members), fleet.weights.shape[1], self._rules),
                *(table[at].data_ptr() for table in factors),
                *(matrix.data_ptr() for matrix in matrices),
                self._norms.data_ptr(),
            )
        return self._norms

    def begin(self, keys: Tensor, size: int) -> Callable[[int], StepDraws]:
        """The draws of a step by slot; keys: int32 [slots, 2], the halves of the key of every slot."""
        return lambda slot: _KernelDraws(keys[slot], self._library)

    def logits(self, row: int, images: Tensor) -> Tensor:
        """A member's logits, float32 [B, classes], of images [B, 3, 32, 32], without dropout."""
        bordered = self._with_border(images)
        about, weights, packed = self._prepared(row)
        logits = torch.empty(len(images), self._about[row].classes)
        for start in range(0, len(images), self._most):
            self._library.predict(
                about,
                weights,
                packed,
                self._workspaces[0].data_ptr(),
                self._most,
                bordered[start].data_ptr(),
                min(self._most, len(images) - start),
                logits[start].data_ptr(),
            )
        return logits

    def _prepared(self, row: int) -> tuple[object, int, int]:
        """What the kernels are told of a member, the address of its weights, and of these as the kernels read them."""
        about, weights = ctypes.byref(self._about[row]), self._fleet.weights[row].data_ptr()
        self._library.pack_weights(about, weights, self._packed.data_ptr())
        return about, weights, self._packed.data_ptr()

    def _with_border(self, images: Tensor) -> Tensor:
        """Images with a border of zeros, [B, 34 · 34 · 3]; made once for all members that see them."""
        known = self._bordered.get(id(images))
        if known is not None and known[0] is images:
            return known[1]
        if len(self._bordered) >= len(self._fleet.members):
            self._bordered.clear()
        assert images.shape[1:] == (3, SIDE, SIDE), images.shape
        pixels = images.float().permute(0, 2, 3, 1).contiguous()
        size = (SIDE + 2) ** 2 * 3
        room = torch.empty(len(images) * size + OVERHANG)
        room[-OVERHANG:] = 0
        self._library.add_border(pixels.data_ptr(), len(images), SIDE, room.data_ptr())
        bordered = room[:-OVERHANG].view(len(images), size)
        self._bordered[id(images)] = (images, bordered)
        return bordered


class _KernelDraws(StepDraws):
    """The same numbers, drawn in one pass."""

    def __init__(self, halves: Tensor, library: ctypes.CDLL):
        super().__init__(halves)
        self._library = library

    def uniform(self, shape: Sequence[int]) -> Tensor:
        self._calls += 1
        low, high = self._halves.tolist()
        drawn = torch.empty(*shape)
        self._library.uniform(low, (high + self._calls * STREAM) & 0xFFFFFFFF, drawn.numel(), drawn.data_ptr())
        return drawn


def _rule(rule: UpdateRule) -> bindings.Rule:
    names = ("max_norm", "coupled_decay", "first_decay", "first_gain", "second_decay", "epsilon")
    named = {name: getattr(rule, name) for name in names}
    return bindings.Rule(**named, second_gain=1 - rule.second_decay, adaptive=rule.adaptive, nesterov=rule.nesterov)


def _known(network: nn.Module) -> NotebookNetwork:
    assert isinstance(network, NotebookNetwork)
    return network


def _described(fleet: Fleet, row: int) -> bindings.Network:
    """A member's network as the kernels see it."""
    network = _known(fleet.networks[row])
    function = _function(network.activations[0])
    assert function is not None
    about = bindings.Network(
        blocks=len(network.convolutions),
        side=SIDE,
        hidden=network.hidden.out_features,
        classes=network.classifier.out_features,
        function=function[0],
        parameter=function[1],
    )
    about.channels[0] = 3
    layers = [*(f"convolutions.{i}" for i in range(about.blocks)), "hidden", "classifier"]
    for i, convolution in enumerate(network.convolutions):
        about.channels[i + 1] = convolution.out_channels
    for i, name in enumerate(layers):
        about.weights[i], about.biases[i] = fleet.start_of(f"{name}.weight"), fleet.start_of(f"{name}.bias")
    return about
