"""Does a plain program find what the suite finds? A recipe's script and the engine, over seeds of their own.

`python -m benchmarks.script_equality` writes the notebook's recipe, or the adopted ones that `--baseline` names, as
`ablate script` does, trains the program and the engine on the same images, and writes a table: the mean test accuracy
of each over seeds that are fixed beforehand, their difference, and the two one-sided t tests (Schuirmann 1987, of
unequal variances) of whether it lies within one percentage point. The two share no draws, so seeds are not paired.
The program is run as a person would run it, on a folder of PNG files that holds the data set's own pixels.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.results import RESULTS, described, facts, machine, record
from cifar_ablations.ablations import schema
from cifar_ablations.ablations.plain.program import program
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.commands.script import ScriptRequest, recipe_of
from cifar_ablations.study.data.dataset import Dataset, load, open_cached
from cifar_ablations.study.execution.backends import choose_backend
from cifar_ablations.study.execution.workers import default_workers
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.training.engine import Epoch, Outcome, train
from cifar_ablations.study.training.fleet import Member

CPU = torch.device("cpu")
MARGIN = 0.01
"""As a share of the test images: differences within it do not matter here."""
COLUMNS = (
    "recipe",
    "script",
    "suite",
    "difference",
    "90 % interval",
    "p of the two tests",
    f"within {100 * MARGIN:g} pp",
)


class Comparison(NamedTuple):
    """Test accuracies, as shares: means, their difference script - suite, its interval, and the larger p of the two."""

    script: float
    suite: float
    difference: float
    low: float
    high: float
    p: float

    @property
    def equivalent(self) -> bool:
        """Whether the difference lies within the margin, at 5 %: the 90 % interval does too."""
        return self.p <= 0.05


def compared(script: Sequence[float], suite: Sequence[float]) -> Comparison:
    """Accuracies of two groups of runs by Welch's t, as statsmodels has it; at least two of each, not all equal."""
    from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

    groups = CompareMeans(DescrStatsW(np.asarray(script)), DescrStatsW(np.asarray(suite)))
    low, high = groups.tconfint_diff(alpha=0.1, usevar="unequal")
    p = groups.ttost_ind(-MARGIN, MARGIN, usevar="unequal")[0]
    a, b = float(np.mean(script)), float(np.mean(suite))
    return Comparison(a, b, a - b, float(low), float(high), float(p))


def as_folder(data: Dataset, folder: Path) -> None:
    """Write a data set's training and test images as PNG files below train/<class>/ and test/<class>/."""
    from PIL import Image

    for split, images, labels in (
        ("train", data.train_images, data.train_labels),
        ("test", data.test_images, data.test_labels),
    ):
        for name in data.classes:
            (folder / split / name).mkdir(parents=True)
        pixels = images.permute(0, 2, 3, 1).numpy()
        for number, label in enumerate(labels.tolist()):
            file = folder / split / data.classes[label] / f"{number:05}.png"
            Image.fromarray(pixels[number]).save(file, compress_level=1)


def by_the_script(file: Path, folder: Path, seed: int) -> float:
    """Test accuracy of the program with a seed, on one thread; NaN where it diverged."""
    command = [sys.executable, str(file), "--data", str(folder), "--seed", str(seed)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=file.parent)
    if done.stderr.startswith("diverged"):
        return np.nan
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(json.loads(done.stdout.splitlines()[-1])[schema.TEST_ACCURACY])


def by_the_suite(data: Path, recipe: Recipe, seeds: Sequence[int]) -> list[float]:
    """Test accuracy of each seed's training by the engine, on one thread; NaN where it diverged."""
    torch.set_num_threads(1)
    ends: dict[int, float] = {}

    def report(event: Epoch | Outcome) -> None:
        if isinstance(event, Outcome):
            ends[event.member.seed] = event.metrics.get(schema.TEST_ACCURACY, np.nan)

    dataset = open_cached(data)
    backend = choose_backend([recipe], CPU, len(dataset.classes), 1).name
    train([Member(recipe, seed) for seed in seeds], dataset, CPU, report, backend=backend)
    return [ends[seed] for seed in seeds]


def main() -> None:
    """Train, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="quick")
    parser.add_argument(
        "--baseline", action="append", default=[], help="an adopted recipe; repeatable (default: the notebook's)"
    )
    parser.add_argument("--set", action="append", default=[], help="a setting of all of them; repeatable")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0, help="fresh ones, to confirm a finding")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error(f"--seeds must be at least 2, not {arguments.seeds}")
    home, workers = Home(), default_workers(CPU)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    requests = [ScriptRequest(arguments.profile, name, arguments.set) for name in arguments.baseline or [None]]
    recipes = {request.called: recipe_of(home, request) for request in requests}
    data = load(os.environ.get("ABLATE_DATA"), home.data)
    assert data.folder is not None
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as suite,
        ThreadPoolExecutor(workers) as scripts,
    ):
        place = Path(folder)
        own = [suite.submit(by_the_suite, data.folder, recipe, seeds) for recipe in recipes.values()]
        as_folder(data, place / "images")
        ran: list[list[Future[float]]] = []
        for number, (called, recipe) in enumerate(recipes.items()):
            file = place / f"train_{number}.py"
            file.write_text(program(recipe, called=called), encoding="utf-8")
            ran.append([scripts.submit(by_the_script, file, place / "images", seed) for seed in seeds])
        lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
        for called, of_suite, of_script in zip(recipes, own, ran, strict=True):
            lines.append(row(called, [future.result() for future in of_script], of_suite.result()))
            print(lines[-1], flush=True)
    about, recipe = facts(CPU, workers), next(iter(recipes.values()))
    text = (
        f"Test accuracy, mean and standard deviation of {len(seeds)} seeds each, from {seeds[0]} on; "
        f"width × {recipe.model.width:g}, {recipe.budget}; {described(about)}; {data.name}.\n\n"
    )
    title = f"By a plain program and by the suite, {len(seeds)} seeds from {seeds[0]} on, {', '.join(recipes)}"
    record(arguments.results, f"{title}: {machine(about)}", text + "\n".join(lines))


def row(called: str, script: Sequence[float], suite: Sequence[float]) -> str:
    """A recipe's row of the table; runs that diverged are counted and have no accuracy."""
    ended = [[x for x in group if np.isfinite(x)] for group in (script, suite)]
    diverged = [
        f"{len(of) - len(left)} diverged" if len(left) < len(of) else ""
        for of, left in zip((script, suite), ended, strict=True)
    ]
    if min(map(len, ended)) < 2:
        return f"| {called} | {diverged[0]} | {diverged[1]} | | | | |"
    found = compared(*ended)
    means = [
        " ".join([f"{100 * np.mean(group):.2f} ± {100 * np.std(group, ddof=1):.2f} %", lost]).strip()
        for group, lost in zip(ended, diverged, strict=True)
    ]
    interval = f"{100 * found.low:+.2f} to {100 * found.high:+.2f}"
    answer = "yes" if found.equivalent else "not shown"
    return (
        f"| {called} | {' | '.join(means)} | {100 * found.difference:+.2f} pp | {interval} | {found.p:.2g} | {answer} |"
    )


if __name__ == "__main__":
    main()
