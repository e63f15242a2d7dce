"""Training images per second: the notebook's own loop, one run of the engine, and fleets, side by side.

`make bench`, or `python -m benchmarks.throughput`. Needs torch with what it requires itself, torchvision, NumPy and
Pillow; only the cost of tracking, measured on a CPU, needs MLflow and is left out without it. The contenders take turns
in every repeat, so that a machine that slows down does so for all of them; ratios are formed within a repeat.
Augmentation, dropout, weight decay, schedule and Adam are on for everyone but the arms of a plan: it is the notebook's
recipe.

On a GPU it ends by itself after `--minutes`: what matters most is measured first, and what no longer fits is left out
and named. The machine's sections of `benchmarks/RESULTS.md` are written anew after every single measurement, so that
whoever stops it keeps all that was measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks import kernels, scaled_factorial
from benchmarks.comparison import CURVE, Comparison, Curve, curve_table, failure, rounded, table
from benchmarks.contenders import (
    Contender,
    alone_rate,
    fleet_rate,
    fleets_of_plan,
    fleets_of_seeds,
    free_memory,
    mix,
    notebook_rate,
)
from benchmarks.deadline import Deadline
from benchmarks.results import RESULTS, Facts, described, facts, machine, record
from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import write_atomically
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import ProvenanceRecord
from cifar_ablations.study.data.dataset import DataError, Dataset, load
from cifar_ablations.study.execution import workers as workers_module
from cifar_ablations.study.execution.backends import choose_backend, with_precision
from cifar_ablations.study.execution.sizing import LARGEST_FLEET, fleet_size
from cifar_ablations.study.execution.workers import default_workers
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.training.backend import KERNELS, TORCH
from cifar_ablations.study.training.fleet import Member

NOTEBOOK = "notebook's loop"
TIMED_IMAGES = {"cpu": 1_536, "cuda": 45_000}
"""Images of an epoch: six of the notebook's batches on a CPU, where one takes up to a second; all of them on a GPU."""
FLEET_IMAGES = {"cpu": 1_536, "cuda": 22_500}
"""The same for fleets, which see as many for each of their members."""

MINUTES = 9.0
"""On a GPU."""
COMPARING, CURVES, GPU_KERNELS = 0.7, 0.85, 0.95
"""Shares of the time after which no further repeat, fleet of the cost by fleet size, or row of kernels is begun."""


def comparison(profile: str, data: Dataset, device: torch.device, workers: int, images: int | None) -> Comparison:
    """The contenders at a profile's network and batch size; the most important comes first."""
    recipe = timed_recipe(profile, data, images or TIMED_IMAGES[device.type])
    fleets_recipe = timed_recipe(profile, data, images or FLEET_IMAGES[device.type])
    if device.type == "cuda":
        # In a plan's first epoch some arms diverge, after which those that stay are captured anew.
        fleets_recipe = fleets_recipe.set("budget.epochs=3")
    budget = PROFILES[profile].budget
    found = Comparison(size_name(recipe), budget.epochs * budget.train_images, [])
    found.contenders.append(Contender(NOTEBOOK, "fp32", partial(notebook_rate, recipe, data, device)))
    # bf16 where a run would use it: always on a GPU, on a CPU where a trial says that it is faster.
    auto = with_precision(recipe.set("budget.precision=auto"), device).budget.precision
    on_gpu, kernels_can = device.type == "cuda", _kernels_can(recipe, device, found.notes)
    kinds = [(precision, TORCH) for precision in dict.fromkeys((auto, "fp32"))]
    if kernels_can and on_gpu:
        kinds = [(auto, KERNELS), (auto, TORCH), ("fp32", KERNELS)]
    elif kernels_can:
        kinds.insert(0, ("fp32", KERNELS))
    fleet = _fleet_size(fleets_recipe.set(f"budget.precision={auto}"), data, device, kinds[0][1], found.notes)
    for precision, backend in kinds:
        engine = f"engine by {backend}"
        cast = recipe.set(f"budget.precision={precision}")
        rate = partial(alone_rate, cast, data, device, backend)
        found.contenders.append(Contender(f"{engine}, one run", precision, rate))
        cast = fleets_recipe.set(f"budget.precision={precision}")
        named: dict[str, list[list[Member]]] = {}
        first = (precision, backend) == kinds[0]
        plans = {"factorial": LARGEST_FLEET, "techniques": fleet} if on_gpu else {"techniques": fleet}
        if on_gpu and not first:
            del plans["techniques"]
        for plan, size in plans.items():
            fleets = fleets_of_plan(plan, profile, cast, workers, size)
            named[f"{engine}, fleet of {len(fleets[0])} of plan {plan}"] = fleets
            if first:
                found.notes.append(f"From plan {plan}, {mix(fleets)}, packed as `ablate run` does it.")
        if first or not on_gpu:
            named[f"{engine}, fleet of {fleet} seeds"] = fleets_of_seeds(cast, workers, fleet)
        for name, fleets in named.items():
            rate = partial(fleet_rate, fleets, data, device, backend, found.calls)
            found.contenders.append(Contender(name, precision, rate))
    return found


def timed_recipe(profile: str, data: Dataset, images: int) -> Recipe:
    """The notebook's recipe at a profile's network and batch size, over two epochs: one to warm up, one to time."""
    recipe = PROFILES[profile].apply(catalog.notebook_recipe())
    budget = replace(
        recipe.budget,
        epochs=2,
        train_images=min(images, len(data.train_labels)),
        validation_images=0,
        test_images=min(64, len(data.test_labels)),
        precision="fp32",
    )
    return replace(recipe, budget=budget)


def size_name(recipe: Recipe) -> str:
    """A network and batch size as the tables have them."""
    return f"width × {recipe.model.width:g}, batch {recipe.budget.batch_size}"


def curves(profile: str, data: Dataset, device: torch.device, images: int | None) -> list[Curve]:
    """The kinds of fleet whose cost by size is measured; the most important comes first."""
    recipe = timed_recipe(profile, data, images or TIMED_IMAGES[device.type])
    size, most = size_name(recipe), CURVE[device.type][-1]
    if device.type == "cpu":
        seeds = [Member(recipe, seed) for seed in range(most)]
        backends = [KERNELS, TORCH] if _kernels_can(recipe, device, []) else [TORCH]
        return [Curve(f"{size}, fp32, seeds, by {backend}", seeds, backend) for backend in backends]
    backend = KERNELS if _kernels_can(recipe, device, []) else TORCH
    bf16 = recipe.set("budget.precision=bf16")
    arms = fleets_of_plan("factorial", profile, bf16, 1, LARGEST_FLEET)[0]
    return [
        Curve(f"{size}, bf16, arms of plan factorial, by {backend}", arms, backend),
        Curve(f"{size}, bf16, seeds, by {backend}", [Member(bf16, seed) for seed in range(most)], backend),
        Curve(f"{size}, fp32, seeds, by {backend}", [Member(recipe, seed) for seed in range(most)], backend),
    ]


def _kernels_can(recipe: Recipe, device: torch.device, notes: list[str]) -> bool:
    """Whether the kernels can be measured here; where they cannot, a note says why."""
    try:
        choose_backend([recipe], device, 10, 1, KERNELS)
    except AblateError as error:
        notes.append(f"{error}.")
        return False
    return True


def _fleet_size(recipe: Recipe, data: Dataset, device: torch.device, backend: str, notes: list[str]) -> int:
    """The fleet size that `ablate run` would find, or the largest where finding it fails."""
    if device.type == "cpu":
        return fleet_size(recipe, data, device)
    began = time.monotonic()
    try:
        size = fleet_size(recipe, data, device, backend)
    except Exception as error:  # as in a comparison
        notes.append(f"Finding a fleet size: {failure(error)} {LARGEST_FLEET} was taken.")
        return LARGEST_FLEET
    finally:
        free_memory(device)
    notes.append(f"Fleet size {size}, found in {time.monotonic() - began:.1f} s and taken for fp32 as well.")
    return size


def tracking_share(data: Dataset, workers: int) -> dict[str, float]:
    """The cost of logging to MLflow, with the quick profile's recipe: two fleets of the techniques plan, for real.

    Share of the coordinator's processor time in that of all processes; the coordinator does nothing but log and wait.
    """
    from cifar_ablations.study.execution.runner import Invocation, run
    from cifar_ablations.study.store.tracking import open_store

    profile = PROFILES["quick"]
    plan = catalog.make_plan("techniques", profile.apply(catalog.notebook_recipe()), profile, (0,))
    invocation = Invocation(plan, profile=profile, data=data, device=torch.device("cpu"), workers=workers)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Home(Path(folder)))
        store.experiment(plan.name, data)  # the tables of a fresh store are not made again in every run
        children = _children_seconds()
        own, wall = time.process_time(), time.perf_counter()
        # As children of this process, whose processor time the system counts; forked ones are another's.
        with mock.patch.multiple(workers_module, start_method=lambda device: "spawn", prepare=lambda device: None):
            run(invocation, store, ProvenanceRecord(), lambda progress: None)
        own, wall = time.process_time() - own, time.perf_counter() - wall
        children = _children_seconds() - children
    return {"coordinator": own, "workers": children, "wall": wall, "share": own / (own + children)}


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@dataclass
class Book:
    """The files that figures are written to as they come: sections of the results, and all of them raw."""

    results: Path
    raw: Path
    facts: Facts
    figures: dict[str, Any] = field(default_factory=dict)

    def write(self, benchmark: str, text: str, figures: Any) -> None:
        """A benchmark's section, and its figures as JSON values."""
        self.figures[benchmark.lower()] = figures
        record(self.results, f"{benchmark}: {machine(self.facts)}", text)
        write_atomically(self.raw, json.dumps({"facts": asdict(self.facts), **self.figures}, indent=1).encode())


def write_comparisons(book: Book, found: Sequence[Comparison], data: Dataset) -> None:
    """The comparisons so far, as a section."""
    rows = [row for one in found for row in one.rows()]
    about = (
        f"{described(book.facts)}; {data.name}. Median (lowest to highest) of n repeats, in which contenders took turns"
    )
    said = [sentence for one in found for sentence in one.said()]
    if book.facts.device != "cpu":
        about += "; the notebook's fp32 has torch's TF32 in its convolutions, the engine's has none"
    text = "\n\n".join([about + ".", table(rows), "\n".join(said)])
    book.write("Throughput", text, {"rows": [asdict(row) for row in rows], "notes": said})


def write_factorial(book: Book, profile: str, data: Dataset, device: torch.device, end: Deadline) -> None:
    """How long a whole factorial takes, as a section."""
    of = PROFILES[profile].budget.epochs
    recipe = timed_recipe(profile, data, PROFILES[profile].budget.train_images).set("budget.precision=bf16")
    recipe = recipe.set(f"budget.epochs={max(2, of // scaled_factorial.SHARE)}")
    recipe = recipe.set(f"budget.test_images={min(PROFILES[profile].budget.test_images, len(data.test_labels))}")
    backend = KERNELS if _kernels_can(recipe, device, []) else TORCH
    try:
        packed = scaled_factorial.fleets(profile, recipe, LARGEST_FLEET)
        found = scaled_factorial.measured(packed, of, data, device, backend, end)
    except Exception as error:  # as in a comparison
        book.write("A whole factorial", f"{described(book.facts)}.\n\n- {failure(error)}", {})
        return
    _say(f"  {found.sentence()}")
    about = f"{described(book.facts)}; {size_name(recipe)}, bf16, by {backend}, one process, n = 1."
    book.write("A whole factorial", f"{about}\n\n{found.sentence()}", asdict(found))


def write_curves(book: Book, found: Sequence[Curve], device: torch.device) -> None:
    """The cost by fleet size so far, as a section."""
    place = "one process" if device.type == "cuda" else "one process, one thread"
    about = f"Milliseconds per member and step, by members in lockstep ({place}); {described(book.facts)}."
    notes = [note for curve in found for note in curve.notes]
    text = "\n\n".join([about, curve_table(found), "\n".join(notes)])
    book.write("Cost by fleet size", text, {"curves": {c.name: c.points for c in found}, "notes": notes})


def write_kernels(book: Book, device: torch.device, end: Deadline) -> None:
    """The table of kernels, written as it grows."""
    text = ""
    figures: list[dict[str, Any]] = []
    free_memory(device)
    try:
        for text, figures in kernels.measured(device, book.facts, end):
            book.write("Kernels", text, figures)
    except Exception as error:  # as in a comparison
        book.write("Kernels", f"{text}\n\n- {failure(error)}", figures)


def write_tracking(book: Book, data: Dataset, workers: int) -> None:
    """The cost of tracking, as a section."""
    found = tracking_share(data, workers)
    text = (
        f"{described(book.facts)}. In a real run of 14 trainings of the quick profile ({found['wall']:.0f} s): "
        f"{found['coordinator']:.2f} s of processor time beside the workers' {found['workers']:.0f} s, "
        f"{100 * found['share']:.2f} %."
    )
    book.write("Tracking", text, found)


def main() -> None:
    """Measure, and write the figures to RESULTS.md and under the output folder as they come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=("cpu", "cuda"), help="[default: cuda where torch finds one]")
    parser.add_argument(
        "--minutes", type=float, help=f"to end within [default: {MINUTES:g} on a GPU, no limit on a CPU]"
    )
    parser.add_argument("--workers", type=int, help="worker processes of the fleets [default: as `ablate run`]")
    parser.add_argument("--profiles", nargs="+", choices=sorted(PROFILES), help="whose network and batch size")
    parser.add_argument(
        "--images", type=int, help="of a timed epoch [default: 1,536; on a GPU 45,000, and 22,500 for fleets]"
    )
    parser.add_argument("--data", help="as for `ablate run` [default: ABLATE_DATA, cached or downloaded]")
    parser.add_argument("--results", type=Path, default=RESULTS, help="Markdown file whose sections are written anew")
    parser.add_argument("--raw", type=Path, help="JSON file [default: benchmarks/throughput.json in the output folder]")
    arguments = parser.parse_args()
    for name in ("repeats", "minutes", "workers", "images"):
        if getattr(arguments, name) is not None and getattr(arguments, name) <= 0:
            parser.error(f"--{name} must be positive, not {getattr(arguments, name):g}")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a CUDA device, and torch finds none; use --device cpu")
    device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    on_gpu = device.type == "cuda"
    minutes = arguments.minutes or (MINUTES if on_gpu else None)
    end = Deadline.after(minutes)
    compare_until = Deadline.after(minutes and COMPARING * minutes)
    curves_until = Deadline.after(minutes and CURVES * minutes)
    kernels_until = Deadline.after(minutes and GPU_KERNELS * minutes)
    workers = arguments.workers or default_workers(device)
    home = Home()
    raw = arguments.raw or home.folder / "benchmarks" / "throughput.json"
    try:
        data = load(arguments.data or os.environ.get("ABLATE_DATA"), home.data)
    except DataError as error:
        parser.error(str(error))
    book = Book(arguments.results, raw, facts(device, workers))
    profiles = arguments.profiles or (["full"] if on_gpu else ["full", "quick"])

    compared: list[Comparison] = []
    for profile in profiles:
        compared.append(comparison(profile, data, device, workers, arguments.images))
        save = partial(write_comparisons, book, compared, data)
        compared[-1].measure(arguments.repeats, end, compare_until, _say, save)
    if on_gpu and end.left > 0:
        write_factorial(book, profiles[0], data, device, curves_until)
    curved: list[Curve] = []
    for profile in profiles:
        for curve in curves(profile, data, device, arguments.images):
            curved.append(curve)
            curve.measure(data, device, curves_until, partial(write_curves, book, curved, device))
            _say(f"  Cost by fleet size, {curve.name}: " + ", ".join(rounded(ms) for ms in curve.points.values()))
    if on_gpu:
        write_kernels(book, device, kernels_until)
    elif importlib.util.find_spec("mlflow") and end.left > 0:
        write_tracking(book, data, workers)
    print(f"\nWritten to {os.path.relpath(arguments.results)} and {os.path.relpath(raw)}")


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
