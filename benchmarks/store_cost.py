"""What a training costs the coordinator in the store: `python -m benchmarks.store_cost`.

Trainings are told to a real store as a plan tells them, without being trained: begun, five epochs, ended. Measured are
the seconds in the calls, which training waits for, and those until the store has it all. The section of
`benchmarks/RESULTS.md` is written anew.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import torch

from benchmarks.results import RESULTS, described, facts, machine, record
from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.profiles import profile
from cifar_ablations.ablations.record import DataRecord, GalleryRecord, ProvenanceRecord
from cifar_ablations.study.commands.services import running
from cifar_ablations.study.execution.workers import THREADS
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.provenance import environment
from cifar_ablations.study.store.tracking import open_store
from cifar_ablations.study.training.engine import Epoch, Outcome
from cifar_ablations.study.training.fleet import Member

EPOCHS = 5
NAMES = ("train/loss", "train/accuracy", "validation/loss", "validation/accuracy", "learning_rate", "weight_norm")


def told(folder: Path, runs: int) -> tuple[float, float, float]:
    """Seconds in the calls, of the processor, and until all is in the store, of so many trainings."""
    size = profile("quick")
    recipe = size.apply(catalog.notebook_recipe())
    plan = catalog.make_plan("claims", recipe, size, tuple(range(6)))
    about = plan.record(size, DataRecord("played", "0" * 16, "Nowhere.", True, ("a", "b")), (), "")
    here = environment(torch.device("cpu"), THREADS, "torch")
    store = open_store(Home(folder))
    experiment = store.experiment(plan.name, about.data)
    in_calls, began, processor = 0.0, time.perf_counter(), time.process_time()
    with store.delivering():
        parent = store.open_invocation(experiment, about, ProvenanceRecord(), GalleryRecord(0))
        for seed in range(runs):
            member = Member(recipe, seed)
            before = time.perf_counter()
            run = store.start(experiment, parent, "full recipe", member, about, here)
            for epoch in range(1, EPOCHS + 1):
                store.epoch(run, Epoch(member, epoch, dict.fromkeys(NAMES, 0.5)))
            store.end(run, Outcome(member, schema.FINISHED, EPOCHS, {schema.TEST_ACCURACY: 0.5, schema.SECONDS: 1.0}))
            in_calls += time.perf_counter() - before
    return in_calls, time.process_time() - processor, time.perf_counter() - began


def main() -> None:
    """Measure a store that is a file and one behind a server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        for name in ("a file (SQLite)", "an MLflow server on PostgreSQL"):
            with ExitStack() as served:
                if "server" in name:
                    both = served.enter_context(running(folder / "services", 55_432, 5_500, print))
                    os.environ["MLFLOW_TRACKING_URI"] = both.tracking
                found = told(folder / name[:5].strip(), arguments.runs)
            in_calls, processor, whole = (1000 * seconds / arguments.runs for seconds in found)
            rows.append(f"| {name} | {arguments.runs:,} | {in_calls:.2f} | {processor:.1f} | {whole:.1f} |")
            print(rows[-1], flush=True)
    here = facts(torch.device("cpu"), 1)
    table = (
        "| store | trainings | in the calls, ms each | of the processor, ms each | until it has all, ms each |\n"
        "|---|---|---|---|---|\n" + "\n".join(rows)
    )
    record(arguments.results, f"A training in the store: {machine(here)}", f"{described(here)}\n\n{table}")


if __name__ == "__main__":
    main()
