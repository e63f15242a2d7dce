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
from cifar_ablations.study.training.optimizer import FleetOptimizer, learning_rates, orthogonal

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


SHAPES = [(6, 27), (12, 54), (30, 12), (4, 30)]
"""Of the weights of a small network; each has as many biases as rows."""


def _layers(row: torch.Tensor) -> list[torch.Tensor]:
    """Weights and biases of a row, one layer after another: views."""
    found, start = [], 0
    for shape in SHAPES:
        for size in (shape, shape[:1]):
            found.append(row[start : start + math.prod(size)].view(size))
            start += math.prod(size)
    return found


def _places() -> list[tuple[int, int, int]]:
    starts = [sum(rows * (columns + 1) for rows, columns in SHAPES[:layer]) for layer in range(len(SHAPES))]
    return [(start, *shape) for start, shape in zip(starts, SHAPES, strict=True)][:-1]


def _muon(rules: list[UpdateRule], gradients: torch.Tensor, factors: torch.Tensor, half: bool) -> torch.Tensor:
    size = gradients.shape[2]
    weights = torch.linspace(-1, 1, size, dtype=gradients.dtype).sin().repeat(len(rules), 1)
    rates = factors[:, None] * torch.tensor([r.rate for r in rules], dtype=torch.float64)
    optimizer = FleetOptimizer(weights, rules, rates, _places(), half)
    for number in range(len(factors)):
        optimizer.step(torch.tensor([number]), weights, gradients[number].clone())
    return weights


def _drawn(rows: int, dtype: torch.dtype) -> torch.Tensor:
    size = sum(rows * (columns + 1) for rows, columns in SHAPES)
    return torch.randn(STEPS, rows, size, dtype=dtype, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(("decay", "norm"), [(0.0, 0.0), (0.1, 0.0), (0.0, 1.0)])
def test_muon_is_torchs_for_matrices_and_adamw_for_the_rest(decay: float, norm: float) -> None:
    rule = _rule(decay, "decoupled", kind="muon", rate=0.02, momentum=0.95, rest_rate=0.004)
    rule = replace(rule, max_norm=norm)
    gradients, factors = _drawn(1, torch.float32), torch.linspace(1, 0.1, STEPS, dtype=torch.float64)
    ours = _muon([rule], gradients, factors, half=True)[0]
    weights = torch.linspace(-1, 1, len(ours)).sin()
    layers = [layer.clone().requires_grad_() for layer in _layers(weights)]
    matrices, rest = layers[:-2:2], [*layers[1:-2:2], *layers[-2:]]
    theirs = (
        torch.optim.Muon(matrices, lr=0.02, momentum=0.95, weight_decay=decay),
        torch.optim.AdamW(rest, lr=0.004, betas=(0.95, 0.999), weight_decay=decay),
    )
    for number, factor in enumerate(factors.tolist()):
        for layer, gradient in zip(layers, _layers(gradients[number, 0]), strict=True):
            layer.grad = gradient.clone()
        if norm:
            torch.nn.utils.clip_grad_norm_(layers, norm)
        for optimizer, rate in zip(theirs, (0.02, 0.004), strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
            optimizer.step()
    for layer, expected in zip(_layers(ours), layers, strict=True):
        # A matrix that rounds to another number in bf16 takes another way through five iterations.
        torch.testing.assert_close(layer, expected.detach(), rtol=0, atol=2e-3 if layer.dim() == 2 else 1e-6)


def test_muon_with_coupled_decay_is_the_papers_algorithm() -> None:
    """Jordan et al. 2024, written anew in float64: momentum, Nesterov's look ahead, the iteration, the step."""
    rule = _rule(0.05, "coupled", kind="muon", rate=0.03, momentum=0.9)
    gradients = _drawn(1, torch.float64)
    ours = _layers(_muon([rule], gradients, torch.ones(STEPS, dtype=torch.float64), half=False)[0])
    size = gradients.shape[2]
    expected = _layers(torch.linspace(-1, 1, size, dtype=torch.float64).sin())
    for layer in (0, 2, 4):
        weights, memory = expected[layer], torch.zeros_like(expected[layer])
        for number in range(STEPS):
            gradient = _layers(gradients[number, 0])[layer] + 0.05 * weights
            memory = 0.9 * memory + gradient
            u, values, v = torch.linalg.svd(gradient + 0.9 * memory, full_matrices=False)
            values = values / values.norm()
            for _ in range(5):
                values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
            longer = max(1, weights.shape[0] / weights.shape[1]) ** 0.5
            weights = weights - 0.03 * longer * (u * values) @ v
        torch.testing.assert_close(ours[layer], weights, rtol=1e-9, atol=1e-9)


@given(seeds, st.integers(1, 40), st.integers(1, 40), st.sampled_from([1e-4, 1.0, 1e4]))
@PER_OPTIMIZER
def test_singular_values_end_near_one(seed: int, rows: int, columns: int, size: float) -> None:
    matrix = size * torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed % 2**31))
    values, before = torch.linalg.svdvals(orthogonal(matrix)), torch.linalg.svdvals(matrix)
    large = before > 0.02 * before.norm()  # five steps do not bring the smallest ones up
    assert ((values[large] > 0.5) & (values[large] < 1.3)).all()


def test_a_member_with_muon_steps_in_a_fleet_as_alone() -> None:
    muon, adam = _rule(kind="muon", rate=0.02, momentum=0.95), _rule(kind="adam", rate=0.01)
    rules = [muon, adam, replace(muon, rate=0.1, max_norm=1.0), UpdateRule()]
    gradients, factors = _drawn(len(rules), torch.float32), torch.linspace(1, 0.1, STEPS, dtype=torch.float64)
    together = _muon(rules, gradients, factors, half=False)
    for row, rule in enumerate(rules):
        assert torch.equal(together[row], _muon([rule], gradients[:, row : row + 1], factors, half=False)[0])
