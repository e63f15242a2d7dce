"""Training images per second: the notebook's own loop, one run of the engine, and a fleet, side by side.

`make bench`, or `python -m benchmarks.throughput`. Needs neither MLflow nor Optuna. The contenders take turns in every
repeat, so that a machine that slows down does so for all of them; ratios are formed within a repeat. Augmentation,
dropout, weight decay, schedule and Adam are on for everyone: it is the notebook's recipe.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms

from ablations import catalog, schema
from ablations.profiles import PROFILES
from ablations.recipe import Recipe
from study.data import Dataset, load
from study.engine import Epoch, Training
from study.fleet import Member
from study.home import Home
from study.provenance import provenance
from study.sizing import fleet_size
from study.workers import default_workers, train_fleets

NOTEBOOK, ALONE, FLEET = "notebook's loop", "engine, one run", "engine, fleet"
TIMED_IMAGES = {"cpu": 1_536, "cuda": 45_000}
"""Images of an epoch: six of the notebook's batches on a CPU, where one takes up to a second; all of them on a GPU."""


@dataclass(frozen=True)
class Row:
    """A contender's images per second over the repeats, and its ratio to the notebook's loop within each of them."""

    size: str
    contender: str
    precision: str
    n: int
    median: float
    lowest: float
    highest: float
    ratio: float
    ratio_lowest: float
    ratio_highest: float


class ImageFiles(torch.utils.data.Dataset):
    """The data set as torchvision's CIFAR10 serves it: a PIL image at a time, through the transforms."""

    def __init__(self, data: Dataset, count: int):
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

    def __getitem__(self, index: int):
        return self._transform(Image.fromarray(self._pixels[index])), self._labels[index]


def notebook_rate(recipe: Recipe, data: Dataset, device: torch.device) -> float:
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
    loader = DataLoader(
        ImageFiles(data, budget.train_images),
        batch_size=budget.batch_size,
        shuffle=True,
        pin_memory=device.type == "cuda",  # it has no effect elsewhere but a warning
        num_workers=2,
    )
    # The first epoch warms up; the workers start anew with every epoch, as they do in the notebook.
    for _ in range(2):
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
        scheduler.step()
        took = time.perf_counter() - began
    return budget.train_images / took


def alone_rate(recipe: Recipe, data: Dataset, device: torch.device) -> float:
    """Images per second of one member in this process, with all of torch's threads."""
    training = Training([Member(recipe, 0)], data, device)
    training.run_epoch()
    (epoch,) = training.run_epoch()
    assert isinstance(epoch, Epoch)
    return epoch.metrics[schema.IMAGES_PER_SECOND]


def fleet_rate(recipe: Recipe, data: Dataset, device: torch.device, workers: int) -> float:
    """Images per second of all workers together, each with a fleet of its own, as `ablate run` has them."""
    assert data.folder is not None
    size = fleet_size(recipe, data, device)
    fleets = [[Member(recipe, worker * size + k) for k in range(size)] for worker in range(workers)]
    rates: dict[int, float] = {}
    for event in train_fleets(fleets, data.folder, str(device), workers):
        if isinstance(event, Epoch) and event.epoch == recipe.budget.epochs:
            rates[event.member.seed // size] = event.metrics[schema.IMAGES_PER_SECOND]
    return sum(rates.values())


def measure(
    size: str, contenders: dict[tuple[str, str], Callable[[], float]], repeats: int, say: Callable[[str], None]
) -> Iterator[Row]:
    """Every contender once per repeat, in turn; the first one is what the others are compared with."""
    rates: dict[tuple[str, str], list[float]] = {key: [] for key in contenders}
    for repeat in range(repeats):
        for key, contender in contenders.items():
            rates[key].append(contender())
        say(f"  {size}, repeat {repeat + 1} of {repeats}: " + ", ".join(f"{v[-1]:,.0f}" for v in rates.values()))
    base = next(iter(rates.values()))
    for (name, precision), values in rates.items():
        ratios = [value / other for value, other in zip(values, base, strict=True)]
        yield Row(
            size, name, precision, repeats, statistics.median(values), min(values), max(values),
            statistics.median(ratios), min(ratios), max(ratios),
        )  # fmt: skip


def contenders(profile: str, data: Dataset, device: torch.device, workers: int) -> tuple[str, dict]:
    """What is compared at a profile's network and batch size, and its name."""
    recipe = PROFILES[profile].apply(catalog.notebook_recipe())
    budget = replace(
        recipe.budget,
        epochs=2,
        train_images=min(TIMED_IMAGES[device.type], len(data.train_labels)),
        validation_images=0,
        test_images=64,
        precision="fp32",
    )
    recipe = replace(recipe, budget=budget)
    found: dict[tuple[str, str], Callable[[], float]] = {
        (NOTEBOOK, "fp32"): lambda: notebook_rate(recipe, data, device)
    }
    for precision in ("fp32", "bf16") if device.type == "cuda" else ("fp32",):
        cast = recipe.set(f"budget.precision={precision}")
        found[ALONE, precision] = lambda r=cast: alone_rate(r, data, device)  # type: ignore[misc]
        found[FLEET, precision] = lambda r=cast: fleet_rate(r, data, device, workers)  # type: ignore[misc]
    return f"width × {recipe.model.width:g}, batch {budget.batch_size}", found


def table(rows: Sequence[Row], facts: dict[str, str]) -> str:
    """The rows and the machine as Markdown."""
    lines = [
        f"{facts['processor']}, {facts['cores']} cores; device {facts['device']}, {facts['workers']} worker(s); "
        f"Python {facts['python']}, torch {facts['torch']}, torchvision {facts['torchvision']}. "
        "Median (lowest to highest) of n repeats in which the contenders took turns.",
        "",
        "| network | contender | arithmetic | n | training images per second | ratio to the notebook's loop |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.size} | {r.contender} | {r.precision} | {r.n} | {r.median:,.0f} ({r.lowest:,.0f} to {r.highest:,.0f}) "
        f"| {r.ratio:.2f} ({r.ratio_lowest:.2f} to {r.ratio_highest:.2f}) |"
        for r in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and write the figures under the output folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, help="worker processes of the fleet [default: as `ablate run`]")
    parser.add_argument("--profiles", nargs="+", choices=sorted(PROFILES), help="whose network and batch size")
    parser.add_argument("--data", help="as for `ablate run` [default: ABLATE_DATA, cached or downloaded]")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    on_gpu = device.type == "cuda"
    workers = arguments.workers or default_workers(device)
    home = Home()
    data = load(arguments.data or os.environ.get("ABLATE_DATA"), home.data)
    facts = provenance(device, workers)
    rows: list[Row] = []
    for profile in arguments.profiles or (["full"] if on_gpu else ["full", "quick"]):
        size, found = contenders(profile, data, device, workers)
        rows += measure(size, found, arguments.repeats, lambda text: print(text, flush=True))
    text = table(rows, facts)
    folder = home.folder / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "throughput.md").write_text(text)
    (folder / "throughput.json").write_text(json.dumps({"facts": facts, "rows": [asdict(r) for r in rows]}, indent=1))
    print(f"\n{text}\nWritten to {home.shown(folder / 'throughput.md')}")


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
