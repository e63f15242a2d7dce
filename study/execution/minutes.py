"""What to train within a time: the whole budget with as many seeds as fit, or the fewest seeds with what fits of it.

Pure: what a seed takes, what a number of seeds finds, and whether it gets verdicts, are functions that a caller gives.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache

from cifar_ablations.ablations.budget import Budget
from cifar_ablations.ablations.durations import duration
from cifar_ablations.ablations.errors import AblateError

START_AND_REPORT_SECONDS = 15.0
"""Set aside for what is no training: imports, timed steps, workers that start, the pages."""

SATURATED = 0.95
"""A probability of finding an effect from which on more seeds are not worth their time."""

MOST_SEEDS = 50
"""Where that is not reached, or nothing is claimed: as many as the longest planned look has."""

FEW_SEEDS = range(2, 16)
"""Among these is the fewest that a rule gives verdicts with; where there is none, the first still has a spread."""

SHARES = (0.8, 0.65, 0.5, 0.4, 0.3, 0.25)
"""What is left of the epochs, and then of the training images, step by step."""


@dataclass(frozen=True)
class Choice:
    """A budget for every training, how many seeds, and the seconds that they take, with start and report."""

    budget: Budget
    seeds: int
    seconds: float


def budgets(first: Budget, fixed: Collection[str] = ()) -> list[Budget]:
    """A budget and ever smaller ones: first fewer epochs, then fewer training images, at least one batch of them.

    fixed: the fields that stay as they are.
    """
    found = [first]
    for field, least in (("epochs", 1), ("train_images", min(first.batch_size, first.train_images))):
        whole = getattr(first, field)
        for share in SHARES if field not in fixed else ():
            smaller = replace(found[-1], **{field: max(least, round(share * whole))})
            found += [smaller] if smaller != found[-1] else []
    return found


def choose(
    available: float,
    sizes: Sequence[Budget],
    seconds: Callable[[Budget], float],
    power: Callable[[int], float],
    decides: Callable[[int], bool],
) -> Choice:
    """The choice for so many seconds, start and report included.

    sizes: budgets, the largest first. seconds: of all trainings of one seed with a budget. power: the probability that
    an effect worth finding is found with so many seeds; more seeds find no less. decides: whether so many get verdicts;
    if some do, so do more. All three may be slow, and are asked as little as need be. Raises AblateError where even the
    smallest budget with the fewest seeds takes longer.
    """
    of_a_seed = cache(seconds)
    left = available - START_AND_REPORT_SECONDS

    def chosen(budget: Budget, seeds: int) -> Choice:
        return Choice(budget, seeds, seeds * of_a_seed(budget) + START_AND_REPORT_SECONDS)

    fitting = max(0, int(left // of_a_seed(sizes[0])))
    wanted = next((n for n in range(1, min(fitting, MOST_SEEDS)) if power(n) >= SATURATED), min(fitting, MOST_SEEDS))
    if wanted >= FEW_SEEDS[-1] or (wanted >= FEW_SEEDS[0] and decides(wanted)):
        return chosen(sizes[0], wanted)
    fewest = next((n for n in FEW_SEEDS if decides(n)), FEW_SEEDS[0])
    if fitting >= fewest:
        return chosen(sizes[0], max(fewest, wanted))
    place = bisect_left(sizes, True, key=lambda budget: fewest * of_a_seed(budget) <= left)
    if place == len(sizes):
        least = chosen(sizes[-1], fewest)
        raise AblateError(
            f"{duration(available)} are too short: {fewest} seeds, the fewest that say anything, take about "
            f"{duration(least.seconds)} even with {sizes[-1].epochs} epochs on {sizes[-1].train_images:,} images"
        )
    return chosen(sizes[place], fewest)
