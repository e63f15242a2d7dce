"""Shuffling: in which order the training images are visited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.technique import Plain, Technique, knob

KINDS = ("every_epoch", "once", "sorted")


@dataclass(frozen=True)
class Shuffling(Technique):
    """A batch in random order is a fair sample of all images; in the order of the classes it is a sample of one."""

    kind: str = knob("every_epoch", doc="anew for every epoch, once and for all, or sorted by class", choices=KINDS)

    name: ClassVar[str] = "shuffling"
    title: ClassVar[str] = "not shuffling"
    source: ClassVar[str] = "Bottou 2012, section 3; notebook, 'Training Efficient Model'"
    reason: ClassVar[str] = (
        "Batches in random order are fair samples of all images; batches of one class bias the gradient."
    )
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "off": {},
        "once": {"kind": "once"},
        "sorted": {"kind": "sorted"},
    }
    titles: ClassVar[Mapping[str, str]] = {
        "off": "shuffling for every epoch",
        "once": "shuffling once",
        "sorted": "sorting by class",
    }
    mechanism: ClassVar[tuple[str, ...]] = (schema.TRAIN_LOSS, schema.GRADIENT_NORM)

    def order(self, shuffled: Tensor, first: Tensor, labels: Tensor) -> Tensor:
        match self.kind:
            case "once":
                return first
            case "sorted":
                return first[labels[first].sort(stable=True).indices]
        return shuffled

    def plain(self, sized: Sized) -> Plain:
        match self.kind:
            case "once":
                return Plain(shuffled=False)
            case "sorted":
                by_class = "chosen = sorted(chosen, key=lambda index: train_set.targets[index])"
                return Plain(arrangement=(by_class,), shuffled=False)
        return Plain()
