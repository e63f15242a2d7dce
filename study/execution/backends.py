"""Chooses what computes a plan's or search's trainings: the kernels, where they know every network and are faster here.

All arms are computed by the same backend, so that what a technique changes is never what a backend rounds. What a timed
trial has found on a machine is kept there: noise does not change the choice from one call to the next.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import opened_atomically, parse_json
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.training import gpu, model
from cifar_ablations.study.training.backend import KERNELS, TORCH, backend_of
from cifar_ablations.study.training.fleet import Fleet, Member
from cifar_ablations.study.training.kernels import build
from cifar_ablations.study.training.kernels.kernel_backend import supports

AUTO = "auto"
NAMES = (AUTO, KERNELS, TORCH)

CPU = torch.device("cpu")
PROBE_IMAGES = 16
ROUNDS = 5
BF16_GAIN = 1.3
"""How much faster bf16 must be on a CPU to be chosen: well above the noise."""


@dataclass(frozen=True)
class BackendChoice:
    """A backend, and half a sentence that says why it is not the kernels, where they would be faster."""

    name: str
    why: str = ""


def check_name(asked: str) -> None:
    """Raise AblateError unless this is one of NAMES."""
    if asked not in NAMES:
        raise AblateError(f"no backend {asked!r}{did_you_mean(asked, NAMES)}")


def choose_backend(
    recipes: Iterable[Recipe], device: torch.device, classes: int, threads: int, asked: str = AUTO
) -> BackendChoice:
    """The backend for trainings of these recipes, whose precision is decided, in processes of so many threads.

    On a GPU the kernels know every network. Raises AblateError for an unknown name, or where the kernels are asked for
    and cannot be had.
    """
    check_name(asked)
    recipes = list(recipes)
    if asked != TORCH and device.type == "cuda":
        reason = gpu.obstacle(device)
        if reason and asked == KERNELS:
            raise AblateError(f"the kernels cannot be had here: {reason}; ask for the backend auto or torch")
        return BackendChoice(TORCH, reason) if reason else BackendChoice(KERNELS)
    in_fp32 = all(recipe.sized.budget.precision == "fp32" for recipe in recipes)
    if asked == TORCH or (asked == AUTO and not in_fp32):
        return BackendChoice(TORCH)
    if not in_fp32:
        raise AblateError("on a CPU the kernels compute in fp32; ask for the backend auto or torch")
    if reason := _obstacle(recipes, classes):
        if asked == KERNELS:
            raise AblateError(f"the kernels cannot train this: {reason}; ask for the backend auto or torch")
        return BackendChoice(TORCH, reason)
    if asked == AUTO:
        found = seconds_per_pass(recipes[0], classes, threads)
        if found[TORCH] < found[KERNELS]:
            return BackendChoice(TORCH)
    return BackendChoice(KERNELS)


def _obstacle(recipes: Iterable[Recipe], classes: int) -> str:
    """Why the kernels cannot train all of these, in half a sentence; "" if they can."""
    for recipe in recipes:
        if not supports(model.network_of(recipe, classes)):
            changing = [t.kind_title for t in recipe.techniques if model.normalises(t) or t.activation() is not None]
            named = f" with {' and '.join(changing)}" if changing else ""
            return f"the kernels do not know the network {recipe.model.name}{named}"
    try:
        build.library()
    except build.UnavailableError as reason:
        return str(reason)
    return ""


def with_precision(recipe: Recipe, device: torch.device, backend: str = AUTO) -> Recipe:
    """The recipe with its arithmetic decided: `auto` is bf16 on a GPU, and on a CPU where a timed trial favours it.

    backend: as it is asked for; bf16 is compared with fp32 by those that may be chosen.
    """
    if recipe.budget.precision != "auto":
        return recipe
    chosen = "bf16" if device.type == "cuda" or bf16_gain(recipe, backend) >= BF16_GAIN else "fp32"
    return replace(recipe, budget=replace(recipe.budget, precision=chosen))


def bf16_gain(recipe: Recipe, backend: str = AUTO) -> float:
    """How many times faster a pass of the recipe's network is in bf16 on this CPU than in fp32, by the best backend."""
    found = seconds_per_pass(_at(recipe, "fp32"), 10, 1)
    names = (TORCH,) if backend == TORCH else (TORCH, KERNELS)
    return min(found[name] for name in names if name in found) / found["bf16"]


def seconds_per_pass(recipe: Recipe, classes: int, threads: int) -> dict[str, float]:
    """Seconds of a forward and backward pass of PROBE_IMAGES images, by TORCH, by KERNELS where they can, and by torch
    in `bf16`: as they were measured when this machine was first asked.
    """
    network, library, folder = model.network_of(recipe, classes), "", None
    with suppress(build.UnavailableError):
        folder = build.cache_folder()
        library = build.library_path().name if supports(network) else ""
    about = [repr(network), torch.__version__, library, build.processor_key(), str(threads)]
    path = folder / f"trial-{build.digest(about)}.json" if folder else None
    if path and (known := _read(path, {TORCH, "bf16"} | ({KERNELS} if library else set()))):
        return known
    found = _measured(recipe, classes, bool(library), threads)
    if path:
        with suppress(OSError):  # then it is measured again the next time
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with opened_atomically(path) as file:
                file.write(json.dumps({"seconds": found, "of": about}).encode())
    return found


def _read(path: Path, names: set[str]) -> dict[str, float] | None:
    """The seconds of these names that were measured before; None where the file does not have them all."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        found = {name: float(parse_json(path.read_bytes())["seconds"][name]) for name in names}
        return found if all(0 < seconds < math.inf for seconds in found.values()) else None
    return None


def _measured(recipe: Recipe, classes: int, kernels: bool, threads: int) -> dict[str, float]:
    images = torch.randn(PROBE_IMAGES, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    targets = torch.eye(classes)[torch.arange(PROBE_IMAGES) % classes]
    passes = {}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)  # also asked by a backend when it is made
    try:
        for name, backend, precision in ((TORCH, TORCH, "fp32"), (KERNELS, KERNELS, "fp32"), ("bf16", TORCH, "bf16")):
            fleet = Fleet([Member(_at(recipe, precision), 0)], classes, CPU)
            if backend == TORCH or kernels:
                passes[name] = partial(backend_of(backend, fleet, CPU).gradients, 0, images, targets)
        taken: dict[str, list[float]] = {name: [] for name in passes}
        for _ in range(ROUNDS):  # in turn, so that a machine that slows down does so for all; the first one warms up
            for name, work in passes.items():
                began = time.perf_counter()
                work()
                taken[name].append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(before)
    return {name: statistics.median(seconds[1:]) for name, seconds in taken.items()}


def _at(recipe: Recipe, precision: str) -> Recipe:
    return replace(recipe, budget=replace(recipe.budget, precision=precision))
