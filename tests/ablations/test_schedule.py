"""Schedules against torch.optim.lr_scheduler, and the notebook's printed values."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from cifar_ablations.ablations.techniques.schedule import RISING, SHAPES, Schedule, one_cycle, trapezoid, warmup_cosine

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


@given(*sizes)
def test_linear_falls_to_zero_at_the_end_of_the_budget(epochs: int, steps_per_epoch: int) -> None:
    steps = epochs * steps_per_epoch
    ours = Schedule.at("linear").schedule(epochs, steps_per_epoch)
    _close(ours, _torchs(steps, lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=steps)))
    _close(ours, _torchs(steps, lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 - step / steps)))


@given(st.integers(1, 200), st.floats(0.0, 0.9), st.floats(0.0, 1.0))
def test_warm_up_stable_and_decay_are_torchs_schedulers_one_after_another(
    steps: int, warmup: float, decay: float
) -> None:
    rising = int(warmup * steps)
    falling = min(math.ceil(decay * steps), steps - rising)

    def make(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        parts = [
            # LinearLR cannot begin at 0.
            lr_scheduler.LambdaLR(optimizer, lambda step: step / max(1, rising)),
            lr_scheduler.ConstantLR(optimizer, 1.0, total_iters=0),
            lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=max(1, falling)),
        ]
        return lr_scheduler.SequentialLR(optimizer, parts, milestones=[rising, steps - falling])

    ours = Schedule(shape="warmup_stable_decay", warmup=warmup, decay=decay).schedule(1, steps)
    if rising and falling and rising + falling < steps:
        _close(ours, _torchs(steps, make))
    assert ours is not None
    assert ours[rising] == 1
    assert (ours == 1).sum() == max(1, steps - rising - falling + (falling > 0))


def test_a_linear_schedule_with_warm_up_peaks_where_the_rise_ends() -> None:
    factors = trapezoid(10, 0.2, 1.0)
    torch.testing.assert_close(factors[:3], torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    torch.testing.assert_close(factors[2:], 1 - torch.arange(8, dtype=torch.float64) / 8)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_peaks_at_one(shape: str) -> None:
    factors = Schedule(shape=shape, warmup=0.25).schedule(4, 8)
    assert float(factors.max() if factors is not None else 1.0) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("knob", [name for name, about in Schedule.knobs().items() if about.when])
def test_a_knob_means_something_with_the_shapes_that_it_names_and_with_no_other(shape: str, knob: str) -> None:
    about = Schedule.knobs()[knob]
    assert about.when is not None
    assert about.search is not None
    low, high = (Schedule(**{"shape": shape, knob: value}).schedule(5, 8) for value in about.search)
    acts = low is not None and high is not None and not torch.equal(low, high)
    assert acts == (shape in about.when[1])
    assert set(RISING) < set(SHAPES)


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
