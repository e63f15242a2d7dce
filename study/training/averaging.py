"""Averages that run beside the weights of some members of a fleet, and networks measured with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from cifar_ablations.study.training.backend import autocast
from cifar_ablations.study.training.fleet import Fleet, Member

Normalisation = nn.modules.batchnorm._BatchNorm


def place(member: Member) -> tuple[bool, bool]:
    """Sorts the members of a fleet: those whose rule is adaptive first, as the optimizer wants them, and those with an
    average beside each other."""
    adaptive = member.recipe.update_rule().adaptive
    return not adaptive, (member.recipe.running_average() is not None) == adaptive


class FleetAverage:
    """The averages of those members of a fleet whose recipe has one: they must stand beside each other.

    rows: where they stand in the fleet; weights: [n, P], theirs. Everything that changes from step to step is laid out
    in a table beforehand, so that a step reads nothing from the host.
    """

    def __init__(self, fleet: Fleet):
        self._fleet = fleet
        self._averages = [member.recipe.running_average() for member in fleet.members]
        self._lay_out()
        self.weights = fleet.weights[self.rows].clone()

    def _lay_out(self) -> None:
        averaged = [row for row, average in enumerate(self._averages) if average is not None]
        first = averaged[0] if averaged else 0
        assert averaged == list(range(first, first + len(averaged))), "members with an average stand beside each other"
        self.rows = slice(first, first + len(averaged))
        averages = [average for average in self._averages if average is not None]
        if not averages:
            return
        shares = torch.stack([average.shares for average in averages], dim=1)
        pulls = shares.ne(0) & torch.tensor([average.pulls for average in averages])
        self._any_pulls = any(average.pulls for average in averages)
        like = self._fleet.weights
        self._shares, self._pulls = (table.to(like)[:, :, None] for table in (shares, pulls))

    def step(self, number: Tensor) -> None:
        """After step `number` (int64 [1], from 0, on the device) of the weights."""
        if not len(self.weights):
            return
        # lerp gives its first or its second argument, to the bit, for 0 and 1.
        own = self._fleet.weights[self.rows]
        self.weights.lerp_(own, self._shares.index_select(0, number)[0])
        if self._any_pulls:
            own.lerp_(self.weights, self._pulls.index_select(0, number)[0])

    def of(self, row: int) -> Tensor | None:
        """The average [P] of the member at a row of the fleet, itself and not a copy; None where it has none."""
        return self.weights[row - self.rows.start] if self._averages[row] is not None else None

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the fleet's members only, in the given order, which it has been given already."""
        kept = [row - self.rows.start for row in rows if self._averages[row] is not None]
        self.weights = self.weights[kept]
        self._averages = [self._averages[row] for row in rows]
        self._lay_out()

    @contextmanager
    def measured(self, batches: Callable[[int], Iterator[Tensor]]) -> Iterator[None]:
        """Within it, members with an average have its weights, and batch statistics that belong to them.

        batches: by a member's row, the normalised training images [B, 3, H, W] that the statistics are taken from.
        """
        if not len(self.weights):
            yield
            return
        matrices = list(self._fleet.state().values())
        before = [matrix[self.rows].clone() for matrix in matrices]
        self._fleet.weights[self.rows] = self.weights
        for row in range(self.rows.start, self.rows.stop):
            precision = self._fleet.members[row].recipe.sized.budget.precision
            with autocast(precision, self._fleet.weights.device):
                estimate_statistics(self._fleet.networks[row], batches(row))
        try:
            yield
        finally:
            for matrix, values in zip(matrices, before, strict=True):
                matrix[self.rows] = values


@torch.no_grad()
def estimate_statistics(network: nn.Module, batches: Iterator[Tensor]) -> None:
    """Set a network's running statistics of batch normalisation to the means over batches [B, 3, H, W].

    As torch.optim.swa_utils.update_bn, with everything else in evaluation mode. Without such layers no batch is taken.
    """
    layers = [m for m in network.modules() if isinstance(m, Normalisation) and m.running_mean is not None]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    network.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean of all batches
        layer.train()
    for batch in batches:
        network(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.eval()
