"""The contenders: the notebook's own loop, one run of the engine, and fleets, all training the notebook's recipe.

Every clock starts on an idle device and is read after the device is idle again. What happens only once is not within
it: the choice of cuDNN's kernels, the capture of CUDA graphs, and start-up fall into an epoch before the timed one.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.deadline import Deadline
from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.execution.events import Failed, Stalled
from cifar_ablations.study.execution.workers import train_fleets
from cifar_ablations.study.training.engine import Epoch, Training
from cifar_ablations.study.training.fleet import Member

WARM_UP_IMAGES = 1_536
"""Of the notebook's loop, before its timed epoch."""

NOT_CAPTURED = "this network cannot be captured"
"""The beginning of the engine's warning where it trains on without a CUDA graph; here it is an error."""

MEMBER_STEPS = {"cpu": 16, "cuda": 1_280}
"""Steps of members in a timed epoch of the cost by fleet size, and the fewest steps of a fleet."""
LEAST_STEPS = {"cpu": 2, "cuda": 20}
CURVE_EPOCHS = {"cpu": 2, "cuda": 3}


@dataclass(frozen=True)
class Contender:
    """A way to train, which has a turn in every repeat.

    `rate` measures training images per second; it raises OutOfTimeError at the deadline.
    """

    name: str
    precision: str
    rate: Callable[[Deadline], float]


@dataclass(frozen=True)
class Call:
    """The cost of a call of the workers beside training, and whether a fleet was halved to fit into memory."""

    first_step: float
    """Seconds from the start of the workers to the first step."""
    memory: float | None
    """Peak memory in GiB: of the largest worker, or what it takes of the GPU. None where the system does not tell."""
    halved: bool


class ImageFiles(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """The data set as torchvision's CIFAR10 serves it: a PIL image at a time, through the transforms."""

    def __init__(self, data: Dataset, count: int):
        from torchvision import transforms  # it takes seconds to import, which workers would spend before they start

        self._pixels = data.train_images[:count].permute(0, 2, 3, 1).numpy()
        self._labels = data.train_labels[:count].tolist()
        self._transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(data.mean, data.std),
            ]
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._pixels[index])), self._labels[index]


def notebook_rate(recipe: Recipe, data: Dataset, device: torch.device, deadline: Deadline) -> float:
    """Images per second of the notebook's cell, word for word but for the width and the number of images."""
    budget = recipe.budget
    channels = [3, *(round(c * recipe.model.width) for c in (64, 128, 256, 256))]
    hidden = round(512 * recipe.model.width)
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2)]
    layers += [nn.Flatten(), nn.Linear(channels[-1] * 4, hidden), nn.ReLU(), nn.Dropout(0.5)]
    model = nn.Sequential(*layers, nn.Linear(hidden, len(data.classes))).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[12, 16], gamma=0.1)
    loss_function = nn.CrossEntropyLoss()
    model.train()
    with torchs_defaults():
        # What warms up, and what is timed; the loader's workers start anew with every epoch, as in the notebook.
        for count in (min(WARM_UP_IMAGES, budget.train_images), budget.train_images):
            loader = DataLoader(
                ImageFiles(data, count),
                batch_size=budget.batch_size,
                shuffle=True,
                pin_memory=device.type == "cuda",  # it has no effect elsewhere but a warning
                num_workers=2,
            )
            _wait_for(device)
            began = time.perf_counter()
            total = 0.0
            for images, labels in loader:
                images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
                optimizer.zero_grad()
                loss = loss_function(model(images), labels)
                loss.backward()
                optimizer.step()
                total += loss.item()
                deadline.check()
            scheduler.step()
            _wait_for(device)
            took = time.perf_counter() - began
    return budget.train_images / took


@contextmanager
def torchs_defaults() -> Iterator[None]:
    """cuDNN as torch sets it up, which is how the notebook has it; the engine's settings are back afterwards.

    That is TF32 within fp32 convolutions, and kernels that are not chosen by trying.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    ours = cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
    cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = False, True, False
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = ours


def alone_rate(recipe: Recipe, data: Dataset, device: torch.device, backend: str, deadline: Deadline) -> float:
    """Images per second of one member in this process, with all of torch's threads."""
    return _rates([Member(recipe, 0)], data, device, backend, 1, deadline)[0]


def fleet_rate(
    fleets: Sequence[Sequence[Member]],
    data: Dataset,
    device: torch.device,
    backend: str,
    calls: list[Call],
    deadline: Deadline,
) -> float:
    """Images per second of all workers together, each with a fleet of its own, as `ablate run` has them.

    Raises RuntimeError with the last line of what a worker said where one ends in an error.
    """
    assert data.folder is not None
    budget = fleets[0][0].recipe.sized.budget
    place = {member: index for index, fleet in enumerate(fleets) for member in fleet}
    rates: list[list[float]] = [[] for _ in fleets]
    free_memory(device)
    taken = _taken(device)
    began, first_step, memory = time.perf_counter(), 0.0, None
    workers = train_fleets(fleets, data.folder, str(device), len(fleets), backend=backend)
    with _capture_or_fail(), closing(workers) as events:
        for event in events:
            deadline.check()
            if isinstance(event, Failed | Stalled):
                raise RuntimeError(event.why.strip().rpartition("\n")[2])
            if not isinstance(event, Epoch):
                continue
            rate = event.metrics[schema.IMAGES_PER_SECOND]
            if not first_step:
                fleet = fleets[place[event.member]]
                first_step = time.perf_counter() - began - len(fleet) * budget.train_images / rate
            if event.epoch == budget.epochs:
                rates[place[event.member]].append(rate)
                memory = _peak(device, taken, memory)
    calls.append(Call(first_step, memory, any(len(set(of_fleet)) > 1 for of_fleet in rates)))
    return sum(in_turn(of_fleet) for of_fleet in rates)


def in_turn(rates: Sequence[float]) -> float:
    """The rate of a whole fleet from what each member reports of the part of it that was trained together.

    All report the same, and that is it, unless the fleet was halved and its halves trained one after the other.
    """
    return len(rates) / sum(1 / rate for rate in rates)


def member_milliseconds(
    members: Sequence[Member], data: Dataset, device: torch.device, backend: str, deadline: Deadline
) -> float:
    """Milliseconds per member and step of a fleet in this process: the median over epochs after one to warm up.

    Sets the members' number of images and epochs itself.
    """
    size = len(members)
    batch = members[0].recipe.budget.batch_size
    steps = max(LEAST_STEPS[device.type], MEMBER_STEPS[device.type] // size)
    steps = max(1, min(steps, len(data.train_labels) // batch))
    timed = CURVE_EPOCHS[device.type]
    images = min(steps * batch, len(data.train_labels))
    budget = replace(members[0].recipe.budget, epochs=timed + 1, train_images=images)
    resized = [replace(m, recipe=replace(m.recipe, budget=budget)) for m in members]
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)  # as a worker has it
    try:
        rates = _rates(resized, data, device, backend, timed, deadline)
    finally:
        torch.set_num_threads(threads)
    return 1000 * images / steps / statistics.median(rates)


def _rates(
    members: Sequence[Member], data: Dataset, device: torch.device, backend: str, epochs: int, deadline: Deadline
) -> list[float]:
    """Images per second of a fleet in this process, epoch by epoch, after one that warms up."""
    free_memory(device)
    rates = []
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=NOT_CAPTURED)
        training = Training(members, data, device, backend=backend)
        for _ in range(epochs + 1):
            deadline.check()
            epoch = training.run_epoch()[0]
            assert isinstance(epoch, Epoch)
            rates.append(epoch.metrics[schema.IMAGES_PER_SECOND])
    return rates[1:]


def fleets_of_seeds(recipe: Recipe, workers: int, size: int) -> list[list[Member]]:
    """A fleet for each worker, of seeds of one recipe: no two members share a batch, and all cost the same."""
    return [[Member(recipe, worker * size + k) for k in range(size)] for worker in range(workers)]


def fleets_of_plan(name: str, profile: str, recipe: Recipe, workers: int, size: int) -> list[list[Member]]:
    """The first fleet of each worker as `ablate run` packs a plan's trainings at a profile, around a recipe."""
    plan = catalog.make_plan(name, recipe, PROFILES[profile], tuple(range(PROFILES[profile].seeds)))
    found = dict.fromkeys(Member(arm.recipe, seed + arm.seed_offset) for seed in plan.seeds for arm in plan.arms)
    members = list(found)
    # Of equal size, and as many as keep all workers busy to the end.
    count = min(-(-len(members) // (workers * size)) * workers, len(members))
    bounds = [len(members) * i // count for i in range(count + 1)]
    return [members[a:b] for a, b in pairwise(bounds)][:workers]


def mix(fleets: Sequence[Sequence[Member]]) -> str:
    """The number of trainings, arms and seeds in a plan's fleets, in words."""
    members = [member for fleet in fleets for member in fleet]
    arms, seeds = len({m.digest for m in members}), len({m.seed for m in members})
    return f"{len(members)} trainings of {arms} arms and {seeds} {'seed' if seeds == 1 else 'seeds'}"


def free_memory(device: torch.device) -> None:
    """Give back what earlier fleets of this process held of the GPU."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


@contextmanager
def _capture_or_fail() -> Iterator[None]:
    """Workers started within it fail where a step cannot be captured: the rate without a graph is another one's."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = f"error:{NOT_CAPTURED}"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


def _taken(device: torch.device) -> float:
    """GiB that are taken of the GPU; 0 without one."""
    if device.type != "cuda":
        return 0.0
    free, total = torch.cuda.mem_get_info(device)
    return (total - free) / 2**30


def _peak(device: torch.device, taken: float, known: float | None) -> float | None:
    """GiB at the peak so far: of the GPU beyond what was taken, or of the largest process that this one has started."""
    if device.type == "cuda":
        return max(known or 0.0, _taken(device) - taken)
    found = [] if known is None else [known]
    for process in multiprocessing.active_children():
        with suppress(OSError):  # only Linux tells, and only of a process that is still there
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            found += [int(line.split()[1]) / 2**20 for line in lines if line.startswith("VmHWM")]
    return max(found, default=None)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
