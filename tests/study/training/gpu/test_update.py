"""One pass over all weights takes the step that `FleetOptimizer` takes, whatever the rules of the rows."""

from __future__ import annotations

import torch

from cifar_ablations.ablations.update_rule import UpdateRule
from cifar_ablations.study.training.gpu.update import FleetUpdate
from cifar_ablations.study.training.optimizer import FleetOptimizer

RULES = [
    UpdateRule(first_decay=0.9, first_gain=0.1, second_decay=0.999, adaptive=True, coupled_decay=1e-3),
    UpdateRule(first_decay=0.9, first_gain=0.1, second_decay=0.999, adaptive=True, decoupled_decay=0.1),
    UpdateRule(second_decay=0.9, adaptive=True, correct_bias=False, max_norm=0.5),
    UpdateRule(first_decay=0.9),
    UpdateRule(first_decay=0.9, nesterov=True, coupled_decay=1e-2),
    UpdateRule(max_norm=1.0),
]


def test_every_rule_takes_the_same_steps(device: torch.device) -> None:
    torch.manual_seed(0)
    steps, size = 4, 2_500
    rates = torch.rand(steps, len(RULES), dtype=torch.float64) / 10
    weights = torch.randn(len(RULES), size, device=device)
    gradients = [torch.randn(len(RULES), size, device=device) for _ in range(steps)]
    plain, ours = FleetOptimizer(weights, RULES, rates), FleetOptimizer(weights, RULES, rates)
    expected, found, update = weights.clone(), weights.clone(), FleetUpdate(ours)
    for number in range(steps):
        at = torch.tensor([number], device=device)
        plain.step(at, expected, gradients[number])
        update.step(at, found, gradients[number], torch.linalg.vector_norm(gradients[number], dim=1))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.first, plain.first, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.second, plain.second, rtol=1e-5, atol=1e-6)
