"""Networks and budgets: their steps counted out, and the values that cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cifar_ablations.ablations.budget import Budget, Network
from cifar_ablations.ablations.errors import AblateError


@given(images=st.integers(1, 60_000), batch=st.integers(1, 4_096))
def test_an_epoch_has_as_many_steps_as_there_are_batches(images: int, batch: int) -> None:
    assert Budget(train_images=images, batch_size=batch).steps_per_epoch == len(range(0, images, batch))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"epochs": 0}, "budget.epochs must be at least 1, not 0"),
        ({"batch_size": 0}, "budget.batch_size must be at least 1, not 0"),
        ({"train_images": -1}, "budget.train_images must be at least 1, not -1"),
        ({"test_images": 0}, "budget.test_images must be at least 1, not 0"),
        ({"validation_images": -1}, "budget.validation_images must be at least 0, not -1"),
        ({"precision": "bf61"}, "budget.precision cannot be 'bf61'; did you mean bf16?"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(AblateError) as refused:
        Budget(**wrong)
    assert str(refused.value).startswith(said)


def test_no_validation_images_are_a_budget_too() -> None:
    assert Budget(validation_images=0).validation_images == 0


@pytest.mark.parametrize("width", [0.0, -1.0, 16.1, float("nan")])
def test_a_width_that_cannot_be_is_refused(width: float) -> None:
    with pytest.raises(AblateError, match=r"model\.width must lie in \(0, 16\]"):
        Network(width=width)


def test_both_are_named_in_words() -> None:
    assert str(Network(width=0.25)) == "notebook network, width × 0.25"
    budget = Budget(epochs=2, batch_size=32, train_images=1_000, precision="bf16")
    assert str(budget) == "1,000 training images, batch 32, 2 epochs (64 steps), bf16"
