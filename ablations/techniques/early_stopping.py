"""Early stopping: end a training when validation loss has stopped falling, and go back to its lowest point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.technique import Expectation, Plain, Technique, knob


def epochs_since_best(losses: Sequence[float]) -> int:
    """The number of epochs since the lowest loss; the earliest of equals counts."""
    return len(losses) - 1 - losses.index(min(losses))


@dataclass(frozen=True)
class EarlyStopping(Technique):
    """The weights of the epoch with the lowest validation loss are kept; after `patience` epochs without a lower one
    the training ends.
    """

    patience: int = knob(0, doc="epochs without a lower validation loss; 0 never stops", low=0, high=1000)

    name: ClassVar[str] = "early_stopping"
    title: ClassVar[str] = "early stopping"
    source: ClassVar[str] = "Prechelt 1998; notebook, 'Data Augmentation'"
    reason: ClassVar[str] = (
        "From the epoch on at which the validation loss stops falling, training only fits the training images closer."
    )
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {"off": {}, "on": {"patience": 3}}
    expectations: ClassVar[tuple[Expectation, ...]] = (
        Expectation(schema.TEST_ACCURACY, +1, "Prechelt 1998"),
        Expectation(schema.GENERALISATION_GAP, -1, "Prechelt 1998"),
    )

    mechanism: ClassVar[tuple[str, ...]] = (schema.EPOCHS, schema.GENERALISATION_GAP)

    def stop(self, validation_losses: Sequence[float]) -> bool | None:
        if self.patience == 0:
            return None
        return epochs_since_best(validation_losses) >= self.patience

    def plain(self, sized: Sized) -> Plain:
        if not sized.budget.validation_images:
            raise self.not_plain("there are no validation images (budget.validation_images)")
        return Plain(
            before=("lowest = math.inf",),
            after_epoch=(
                "if validation_loss < lowest:",
                "    lowest, best_epoch = validation_loss, epoch",
                "    best = copy.deepcopy(model.state_dict())",
                f"if epoch - best_epoch >= {self.patience}:",
                "    break",
            ),
            after=("model.load_state_dict(best)",),
        )
