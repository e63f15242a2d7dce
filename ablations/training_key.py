"""Which trainings are the same: what decides whether one that is done stands for one that is asked for.

A recipe's digest names what is trained, and seeds its draws; it never changes with the machine. The training key adds
where and how it was trained, and seeds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from cifar_ablations.ablations import extensions
from cifar_ablations.ablations.record import EnvironmentRecord


@dataclass(frozen=True)
class TrainingKey:
    """One training, of a recipe with a seed on some data; environment: None where its run does not say."""

    recipe: str
    """The digest."""
    seed: int
    data: str
    """The digest of images and labels."""
    environment: EnvironmentRecord | None


def same_training(done: TrainingKey, asked: TrainingKey) -> bool:
    """Whether a training that is done stands for one that is asked for, so that it is not trained again.

    Recipe, seed and data must be equal, and so must the code of the extensions that both name: other code under the
    same name is another technique. The rest of the environment need not be equal, nor be known: runs of older versions
    do not say, and what another processor or another build of torch changes is the last bits of sums, which stand for
    the same recipe as well as any others. To hold environments apart, compare them here: nothing else decides.
    """
    if (done.recipe, done.seed, done.data) != (asked.recipe, asked.seed, asked.data):
        return False
    if done.environment is None or asked.environment is None:
        return True
    return extensions.agree(done.environment.extension, asked.environment.extension)
