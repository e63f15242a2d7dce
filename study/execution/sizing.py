"""Fleet sizes and durations, from timed trials on the machine at hand."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.execution.invocation import Surroundings
from cifar_ablations.study.execution.pace import ending_images, epoch_images
from cifar_ablations.study.execution.workers import THREADS
from cifar_ablations.study.training.backend import TORCH
from cifar_ablations.study.training.engine import Shape, Training, same_shape
from cifar_ablations.study.training.fleet import Member
from cifar_ablations.study.training.step import want_of_memory

CPU_FLEET = 7
"""Members in lockstep on a CPU: more would gain nothing, and lose more when the power goes."""

LARGEST_FLEET = 64
"""Members in lockstep on a GPU."""
SHARE = 0.8
"""Of a GPU's free memory that a fleet may take by what is known beforehand; one that does not fit is halved."""


def hungriest(members: Iterable[Member]) -> Recipe:
    """The recipe of the first member with an average of its weights, which takes memory too; else of the first."""
    return max(members, key=lambda member: member.recipe.running_average() is not None).recipe


def fleet_size(recipe: Recipe, data: Dataset, device: torch.device, backend: str = TORCH) -> int:
    """How many members of this network and budget to train in lockstep: on a GPU as many as its memory holds.

    More than fill a GPU cost nothing; one member is tried out to know what each of them takes, and no member takes
    more in a fleet.
    """
    if device.type == "cpu":
        return CPU_FLEET
    on_device = data.to(device)
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    try:
        Training([Member(recipe, 0)], on_device, device, backend=backend).time_steps(1)
        taken = torch.cuda.max_memory_allocated(device) - before
    except RuntimeError as error:
        if not want_of_memory(error):
            raise
        return 1  # which training it will say
    finally:
        torch.cuda.empty_cache()
    return max(1, min(LARGEST_FLEET, int(SHARE * free / taken)))


def pack(
    members: Sequence[Member], workers: int, size: int, behind: Mapping[Member, int] | None = None
) -> list[list[Member]]:
    """Members in fleets of at most `size` that share network, budget and normalisation, in order.

    Those that have epochs behind them share a fleet only with others that have as many.
    The number of fleets is a multiple of the workers where it can be, and fleets are about equal, so that no worker
    waits for another at the end.
    """
    by_shape: dict[tuple[Shape, int], list[Member]] = {}
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
    """About how long the trainings will take, from a few timed steps of the first fleet of each shape.

    They are run here and thrown away, in one process: where cores share caches, workers beside each other are slower.
    """
    shapes: dict[Shape, list[Member]] = {}
    for member in members:
        shapes.setdefault(same_shape(member.recipe), []).append(member)
    return sum(_estimated_seconds(invocation, alike) for alike in shapes.values())


STORE_SECONDS = 0.1
"""What the store takes for a training, one after the other: 0.09 to 0.17 by `benchmarks.store_cost`, on two cores."""


@dataclass(frozen=True)
class Estimate:
    """How long trainings will take as they are dealt to the workers."""

    seconds: float
    busy: float
    """The share of the workers' time that they train."""
    by_store: bool = False
    """Whether the store, which takes one after the other, is what takes longest."""


def estimated(invocation: Surroundings, members: Sequence[Member]) -> Estimate:
    """About how long the trainings will take, with the end, when some workers have nothing to do any more."""
    work = estimated_seconds(invocation, members) * invocation.workers
    images = sum(map(_images, members))
    if not images or not work:
        return Estimate(0.0, 1.0)
    size = CPU_FLEET if invocation.device.type == "cpu" else LARGEST_FLEET
    return dealt(
        [work * sum(map(_images, fleet)) / images for fleet in pack(members, invocation.workers, size)],
        invocation.workers,
        len(members),
    )


def dealt(fleets: Sequence[float], workers: int, trainings: int) -> Estimate:
    """Of fleets that take so many seconds each, dealt to workers as they become free; trainings: of all fleets."""
    free = [0.0] * workers
    for fleet in fleets:
        heapq.heappush(free, heapq.heappop(free) + fleet)
    trained, stored = max(free), trainings * STORE_SECONDS
    seconds = max(trained, stored)
    return Estimate(seconds, sum(fleets) / (workers * seconds), stored > trained)


def _estimated_seconds(invocation: Surroundings, members: Sequence[Member]) -> float:
    """The same for members of one shape."""
    size = fleet_size(hungriest(members), invocation.data, invocation.device, invocation.backend)
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
