"""One training step of a fleet: what runs thousands of times, and is captured as a CUDA graph where there is a GPU.

Everything that changes from step to step is read from device memory: the position in the epoch, the order of the
images, the keys of the draws, learning rates. So one capture serves every step, schedule and optimizer, and within an
epoch nothing waits for the host.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from cifar_ablations.ablations.purposes import AUGMENTATION, MASKS, ORDER, SPLIT
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.technique import Technique, Visits, overrides
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.training.averaging import FleetAverage
from cifar_ablations.study.training.backend import Backend
from cifar_ablations.study.training.fleet import Fleet, Member, same_shape
from cifar_ablations.study.training.model import DropoutSite
from cifar_ablations.study.training.optimizer import FleetOptimizer
from cifar_ablations.study.training.randomness import ImageVisits, StepDraws, halves, permutation

BRANCHES = 8
"""CUDA streams over which the members of a fleet are spread: parallel branches of the captured graph."""

Shared = tuple[tuple[int, ...], tuple[Technique, ...]]
"""Seeds and techniques: members that agree on them share images."""

Slot = tuple[int | str, ...]
"""The name of a draw, to be completed by the step's number."""

WARM_UPS = 2
"""Steps taken and undone before a capture: libraries choose their kernels, and it is learnt what is drawn."""
_captured: set[tuple[object, ...]] = set()
"""Networks and budgets, backends and batch sizes that this process has captured before."""


class Stepper:
    """Takes the steps of a fleet; one is made anew whenever members leave, since their matrices move.

    losses and norms, float64 [K]: sums over the steps since `begin` of the loss times the batch's size and of the
    gradient's norm.
    """

    def __init__(
        self,
        fleet: Fleet,
        backend: Backend,
        optimizer: FleetOptimizer,
        average: FleetAverage,
        data: Dataset,
        device: torch.device,
    ):
        self.fleet, self.backend, self.optimizer, self.data, self.device = fleet, backend, optimizer, data, device
        self.average = average
        members = fleet.members
        self.budget = members[0].recipe.sized.budget
        self._visits = {_order_of(m): m for m in members}
        self._slots = _slots(fleet)
        self.losses = torch.zeros(len(members), dtype=torch.float64, device=device)
        self.norms = torch.zeros(len(members), dtype=torch.float64, device=device)
        self.scales = scales(members, data, device)
        # Names are resolved here, once: a step looks up numbers.
        slots, visits = {name: slot for slot, name in enumerate(self._slots)}, list(self._visits)
        shared = {_batch_of(m): m for m in members}
        self._batches = [_Batches.of(m, visits.index(_order_of(m)), self.scales[m], slots) for m in shared.values()]
        self._batch_of = [list(shared).index(_batch_of(m)) for m in members]
        self._masked = [
            [_Masked.of(member, name, site, slots) for name, site in _sites(network)]
            if _overriding(member.recipe, "mask")
            else []
            for member, network in zip(members, fleet.networks, strict=True)
        ]
        self._ascending = [_overriding(member.recipe, "ascend") for member in members]
        self._one_hot = torch.eye(len(data.classes), device=device)
        self._labels = data.train_labels.cpu()
        steps, size = self.budget.steps_per_epoch, self.budget.batch_size
        self._orders = torch.zeros(len(self._visits), self.budget.train_images, dtype=torch.int64, device=device)
        self._keys = torch.zeros(steps, len(self._slots), 2, dtype=torch.int32, device=device)
        self._number = torch.zeros(1, dtype=torch.int64, device=device)  # of the step in the training
        self._within = torch.zeros(1, dtype=torch.int64, device=device)  # of the step in the epoch
        self._ramp = torch.arange(size, device=device)
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._capturing = _on(device)
        self._streams = _streams(device)

    def begin(self, epoch: int, images: Mapping[int, Tensor]) -> None:
        """Get ready for the steps of an epoch (from 0); images: per seed of a split, its training images, on the CPU.

        The order of visits and the keys come over in one transfer each.
        """
        steps = self.budget.steps_per_epoch
        numbers = range(epoch * steps, (epoch + 1) * steps)
        orders = [order(m, images[m.seed_of(SPLIT)], self._labels, epoch) for m in self._visits.values()]
        self._orders.copy_(torch.stack(orders))
        keys = [[halves(*name, number) for name in self._slots] for number in numbers]
        self._keys.copy_(torch.tensor(keys, dtype=torch.int32).view(self._keys.shape))
        self._number.fill_(epoch * steps)
        self._within.zero_()
        self.losses.zero_()
        self.norms.zero_()

    def run(self, within: int) -> None:
        """Take step `within` of the epoch; steps are taken in order. The last batch may be smaller."""
        size = min(self.budget.batch_size, self.budget.train_images - within * self.budget.batch_size)
        if self._capturing and size not in self._graphs:
            self._capture(size)
        if size in self._graphs:
            self._graphs[size].replay()
        else:
            self._step(size)

    def _step(self, size: int) -> None:
        self._set_gradients(size)
        self.norms += self.backend.step(self.optimizer, self._number)
        self.average.step(self._number)
        self._number += 1
        self._within += 1

    def _set_gradients(self, size: int) -> None:
        """Every member's gradients on its batch of `size` images, and their losses added up."""
        keys = self._keys.index_select(0, self._within)[0]
        positions = self._within * self.budget.batch_size + self._ramp[:size]
        chosen = [order.index_select(0, positions) for order in self._orders]
        drawn = self.backend.begin(keys, size)
        batches = []
        for index, one in enumerate(self._batches):
            with self._branch(index):
                batches.append(self._batch(chosen[one.visit], one, drawn))
        self._join(len(self._batches))
        losses = []
        for row, shared in enumerate(self._batch_of):
            with self._branch(row):
                for masked in self._masked[row]:
                    masked.set(size, drawn)
                losses.append(self.backend.gradients(row, *batches[shared]))
                for technique in self._ascending[row]:
                    self._look_around(row, technique, *batches[shared])
        self._join(len(losses))
        self.losses += torch.stack(losses).double() * size

    def _look_around(self, row: int, technique: Technique, images: Tensor, targets: Tensor) -> None:
        """A member's gradients from where a technique leads, in place of those at its weights; all else is put back."""
        weights, gradients = self.fleet.weights[row], self.fleet.gradients[row]
        climb = technique.ascend(weights, gradients)
        if climb is None:
            return
        state = [matrix[row] for matrix in self.fleet.state().values()]
        before = [values.clone() for values in state]
        weights.add_(climb)
        self.backend.moved(row)
        self.backend.gradients(row, images, targets)
        for values, value in zip(state, before, strict=True):
            values.copy_(value)

    def _batch(self, chosen: Tensor, of: _Batches, drawn: Callable[[int], StepDraws]) -> tuple[Tensor, Tensor]:
        images = take(self.data.train_images, chosen)
        targets = self._one_hot[self.data.train_labels[chosen]]

        def visits(technique: Technique) -> Visits:
            return ImageVisits(of.images[technique.name], chosen, self._number, self.budget.steps_per_epoch)

        return of.preparation.batch(images, targets, lambda technique: drawn(of.slots[technique.name]), visits)

    @contextmanager
    def _branch(self, index: int) -> Iterator[None]:
        """One of several branches of the step, where there are streams for them; `_join` waits for their ends."""
        if not self._streams:
            yield
            return
        stream = self._streams[index % len(self._streams)]
        if index < len(self._streams):
            stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            yield

    def _join(self, branches: int) -> None:
        for stream in self._streams[:branches]:
            torch.cuda.current_stream(self.device).wait_stream(stream)

    def _capture(self, size: int) -> None:
        """Capture a step at one batch size. Whatever the steps that warm up change is put back."""
        state = [
            *self.fleet.state().values(),
            *self.optimizer.state().values(),
            *(self.average.weights, self._number, self._within, self.losses, self.norms),
        ]
        before = [tensor.clone() for tensor in state]
        about = (same_shape(self.fleet.members[0].recipe), type(self.backend), size)
        here, aside = torch.cuda.current_stream(self.device), torch.cuda.Stream(self.device)

        def undone(step: AbstractContextManager[object]) -> None:
            with step:
                self._step(size)
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)

        try:
            aside.wait_stream(here)
            with torch.cuda.stream(aside):
                for _ in range(WARM_UPS):
                    undone(nullcontext())
                if about not in _captured:
                    undone(_as_in_a_capture(self.device))
            here.wait_stream(aside)
            torch.cuda.synchronize(self.device)
            pool = next(iter(self._graphs.values())).pool() if self._graphs else None
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                self._step(size)
        except RuntimeError as error:
            # Where memory ends within a branch, the capture cannot be ended either, and the last error says only that.
            if want_of_memory(error):
                raise
            # A user's own network may read something back in its forward; it trains all the same, only slower.
            warnings.warn(f"this network cannot be captured as a CUDA graph: {error}", stacklevel=2)
            torch.cuda.synchronize(self.device)
            self._capturing = False
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)
            return
        self._graphs[size] = graph
        _captured.add(about)


@contextmanager
def _as_in_a_capture(device: torch.device) -> Iterator[None]:
    """Within it, what would spoil a capture is an error: waiting for the GPU, and memory that must be freed to be had.

    A capture that fails leaves torch's generator and its pools of memory in disorder.
    """

    def retries() -> int:
        return int(torch.cuda.memory_stats(device).get("num_alloc_retries", 0))

    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    mode, before = torch.cuda.get_sync_debug_mode(), retries()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    if retries() > before:
        raise torch.OutOfMemoryError("a step takes nearly all memory, which is too little for a captured one")


def want_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it came of, says that a GPU's memory does not suffice."""
    while error is not None:
        # cuDNN finds no engine where none gets the memory that it wants.
        if isinstance(error, torch.OutOfMemoryError) or "unable to find an engine" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


@cache
def _streams(device: torch.device) -> list[torch.cuda.Stream]:
    """The branches of all fleets: torch has no more than 32 streams, which it gives out again and again."""
    return [torch.cuda.Stream(device) for _ in range(BRANCHES)] if _on(device) else []


def tune(device: torch.device) -> None:
    """Have cuDNN choose its kernels by trying them, and keep fp32 what its name says (no TF32)."""
    if _on(device):
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 images [B, 3, H, W] as float32, in units of the data set's spread: torchvision's ToTensor and Normalize.

    Operation by operation the same, hence bitwise equal; mean and std are [3, 1, 1].
    """
    return images.float().div_(255).sub_(mean).div_(std)


@dataclass(frozen=True)
class Preparation:
    """What becomes of a batch's images before the network sees them: the techniques that act, and a scale."""

    augmenting: tuple[Technique, ...]
    mixing: tuple[Technique, ...]
    scale: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, recipe: Recipe, scale: tuple[Tensor, Tensor]) -> Preparation:
        """A recipe's; scale: as `scales` has it."""
        return cls(_overriding(recipe, "augment", "augment_by_epoch"), _overriding(recipe, "mix"), scale)

    def batch(
        self,
        images: Tensor,
        targets: Tensor,
        drawn: Callable[[Technique], StepDraws],
        visits: Callable[[Technique], Visits],
    ) -> tuple[Tensor, Tensor]:
        """The input and targets of one step: normalised images [B, 3, H, W] and class probabilities [B, classes].

        images: uint8 [B, 3, H, W], as they are in the data set; targets: one-hot [B, classes]; drawn: the draws of a
        technique at this step; visits: the batch's images and epoch, for a technique.
        """
        for technique in self.augmenting:
            images = technique.augment_by_epoch(images, visits(technique))
            images = technique.augment(images, drawn(technique))
        images = normalize(images, *self.scale)
        for technique in self.mixing:
            images, targets = technique.mix(images, targets, drawn(technique))
        return images, targets


@dataclass(frozen=True)
class _Batches:
    """The batches that some members share: the row of their order of visits, and the slots of their draws."""

    preparation: Preparation
    visit: int
    slots: Mapping[str, int]
    """By technique."""
    images: Mapping[str, Tensor]
    """By technique, the halves of the key of what it draws once for each image, int32 [2] on the device."""

    @classmethod
    def of(cls, member: Member, visit: int, scale: tuple[Tensor, Tensor], slots: Mapping[Slot, int]) -> _Batches:
        preparation, seed = Preparation.of(member.recipe, scale), member.seed_of(AUGMENTATION)
        drawing = (*preparation.augmenting, *preparation.mixing)
        images = {t.name: image_key(seed, t, scale[0].device) for t in preparation.augmenting}
        return cls(preparation, visit, {t.name: slots[seed, t.name] for t in drawing}, images)


@dataclass(frozen=True)
class _Masked:
    """A place in a member's network where techniques mask activations, and the slots of their draws."""

    site: DropoutSite
    techniques: tuple[tuple[Technique, int], ...]

    @classmethod
    def of(cls, member: Member, name: str, site: DropoutSite, slots: Mapping[Slot, int]) -> _Masked:
        masking = _overriding(member.recipe, "mask")
        return cls(site, tuple((t, slots[_mask_slot(member, t, name)]) for t in masking))

    def set(self, size: int, drawn: Callable[[int], StepDraws]) -> None:
        """Give the site its masks for a batch of so many images; drawn: the draws of a slot."""
        self.site.mask = None
        for technique, slot in self.techniques:
            mask = technique.mask((size, *self.site.shape), drawn(slot))
            if mask is not None:
                self.site.mask = mask if self.site.mask is None else self.site.mask * mask


def image_key(seed: int, technique: Technique, device: torch.device) -> Tensor:
    """The halves of the key of what a technique draws once for each image, int32 [2]."""
    return torch.tensor(halves(seed, technique.name, "images"), dtype=torch.int32, device=device)


def order(member: Member, images: Tensor, labels: Tensor, epoch: int) -> Tensor:
    """A member's training images in the order of their visits in an epoch (from 0), int64 [images] on the CPU.

    images: int64, its training images; labels: int64, of all images of the data set.
    """
    seed = member.seed_of(ORDER)
    shuffled = images[permutation(len(images), seed, "order", epoch)]
    if techniques := _overriding(member.recipe, "order"):
        first = images[permutation(len(images), seed, "order", 0)]
        for technique in techniques:
            shuffled = technique.order(shuffled, first, labels)
    return shuffled


def take(images: Tensor, chosen: Tensor) -> Tensor:
    """Images [B, C, H, W] by index, channels last (indexing the permuted view would lose the layout)."""
    return images.permute(0, 2, 3, 1)[chosen].permute(0, 3, 1, 2)


def scales(members: Iterable[Member], data: Dataset, device: torch.device) -> dict[Member, tuple[Tensor, Tensor]]:
    """Each member's mean and standard deviation, float32 [3, 1, 1], with which its images are normalised."""
    made: dict[tuple[Technique, ...], tuple[Tensor, Tensor]] = {}  # one pair for all that share it
    found = {}
    for member in members:
        techniques = _overriding(member.recipe, "standardise")
        if techniques not in made:
            mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (data.mean, data.std))
            for technique in techniques:
                mean, std = technique.standardise(mean, std)
            made[techniques] = (mean, std)
        found[member] = made[techniques]
    return found


def _overriding(recipe: Recipe, *hooks: str) -> tuple[Technique, ...]:
    return tuple(t for t in recipe.techniques if any(overrides(t, hook) for hook in hooks))


def _batch_of(member: Member) -> Shared:
    """Members that agree on this are trained on the very same batches."""
    seeds = tuple(member.seed_of(purpose) for purpose in (SPLIT, ORDER, AUGMENTATION))
    return seeds, _overriding(member.recipe, "order", "augment", "augment_by_epoch", "standardise", "mix")


def _order_of(member: Member) -> Shared:
    """Members that agree on this visit the training images in the same order."""
    return (member.seed_of(SPLIT), member.seed_of(ORDER)), _overriding(member.recipe, "order")


def _sites(network: torch.nn.Module) -> list[tuple[str, DropoutSite]]:
    return [(name, module) for name, module in network.named_modules() if isinstance(module, DropoutSite)]


def _slots(fleet: Fleet) -> list[Slot]:
    """The names of all draws of a step.

    Batches are drawn by seed, so that arms of one seed see the same crops; masks by member, so that members are masked
    independently of each other.
    """
    slots: dict[Slot, None] = {}
    for member, network in zip(fleet.members, fleet.networks, strict=True):
        for technique in _overriding(member.recipe, "augment", "augment_by_epoch", "mix"):
            slots[member.seed_of(AUGMENTATION), technique.name] = None
        for technique in _overriding(member.recipe, "mask"):
            for site, _ in _sites(network):
                slots[_mask_slot(member, technique, site)] = None
    return list(slots)


def _mask_slot(member: Member, technique: Technique, site: str) -> Slot:
    return member.seed_of(MASKS), member.trained_digest, technique.name, site


def _on(device: torch.device) -> bool:
    return device.type == "cuda"
