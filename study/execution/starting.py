"""How worker processes come to be. Imports nothing that is slow, so that it can be asked for before anything else."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, chdir, contextmanager, nullcontext
from pathlib import Path
from types import ModuleType

PRELOADED = "cifar_ablations.study.execution.preloaded"
"""The module that the process which workers are forked from has imported."""
SAFE_PATH = "PYTHONSAFEPATH"
"""The variable that has Python leave the current folder out."""


def start_method(device: str) -> str:
    """How worker processes come to be, as `multiprocessing` names it.

    On Linux they are forked from a process that has imported torch and done nothing else: it has no threads at work and
    no CUDA context that a fork would break, and workers are there at once, where a spawned one takes three seconds of a
    core. Those that drive a GPU are spawned, and so are all elsewhere: the system's libraries may not survive a fork.
    """
    return "forkserver" if sys.platform == "linux" and device == "cpu" else "spawn"


@contextmanager
def main_kept_out() -> Iterator[None]:
    """Processes that are started within do not run the caller's main module again, as `multiprocessing` has them do.

    Workers need nothing of it. A script that trains without asking for its `__name__` would train in each of them too.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def current_folder_kept_out() -> Iterator[None]:
    """Processes of Python that are started within import nothing of the folder they are started in: its `pickle.py` may
    be anybody's. Python looks there first where it is given a line of code to run, as `multiprocessing` does.
    """
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SAFE_PATH]
        else:
            os.environ[SAFE_PATH] = before


@contextmanager
def ctrl_c_kept_out() -> Iterator[None]:
    """Processes that are started within never hear of Ctrl-C, which reaches all those of a terminal: it is for the
    coordinator, which ends its workers. Where a system knows no such mask, they hear of it until they ignore it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def beside_the_package() -> AbstractContextManager[None]:
    """Within, the current folder is the one that holds this package.

    A Python that is started by `-c` looks for modules in the current folder first, where another checkout may lie.
    """
    file = sys.modules[__name__.partition(".")[0]].__file__
    return chdir(Path(file).parents[1]) if file and os.path.exists(os.curdir) else nullcontext()


def prepare(device: str) -> None:
    """Let the process that workers are forked from import what they need, beside whatever the caller does meanwhile.

    To be called as early as it is known that there may be something to train; more than once does no harm.
    """
    if start_method(device) != "forkserver":
        return
    from multiprocessing import forkserver, resource_tracker

    multiprocessing.get_context("forkserver").set_forkserver_preload([PRELOADED])
    with current_folder_kept_out():
        resource_tracker.ensure_running()  # first: it would let through again what is held back below
        with ctrl_c_kept_out(), main_kept_out(), beside_the_package():  # workers go back to where this process began
            forkserver.ensure_running()
