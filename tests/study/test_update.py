"""The one update rule against torch.optim, on random gradient sequences in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ablations.techniques.optimizer import Optimizer
from ablations.update_rule import UpdateRule
from study.update import Updater

STEPS, WEIGHTS = 12, 37

rate = st.floats(1e-4, 0.5)
decay = st.sampled_from([0.0, 1e-4, 0.05])


def _gradients(seed: int, rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(STEPS, rows, WEIGHTS, dtype=torch.float64, generator=generator)


def _ours(rules: list[UpdateRule], gradients: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    weights = torch.linspace(-1, 1, WEIGHTS, dtype=torch.float64).repeat(len(rules), 1)
    rates = factors[:, None] * torch.tensor([r.rate for r in rules], dtype=torch.float64)
    updater = Updater(weights, rules, rates)
    for number in range(STEPS):
        updater.step(number, weights, gradients[number].clone())
    return weights


def _torchs(
    make: Callable[[list[torch.Tensor]], torch.optim.Optimizer], gradients: torch.Tensor, factors: torch.Tensor
) -> torch.Tensor:
    weights = torch.linspace(-1, 1, WEIGHTS, dtype=torch.float64).requires_grad_()
    optimizer = make([weights])
    base = optimizer.param_groups[0]["lr"]
    for number in range(STEPS):
        optimizer.param_groups[0]["lr"] = base * float(factors[number])
        weights.grad = gradients[number].clone()
        optimizer.step()
    return weights.detach()


@given(seed=st.integers(0, 2**32), rate=rate, decay=decay, momentum=st.sampled_from([0.0, 0.9]))
@settings(max_examples=40, deadline=None)
def test_sgd(seed: int, rate: float, decay: float, momentum: float) -> None:
    gradients, factors = _gradients(seed, 1), torch.linspace(1, 0.1, STEPS, dtype=torch.float64)
    rule = UpdateRule(rate=rate, first_decay=momentum, coupled_decay=decay)
    theirs = _torchs(
        lambda p: torch.optim.SGD(p, lr=rate, momentum=momentum, weight_decay=decay), gradients[:, 0], factors
    )
    torch.testing.assert_close(_ours([rule], gradients, factors)[0], theirs, rtol=1e-12, atol=1e-12)


@given(seed=st.integers(0, 2**32), rate=rate, decay=decay)
@settings(max_examples=40, deadline=None)
def test_adam(seed: int, rate: float, decay: float) -> None:
    gradients, factors = _gradients(seed, 1), torch.linspace(1, 0.1, STEPS, dtype=torch.float64)
    rule = replace(Optimizer(kind="adam", rate=rate).update(UpdateRule()), coupled_decay=decay)
    theirs = _torchs(lambda p: torch.optim.Adam(p, lr=rate, weight_decay=decay), gradients[:, 0], factors)
    torch.testing.assert_close(_ours([rule], gradients, factors)[0], theirs, rtol=1e-12, atol=1e-12)


def test_rows_with_different_rules_do_not_touch_each_other() -> None:
    adam = Optimizer(kind="adam", rate=0.01).update(UpdateRule())
    rules = [adam, replace(adam, coupled_decay=0.1), UpdateRule(rate=0.3), UpdateRule(coupled_decay=0.01)]
    gradients, factors = _gradients(1, len(rules)), torch.ones(STEPS, dtype=torch.float64)
    together = _ours(rules, gradients, factors)
    for row, rule in enumerate(rules):
        assert torch.equal(together[row], _ours([rule], gradients[:, row : row + 1], factors)[0])


def test_rows_kept_go_on_as_if_nothing_had_happened() -> None:
    adam = Optimizer(kind="adam", rate=0.01).update(UpdateRule())
    rules = [adam, replace(adam, rate=0.05), UpdateRule(), UpdateRule(rate=0.2)]
    gradients, factors = _gradients(2, len(rules)), torch.linspace(1, 0.1, STEPS, dtype=torch.float64)
    expected = _ours(rules, gradients, factors)
    weights = torch.linspace(-1, 1, WEIGHTS, dtype=torch.float64).repeat(len(rules), 1)
    updater = Updater(weights, rules, factors[:, None] * torch.tensor([r.rate for r in rules], dtype=torch.float64))
    kept = [1, 3]
    for number in range(STEPS):
        if number == STEPS // 2:
            updater.keep(kept)
            weights = weights[kept]
        updater.step(number, weights, gradients[number][kept if number >= STEPS // 2 else slice(None)].clone())
    assert torch.equal(weights, expected[kept])


def test_adaptive_rows_must_come_first() -> None:
    adam = Optimizer(kind="adam").update(UpdateRule())
    with pytest.raises(AssertionError, match="come first"):
        Updater(torch.zeros(2, 3), [UpdateRule(), adam], torch.ones(1, 2, dtype=torch.float64))
