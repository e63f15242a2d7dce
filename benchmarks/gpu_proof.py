"""Proves the way to a GPU without one: `make gpu-proof`.

Fleets train twice: step by step, and on a GPU that a CPU plays (`emulated_gpu`), where every step is captured and
replayed on eight streams. All that is reported of every member, and its weights, must agree bit for bit, with no race
and nothing forbidden. What a step launches and moves is counted beside it (`gpu_counts`), with the time that the bytes
alone would take. `benchmarks/RESULTS.md` has the table; what a GPU says is measured by `make bench DEVICE=cuda`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is first imported

import numpy as np
import torch

from benchmarks.emulated_gpu import EmulatedGpu
from benchmarks.results import RESULTS, described, facts, record
from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.data.dataset import Dataset, load
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.training import lockstep
from cifar_ablations.study.training.backend import TorchBackend
from cifar_ablations.study.training.engine import Epoch, Outcome
from cifar_ablations.study.training.fleet import Member, same_shape
from cifar_ablations.study.training.lockstep import Training

CPU = torch.device("cpu")
SMALL = {
    "torch": ("train_images=40", "validation_images=16", "test_images=32", "batch_size=16", "epochs=3"),
    "kernels": ("train_images=10", "validation_images=8", "test_images=8", "batch_size=4", "epochs=2"),
}
"""By backend the budget: two whole batches and a smaller one in each epoch. Triton's interpreter takes its time."""
NETWORKS = {
    "notebook": ("model.name=notebook",),
    "notebook, normalised": ("model.name=notebook", "normalisation=on"),
    "resnet9": ("model.name=resnet9",),
}
TIMES = {schema.SECONDS, schema.IMAGES_PER_SECOND}


@dataclass(frozen=True)
class Case:
    """A fleet to be proved, and by which backend it trains."""

    name: str
    members: tuple[Member, ...]
    by: str


@dataclass(frozen=True)
class Proof:
    """What came of a case."""

    case: Case
    differing: int
    """Numbers that were reported, and matrices, that are not the same bit for bit."""
    captures: int
    replays: int
    operations: int
    races: tuple[str, ...]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether everything was captured, is equal, and has no race."""
        return not self.differing and not self.races and self.captures > 0 and self.replays > 0


def cases(names: Sequence[str], backends: Sequence[str] = ("torch", "kernels")) -> Iterator[Case]:
    """Mixed fleets of the notebook's network and of others, at levels that take turns, some of which end early."""
    for name in names:
        for precision in ("fp32", "bf16"):
            for by in backends:
                recipe = catalog.notebook_recipe().set("model.width=0.05").set(f"budget.precision={precision}")
                for setting in (*NETWORKS[name], *(f"budget.{size}" for size in SMALL[by])):
                    recipe = recipe.set(setting)
                members = tuple(Member(one, seed) for seed, one in enumerate(_mixed(recipe)))
                yield Case(f"{name}, {precision}", members, by)


def _mixed(recipe: Recipe) -> Iterator[Recipe]:
    """Recipes of one shape: every technique in turn at each of its levels; one diverges, one stops."""
    techniques = list(catalog.techniques().values())
    for turn in range(max(len(cls.levels) for cls in techniques)):
        one = recipe
        for place, cls in enumerate(techniques):
            changed = one.with_technique(cls.at(list(cls.levels)[(turn + place) % len(cls.levels)]))
            one = changed if same_shape(changed) == same_shape(recipe) else one  # others change what a fleet shares
        yield one
    yield recipe.set("optimizer=off").set("optimizer.rate=100")
    yield recipe.set("early_stopping=on").set("optimizer.rate=0.5")


def prove(case: Case, data: Dataset, during: Callable[[Training], None] = lambda training: None) -> Proof:
    """Train a case both ways; during: is given the training on the played GPU before it begins, to spoil it."""
    plain, reported = _train(case, data)
    began = time.perf_counter()
    with EmulatedGpu() as gpu:
        played, heard = _train(case, data, during)
    took = time.perf_counter() - began
    differing = sum(repr(one) != repr(other) for one, other in zip(reported, heard, strict=False))
    differing += abs(len(reported) - len(heard))
    for name, matrix in plain.fleet.state().items():
        other = played.fleet.state()[name]
        differing += matrix.shape != other.shape or not torch.equal(matrix, other)
    return Proof(case, differing, gpu.captures, gpu.replays, gpu.operations, tuple(gpu.races), took)


def _train(
    case: Case, data: Dataset, during: Callable[[Training], None] = lambda training: None
) -> tuple[Training, list[Any]]:
    """The training at its end, and all that it reported but times."""
    from cifar_ablations.study.training.gpu.gpu_backend import GpuBackend

    def backend(name: str, fleet: Any, device: torch.device) -> Any:
        return GpuBackend(fleet, device) if case.by == "kernels" else TorchBackend(fleet, device)

    # Triton's interpreter computes with NumPy what no lane of a GPU would store.
    with mock.patch.object(lockstep, "backend_of", backend), np.errstate(all="ignore"):
        training = Training(case.members, data, CPU)
        during(training)
        events: list[Epoch | Outcome] = []
        while training.epoch < training.budget.epochs and training.fleet.members:
            events += training.run_epoch()
    return training, [_numbers(event) for event in events]


def _numbers(event: Epoch | Outcome) -> Any:
    metrics = {name: value for name, value in event.metrics.items() if name not in TIMES}
    return type(event).__name__, event.member.digest, event.member.seed, metrics


def main() -> int:
    """Prove every case, print, and write the section; exit code 1 where one does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=[*NETWORKS], default=[*NETWORKS])
    parser.add_argument("--by", nargs="+", choices=["torch", "kernels"], default=["torch", "kernels"])
    parser.add_argument("--data", default="synthetic")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = load(arguments.data, Home().data)
    lines = [
        "| fleet | by | members | captures | replays | operations on streams | races | differing numbers | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    proofs = []
    for case in cases(arguments.networks, arguments.by):
        proof = prove(case, data)
        proofs.append(proof)
        lines.append(
            f"| {case.name} | {case.by} | {len(case.members)} | {proof.captures} | {proof.replays} "
            f"| {proof.operations:,} | {len(proof.races)} | {proof.differing} | {proof.seconds:.0f} |"
        )
        print(lines[-1], flush=True)
        for race in proof.races[:3]:
            print(f"  {race}")
    text = (
        "Every fleet has each technique at each of its levels in turn, a member at a rate of 100 and one that may stop "
        "early, and a smaller last batch in each of its three epochs (two by the kernels). Two batch sizes are two "
        "captures: where there are more, members have left. "
        f"{described(facts(CPU, 1))}.\n\n" + "\n".join(lines)
    )
    record(arguments.results, "On a GPU that a CPU plays: captured and replayed against step by step", text)
    return 0 if all(proof.holds for proof in proofs) else 1


if __name__ == "__main__":
    sys.exit(main())
