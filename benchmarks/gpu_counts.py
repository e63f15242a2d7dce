"""Counts what a step launches and moves on a GPU, without one: `python -m benchmarks.gpu_counts`.

A fleet takes steps on a CPU, by torch's operations and by the kernels for a GPU. Every operation is counted as it is
dispatched, with the bytes of the tensors that it reads and writes; a kernel is counted by its launch, with what it
reads and writes once, and is not run. What an operation's own implementation moves beyond that (a convolution's
workspace) and what a cache spares are not seen: it is a count, not a time. The section of `benchmarks/RESULTS.md` is
written anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.results import RESULTS, record
from benchmarks.throughput import timed_recipe
from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.study.data.dataset import Dataset, load
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.training import lockstep
from cifar_ablations.study.training.backend import TorchBackend
from cifar_ablations.study.training.evaluation import Evaluator
from cifar_ablations.study.training.fleet import Member
from cifar_ablations.study.training.lockstep import Training

CPU = torch.device("cpu")
TWICE = {"_step": ("weights", "first", "second")}
"""By kernel, what is read and written; everything else is one of the two."""
UNREAD = {"_step": ("step_sizes", "root_corrections", "shrinkage")}
"""By kernel, of what a few numbers are read."""
BANDWIDTHS = {"H100": 3.35e12, "H200": 4.8e12}
"""Bytes a second of the memory of the models with SXM, by NVIDIA's data sheets."""
NEWER = ("optimizer=muon", "sharpness_aware=on", "weight_averaging=ema", "normalisation=on")
"""Techniques that add work to a step."""
NOTHING_MOVES = {"empty", "empty_like", "new_empty", "detach", "alias", "lift_fresh", "_unsafe_view", "_reshape_alias"}


@dataclass
class Counts:
    """Operations and bytes, before and after the members' branches and within them."""

    serial: int = 0
    serial_bytes: int = 0
    members: int = 0
    member_bytes: int = 0
    within: bool = field(default=False, repr=False)

    def add(self, moved: int) -> None:
        """One more operation."""
        if self.within:
            self.members += 1
            self.member_bytes += moved
        else:
            self.serial += 1
            self.serial_bytes += moved


class _Operations(TorchDispatchMode):
    def __init__(self, counts: Counts):
        super().__init__()  # type: ignore[no-untyped-call]
        self._counts = counts

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        found = function(*arguments, **(named or {}))
        if not function.is_view and function.overloadpacket.__name__ not in NOTHING_MOVES:
            tensors = [t for t in tree_leaves((arguments, named or {}, found)) if isinstance(t, Tensor)]
            self._counts.add(sum(map(_bytes, tensors)))
        return found


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


class _Launches:
    """Stands for a kernel: counts its launches."""

    def __init__(self, kernel: Any, counts: Counts):
        self._kernel, self._counts = kernel, counts

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        def launch(*arguments: Any, **named: Any) -> None:
            name = self._kernel.__name__
            given = dict(zip(self._kernel.arg_names, arguments, strict=False)) | named
            moved = 0
            for argument, value in given.items():
                if isinstance(value, Tensor) and argument not in UNREAD.get(name, ()):
                    moved += _bytes(value) * (2 if argument in TWICE.get(name, ()) else 1)
            self._counts.add(moved)
            if name == "_uniform":
                given["found"].numpy().fill(0)  # which images are indexed by

        return launch


@contextmanager
def counting(training: Training, counts: Counts) -> Iterator[None]:
    """Within it, what the fleet's steps do is counted, and its kernels are not run."""
    from cifar_ablations.study.training.gpu import blocks, fleet_draws, gather, loss, update

    stepper = training._stepper
    branch = stepper._branch

    @contextmanager
    def marked(index: int) -> Iterator[None]:
        counts.within = True
        with branch(index):
            yield
        counts.within = False

    kernels = {
        blocks: ("_pool", "_unpool", "_convolve", "_correlate", "_sum"),
        fleet_draws: ("_uniform",),
        gather: ("_copy",),
        loss: ("_losses",),
        update: ("_step",),
    }
    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(stepper, "_branch", marked))
        for module, names in kernels.items():
            for name in names:
                counter = _Launches(getattr(module, name), counts)
                patches.enter_context(mock.patch.object(module, name, counter))
        yield


def counted(members: Sequence[Member], data: Dataset, by_kernels: bool) -> Counts:
    """Of a fleet's second step, when it is known what is drawn."""
    from cifar_ablations.study.training.gpu.gpu_backend import GpuBackend

    def backend(name: str, fleet: Any, device: torch.device) -> Any:
        return GpuBackend(fleet, device) if by_kernels else TorchBackend(fleet, device)

    quick = mock.patch.object(Evaluator, "probe", return_value={})
    with mock.patch.object(lockstep, "backend_of", backend), quick:
        training = Training(members, data, CPU)
    training.fleet.train(True)
    training._stepper.begin(0, training._images())
    with counting(training, Counts()):
        training._stepper.run(0)
    counts = Counts()
    with counting(training, counts), _Operations(counts):
        training._stepper.run(1)
    return counts


def main() -> None:
    """Count, print, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, nargs="+", default=[1, 4], help="of the full profile's factorial")
    parser.add_argument("--data", default="synthetic")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    data = load(arguments.data, Home().data)
    recipe = timed_recipe("full", data, 4 * 256).set("budget.precision=bf16")
    plan = catalog.make_plan("factorial", recipe, PROFILES["full"], (0,))
    lines = [
        "| fleet | by | serial operations | MB | operations per member | MB per member "
        + "".join(f"| ms per member on an {name}, estimated " for name in BANDWIDTHS)
        + "|",
        "|---" * (6 + len(BANDWIDTHS)) + "|",
    ]
    # Arms with everything on come first.
    fleets = {
        f"{size} of the factorial": [Member(arm.recipe, 0) for arm in plan.arms[:size]] for size in arguments.members
    }
    fleets |= {f"1 with {newer}": [Member(plan.arms[0].recipe.set(newer), 0)] for newer in NEWER}
    for fleet, members in fleets.items():
        size = len(members)
        for name in ("torch", "kernels"):
            found = counted(members, data, by_kernels=name == "kernels")
            moved = found.serial_bytes + found.member_bytes
            lines.append(
                f"| {fleet} | {name} | {found.serial} | {found.serial_bytes / 1e6:.0f} | {found.members / size:.0f} "
                f"| {found.member_bytes / size / 1e6:.0f} "
                + "".join(f"| {1e3 * moved / size / rate:.3f} " for rate in BANDWIDTHS.values())
                + "|"
            )
            print(lines[-1])
    text = (
        "Width × 1, batch 256, bf16, the first arms of plan factorial; the update of all members and all draws are "
        "among the serial operations, the preparation of batches among those of members. Estimated is the floor that "
        "the bytes set by the bandwidth of the GPU's memory.\n\n" + "\n".join(lines)
    )
    record(arguments.results, "What a step on a GPU launches and moves, counted on a CPU", text)


if __name__ == "__main__":
    main()
