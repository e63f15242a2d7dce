"""Do the kernels find what torch finds? The same arms over the same seeds, trained by both.

`python -m benchmarks.equality` trains arms of the techniques plan at a profile's size and writes a table: of each arm
the mean test accuracy by each backend, and the mean difference over seeds with its 95 % interval (Student's t of the
paired differences). The backends' sums differ in their last bits, and training makes such differences grow until they
are those between two runs: what may not differ is the means.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from benchmarks.results import RESULTS, described, facts, machine, record
from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.study.data.dataset import load, open_cached
from cifar_ablations.study.execution.workers import default_workers
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.training.backend import KERNELS, TORCH
from cifar_ablations.study.training.engine import Epoch, Outcome, train
from cifar_ablations.study.training.fleet import Member

CPU = torch.device("cpu")
COLUMNS = ("arm", "by torch", "by the kernels", "difference", "95 % interval", "first epochs' losses apart by")


def trained(data: Path, backend: str, members: Sequence[Member]) -> list[tuple[float, float, bool]]:
    """Of each member, its test accuracy, its first epoch's training loss, and whether it diverged."""
    torch.set_num_threads(1)
    losses: dict[Member, float] = {}
    ends: dict[Member, Outcome] = {}

    def report(event: Epoch | Outcome) -> None:
        if isinstance(event, Outcome):
            ends[event.member] = event
        else:
            losses.setdefault(event.member, event.metrics[schema.TRAIN_LOSS])

    train(members, open_cached(data), CPU, report, backend=backend)
    return [
        (ends[m].metrics.get(schema.TEST_ACCURACY, np.nan), losses[m], ends[m].outcome == schema.DIVERGED)
        for m in members
    ]


def main() -> None:
    """Train, and write the table."""
    from scipy import stats

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=sorted(PROFILES), default="quick")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", nargs="+", help="names of arms of the plan [default: all]")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error(f"--seeds must be at least 2, not {arguments.seeds}")
    profile, workers = PROFILES[arguments.profile], default_workers(CPU)
    recipe = profile.apply(catalog.notebook_recipe()).set("budget.precision=fp32")
    plan = catalog.make_plan("techniques", recipe, profile, tuple(range(arguments.seeds)))
    arms = [arm for arm in plan.arms if arguments.arms is None or arm.name in arguments.arms]
    if not arms:
        parser.error(f"--arms: no such arms; known: {', '.join(arm.name for arm in plan.arms)}")
    data = load(os.environ.get("ABLATE_DATA"), Home().data)
    assert data.folder is not None
    jobs = [(backend, [Member(arm.recipe, s) for s in plan.seeds]) for arm in arms for backend in (TORCH, KERNELS)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(partial(trained, data.folder), *zip(*jobs, strict=True)))
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for arm, by_torch, by_kernels in zip(arms, found[::2], found[1::2], strict=True):
        a, b = (np.array([one[0] for one in of]) for of in (by_torch, by_kernels))
        pairs = (b - a)[np.isfinite(b - a)]
        half = stats.t.ppf(0.975, len(pairs) - 1) * pairs.std(ddof=1) / len(pairs) ** 0.5 if len(pairs) > 1 else np.nan
        ended = [sum(one[2] for one in of) for of in (by_torch, by_kernels)]
        diverged = f"; {ended[0]} and {ended[1]} diverged" if any(ended) else ""
        losses = max(abs(x[1] - y[1]) / abs(x[1]) for x, y in zip(by_torch, by_kernels, strict=True))
        low, high = 100 * (pairs.mean() - half), 100 * (pairs.mean() + half)
        lines.append(
            f"| {arm.name} | {100 * np.nanmean(a):.2f} % | {100 * np.nanmean(b):.2f} % | "
            f"{100 * pairs.mean():+.2f} pp | {low:+.2f} to {high:+.2f}{diverged} | {losses:.1e} |"
        )
        print(lines[-1], flush=True)
    about = facts(CPU, workers)
    budget = plan.arms[0].recipe.budget
    text = f"Test accuracy, mean of {arguments.seeds} seeds; {budget}; {described(about)}; {data.name}.\n\n"
    record(arguments.results, f"By torch and by the kernels: {machine(about)}", text + "\n".join(lines))


if __name__ == "__main__":
    main()
