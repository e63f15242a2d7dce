"""Fleet sizes and durations, from timed trials on the machine at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch

from cifar_ablations.ablations.budget import Sized
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.execution.invocation import Surroundings
from cifar_ablations.study.execution.pace import ending_images, epoch_images
from cifar_ablations.study.execution.workers import THREADS
from cifar_ablations.study.training.engine import Training, same_shape
from cifar_ablations.study.training.fleet import Member

CPU_FLEET = 7
"""Members in lockstep on a CPU: more would gain nothing, and lose more when the power goes."""

LARGEST_FLEET = 64
WORTH_IT = 0.05
"""A fleet twice as large must be faster per member by this share."""


def fleet_size(recipe: Recipe, data: Dataset, device: torch.device) -> int:
    """How many members of this network and budget to train in lockstep: as many as fit and pay."""
    if device.type == "cpu":
        return CPU_FLEET
    on_device = data.to(device)

    def seconds(size: int) -> float:
        try:
            return Training([Member(recipe, seed) for seed in range(size)], on_device, device).time_steps(10)
        finally:
            torch.cuda.empty_cache()

    return largest_that_pays(seconds, LARGEST_FLEET)


def largest_that_pays(seconds: Callable[[int], float], limit: int) -> int:
    """The power of two, up to the limit, from which doubling the fleet stops to pay, or stops to fit.

    seconds: of one step of a fleet of that size; raises torch.OutOfMemoryError where it does not fit.
    """
    size, per_member = 1, seconds(1)
    while 2 * size <= limit:
        try:
            doubled = seconds(2 * size) / (2 * size)
        except torch.OutOfMemoryError:
            break
        if doubled > (1 - WORTH_IT) * per_member:
            break
        size, per_member = 2 * size, doubled
    return size


def pack(
    members: Sequence[Member], workers: int, size: int, behind: Mapping[Member, int] | None = None
) -> list[list[Member]]:
    """Members in fleets of at most `size` that share network and budget, in order.

    Those that have epochs behind them share a fleet only with others that have as many.
    The number of fleets is a multiple of the workers where it can be, and fleets are about equal, so that no worker
    waits for another at the end.
    """
    by_shape: dict[tuple[Sized, int], list[Member]] = {}
    for member in members:
        by_shape.setdefault((same_shape(member.recipe), (behind or {}).get(member, 0)), []).append(member)
    fleets = []
    for group in by_shape.values():
        rounds = -(-len(group) // (workers * size))
        count = min(rounds * workers, len(group))
        bounds = [len(group) * i // count for i in range(count + 1)]
        fleets += [group[a:b] for a, b in pairwise(bounds)]
    return fleets


def estimated_seconds(invocation: Surroundings, members: Sequence[Member]) -> float:
    """About how long the trainings will take, from a few timed steps of the first fleet of each network and budget.

    They are run here and thrown away, in one process: where cores share caches, workers beside each other are slower.
    """
    shapes: dict[Sized, list[Member]] = {}
    for member in members:
        shapes.setdefault(same_shape(member.recipe), []).append(member)
    return sum(_estimated_seconds(invocation, alike) for alike in shapes.values())


def _estimated_seconds(invocation: Surroundings, members: Sequence[Member]) -> float:
    """The same for members that share network and budget."""
    size = fleet_size(members[0].recipe, invocation.data, invocation.device)
    fleet = pack(members, invocation.workers, size)[0]
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        training = Training(fleet, invocation.data, invocation.device, backend=invocation.backend)
        seconds = training.time_steps(5)
    finally:
        torch.set_num_threads(threads)
    per_image = seconds / (len(fleet) * fleet[0].recipe.sized.budget.batch_size)
    return sum(_images(m) for m in members) * per_image / invocation.workers


def _images(member: Member) -> float:
    """A training's work in training images."""
    budget = member.recipe.sized.budget
    return budget.epochs * epoch_images(budget) + ending_images(budget)
