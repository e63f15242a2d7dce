"""Training-set size: how many different images there are to learn from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Budget, Network, Sized
from cifar_ablations.ablations.technique import Plain, Technique, knob


@dataclass(frozen=True)
class DataSize(Technique):
    """Fewer images, each visited more often: the number of steps stays about the same, so that what is lost is variety
    and not training.
    """

    share: float = knob(1.0, doc="share of the budget's training images", low=1e-4, high=1.0)

    name: ClassVar[str] = "data_size"
    title: ClassVar[str] = "less training data"
    source: ClassVar[str] = "Sun et al. 2017; notebook, 'Data Augmentation' (effective size)"
    reason: ClassVar[str] = "The fewer the images, the sooner a network knows them by heart."
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        "1/2": {"share": 1 / 2},
        "1/4": {"share": 1 / 4},
        "1/8": {"share": 1 / 8},
        "1/16": {"share": 1 / 16},
    }
    titles: ClassVar[Mapping[str, str]] = {
        "off": "all of the training data",
        "1/2": "half of the training data",
        "1/4": "a quarter of the training data",
        "1/8": "an eighth of the training data",
        "1/16": "a sixteenth of the training data",
    }
    mechanism: ClassVar[tuple[str, ...]] = (schema.GENERALISATION_GAP,)

    def resize(self, network: Network, budget: Budget) -> tuple[Network, Budget]:
        images = max(1, round(budget.train_images * self.share))
        smaller = replace(budget, train_images=images, batch_size=min(budget.batch_size, images))
        steps = budget.epochs * budget.steps_per_epoch
        return network, replace(smaller, epochs=max(1, round(steps / smaller.steps_per_epoch)))

    def plain(self, sized: Sized) -> Plain:
        return Plain()
