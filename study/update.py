"""One update rule for every optimizer, over a matrix of weights whose rows may each have another rule."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ablations.update_rule import UpdateRule


class Updater:
    """Takes one step for K sets of P weights at once: the formulas stand in `ablations.update_rule.UpdateRule`.

    rules: one per row; rows with adaptive rules must come first, so that the others skip the second moment.
    rates: float64 [steps, K], the learning rate of every row at every step.
    Agrees with torch.optim's SGD and Adam to rounding. Everything that changes from step to step is laid out in
    tables beforehand, so that a step reads nothing from the host.
    """

    def __init__(self, weights: Tensor, rules: Sequence[UpdateRule], rates: Tensor):
        self.rules = list(rules)
        self.rates = rates
        self.first = torch.zeros_like(weights)
        self.second = torch.zeros_like(weights)
        self._lay_out_tables(weights)

    def _lay_out_tables(self, like: Tensor) -> None:
        adaptive = [rule.adaptive for rule in self.rules]
        assert adaptive == sorted(adaptive, reverse=True), "rows with adaptive rules come first"
        self._adaptive = sum(adaptive)

        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float64).to(like)[:, None]

        self._coupled_decay = column([r.coupled_decay for r in self.rules])
        self._any_decay = any(r.coupled_decay for r in self.rules)
        self._first_decay = column([r.first_decay for r in self.rules])
        self._first_gain = column([r.first_gain for r in self.rules])
        self._second_decay = column([r.second_decay for r in self.rules])
        self._second_gain = column([1 - r.second_decay for r in self.rules])
        self._epsilon = column([r.epsilon for r in self.rules])

        steps = torch.arange(1, len(self.rates) + 1, dtype=torch.float64)[:, None]
        decays = torch.tensor([[r.first_decay, r.second_decay] for r in self.rules], dtype=torch.float64)
        is_adaptive = torch.tensor(adaptive)
        first_correction = torch.where(is_adaptive, 1 - decays[:, 0] ** steps, 1.0)
        second_correction = torch.where(is_adaptive, 1 - decays[:, 1] ** steps, 1.0)
        self._step_sizes = (-self.rates / first_correction).to(like)[:, :, None]
        self._root_corrections = second_correction.sqrt().to(like)[:, :, None]

    def step(self, number: int, weights: Tensor, gradients: Tensor) -> None:
        """Step `number` (from 0) for weights and gradients [K, P], in place; the gradients are used up."""
        if self._any_decay:
            gradients.addcmul_(weights, self._coupled_decay)
        self.first.mul_(self._first_decay).addcmul_(gradients, self._first_gain)
        sizes = self._step_sizes[number]
        a = self._adaptive
        if a:
            second = self.second[:a]
            second.mul_(self._second_decay[:a]).add_(gradients[:a].square_().mul_(self._second_gain[:a]))
            scale = second.sqrt().div_(self._root_corrections[number, :a]).add_(self._epsilon[:a])
            weights[:a].addcmul_(self.first[:a] / scale, sizes[:a])
        if a < len(self.rules):
            weights[a:].addcmul_(self.first[a:], sizes[a:])

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows only, in the given order."""
        self.rules = [self.rules[row] for row in rows]
        self.rates = self.rates[:, list(rows)]
        self.first = self.first[list(rows)]
        self.second = self.second[list(rows)]
        self._lay_out_tables(self.first)
