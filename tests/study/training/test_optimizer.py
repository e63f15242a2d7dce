"""The one update rule against torch.optim, on random gradient sequences in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.techniques.optimizer import Optimizer
from cifar_ablations.ablations.techniques.weight_decay import WeightDecay
from cifar_ablations.ablations.update_rule import UpdateRule
from cifar_ablations.study.training.optimizer import FleetOptimizer, learning_rates

STEPS, WEIGHTS = 12, 37

rate = st.floats(1e-4, 0.5)
decay = st.sampled_from([0.0, 1e-4, 0.05])


def _gradients(seed: int, rows: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(STEPS, rows, WEIGHTS, dtype=torch.float64, generator=generator)


def _ours(rules: list[UpdateRule], gradients: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    weights = torch.linspace(-1, 1, WEIGHTS, dtype=torch.float64).repeat(len(rules), 1)
    rates = factors[:, None] * torch.tensor([r.rate for r in rules], dtype=torch.float64)
    optimizer = FleetOptimizer(weights, rules, rates)
    for number in range(STEPS):
        optimizer.step(torch.tensor([number]), weights, gradients[number].clone())
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


def _agree(rule: UpdateRule, seed: int, make: Callable[[list[torch.Tensor]], torch.optim.Optimizer]) -> None:
    gradients, factors = _gradients(seed, 1), torch.linspace(1, 0.1, STEPS, dtype=torch.float64)
    theirs = _torchs(make, gradients[:, 0], factors)
    torch.testing.assert_close(_ours([rule], gradients, factors)[0], theirs, rtol=1e-12, atol=1e-12)


def _rule(decay: float = 0.0, form: str = "coupled", **knobs: Any) -> UpdateRule:
    """What the two techniques make of their knobs together."""
    return WeightDecay(strength=decay, form=form).update(Optimizer(**knobs).update(UpdateRule()))


seeds = st.integers(0, 2**32)
momenta = st.sampled_from([0.1, 0.6, 0.9])
PER_OPTIMIZER = settings(max_examples=40, deadline=None)


@given(seeds, rate, decay)
@PER_OPTIMIZER
def test_sgd(seed: int, rate: float, decay: float) -> None:
    _agree(_rule(decay, rate=rate), seed, lambda p: torch.optim.SGD(p, lr=rate, weight_decay=decay))


@given(seeds, rate, decay, momenta, st.booleans())
@PER_OPTIMIZER
def test_momentum_and_nesterov(seed: int, rate: float, decay: float, momentum: float, nesterov: bool) -> None:
    rule = _rule(decay, kind="nesterov" if nesterov else "momentum", rate=rate, momentum=momentum)
    _agree(
        rule,
        seed,
        lambda p: torch.optim.SGD(p, lr=rate, momentum=momentum, weight_decay=decay, nesterov=nesterov),
    )


@given(seeds, rate, decay, st.sampled_from([0.7, 0.9, 0.99]))
@PER_OPTIMIZER
def test_rmsprop(seed: int, rate: float, decay: float, second: float) -> None:
    rule = _rule(decay, kind="rmsprop", rate=rate, second=second)
    _agree(rule, seed, lambda p: torch.optim.RMSprop(p, lr=rate, alpha=second, weight_decay=decay))


@given(seeds, rate, decay, momenta, st.sampled_from([0.9, 0.999]))
@PER_OPTIMIZER
def test_adam(seed: int, rate: float, decay: float, momentum: float, second: float) -> None:
    rule = _rule(decay, kind="adam", rate=rate, momentum=momentum, second=second)
    _agree(rule, seed, lambda p: torch.optim.Adam(p, lr=rate, betas=(momentum, second), weight_decay=decay))


@given(seeds, rate, decay)
@PER_OPTIMIZER
def test_adamw(seed: int, rate: float, decay: float) -> None:
    rule = _rule(decay, "decoupled", kind="adam", rate=rate)
    _agree(rule, seed, lambda p: torch.optim.AdamW(p, lr=rate, weight_decay=decay))


@given(seeds, rate, momenta, st.sampled_from([0.7, 0.99]), st.sampled_from(["averaged", "adam_uncorrected", "rmsprop"]))
@PER_OPTIMIZER
def test_the_notebooks_own_formulas(seed: int, rate: float, b1: float, b2: float, kind: str) -> None:
    """Those that torch has not, or not in this form, written out one weight at a time."""
    gradients = _gradients(seed, 1)
    expected = []
    for index, x in enumerate(torch.linspace(-1, 1, WEIGHTS, dtype=torch.float64).tolist()):
        v = s = 0.0
        for g in gradients[:, 0, index].tolist():
            v, s = b1 * v + (1 - b1) * g, b2 * s + (1 - b2) * g**2
            if kind == "averaged":
                x -= rate * v
            else:
                x -= rate * (v if kind == "adam_uncorrected" else g) / (math.sqrt(s) + 1e-8)
        expected.append(x)
    rule = _rule(kind=kind, rate=rate, momentum=b1, second=b2)
    ours = _ours([rule], gradients, torch.ones(STEPS, dtype=torch.float64))[0]
    torch.testing.assert_close(ours, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_rows_with_different_rules_do_not_touch_each_other() -> None:
    adam = Optimizer(kind="adam", rate=0.01).update(UpdateRule())
    rules = [
        adam,
        replace(adam, coupled_decay=0.1),
        _rule(0.05, "decoupled", kind="adam_uncorrected", rate=0.01),
        _rule(kind="rmsprop", rate=0.01),
        UpdateRule(rate=0.3),
        UpdateRule(coupled_decay=0.01),
        _rule(0.01, kind="momentum"),
        _rule(0.01, "decoupled", kind="nesterov"),
        _rule(kind="averaged"),
    ]
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
    optimizer = FleetOptimizer(
        weights, rules, factors[:, None] * torch.tensor([r.rate for r in rules], dtype=torch.float64)
    )
    kept = [1, 3]
    for number in range(STEPS):
        if number == STEPS // 2:
            optimizer.keep(kept)
            weights = weights[kept]
        optimizer.step(
            torch.tensor([number]), weights, gradients[number][kept if number >= STEPS // 2 else slice(None)].clone()
        )
    assert torch.equal(weights, expected[kept])


def test_adaptive_rows_must_come_first() -> None:
    adam = Optimizer(kind="adam").update(UpdateRule())
    with pytest.raises(AssertionError, match="come first"):
        FleetOptimizer(torch.zeros(2, 3), [UpdateRule(), adam], torch.ones(1, 2, dtype=torch.float64))


@pytest.mark.parametrize("epochs", [1, 2, 5, 10, 16, 20])
def test_the_notebooks_schedule_is_torchs_multistep(epochs: int) -> None:
    recipe = catalog.notebook_recipe().set(f"budget.epochs={epochs}").set("budget.train_images=600")
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=3e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [round(0.6 * epochs), round(0.8 * epochs)], gamma=0.1)
    expected = []
    for _ in range(epochs):
        expected += [optimizer.param_groups[0]["lr"]] * 3
        optimizer.step()
        scheduler.step()
    assert learning_rates(recipe).tolist() == pytest.approx(expected, rel=1e-12)
