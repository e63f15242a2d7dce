"""One update rule for every optimizer, over a matrix of weights whose rows may each have another rule."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.update_rule import UpdateRule

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Of the polynomial that takes singular values between 0 and 1 to about 1 in a few steps (Jordan et al. 2024)."""
ITERATIONS = 5


def orthogonal(matrix: Tensor, *, half: bool = False) -> Tensor:
    """About the nearest matrix with orthogonal rows or columns, of the same shape [rows, columns].

    By a Newton-Schulz iteration, half: in bf16, as torch.optim.Muon always has it. Singular values end between about
    0.7 and 1.2 (Jordan et al. 2024).
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(torch.bfloat16 if half else matrix.dtype)
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)


class FleetOptimizer:
    """Takes one step for K sets of P weights at once: the formulas stand in `ablations.update_rule.UpdateRule`.

    rules: one per row; rows with adaptive rules must come first, so that the others skip the second moment.
    rates: float64 [steps, K], the learning rate of every row at every step.
    step_sizes, root_corrections, shrinkage: [steps, K, 1], the factors of every step (`UpdateRule`'s -rate / c1,
    sqrt(c2) and 1 - rate * decoupled_decay).
    matrices: (first column, rows, columns) of the weights that rules which orthogonalise take as matrices; half:
    whether that is computed in bf16.
    Agrees with torch.optim's SGD (momentum, Nesterov), RMSprop, Adam, AdamW and Muon to rounding. What changes from
    step to step is laid out in tables beforehand, so that a step reads nothing from the host.
    """

    def __init__(
        self,
        weights: Tensor,
        rules: Sequence[UpdateRule],
        rates: Tensor,
        matrices: Sequence[tuple[int, int, int]] = (),
        half: bool = False,
    ):
        self.rules = list(rules)
        self.rates = rates
        self._matrices = list(matrices)
        self._half = half
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
        rates = self.rates * torch.tensor([rule.rest for rule in rules], dtype=torch.float64)
        self.step_sizes = (-rates / first_correction).to(like)[:, :, None]
        self.root_corrections = second_correction.sqrt().to(like)[:, :, None]
        self._any_decoupled = any(r.decoupled_decay for r in rules)
        decoupled = torch.tensor([r.decoupled_decay for r in rules], dtype=torch.float64)
        self.shrinkage = (1 - rates * decoupled).to(like)[:, :, None]
        self._orthogonalised = [row for row, rule in enumerate(rules) if rule.orthogonalised]
        if self._orthogonalised:
            self._matrix_rates = self.rates.to(like)
            self._matrix_shrinkage = (1 - self.rates * decoupled).to(like)

    def step(self, number: Tensor, weights: Tensor, gradients: Tensor) -> None:
        """Step `number` (int64 [1], from 0) for weights [K, P], in place, given gradients [K, P].

        The number lies on the device, so that a captured graph finds the step's coefficients by itself.
        """
        with self.orthogonalising(number, weights, gradients):
            self._step(number, weights, gradients)

    @contextmanager
    def orthogonalising(self, number: Tensor, weights: Tensor, gradients: Tensor) -> Iterator[None]:
        """Within it, all weights take their rules' own step, as in `step`; at its end, matrices have taken another.

        One member after another, so that its bits do not depend on the fleet.
        """
        kept = [[self._matrix(weights, row, place).clone() for place in self._matrices] for row in self._orthogonalised]
        yield
        for row, matrices in zip(self._orthogonalised, kept, strict=True):
            rule = self.rules[row]
            rate = self._matrix_rates[:, row].index_select(0, number)
            shrinkage = self._matrix_shrinkage[:, row].index_select(0, number)
            factor = 1.0
            if rule.max_norm:
                factor = (rule.max_norm / (torch.linalg.vector_norm(gradients[row]) + 1e-6)).clamp(max=1.0)
            for place, before in zip(self._matrices, matrices, strict=True):
                gradient = self._matrix(gradients, row, place) * factor
                if rule.coupled_decay:
                    gradient = gradient + rule.coupled_decay * before
                momentum = self._matrix(self.first, row, place)
                step = orthogonal(gradient.mul(rule.first_gain).add(momentum, alpha=rule.first_decay), half=self._half)
                scale = math.sqrt(max(1.0, place[1] / place[2]))
                self._matrix(weights, row, place).copy_(before * shrinkage - step * (rate * scale))

    @staticmethod
    def _matrix(of: Tensor, row: int, place: tuple[int, int, int]) -> Tensor:
        """A matrix within a row, [rows, columns]: a view."""
        start, rows, columns = place
        return of[row, start : start + rows * columns].view(rows, columns)

    def _step(self, number: Tensor, weights: Tensor, gradients: Tensor) -> None:
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
