"""One update rule for every optimizer, over a matrix of weights whose rows may each have another rule."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.update_rule import UpdateRule


class FleetOptimizer:
    """Takes one step for K sets of P weights at once: the formulas stand in `ablations.update_rule.UpdateRule`.

    rules: one per row; rows with adaptive rules must come first, so that the others skip the second moment.
    rates: float64 [steps, K], the learning rate of every row at every step.
    step_sizes, root_corrections, shrinkage: [steps, K, 1], the factors of every step (`UpdateRule`'s -rate / c1,
    sqrt(c2) and 1 - rate * decoupled_decay).
    Agrees with torch.optim's SGD (momentum and Nesterov included), RMSprop, Adam and AdamW to rounding. Everything
    that changes from step to step is laid out in tables beforehand, so that a step reads nothing from the host.
    """

    def __init__(self, weights: Tensor, rules: Sequence[UpdateRule], rates: Tensor):
        self.rules = list(rules)
        self.rates = rates
        self.first = torch.zeros_like(weights)
        self.second = torch.zeros_like(weights)
        self._lay_out_tables(weights)

    def _lay_out_tables(self, like: Tensor) -> None:
        rules = self.rules
        adaptive = [rule.adaptive for rule in rules]
        assert adaptive == sorted(adaptive, reverse=True), "rows with adaptive rules come first"
        self._adaptive = sum(adaptive)

        def column(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float64).to(like)[:, None]

        self._any_clipped = any(r.max_norm for r in rules)
        self._max_norm = column([r.max_norm or math.inf for r in rules])
        self._any_coupled = any(r.coupled_decay for r in rules)
        self._coupled_decay = column([r.coupled_decay for r in rules])
        self._first_decay = column([r.first_decay for r in rules])
        self._first_gain = column([r.first_gain for r in rules])
        self._any_nesterov = any(r.nesterov for r in rules)
        self._share_of_first = column([r.first_decay if r.nesterov else 1.0 for r in rules])
        self._share_of_gradient = column([r.first_gain if r.nesterov else 0.0 for r in rules])
        self._second_decay = column([r.second_decay for r in rules])
        self._second_gain = column([1 - r.second_decay for r in rules])
        self._epsilon = column([r.epsilon for r in rules])

        steps = torch.arange(1, len(self.rates) + 1, dtype=torch.float64)[:, None]
        decays = torch.tensor([[r.first_decay, r.second_decay] for r in rules], dtype=torch.float64)
        corrected = torch.tensor([r.adaptive and r.correct_bias for r in rules])
        first_correction = torch.where(corrected, 1 - decays[:, 0] ** steps, 1.0)
        second_correction = torch.where(corrected, 1 - decays[:, 1] ** steps, 1.0)
        self.step_sizes = (-self.rates / first_correction).to(like)[:, :, None]
        self.root_corrections = second_correction.sqrt().to(like)[:, :, None]
        self._any_decoupled = any(r.decoupled_decay for r in rules)
        decoupled = torch.tensor([r.decoupled_decay for r in rules], dtype=torch.float64)
        self.shrinkage = (1 - self.rates * decoupled).to(like)[:, :, None]

    def step(self, number: Tensor, weights: Tensor, gradients: Tensor) -> None:
        """Step `number` (int64 [1], from 0) for weights [K, P], in place, given gradients [K, P].

        The number lies on the device, so that a captured graph finds the step's coefficients by itself.
        """
        if self._any_clipped:
            norms = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
            gradients = gradients * (self._max_norm / (norms + 1e-6)).clamp_(max=1.0)
        if self._any_coupled:
            gradients = torch.addcmul(gradients, weights, self._coupled_decay)
        if self._any_decoupled:
            weights.mul_(self.shrinkage.index_select(0, number)[0])
        self.first.mul_(self._first_decay).addcmul_(gradients, self._first_gain)
        direction = self.first
        if self._any_nesterov:
            direction = (gradients * self._share_of_gradient).addcmul_(self.first, self._share_of_first)
        sizes = self.step_sizes.index_select(0, number)[0]
        a = self._adaptive
        if a:
            second = self.second[:a]
            second.mul_(self._second_decay[:a]).add_(gradients[:a].square().mul_(self._second_gain[:a]))
            roots = self.root_corrections.index_select(0, number)[0]
            scale = second.sqrt().div_(roots[:a]).add_(self._epsilon[:a])
            weights[:a].addcmul_(direction[:a] / scale, sizes[:a])
        if a < len(self.rules):
            weights[a:].addcmul_(direction[a:], sizes[a:])

    def state(self) -> dict[str, Tensor]:
        """First and second moments, [K, P] each: the matrices themselves, not copies."""
        return {"first": self.first, "second": self.second}

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows only, in the given order."""
        self.rules = [self.rules[row] for row in rows]
        self.rates = self.rates[:, list(rows)]
        self.first = self.first[list(rows)]
        self.second = self.second[list(rows)]
        self._lay_out_tables(self.first)


def learning_rates(recipe: Recipe) -> Tensor:
    """The learning rate at every step of a training, float64 [steps]."""
    budget = recipe.sized.budget
    rates = torch.full((budget.epochs * budget.steps_per_epoch,), recipe.update_rule().rate, dtype=torch.float64)
    for technique in recipe.techniques:
        factors = technique.schedule(budget.epochs, budget.steps_per_epoch)
        if factors is not None:
            rates *= factors
    return rates
