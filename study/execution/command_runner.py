"""From a plan of commands to results in the store: what is missing is run, seed by seed, and logged."""

from __future__ import annotations

import math
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import psutil

from cifar_ablations.ablations import command_plan, schema
from cifar_ablations.ablations.durations import duration
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.record import CommandArmRecord, CommandPlanRecord
from cifar_ablations.study.execution.child_process import end_group, run_child
from cifar_ablations.study.execution.fleets import Progress
from cifar_ablations.study.store.command_log import CommandLog
from cifar_ablations.study.store.tracking import is_running, process_named

RUNS = "runs"
"""What the progress counts."""
OUTPUT_BYTES = 64_000
"""Of what a command printed last, kept with its run."""
METRICS_FILE, PROCESS_FILE = "metrics.json", "process"
"""In the folder of a run that is in flight: what the program writes, and which process it is."""

Run = tuple[CommandArmRecord, int]
"""An arm and a seed."""


def every_run(plan: CommandPlanRecord) -> list[Run]:
    """All runs of a plan, in their order: a seed has all its arms before the next one begins."""
    return [(arm, seed) for seed in plan.seeds for arm in plan.arms]


def missing(plan: CommandPlanRecord, done: Iterable[tuple[str, int]]) -> list[Run]:
    """Those that have no result yet; done: by digest and seed."""
    done = set(done)
    return [(arm, seed) for arm, seed in every_run(plan) if (arm.digest, seed) not in done]


def expected_seconds(runs: Iterable[Run], done: Mapping[tuple[str, int], float]) -> float | None:
    """About how long runs take, by those that have ended, of the same arm where there are any; None before the first.

    done: seconds by digest and seed.
    """
    by_arm = dict[str, list[float]]()
    for (digest, _), seconds in done.items():
        by_arm.setdefault(digest, []).append(seconds)
    if not by_arm:
        return None
    of_any = fmean(fmean(seconds) for seconds in by_arm.values())
    return sum(fmean(by_arm[arm.digest]) if arm.digest in by_arm else of_any for arm, _ in runs)


def check_programs(plan: CommandPlanRecord) -> None:
    """Raise AblateError where an arm names a program that is not there."""
    for arm in plan.arms:
        name = arm.command[0]
        if "{" in name:
            continue
        file = Path(plan.folder, name)
        if ("/" in name and not file.is_file()) or ("/" not in name and shutil.which(name) is None):
            hint = "; {python} stands for the Python that runs ablate" if "python" in name else ""
            raise AblateError(f"arm {arm.name!r}: there is no program {name!r}{hint}")


@dataclass
class RunProgress(Progress):
    """How far a plan of commands has come; what counts as epochs elsewhere are runs."""

    left: list[Run] = field(default_factory=list)
    """Those that have not ended, in their order."""
    known: dict[tuple[str, int], float] = field(default_factory=dict)
    """How long those took that have ended, by digest and seed."""
    run_began: float = 0.0
    """When the one in flight began, by time.monotonic()."""

    def seconds_left(self) -> float | None:
        """About how long the rest will take; None before a run of the plan has ended."""
        expected = expected_seconds(self.left, self.known)
        of_this = expected_seconds(self.left[:1], self.known) or 0.0
        return None if expected is None else expected - min(of_this, time.monotonic() - self.run_began)

    def note(self, run: Run, seconds: float | None) -> None:
        """Count the end of a run; seconds: how long it took, where it has a result."""
        self.left.remove(run)
        self.epochs_done += 1
        if seconds is not None:
            self.done += 1
            self.known[run[0].digest, run[1]] = seconds


def run(
    plan: CommandPlanRecord,
    log: CommandLog,
    folder: Path,
    show: Callable[[Progress], None],
    stopped: Callable[[], bool] = lambda: False,
) -> RunProgress:
    """Run what the plan still misses and log it; the plan itself is logged first.

    folder: where runs in flight have their files; what an earlier call left running there is ended. A run that fails
    does not stop the others. When `stopped` says so, the command in flight is ended, its run is marked interrupted, and
    KeyboardInterrupt is raised. Raises AblateError where the code changes while the plan is run.
    """
    _end_leftovers(folder)
    done = log.results()
    left = missing(plan, done)
    progress = RunProgress(RUNS, total=len(left), epochs_total=len(left), left=list(left))
    wanted = {arm.digest for arm in plan.arms}
    progress.known = {key: seconds for key, seconds in done.items() if key[0] in wanted}
    if not left and log.is_logged():
        return progress
    log.open()
    progress.began = time.monotonic()

    def tick() -> None:
        show(progress)
        if stopped():
            raise KeyboardInterrupt

    try:
        for one in left:
            tick()
            command_plan.check_code(plan)
            _run(plan, one, log, folder, progress, tick)
            show(progress)
    except BaseException:
        log.interrupt()
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    log.close(len(progress.failed))
    return progress


def _run(
    plan: CommandPlanRecord,
    one: Run,
    log: CommandLog,
    folder: Path,
    progress: RunProgress,
    tick: Callable[[], None],
) -> None:
    arm, seed = one
    place = folder / f"{plan.name}-{arm.digest[:8]}-{seed}"
    place.mkdir(parents=True)
    written, output = place / METRICS_FILE, place / schema.OUTPUT_FILE
    words = command_plan.words(
        arm, {command_plan.SEED: str(seed), command_plan.METRICS: str(written), command_plan.PYTHON: sys.executable}
    )
    variables = {command_plan.SEED_VARIABLE: str(seed), command_plan.METRICS_VARIABLE: str(written)}
    log.start(arm, seed, words)

    def started(pid: int) -> None:
        with suppress(psutil.NoSuchProcess):  # it may have ended already
            (place / PROCESS_FILE).write_text(process_named(pid))

    progress.run_began = time.monotonic()
    values, cause = dict[str, float](), ""
    try:
        code = run_child(words, Path(plan.folder), variables, output, plan.timeout_seconds, started, tick)
    except OSError as error:
        cause = f"it could not be started: {error.strerror or error}"
    else:
        cause = _cause(code, plan.timeout_seconds)
        if not cause:
            values, cause = _measured(written, plan.metric)
    seconds = time.monotonic() - progress.run_began
    tail = _tail(output)
    outcome = schema.FAILED if cause else schema.FINISHED
    if not cause and math.isnan(values[plan.metric]):
        outcome = schema.DIVERGED
    log.end(outcome, cause, values, tail)
    shutil.rmtree(place, ignore_errors=True)
    progress.note(one, None if cause else seconds)
    progress.diverged += outcome == schema.DIVERGED
    if cause:
        last = next((line.strip() for line in reversed(tail.splitlines()) if line.strip()), "")
        said = f"; it printed last: {last[:200]}" if last else ""
        progress.failed[f"{arm.name}, seed {seed}"] = f"{cause}{said}"


def _cause(code: int | None, timeout_seconds: float | None) -> str:
    """Why a command that ended so has no result; empty where it may have one."""
    if code is None:
        assert timeout_seconds is not None
        return f"timed out after {duration(timeout_seconds)}"
    if code < 0:
        try:
            return f"ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"ended by signal {-code}"
    return f"exit code {code}" if code else ""


def _measured(written: Path, metric: str) -> tuple[dict[str, float], str]:
    """The numbers in a program's file, and why there are none."""
    if not written.is_file():
        return {}, "it wrote no metrics file, whose path it is given as {metrics} and in ABLATE_METRICS"
    if written.stat().st_size > command_plan.MOST_METRICS_BYTES:
        return {}, f"the metrics file has over {command_plan.MOST_METRICS_BYTES // 1_000_000} MB"
    try:
        return command_plan.metrics_of(written.read_bytes(), metric), ""
    except AblateError as error:
        return {}, str(error)


def _tail(output: Path) -> str:
    """The last of what a command printed."""
    if not output.is_file():
        return ""
    size = output.stat().st_size
    with output.open("rb") as file:
        file.seek(max(0, size - OUTPUT_BYTES))
        text = file.read().decode("utf-8", errors="replace")
    return f"[the first {size - OUTPUT_BYTES:,} bytes are left out]\n{text}" if size > OUTPUT_BYTES else text


def _end_leftovers(folder: Path) -> None:
    """End what a call that was killed left running, and remove its files. The caller holds the output folder's lock."""
    for file in folder.glob(f"*/{PROCESS_FILE}"):
        with suppress(OSError, ValueError):
            name = file.read_text()
            if is_running(name):
                end_group(int(name.split("/")[2]))
    shutil.rmtree(folder, ignore_errors=True)
