"""What a technique costs: the time of a training with it, beside the bare recipe's.

`python -m benchmarks.step_cost` times steps of one training in one process, with one thread as a worker has it: the
bare recipe with each technique at each of its levels, and, beside each of them, the bare recipe from its first step on.
The two take turns, CHUNK steps each, so that a machine that slows down does so for both, and a ratio is formed of every
turn. On a CPU the clock is the process's own, which other programs disturb less. Validation and testing are not on the
clock.

The kernels of a CPU do not know every activation function; such a level is trained by torch, and compared with the bare
recipe by torch. The files in `results/` are `cost.csv`, a row per level, and `about.toml`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import tomlkit
import torch

from benchmarks.reference import ABOUT, RESULTS, as_csv, machine_here, real_images, write
from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.budget import Network
from cifar_ablations.ablations.designs import bare
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.profiles import PROFILES, profile
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.execution.backends import choose_backend, with_precision
from cifar_ablations.study.execution.workers import THREADS
from cifar_ablations.study.training.engine import Training
from cifar_ablations.study.training.fleet import Member

COST = "cost"
COSTS = "cost.csv"
CHUNK = 16
"""Steps of a turn."""
WARM_UP = 2
"""Steps that `Training.time_steps` takes before those that it counts."""


@dataclass(frozen=True)
class Contender:
    """The bare recipe with a technique at a level, and the backend that trains it."""

    technique: str
    level: str
    title: str
    recipe: Recipe
    backend: str


def contenders(
    plain: Recipe, techniques: Iterable[str], device: torch.device, classes: int, backend: str
) -> Iterator[Contender]:
    """Each technique at each of its levels, put into the bare recipe."""
    for name in techniques:
        cls = catalog.techniques()[name]
        for level in cls.levels:
            if level != "off":
                technique = cls.at(level)
                recipe = plain.with_technique(technique)
                by = choose_backend([recipe], device, classes, THREADS, backend).name
                yield Contender(name, level, technique.setting_title, recipe, by)


def row(one: Contender, plain: Recipe, data: Dataset, device: torch.device, repeats: int) -> dict[str, Any]:
    """A row of the file: seconds of a whole training with the technique and without, and their ratio.

    Each is the median over the turns, with the quartiles. The first turn warms up, and does not count.
    """
    recipes = {"seconds": one.recipe, "bare_seconds": plain}
    trainings = {
        name: Training([Member(recipe, 0)], data, device, backend=one.backend) for name, recipe in recipes.items()
    }
    taken: dict[str, list[float]] = {name: [] for name in recipes}
    for _ in range(repeats + 1):
        for name, training in trainings.items():
            taken[name].append(seconds_per_step(training, device) * _steps(recipes[name]))
    taken = {name: seconds[1:] for name, seconds in taken.items()}
    taken["ratio"] = [mine / other for mine, other in zip(taken["seconds"], taken["bare_seconds"], strict=True)]
    found: dict[str, Any] = {name: getattr(one, name) for name in ("technique", "level", "title", "backend")}
    found |= {"steps": _steps(one.recipe), "n": repeats}
    for name, values in taken.items():
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        found |= {name: median, f"{name}_low": low, f"{name}_high": high}
    return found


def _steps(recipe: Recipe) -> int:
    """Of a whole training."""
    budget = recipe.sized.budget
    return budget.epochs * budget.steps_per_epoch


def seconds_per_step(training: Training, device: torch.device) -> float:
    """Over CHUNK steps."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    began = clock()
    training.time_steps(CHUNK - WARM_UP)
    return (clock() - began) / CHUNK


def _about(
    plain: Recipe, size: str, data: Dataset, device: torch.device, repeats: int, backends: set[str]
) -> dict[str, Any]:
    return {
        "kind": COST,
        "profile": size,
        "date": datetime.now(UTC).date(),
        "network": str(plain.model),
        "budget": str(plain.budget),
        "repeats": repeats,
        "steps_of_a_repeat": CHUNK,
        "clock": "wall" if device.type == "cuda" else "process",
        "data": {"name": data.name, "digest": data.digest},
        **machine_here(device, sorted(backends)),
    }


def main() -> None:
    """Measure and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="quick", help=f"one of {', '.join(PROFILES)} [default: quick]")
    parser.add_argument("--repeats", type=int, default=15, help="turns that count [default: 15]")
    parser.add_argument("--network", default=Network.name, help="one of `ablate list` [default: notebook]")
    parser.add_argument("--techniques", nargs="+", help="those to be timed [default: all]")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="[default: cpu]")
    parser.add_argument("--backend", default="auto", help="as for `ablate run` [default: auto]")
    parser.add_argument("--data", help="as for `ablate run` [default: ABLATE_DATA, cached or downloaded]")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to write [default: results/]")
    asked = parser.parse_args()
    device = torch.device(asked.device)
    torch.set_num_threads(THREADS)
    try:
        baseline = profile(asked.profile).apply(catalog.notebook_recipe()).set(f"model.name={asked.network}")
        if unknown := sorted(set(asked.techniques or ()) - set(catalog.techniques())):
            catalog.notebook_recipe().without(unknown[0])  # which says what is near
        if asked.repeats < 2:
            raise AblateError(f"--repeats must be at least 2, not {asked.repeats}")
        plain = bare(with_precision(baseline, device, asked.backend))
        data = real_images(asked.data)
        rows = []
        for one in contenders(
            plain, asked.techniques or catalog.techniques(), device, len(data.classes), asked.backend
        ):
            rows.append(row(one, plain, data, device, asked.repeats))
            print("  {technique} {level}: {seconds:.1f} s, {ratio:.2f} times".format(**rows[-1]), flush=True)
    except AblateError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    about = _about(plain, asked.profile, data, device, asked.repeats, {str(found["backend"]) for found in rows})
    contents = {COSTS: as_csv(pd.DataFrame(rows)), ABOUT: tomlkit.dumps(about).encode()}
    of = "" if asked.network == Network.name else f"-{asked.network}"
    write(asked.results / f"{COST}-{asked.profile}-{asked.device}{of}", contents)


if __name__ == "__main__":
    main()
