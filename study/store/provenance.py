"""What produced a run: code, libraries, machine; and of these, what may change the last bits of its results."""

from __future__ import annotations

import getpass
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from cifar_ablations.ablations import extensions
from cifar_ablations.ablations.record import EnvironmentRecord, ProvenanceRecord
from cifar_ablations.study.training.backend import KERNELS
from cifar_ablations.study.training.kernels import build

ENGINE = 1
"""To be raised when a training, at the same recipe and seed, comes out otherwise than before."""

HOLDS_LIBRARIES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")
"""Variables by which oneDNN and MKL compute with other instructions than torch itself, and so round otherwise."""


def provenance(device: torch.device, workers: int, backend: str = "") -> ProvenanceRecord:
    """What is written on an invocation's run."""
    commit, dirty = _commit()
    return ProvenanceRecord(
        commit=commit,
        dirty=dirty,
        python=platform.python_version(),
        platform=platform.platform(),
        processor=processor(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        backend=backend,
        workers=str(workers),
        cores=str(os.cpu_count()),
        cifar_ablations=_version("cifar-ablations"),
        torch=_version("torch"),
        torchvision=_version("torchvision"),
        mlflow=_version("mlflow"),
        numpy=_version("numpy"),
    )


def environment(device: torch.device, threads: int, backend: str) -> EnvironmentRecord:
    """What trainings have in common that are trained here; threads: of the process that trains.

    Of the extensions that there are, a training's run names those that it uses. Raises AblateError where the code of
    one has changed since it was read.
    """
    return EnvironmentRecord(
        engine=ENGINE,
        instructions=instructions(device),
        threads=threads,
        torch=torch.__version__,
        extension=extensions.code_here(),
        backend=backend,
        kernels=_kernels(device) if backend == KERNELS else "",
    )


def _kernels(device: torch.device) -> str:
    """The library of a CPU's kernels by its digest, or what compiles a GPU's."""
    if device.type == "cuda":
        return f"triton {_version('triton')}"
    return build.library_path().stem.removeprefix("kernels-")


def instructions(device: torch.device) -> str:
    """The vector instructions of the processor that torch uses, or the compute capability of the GPU.

    With what holds the libraries beneath torch to others, where it is set.
    """
    if device.type == "cuda":
        return "sm_{}{}".format(*torch.cuda.get_device_capability(device))
    held = [f"{name}={os.environ[name]}" for name in HOLDS_LIBRARIES if os.environ.get(name)]
    return ", ".join([torch.backends.cpu.get_cpu_capability(), *held])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # the engine and its benchmark run without MLflow, and uninstalled
        return "not installed"


def user() -> str:
    """Who runs this, for MLflow's user column."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user id: containers
        return "unknown"


def _commit() -> tuple[str, str]:
    """The commit of this package's checkout, and "true" if its tree has changes; both "unknown" outside one."""

    def git(*words: str) -> str:
        here = Path(__file__).parent
        # Without a lock: a command that is killed in the middle would leave it, and git would refuse to commit.
        return subprocess.run(
            ["git", "--no-optional-locks", *words], cwd=here, check=True, capture_output=True, text=True, timeout=10
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), str(bool(git("status", "--porcelain"))).lower()
    except (OSError, subprocess.SubprocessError):
        return "unknown", "unknown"


def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
