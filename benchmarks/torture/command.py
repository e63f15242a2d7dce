"""Real commands, each in processes of its own, forked from one that has imported everything.

Started by a shell, `ablate run` takes three seconds of a core to import what it needs, and its workers as many again.
Forked, all of it is there at once. What runs then is the console script: its entry, its signals, its exit, and beneath
it a process that workers are forked from. Only the executing of a new interpreter is left out.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import pkgutil
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import cifar_ablations

CRASHED = 77
"""The exit code of a process that a fault has ended."""
LIMIT = 120.0
"""Seconds after which a command counts as one that never ends."""
LEAVING = 20.0
"""Seconds in which every process of a command that has ended must end too."""
NOT_IMPORTED = ("cifar_ablations.study.training.gpu", "cifar_ablations.__main__")
LAZY = (
    "alembic.command", "mlflow.store.tracking.sqlalchemy_store", "mlflow.data.dataset", "optuna", "pyarrow.parquet",
    "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "seaborn", "scipy.stats",
    "statsmodels.formula.api",
)  # fmt: skip
"""What libraries import when they are first used."""


@dataclass(frozen=True)
class Ended:
    """What a command ended as."""

    code: int | None
    """The exit code; less than 0, the signal that ended it; None where it did not end by itself."""
    out: str
    err: str
    seconds: float
    left: int
    """How many of its processes outlived it."""

    def unseemly(self, codes: Sequence[int] = (0, 1, 2, 130), verbose: bool = False) -> list[str]:
        """What a person should never see, in a sentence each.

        codes: those that it may end with; verbose: whether tracebacks were asked for.
        """
        said = f"{self.out}\n{self.err}"
        found = []
        if self.code is None:
            found.append(f"it did not end within {self.seconds:.0f} s")
        elif self.code not in codes:
            found.append(f"exit code {self.code}: {' '.join(self.err.split())[-300:]}")
        if verbose:
            pass
        elif "Traceback (most recent call last)" in said or "Exception ignored" in said or '\n  File "' in said:
            before, _, after = said.partition("Traceback (most recent call last)")
            told = [
                before.strip()[-200:],
                *[line for line in after.splitlines() if re.match(r"\S+(Error|Exception)", line)],
            ]
            found.append(f"a traceback: {' … '.join(told)[:700]}")
        if fault := re.search(r"fault of ablate's own[^(]*\((.*?)\)?\. Please", said, re.DOTALL):
            found.append(f"a fault of its own: {' '.join(fault[1].split())[:300]}")
        if odd := sorted({sign for sign in said if unicodedata.category(sign) == "Cc"} - set("\n\t")):
            found.append(f"control characters: {odd!a}")
        if self.code == 2 and not self.err.strip():
            found.append("exit code 2 without a sentence")
        if self.left:
            found.append(f"{self.left} processes outlived it")
        return found


def import_everything() -> None:
    """Import what any command may need, and keep all of it out of the sight of the collector of cycles."""
    gc.disable()
    for module in pkgutil.walk_packages(cifar_ablations.__path__, "cifar_ablations."):
        if not module.name.startswith(NOT_IMPORTED):
            importlib.import_module(module.name)
    for name in LAZY:
        importlib.import_module(name)
    import torch

    from cifar_ablations.reports.pages import rendering
    from cifar_ablations.study.foundations.catalog import demonstrations

    rendering.import_libraries()
    demonstrations()
    torch.set_num_threads(1)  # as in workers, and a pool of threads would not survive a fork
    gc.freeze()
    gc.enable()


class Command:
    """A command that has been started. `words`: what is typed behind `ablate`.

    folder: of its own; what it says and its temporary files go there, and it is where it is called. environment: beside
    PATH and what keeps libraries quiet. arm: called in the new process before anything else, to put a fault in place.
    """

    def __init__(
        self,
        words: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        arm: Callable[[], None] | None = None,
        limit: float = LIMIT,
    ):
        self.words, self._folder, self._limit = list(words), folder, limit
        self._temporary = folder / "tmp"
        shutil.rmtree(self._temporary, ignore_errors=True)
        for one in (self._temporary, folder / "here", folder / "home"):
            one.mkdir(parents=True, exist_ok=True)
        everyone = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
        places = {"HOME": str(folder / "home"), "TMPDIR": str(self._temporary)}
        sys.stdout.flush()
        sys.stderr.flush()
        self.began = time.monotonic()
        self.pid = os.fork()
        if not self.pid:
            _become(self.words, folder, {**everyone, **places, **environment}, arm)
        self._code: int | None = None

    def alive(self) -> bool:
        """Whether the command itself still runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code is None

    def processes(self) -> list[int]:
        """All of the command's processes that run, the command's own first, by their ids."""
        found = []
        for name in os.listdir("/proc"):
            with suppress(OSError):
                if name.isdigit() and os.getsid(int(name)) == self.pid and _state(int(name)) != "Z":
                    found.append(int(name))
        return sorted(found, key=lambda pid: (pid != self.pid, pid))

    def workers(self) -> list[int]:
        """The ids of its worker processes: children of the process that they are forked from."""
        own = self.processes()
        parents = {pid: _parent(pid) for pid in own}
        return [pid for pid in own if parents[pid] in own and parents.get(parents[pid]) == self.pid]

    def end(self, quickly: bool = False) -> Ended:
        """Wait for its end, and for that of all its processes; quickly: do not wait for those."""
        while self.alive() and time.monotonic() - self.began < self._limit:
            time.sleep(0.004)
        hung, seconds = self.alive(), time.monotonic() - self.began
        until = time.monotonic() + (0 if hung or quickly else LEAVING)
        while (left := self.processes()) and time.monotonic() < until:
            time.sleep(0.02)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if hung:
            os.waitpid(self.pid, 0)
        out, err = ((self._folder / name).read_text("utf-8", "replace") for name in ("stdout", "stderr"))
        return Ended(None if hung else self._code, out, err, seconds, 0 if hung or quickly else len(left))

    def leavings(self) -> list[str]:
        """Names of temporary files that it has left behind."""
        shared = [name for name in os.listdir("/dev/shm") if name.startswith(f"pym-{self.pid}-")]
        return sorted([*os.listdir(self._temporary), *shared])


def apart(act: Callable[[], None]) -> None:
    """Do something in a process of its own, so that this one stays as it is. Raises RuntimeError where it fails."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError(f"{act} failed")


def replaced(place: str, by: Callable[[Any], Any]) -> None:
    """Put something else in the place of a function, by "module:name"; by: gets what was there."""
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    setattr(owner, name, by(getattr(owner, name)))


def counting(places: Iterable[str], told: Path) -> None:
    """Have this process count its calls of functions, and write them to a file when it ends."""
    counts: dict[str, int] = {}

    def counted(place: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            counts[place] = counts.get(place, 0) + 1
            return real(*arguments, **named)

        return called

    for place in places:
        replaced(place, partial(counted, place))
    atexit.register(lambda: told.write_text(json.dumps(counts)))


def _become(
    words: Sequence[str], folder: Path, environment: Mapping[str, str], arm: Callable[[], None] | None
) -> NoReturn:
    """Turn this forked process into a command, and end with it."""
    try:
        os.setsid()
        _as_started()
        for name, mode in (("stdout", 1), ("stderr", 2)):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), mode)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _fresh_streams()
        os.chdir(folder / "here")
        os.environ.clear()
        os.environ.update(environment)
        tempfile.tempdir = None  # it is asked for anew
        sys.argv = ["ablate", *words]
        replaced("multiprocessing.util:spawnv_passfds", lambda real: _forked_in_place)
        if arm is not None:
            arm()
        from cifar_ablations.__main__ import main

        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _forked_in_place(path: object, words: Sequence[object], kept: Sequence[int]) -> int:
    """In place of a new interpreter that executes the code which is the last word: a fork that does so."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) not in kept:
                with suppress(OSError):
                    os.close(int(name))
        _as_started()
        _fresh_streams()
        multiprocessing.forkserver._forkserver.__init__()  # type: ignore[misc]
        multiprocessing.resource_tracker._resource_tracker.__init__()  # type: ignore[misc]
        exec(os.fsdecode(words[-1]), {})  # type: ignore[arg-type]
    except SystemExit:
        pass
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _as_started() -> None:
    """Signals as a new interpreter has them, but for those that are held back."""
    for one in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError, ValueError):
            signal.signal(one, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _fresh_streams() -> None:
    for name, number in (("stdout", 1), ("stderr", 2)):
        raw = io.FileIO(number, "w", closefd=False)
        stream = io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "replace", line_buffering=name == "stderr")
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)  # which keeps it from being closed when another takes its place


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _parent(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0
