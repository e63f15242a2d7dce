"""A fleet: members trained in lockstep, their weights and gradients the rows of two matrices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cifar_ablations.ablations import extensions
from cifar_ablations.ablations.budget import Budget, Network
from cifar_ablations.ablations.purposes import PURPOSES, WEIGHTS
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.technique import overrides
from cifar_ablations.study.training import model
from cifar_ablations.study.training.randomness import seeded

# Every tensor starts at a multiple of this many elements (64 bytes in fp32), and so does every row.
ALIGNMENT = 16

SHAPING = ("activation", "initialise", "normalise")
"""The hooks that change a network and its first weights."""


@dataclass(frozen=True)
class Member:
    """One training: a recipe and a seed."""

    recipe: Recipe
    seed: int

    @cached_property
    def digest(self) -> str:
        """The recipe's digest."""
        return self.recipe.digest()

    @cached_property
    def trained_digest(self) -> str:
        """The digest of the recipe without what only measures: trainings that are alike have one."""
        training = tuple(t for t in self.recipe.techniques if not t.only_measures)
        return replace(self.recipe, techniques=training).digest()

    @property
    def extension(self) -> str:
        """The extensions that its recipe uses, with their versions."""
        return extensions.code_of(self.recipe)

    @cached_property
    def _seeds(self) -> dict[str, int]:
        seeds = dict.fromkeys(PURPOSES, self.seed)
        for technique in self.recipe.techniques:
            seeds = {purpose: technique.seed_for(purpose, seed) for purpose, seed in seeds.items()}
        return seeds

    def seed_of(self, purpose: str) -> int:
        """The seed that its draws for one of PURPOSES are named by: its own, unless the recipe holds that still."""
        return self._seeds[purpose]


class Shape(NamedTuple):
    """What all members of a fleet must share."""

    model: Network
    budget: Budget
    norms: tuple[tuple[str, ...], ...]
    """Of each technique that normalises, the names of its parameters and buffers."""


def same_shape(recipe: Recipe) -> Shape:
    """The shape of a recipe's trainings: network, budget, and what normalisation adds to the network."""
    modules = (t.normalise(1) for t in recipe.techniques if overrides(t, "normalise"))
    return Shape(*recipe.sized, tuple(tuple(module.state_dict()) for module in modules if module is not None))


class Fleet:
    """The networks of K members, each an ordinary module whose parameters are views into a row of `weights` [K, P].

    Gradients go to rows of `gradients` [K, P] in the same layout, by way of `gradient_views`: per member, a view per
    parameter. Buffers, such as the running statistics of batch normalisation, are views into rows of a matrix per type,
    `buffers`. Convolution weights lie channels last.
    """

    def __init__(self, members: Sequence[Member], classes: int, device: torch.device):
        self.members = list(members)
        self.networks = _initialised_each(members, classes)
        first = self.networks[0]
        self._places = _layout(first.named_parameters())
        self._buffer_places = {
            dtype: _layout((name, b) for name, b in first.named_buffers() if b.dtype == dtype)
            for dtype in sorted({b.dtype for b in first.buffers()}, key=str)
        }
        self.weights = torch.zeros(len(members), _row_size(self._places), device=device)
        self.gradients = torch.zeros_like(self.weights)
        self.buffers = {
            dtype: torch.zeros(len(members), _row_size(places), dtype=dtype, device=device)
            for dtype, places in self._buffer_places.items()
        }
        for row, network in enumerate(self.networks):
            for name, parameter in network.named_parameters():
                self.view(self.weights, row, name, parameter.shape).copy_(parameter.detach())
            for name, buffer in network.named_buffers():
                self._buffer_view(row, name, buffer).copy_(buffer)
            network.to(device)
        self._bind()

    def view(self, matrix: Tensor, row: int, name: str, shape: torch.Size) -> Tensor:
        """A parameter's place in a row of a matrix [K, P], in its shape; convolution weights lie channels last."""
        start, size = self._places[name]
        flat = matrix[row, start : start + size]
        if len(shape) == 4:
            outputs, inputs, height, width = shape
            return flat.view(outputs, height, width, inputs).permute(0, 3, 1, 2)
        return flat.view(shape)

    def part(self, matrix: Tensor, name: str) -> Tensor:
        """A parameter's columns of a matrix [K, P], such as weights or gradients: [K, elements]."""
        start, size = self._places[name]
        return matrix[:, start : start + size]

    @property
    def places(self) -> list[tuple[int, int]]:
        """Every parameter's first column and number of columns, in the network's order."""
        return list(self._places.values())

    @property
    def matrices(self) -> list[tuple[int, int, int]]:
        """First column, rows and columns of each layer's weights, as matrices [outputs, all else], in the network's
        order; the last layer's are left out."""
        shapes = {name: p.shape for name, p in self.networks[0].named_parameters() if p.dim() > 1}
        return [(self.start_of(name), shape[0], shape[1:].numel()) for name, shape in shapes.items()][:-1]

    def start_of(self, name: str) -> int:
        """The first of a parameter's columns."""
        return self._places[name][0]

    def _buffer_view(self, row: int, name: str, buffer: Tensor) -> Tensor:
        start, size = self._buffer_places[buffer.dtype][name]
        return self.buffers[buffer.dtype][row, start : start + size].view(buffer.shape)

    def _bind(self) -> None:
        self.gradient_views = [
            [self.view(self.gradients, row, name, p.shape) for name, p in network.named_parameters()]
            for row, network in enumerate(self.networks)
        ]
        for row, network in enumerate(self.networks):
            for name, parameter in network.named_parameters():
                parameter.data = self.view(self.weights, row, name, parameter.shape)
            for name, buffer in list(network.named_buffers()):
                owner, _, leaf = name.rpartition(".")
                setattr(network.get_submodule(owner), leaf, self._buffer_view(row, name, buffer))

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the members only, in the given order."""
        self.members = [self.members[row] for row in rows]
        self.networks = [self.networks[row] for row in rows]
        self.weights = self.weights[list(rows)]
        self.gradients = torch.zeros_like(self.weights)
        self.buffers = {dtype: matrix[list(rows)] for dtype, matrix in self.buffers.items()}
        self._bind()

    def state(self) -> dict[str, Tensor]:
        """Weights and buffers, [K, …] each: the matrices themselves, not copies."""
        return {"weights": self.weights} | {f"buffers.{d}".replace("torch.", ""): m for d, m in self.buffers.items()}

    def train(self, training: bool) -> None:
        """Put every network into training or evaluation mode."""
        for network in self.networks:
            network.train(training)


def initialised(member: Member, classes: int) -> nn.Module:
    """The member's network with its first weights, fp32 on the CPU.

    Each layer draws from a generator named by the seed and the layer: members of one seed start from the same numbers
    wherever their schemes share them.
    """
    seed = member.seed_of(WEIGHTS)
    with seeded(seed, "network"):
        network = model.network_of(member.recipe, classes)
    for name, layer in network.named_modules():
        reset = getattr(layer, "reset_parameters", None)
        if reset is None:
            continue
        with seeded(seed, "weights", name):
            reset()
        for technique in member.recipe.techniques:
            if overrides(technique, "initialise"):
                with seeded(seed, "weights", name):
                    technique.initialise(layer)
    return network


def _initialised_each(members: Sequence[Member], classes: int) -> list[nn.Module]:
    """`initialised` of each member; of the suite's own networks, which can be copied, each start is computed once."""
    made: dict[tuple[object, ...], nn.Module] = {}
    networks = []
    for member in members:
        recipe = member.recipe
        shaping = tuple(t for t in recipe.techniques if any(overrides(t, hook) for hook in SHAPING))
        key = (member.seed_of(WEIGHTS), recipe.sized.model, shaping)
        if key in made:
            networks.append(deepcopy(made[key]))
            continue
        networks.append(initialised(member, classes))
        if recipe.model.name in model.NETWORKS:
            made[key] = networks[-1]
    return networks


def _layout(named: Iterable[tuple[str, Tensor]]) -> dict[str, tuple[int, int]]:
    """Each tensor's name to its (start, size) in a row."""
    places, start = {}, 0
    for name, tensor in named:
        places[name] = (start, tensor.numel())
        start += _aligned(tensor.numel())
    return places


def _row_size(places: Mapping[str, tuple[int, int]]) -> int:
    return sum(_aligned(size) for _, size in places.values())


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
