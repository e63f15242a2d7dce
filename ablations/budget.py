"""What is trained, and for how long: the network and the budget of a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import EXACT, check_range, did_you_mean

PRECISIONS = ("fp32", "bf16", "auto")
"""The number formats of convolutions and matrix products; `auto` is decided for the device before a plan is made."""
MOST_STEPS = 100_000_000
"""Of one training; the notebook's full one takes 3,520."""


@dataclass(frozen=True)
class Network:
    """Which network is trained."""

    name: str = "notebook"
    width: float = 1.0
    """Factor on the number of channels and hidden units."""

    def __post_init__(self) -> None:
        if not 0 < self.width <= 16:
            raise AblateError(f"model.width must lie in (0, 16], not at {self.width!r}")

    def __str__(self) -> str:
        return f"{self.name} network, width × {self.width:g}"


@dataclass(frozen=True)
class Budget:
    """How much is trained, on how much, and in which arithmetic. The defaults are the notebook's."""

    epochs: int = 20
    batch_size: int = 256
    train_images: int = 45_000
    validation_images: int = 5_000
    test_images: int = 10_000
    precision: str = "fp32"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "train_images", "test_images"):
            check_range(f"budget.{name}", getattr(self, name), 1, EXACT)
        check_range("budget.validation_images", self.validation_images, 0, EXACT)
        if (steps := self.epochs * self.steps_per_epoch) > MOST_STEPS:
            raise AblateError(
                f"budget.epochs {self.epochs} are {steps:.3g} steps of batch {self.batch_size}; at most {MOST_STEPS:,}"
            )
        if self.precision not in PRECISIONS:
            raise AblateError(
                f"budget.precision cannot be {self.precision!r}{did_you_mean(self.precision, PRECISIONS)}"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one epoch, a smaller last one included."""
        return -(-self.train_images // self.batch_size)

    def __str__(self) -> str:
        return (
            f"{self.train_images:,} training images, batch {self.batch_size}, "
            f"{self.epochs} epochs ({self.epochs * self.steps_per_epoch:,} steps), {self.precision}"
        )


class Sized(NamedTuple):
    """A network and a budget."""

    model: Network
    budget: Budget
