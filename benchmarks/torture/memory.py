"""Memory, file handles and processes of a command over a thousand very short runs."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.torture import ground
from cifar_ablations.ablations import schema

KIND = "memory"
TITLE = "Memory over 1,000 short runs"
RUNS = 1_000
AT = (100, 500, 1_000)
"""Runs that are in the store when it is looked."""
WORKERS = 2


@dataclass(frozen=True)
class Look:
    """What a command's processes take, once so many runs have ended."""

    runs: int
    coordinator_mb: float
    workers_mb: tuple[float, ...]
    handles: int
    """File descriptors of the coordinator."""
    threads: int
    processes: int
    """All of them, the coordinator too."""

    def row(self) -> str:
        """As a row of the table."""
        workers = " and ".join(f"{one:.0f}" for one in self.workers_mb)
        cells = f"{self.runs:,}", f"{self.coordinator_mb:.0f}", workers, self.handles, self.threads, self.processes
        return f"| {' | '.join(map(str, cells))} |"


def measured(minutes: float) -> str:
    """Train a thousand runs by the real command, and say what its processes take meanwhile."""
    folder = Path(tempfile.mkdtemp(prefix="torture-memory-"))
    try:
        return _measured(folder, time.monotonic() + 60 * minutes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measured(folder: Path, until: float) -> str:
    of = ground.Ground(folder)
    ground.draw(of.images)
    words = ["run", "levels/dropout", "--seeds", str(RUNS // 5), "--workers", str(WORKERS), *ground.SMALL]
    words += ["--set", "budget.epochs=1"]
    command = [sys.executable, "-m", "cifar_ablations", *words]
    before = _temporary(folder)
    environment = {
        **of.environment(folder / "out"),
        "PATH": "/usr/bin:/bin",
        "TMPDIR": str(folder),
        "HOME": str(folder),
    }
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    looks: list[Look] = []
    workers: tuple[float, ...] = ()
    family = [psutil.Process(process.pid)]
    while process.poll() is None and time.monotonic() < until:
        with suppress(psutil.Error):
            family = [family[0], *family[0].children(recursive=True)]
            now = _workers(family)
            workers = now if all(now) and now else workers  # they end before all that they did is in the store
        if len(looks) < len(AT) and _ended(folder / "out" / "mlflow.db") >= AT[len(looks)]:
            looks.append(_look(family, workers, AT[len(looks)]))
        time.sleep(0.1)
    if process.poll() is None:
        for one in family:
            with suppress(psutil.Error):
                one.kill()
    code = process.wait()
    _, left = psutil.wait_procs(family, timeout=20)
    rows = [
        "| runs ended | coordinator, MB | workers, MB | its file handles | its threads | processes |",
        "|---|---|---|---|---|---|",
    ]
    rows += [look.row() for look in looks]
    rest = sorted(_temporary(folder) - before)
    ended = f"exit code {code}; afterwards {len(left)} of its processes and {len(rest)} temporary files were left."
    if len(looks) < 2:
        return f"Too few runs ended within the time; {ended}\n{(folder / 'said').read_text()[-500:]}"
    first, last = looks[0], looks[-1]
    grown = last.coordinator_mb - first.coordinator_mb
    of_workers = max(b - a for a, b in zip(first.workers_mb, last.workers_mb, strict=False))
    text = (
        f"One `ablate run` of {RUNS:,} trainings of one epoch, {WORKERS} workers. From {first.runs:,} to "
        f"{last.runs:,} runs the coordinator grew by {grown:.0f} MB, a worker by {of_workers:.0f} MB at most; {ended}"
    )
    return "\n".join([text, "", *rows])


def _workers(family: Sequence[psutil.Process]) -> tuple[float, ...]:
    """MB of each worker: they are forked by a child of the coordinator, which itself trains nothing."""
    coordinator, *children = family
    return tuple(sorted(one.memory_info().rss / 2**20 for one in children if one.ppid() != coordinator.pid))


def _look(family: Sequence[psutil.Process], workers: tuple[float, ...], runs: int) -> Look:
    coordinator = family[0]
    resident = coordinator.memory_info().rss / 2**20
    return Look(runs, resident, workers, coordinator.num_fds(), coordinator.num_threads(), len(family))


def _ended(store: Path) -> int:
    """The trainings in a store that have a result."""
    asked = "SELECT COUNT(*) FROM tags WHERE key = ? AND value IN (?, ?, ?)"
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as database:
        return int(database.execute(asked, [schema.OUTCOME, *schema.RESULTS]).fetchone()[0])
    return 0


def _temporary(folder: Path) -> set[str]:
    """Names of temporary files; what libraries keep in a home folder begins with a dot."""
    own = {"out", "images", "cache", "said"}
    here = {path.name for path in folder.iterdir() if not path.name.startswith(".")} - own
    return here | {path.name for path in Path("/dev/shm").glob("pym-*")}
