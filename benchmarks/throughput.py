"""Training images per second: the notebook's own loop, one run of the engine, and a fleet, side by side.

`make bench`, or `python -m benchmarks.throughput`. Needs neither MLflow nor Optuna, but for the cost of tracking, which
is left out where MLflow is not installed. The contenders take turns in every repeat, so that a machine that slows down
does so for all of them; ratios are formed within a repeat. Augmentation, dropout, weight decay, schedule and Adam are
on for everyone: it is the notebook's recipe. The machine's section of `benchmarks/RESULTS.md` is written anew.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import psutil
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms

from ablations import catalog, schema
from ablations.profiles import PROFILES
from ablations.recipe import Recipe
from benchmarks.results import RESULTS, record
from study.data import Dataset, load
from study.engine import Epoch, Training
from study.fleet import Member
from study.home import Home
from study.provenance import provenance
from study.sizing import fleet_size, with_precision
from study.workers import default_workers, train_fleets

NOTEBOOK, ALONE, FLEET = "notebook's loop", "engine, one run", "engine, fleet"
TIMED_IMAGES = {"cpu": 1_536, "cuda": 45_000}
"""Images of an epoch: six of the notebook's batches on a CPU, where one takes up to a second; all of them on a GPU."""

CURVE = {"cpu": (1, 2, 4, 8, 16), "cuda": (1, 2, 4, 8, 16, 32, 64)}
CURVE_STEPS = {"cpu": 5, "cuda": 50}


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
    seconds_per_run: float
    """Of the profile's full budget, at the median rate: training alone, without evaluation."""


@dataclass(frozen=True)
class Start:
    """What a call of the workers cost beside training."""

    first_step: float
    """Seconds from hiring the workers to the first step."""
    memory: float
    """Peak memory in GiB: the largest worker's resident set, on a GPU what is taken of the device."""


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


def fleet_rate(
    recipe: Recipe, data: Dataset, device: torch.device, workers: int, size: int, starts: list[Start]
) -> float:
    """Images per second of all workers together, each with a fleet of its own, as `ablate run` has them."""
    assert data.folder is not None
    fleets = [[Member(recipe, worker * size + k) for k in range(size)] for worker in range(workers)]
    rates: dict[int, float] = {}
    began, first_step, memory = time.perf_counter(), 0.0, 0.0
    for event in train_fleets(fleets, data.folder, str(device), workers):
        if not isinstance(event, Epoch):
            continue
        rate = event.metrics[schema.IMAGES_PER_SECOND]
        if not first_step:
            first_step = time.perf_counter() - began - size * recipe.budget.train_images / rate
        if event.epoch == recipe.budget.epochs:
            rates[event.member.seed // size] = rate
            memory = max(memory, _memory(device))
    starts.append(Start(first_step, memory))
    return sum(rates.values())


def _memory(device: torch.device) -> float:
    """GiB taken at the moment: of the GPU, or by the largest process hired by this one."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return (total - free) / 2**30
    return max((p.memory_info().rss for p in psutil.Process().children(recursive=True)), default=0) / 2**30


def cost_curve(recipe: Recipe, data: Dataset, device: torch.device) -> Iterator[tuple[int, float]]:
    """Fleet size and milliseconds per member and step, in this process with one thread, doubling while it fits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for size in CURVE[device.type]:
            members = [Member(recipe, seed) for seed in range(size)]
            try:
                yield size, 1000 * Training(members, data, device).time_steps(CURVE_STEPS[device.type]) / size
            except torch.OutOfMemoryError:
                return
    finally:
        torch.set_num_threads(threads)


def tracking_share(data: Dataset, workers: int) -> dict[str, float]:
    """What logging to MLflow costs, with the quick profile's recipe: two fleets of the techniques plan, for real.

    Share of the coordinator's processor time in that of all processes; the coordinator does nothing but log and wait.
    """
    from study.runner import Invocation, run
    from study.tracking import open_store

    profile = PROFILES["quick"]
    plan = catalog.make_plan("techniques", profile.apply(catalog.notebook_recipe()), profile, (0,))
    invocation = Invocation(plan, profile, data, torch.device("cpu"), workers)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Home(Path(folder)))
        store.experiment(plan.name, data)  # the tables of a fresh store are not made again in every run
        children = _children_seconds()
        own, wall = time.process_time(), time.perf_counter()
        run(invocation, store, {}, lambda progress: None)
        own, wall = time.process_time() - own, time.perf_counter() - wall
        children = _children_seconds() - children
    return {"coordinator": own, "workers": children, "wall": wall, "share": own / (own + children)}


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(
    size: str,
    contenders: dict[tuple[str, str], Callable[[], float]],
    repeats: int,
    images_per_run: int,
    say: Callable[[str], None],
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
            statistics.median(ratios), min(ratios), max(ratios), images_per_run / statistics.median(values),
        )  # fmt: skip


def contenders(profile: str, data: Dataset, device: torch.device, workers: int, starts: list[Start]):
    """What is compared at a profile's network and batch size: its name, the recipe, and the contenders."""
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
    # bf16 where a run would use it: always on a GPU, on a CPU where a trial says that it is faster.
    auto = with_precision(recipe.set("budget.precision=auto"), device).budget.precision
    for precision in dict.fromkeys(("fp32", auto)):
        cast = recipe.set(f"budget.precision={precision}")
        size = fleet_size(cast, data, device)
        found[ALONE, precision] = partial(alone_rate, cast, data, device)
        found[f"{FLEET} of {size}", precision] = partial(fleet_rate, cast, data, device, workers, size, starts)
    return f"width × {recipe.model.width:g}, batch {budget.batch_size}", recipe, found


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| network | contender | arithmetic | n | training images per second | ratio to the notebook's loop "
        "| seconds per run |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.size} | {r.contender} | {r.precision} | {r.n} | {r.median:,.0f} ({r.lowest:,.0f} to {r.highest:,.0f}) "
        f"| {r.ratio:.2f} ({r.ratio_lowest:.2f} to {r.ratio_highest:.2f}) | {_rounded(r.seconds_per_run)} |"
        for r in rows
    ]
    return "\n".join(lines)


def curve_table(curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Milliseconds per member and step by fleet size, as Markdown."""
    sizes = [size for size, _ in max(curves.values(), key=len)]
    lines = ["| network | " + " | ".join(f"K = {s}" for s in sizes) + " |", "|---" * (len(sizes) + 1) + "|"]
    for name, points in curves.items():
        cells = [_rounded(ms) for _, ms in points] + [""] * (len(sizes) - len(points))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine(facts: Mapping[str, str]) -> str:
    """What a machine is called in the results."""
    place = facts["device"] if facts["device"] != "cpu" else f"{facts['processor']}, {facts['cores']} cores, no GPU"
    return place.strip()


def main() -> None:
    """Measure, print, and write the figures under the output folder and to RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, help="worker processes of the fleet [default: as `ablate run`]")
    parser.add_argument("--profiles", nargs="+", choices=sorted(PROFILES), help="whose network and batch size")
    parser.add_argument("--data", help="as for `ablate run` [default: ABLATE_DATA, cached or downloaded]")
    parser.add_argument("--results", type=Path, default=RESULTS, help="Markdown file whose section is written anew")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    on_gpu = device.type == "cuda"
    workers = arguments.workers or default_workers(device)
    home = Home()
    data = load(arguments.data or os.environ.get("ABLATE_DATA"), home.data)
    facts = provenance(device, workers)
    rows: list[Row] = []
    starts: dict[str, list[Start]] = {}
    curves: dict[str, list[tuple[int, float]]] = {}
    for profile in arguments.profiles or (["full"] if on_gpu else ["full", "quick"]):
        begun: list[Start] = []
        size, recipe, found = contenders(profile, data, device, workers, begun)
        budget = PROFILES[profile].budget
        images = budget.epochs * budget.train_images
        rows += measure(size, found, arguments.repeats, images, lambda text: print(text, flush=True))
        starts[size] = begun
        curves[f"{size}, fp32"] = list(cost_curve(recipe, data, device))
        if on_gpu:
            curves[f"{size}, bf16"] = list(cost_curve(recipe.set("budget.precision=bf16"), data, device))
    parts = [
        f"{facts['processor']}, {facts['cores']} cores; device {facts['device']}, {facts['workers']} worker(s); "
        f"Python {facts['python']}, torch {facts['torch']}, torchvision {facts['torchvision']}; {data.name}. "
        f"Median (lowest to highest) of n repeats in which the contenders took turns.",
        table(rows),
        "Milliseconds per member and step, by members in lockstep (one process"
        + ("" if on_gpu else ", one thread")
        + "):",
        curve_table(curves),
        "\n".join(
            f"- {size}: {statistics.median(s.first_step for s in begun):.1f} s from hiring the workers to the first "
            f"step, peak memory {max(s.memory for s in begun):.2f} GiB {'on the GPU' if on_gpu else 'per worker'}."
            for size, begun in starts.items()
        ),
    ]
    tracking: dict[str, float] = {}
    if not on_gpu and importlib.util.find_spec("mlflow"):
        tracking = tracking_share(data, workers)
        parts[-1] += (
            f"\n- Tracking, in a real run of 14 trainings of the quick profile ({tracking['wall']:.0f} s): "
            f"{tracking['coordinator']:.2f} s of processor time beside the workers' {tracking['workers']:.0f} s, "
            f"{100 * tracking['share']:.2f} %."
        )
    text = "\n\n".join(parts)
    folder = home.folder / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "throughput.md").write_text(text + "\n")
    raw = {"facts": facts, "rows": [asdict(r) for r in rows], "curves": curves, "tracking": tracking}
    (folder / "throughput.json").write_text(json.dumps(raw, indent=1))
    record(arguments.results, f"Throughput: {machine(facts)}", text)
    print(f"\n{text}\n\nWritten to {home.shown(folder / 'throughput.md')} and {arguments.results}")


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
