"""Seconds and size of a plan's page over a planted store: `python -m benchmarks.report`.

Plants every combination of the recipe's techniques over enough seeds for so many runs, with curves and details as a
real run has them, straight into the tables of a store of its own, and writes the page several times in one process.
The first time stands apart: it imports MLflow, pandas and matplotlib, and simulates how often such a page errs, unless
that is known on this machine. Aimed at: a thousand runs in 3 seconds and ten thousand in 10 on two cores, a page of at
most 5 MB. The machine's section of `benchmarks/RESULTS.md` is written anew.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.results import RESULTS, record
from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.ablations.record import (
    ArmRecord,
    DataRecord,
    EnvironmentRecord,
    GalleryRecord,
    PlanRecord,
    ProvenanceRecord,
    to_tags,
)
from cifar_ablations.study.commands.app import GC_THRESHOLD

PARTS = ("mlflow", "sqlalchemy", "pandas", "matplotlib", "jinja2")
CLASSES, TEST_IMAGES, EPOCHS, DEPTH = 10, 10_000, 20, 5
ENVIRONMENT = EnvironmentRecord(engine=1, instructions="", threads=1, torch="")
RUNS_AT_ONCE = 200
"""Runs whose rows are inserted together."""


def planned(runs: int) -> PlanRecord:
    """The factorial as a real invocation logs it, with seeds for at least so many runs."""
    profile = PROFILES["quick"]
    recipe = catalog.notebook_recipe()
    arms = len(catalog.make_plan("factorial", recipe, profile, (0,)).arms)
    plan = catalog.make_plan("factorial", recipe, profile, tuple(range(-(-runs // arms))))
    classes = tuple(f"class {i}" for i in range(CLASSES))
    data = DataRecord("planted", "0" * 16, stand_in=True, classes=classes)
    return replace(plan.record(profile, data), budget=f"{EPOCHS} epochs")


@dataclass(frozen=True)
class Planted:
    """Where runs are planted: a store's folder, the plan, its experiment and parent run, and when that began, in ms."""

    folder: Path
    plan: PlanRecord
    experiment: str
    parent: str
    began: int


def plant(folder: Path, plan: PlanRecord) -> str:
    """A store with a finished run of every arm and seed of the plan; returns its tracking URI."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # a store of its own, whatever else is in use
    from mlflow.store.tracking.dbmodels import models
    from sqlalchemy import insert

    from cifar_ablations.study.store.home import Home
    from cifar_ablations.study.store.tracking import Store

    store = Store(Home(folder))
    experiment = store.experiment(plan.name, plan.data)
    parent = store.open_invocation(experiment, plan, ProvenanceRecord(device="cpu"), GalleryRecord())
    store.close_invocation(parent, failures=0)
    planted = Planted(folder, plan, experiment, parent, store.client.get_run(parent).info.start_time)
    engine = store.client._tracking_client.store.engine
    tables = [models.SqlRun, models.SqlTag, models.SqlParam, models.SqlMetric, models.SqlLatestMetric]
    every = [(arm, seed) for seed in plan.seeds for arm in plan.arms]
    for start in range(0, len(every), RUNS_AT_ONCE):
        rows: list[list[dict[str, Any]]] = [[] for _ in tables]
        for number, (arm, seed) in enumerate(every[start : start + RUNS_AT_ONCE], start=start):
            for kept, found in zip(rows, _rows(planted, number, arm, seed), strict=True):
                kept += found
        with engine.begin() as connection:
            for table, kept in zip(tables, rows, strict=True):
                connection.execute(insert(table), kept)
    return store.uri


def _rows(planted: Planted, number: int, arm: ArmRecord, seed: int) -> tuple[list[dict[str, Any]], ...]:
    """Rows of the tables of runs, tags, parameters, metrics and latest metrics, and the file of details."""
    from cifar_ablations.study.store.tracking import training_tags

    rng = np.random.default_rng([seed, number])
    used = sum(level != "off" for level in arm.levels.values())
    accuracy = 0.4 + 0.03 * used + np.random.default_rng(seed).normal(0, 0.01) + rng.normal(0, 0.005)
    run_id = f"{number:032x}"
    artifacts = planted.folder / "artifacts" / run_id / "artifacts"
    artifacts.mkdir(parents=True)
    _save_details(artifacts / schema.DETAILS_FILE, rng, accuracy)
    run = {
        "run_uuid": run_id,
        "name": f"{arm.name}, seed {seed}",
        "source_type": "LOCAL",
        "source_name": "benchmark",
        "entry_point_name": "",
        "user_id": "benchmark",
        "status": "FINISHED",
        "start_time": planted.began + 1_000,
        "end_time": planted.began + 2_000,
        "source_version": "",
        "lifecycle_stage": "active",
        "artifact_uri": artifacts.as_uri(),
        "experiment_id": int(planted.experiment),
        "deleted_time": None,
    }
    tags = training_tags(planted.plan, planted.parent, arm.name, arm.digest, seed + arm.seed_offset)
    tags |= schema.MARKED | to_tags(ENVIRONMENT, schema.ENVIRONMENT) | {schema.OUTCOME: schema.FINISHED}
    ends = {name: float(rng.uniform(0, 1)) for name in (*schema.ENDINGS, *schema.STATES)}
    ends |= {schema.TEST_ACCURACY: accuracy, schema.EPOCHS: float(EPOCHS), schema.SECONDS: rng.uniform(20, 40)}
    curves = {name: accuracy * (1 - np.exp(-np.arange(1, EPOCHS + 1) / 4)) for name in schema.CURVES}
    steps = [(name, EPOCHS, value) for name, value in ends.items()]
    steps += [(name, epoch, float(value)) for name in curves for epoch, value in enumerate(curves[name], start=1)]
    metrics = [
        {"key": name, "value": value, "timestamp": epoch, "step": epoch, "is_nan": False, "run_uuid": run_id}
        for name, epoch, value in steps
    ]
    return (
        [run],
        [{"key": name, "value": value, "run_uuid": run_id} for name, value in tags.items()],
        [{"key": name, "value": str(value), "run_uuid": run_id} for name, value in arm.knobs.items()],
        metrics,
        [metric for metric in metrics if metric["step"] == EPOCHS],
    )


def _save_details(path: Path, rng: np.random.Generator, accuracy: float) -> None:
    correct = rng.random(TEST_IMAGES) < accuracy
    variances = {f"{when}variance": rng.uniform(0.5, 2, DEPTH).astype(np.float32) for when in ("initial/", "final/")}
    confusion = rng.integers(0, 100, (CLASSES, CLASSES))
    arrays: dict[str, Any] = {"correct": correct, "confusion": confusion, **variances}
    np.savez_compressed(path, **arrays)


def measure(runs: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Write the page of so many planted runs once, and `repeats` times more; times in seconds, the size in MB."""
    plan = planned(runs)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    if not (folder / "mlflow.db").exists():
        folder.mkdir(parents=True, exist_ok=True)
        plant(folder.resolve(), plan)
    seconds, size = [], 0
    for _ in range(repeats + 1):
        start = time.perf_counter()
        from cifar_ablations.reports.pages.plan_page import write_reports

        (page,) = write_reports(uri, folder / "pages")
        seconds.append(time.perf_counter() - start)
        size = page.stat().st_size
    return {
        "runs": len(plan.arms) * len(plan.seeds),
        "first": seconds[0],
        "more": seconds[1:],
        "size": size / 1e6,
    }


def main() -> None:
    """Plant, write, print, and write the figures to RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, nargs="+", default=[1_000, 10_000], help="at least so many, 64 a seed")
    parser.add_argument("--repeats", type=int, default=5, help="pages written after the first")
    parser.add_argument("--store", type=Path, help="folder of planted stores, made where they are not there")
    parser.add_argument("--results", type=Path, default=RESULTS, help="Markdown file whose section is written anew")
    arguments = parser.parse_args()
    rows = []
    gc.set_threshold(*GC_THRESHOLD)  # as the command does
    with tempfile.TemporaryDirectory() as temporary:
        for runs in arguments.runs:
            found = measure(runs, arguments.repeats, (arguments.store or Path(temporary)) / f"{runs}")
            more = found["more"]
            rows.append(
                f"| {found['runs']:,} | {statistics.median(more):.1f} ({min(more):.1f} to {max(more):.1f}) "
                f"| {found['first']:.1f} | {found['size']:.2f} |"
            )
            print(rows[-1])
    parts = ", ".join(f"{name} {version(name)}" for name in PARTS)
    load = psutil.getloadavg()[0]
    from cifar_ablations.study.store.provenance import processor

    text = (
        f"Python {platform.python_version()}, {parts}; load {load:.1f} over the last minute. Seconds per page: median "
        f"(lowest to highest) of {arguments.repeats} after the first. The very first page of the process, in the first "
        "row, includes its imports.\n\n"
        "| runs | seconds per page | the first | megabytes |\n|---|---|---|---|\n" + "\n".join(rows)
    )
    record(arguments.results, f"Report: {processor()}, {psutil.cpu_count()} cores", text)
    print(f"Written to {arguments.results}")


if __name__ == "__main__":
    main()
