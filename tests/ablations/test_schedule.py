"""Schedules against torch.optim.lr_scheduler, and the notebook's printed values."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from cifar_ablations.ablations.techniques.schedule import Schedule, one_cycle, warmup_cosine

sizes = st.integers(1, 24), st.integers(1, 7)


def _torchs(steps: int, make: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]) -> torch.Tensor:
    """The rates of a torch scheduler over a base rate of 1, stepped `steps` times."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it wants an optimizer step before each of its own
        for _ in range(steps):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            if len(rates) < steps:
                scheduler.step()
    return torch.tensor(rates, dtype=torch.float64)


def _close(ours: torch.Tensor | None, theirs: torch.Tensor) -> None:
    assert ours is not None
    assert ours.dtype == torch.float64
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@given(*sizes, st.floats(0.1, 1.0), st.floats(0.01, 1.0))
def test_step(epochs: int, steps_per_epoch: int, every: float, gamma: float) -> None:
    size = max(1, round(every * epochs))
    theirs = _torchs(epochs, lambda o: lr_scheduler.StepLR(o, size, gamma))
    ours = Schedule(shape="step", every=every, gamma=gamma).schedule(epochs, steps_per_epoch)
    _close(ours, theirs.repeat_interleave(steps_per_epoch))


@given(*sizes, st.floats(0.01, 1.0))
def test_multistep(epochs: int, steps_per_epoch: int, gamma: float) -> None:
    milestones = [round(0.6 * epochs), round(0.8 * epochs)]
    theirs = _torchs(epochs, lambda o: lr_scheduler.MultiStepLR(o, [m for m in milestones if m > 0], gamma))
    theirs *= gamma ** milestones.count(0)
    ours = Schedule(shape="multistep", gamma=gamma).schedule(epochs, steps_per_epoch)
    _close(ours, theirs.repeat_interleave(steps_per_epoch))


def test_the_notebooks_milestones() -> None:
    factors = Schedule.at("on").schedule(20, 1)
    assert factors is not None
    torch.testing.assert_close(factors, torch.tensor([1.0] * 12 + [0.1] * 4 + [0.01] * 4, dtype=torch.float64))


@given(*sizes, st.floats(1e-4, 1.0))
def test_exponential(epochs: int, steps_per_epoch: int, final: float) -> None:
    theirs = _torchs(epochs, lambda o: lr_scheduler.ExponentialLR(o, final ** (1 / epochs)))
    ours = Schedule(shape="exponential", final=final).schedule(epochs, steps_per_epoch)
    _close(ours, theirs.repeat_interleave(steps_per_epoch))


@given(*sizes)
def test_cosine(epochs: int, steps_per_epoch: int) -> None:
    steps = epochs * steps_per_epoch
    theirs = _torchs(steps, lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=steps))
    _close(Schedule(shape="cosine").schedule(epochs, steps_per_epoch), theirs)


@given(st.integers(8, 200), st.floats(0.15, 0.8))
def test_one_cycle(steps: int, rising_share: float) -> None:
    theirs = _torchs(
        steps, lambda o: lr_scheduler.OneCycleLR(o, 1.0, steps, pct_start=rising_share, cycle_momentum=False)
    )
    _close(one_cycle(steps, rising_share), theirs)


def test_the_notebooks_ten_printed_values() -> None:
    printed = ["0.0000", "0.0500", "0.1000", "0.0962", "0.0854", "0.0691", "0.0500", "0.0309", "0.0146", "0.0038"]
    assert [f"{0.1 * factor:.4f}" for factor in warmup_cosine(10, 0.2).tolist()] == printed


@pytest.mark.parametrize("level", [level for level in Schedule.levels if level != "off"])
@given(st.integers(1, 6), st.integers(1, 5))
def test_every_shape_is_finite_and_at_most_one(level: str, epochs: int, steps_per_epoch: int) -> None:
    factors = Schedule.at(level).schedule(epochs, steps_per_epoch)
    assert factors is not None
    assert len(factors) == epochs * steps_per_epoch
    assert torch.isfinite(factors).all()
    assert ((factors >= 0) & (factors <= 1 + 1e-12)).all()
