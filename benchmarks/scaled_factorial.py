"""How long a whole factorial takes on a GPU: every fleet of it, for a tenth of its epochs, and the rest calculated."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks.contenders import free_memory
from benchmarks.deadline import Deadline
from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.training.engine import Epoch, Outcome, train
from cifar_ablations.study.training.fleet import Member

SEEDS = 5
"""With 64 arms they are 320 trainings."""
SHARE = 10
"""One epoch in so many is trained, and two at least."""


@dataclass(frozen=True)
class Scaled:
    """What was trained, of how much."""

    trainings: int
    of: int
    epochs: int
    of_epochs: int
    seconds: float
    """From first weights to test accuracies, of those that were trained."""
    last_epochs: float
    """Of these, in the last epochs of all fleets, which have no capture in them."""

    @property
    def estimated(self) -> float:
        """Seconds of all trainings over all epochs: the last epochs repeated, everything else as it was."""
        whole = self.seconds + (self.of_epochs - self.epochs) * self.last_epochs
        return whole * self.of / self.trainings

    def sentence(self) -> str:
        """What the section says of it."""
        part = "" if self.trainings == self.of else f" {self.trainings} of"
        return (
            f"- Plan factorial,{part} {self.of} trainings for {self.epochs} of {self.of_epochs} epochs, from first "
            f"weights to test accuracies, without MLflow: {self.seconds:.1f} s. Calculated from it, with the last "
            f"epochs repeated: {self.estimated:.0f} s for all of them over all epochs."
        )


def fleets(profile: str, recipe: Recipe, size: int) -> list[list[Member]]:
    """The trainings of the factorial over SEEDS seeds, seeds outermost, in fleets of a size."""
    plan = catalog.make_plan("factorial", recipe, PROFILES[profile], tuple(range(SEEDS)))
    members = list(dict.fromkeys(Member(arm.recipe, seed) for seed in plan.seeds for arm in plan.arms))
    return [members[first : first + size] for first in range(0, len(members), size)]


def measured(
    packed: Sequence[Sequence[Member]], of_epochs: int, data: Dataset, device: torch.device, backend: str, end: Deadline
) -> Scaled:
    """Train fleets one after the other until none is left or the time is over; the first is trained in any case."""
    trained, seconds, last_epochs = 0, 0.0, 0.0
    for fleet in packed:
        if trained and end.left <= 0:
            break
        free_memory(device)
        began = time.perf_counter()
        ends: list[dict[int, float]] = [{}]

        def note(event: Epoch | Outcome, ends: list[dict[int, float]] = ends) -> None:
            if isinstance(event, Epoch):
                if event.epoch < max(ends[-1], default=0):  # a fleet that did not fit is halved, and trains one by one
                    ends.append({})
                ends[-1][event.epoch] = time.perf_counter()

        train(list(fleet), data, device, note, backend=backend)
        seconds += time.perf_counter() - began
        last_epochs += sum(part[max(part)] - part.get(max(part) - 1, began) for part in ends)
        trained += len(fleet)
    budget = packed[0][0].recipe.sized.budget
    return Scaled(trained, sum(map(len, packed)), budget.epochs, of_epochs, seconds, last_epochs)
