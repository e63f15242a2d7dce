"""Profiles: how much to spend. Each says what the recipe's network and budget, the seeds and the margin are."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cifar_ablations.ablations.budget import Budget, Network
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import ProfileRecord


@dataclass(frozen=True)
class Profile:
    """A size of experiment. The margin is the smallest difference in accuracy that would matter."""

    name: str
    summary: str
    model: Network
    budget: Budget
    seeds: int
    margin: float

    def apply(self, recipe: Recipe) -> Recipe:
        """The recipe at this profile's size."""
        return replace(recipe, model=self.model, budget=self.budget)

    def record(self) -> ProfileRecord:
        """The profile as it is logged; the recipes say the rest."""
        return ProfileRecord(self.name, self.summary)


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="smoke",
            summary="does everything work? about a minute, says nothing about the techniques",
            model=Network(width=0.125),
            budget=Budget(epochs=3, batch_size=64, train_images=512, validation_images=256, test_images=500),
            seeds=2,
            margin=0.005,
        ),
        Profile(
            name="quick",
            summary="a laptop's answer at a small budget, in about a quarter of an hour on two cores",
            model=Network(width=0.25),
            budget=Budget(epochs=30, batch_size=32, train_images=2_000, validation_images=500),
            seeds=6,
            margin=0.005,
        ),
        Profile(
            name="full",
            summary="the notebook's network, data and 20 epochs; for a GPU",
            model=Network(),
            budget=Budget(precision="auto"),
            seeds=6,
            margin=0.0025,
        ),
    )
}


def profile(name: str) -> Profile:
    """The profile of that name. Raises AblateError, with what is near, for an unknown one."""
    if name not in PROFILES:
        raise AblateError(f"no profile {name!r}{did_you_mean(name, PROFILES)}")
    return PROFILES[name]
