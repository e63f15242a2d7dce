"""Makes the virtual environment that the suite runs in. The Makefile calls it; it needs nothing but Python.

What is installed stands in lock files beside this one, with hashes:

- `base.lock`: what the suite needs, but for torch;
- `torch.lock`: torch and torchvision from PyPI; on Linux with the CUDA libraries that this build cannot do without;
- `developers.lock`: the tools for tests and checks;
- `docs.lock`: what builds the documentation;
- `audit.lock`: what looks up known weaknesses;
- `installer.lock`: uv, which installs all the others;
- `lowest.lock`: the lowest versions that pyproject.toml allows, tools included, to test that it may allow them.

Where there is no NVIDIA driver, torch's CPU build does the same in a third of the space. It is on an index of torch's
own; where that cannot be reached, PyPI's build is installed, which runs on a CPU too.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
OLDEST_PYTHON = (3, 11)
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CPU, PYPI = "CPU", "PyPI"
LOCKED = ("--no-deps", "--require-hashes", "-r")
"""Options before a lock's path. A lock is whole, though what its packages need may stand in another one."""
GIGABYTES = {CPU: 2.5, PYPI: 7.0}
"""Space that an installation takes, rounded up. Of the CPU build estimated, of PyPI's measured on Linux."""


class RefusedError(Exception):
    """Why nothing is installed, in a sentence for a person."""


def main(arguments: list[str] | None = None) -> int:
    """Install what the arguments ask for; returns the exit status."""
    parser = argparse.ArgumentParser(description="Make the virtual environment that the suite runs in.")
    parser.add_argument("folder", type=Path, help="where it is or will be")
    parser.add_argument("--torch", default="auto", help="auto (CUDA where there is an NVIDIA driver), cuda or cpu")
    parser.add_argument("--versions", choices=("locked", "lowest", "highest"), default="locked")
    parser.add_argument("--developers", action="store_true", help="add the tools for tests and checks, and no more")
    parser.add_argument("--docs", action="store_true", help="add what builds the documentation, and no more")
    parser.add_argument("--audit", action="store_true", help="add what looks up known weaknesses, and no more")
    parser.add_argument("--cpu-index", default=CPU_INDEX, help="where torch's CPU builds are (%(default)s)")
    asked = parser.parse_args(arguments)
    try:
        if asked.docs:
            uv(asked.folder, *LOCKED, HERE / "docs.lock")
        elif asked.audit:
            uv(asked.folder, *LOCKED, HERE / "audit.lock")
        elif asked.developers:
            if asked.versions == "locked":  # the others have the tools already
                uv(asked.folder, *LOCKED, HERE / "developers.lock")
        else:
            install(asked.folder, asked.torch, asked.versions, asked.cpu_index)
    except RefusedError as refusal:
        print(f"install: {refusal}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        tool = Path(error.cmd[0]).name
        print(f"install: {tool} failed, for the reason above; the same command goes on from there.", file=sys.stderr)
        return 1
    return 0


def install(folder: Path, torch: str, versions: str, cpu_index: str) -> None:
    """The suite and what it needs, into a new environment or over one that is there.

    Raises RefusedError where this cannot work, before anything is written.
    """
    if sys.version_info < OLDEST_PYTHON:
        raise RefusedError(
            f"Python {platform.python_version()} is too old; name a newer one, as in make PYTHON=python3.12"
        )
    build = build_for(torch)
    if versions != "locked":  # whose torch comes from PyPI, with everything else
        build = PYPI
    check_space(folder, GIGABYTES[build])
    say(
        f"Installing the requirements into {folder} (once): {named(build)}, about {GIGABYTES[build]:g} GB; "
        f"{free_gigabytes(folder):.0f} GB are free."
    )
    began = time.monotonic()
    make_environment(folder)
    if versions == "highest":
        uv(folder, "--upgrade", "--editable", f"{PROJECT}[dev]")
    else:
        if versions == "lowest":
            uv(folder, *LOCKED, HERE / "lowest.lock")
        else:
            uv(folder, *LOCKED, HERE / "base.lock")
            install_torch(folder, build, cpu_index)
        uv(folder, "--no-deps", "--no-build-isolation", "--editable", PROJECT)  # by the locked setuptools
    say(f"Installed: {gigabytes(folder):.1f} GB in {time.monotonic() - began:.0f} s.")


def build_for(torch: str) -> str:
    """Which build of torch suits this machine. Raises RefusedError for a word that is none."""
    if torch not in ("auto", "cpu", "cuda"):
        raise RefusedError(f"TORCH={torch} is not known; use TORCH=auto, TORCH=cpu or TORCH=cuda")
    if sys.platform != "linux":  # elsewhere PyPI's build has no CUDA
        if torch == "cuda" and sys.platform == "darwin":
            raise RefusedError("TORCH=cuda: there is no CUDA on a Mac; use TORCH=auto")
        return PYPI
    return PYPI if torch == "cuda" or (torch == "auto" and has_nvidia_driver()) else CPU


def has_nvidia_driver() -> bool:
    """Whether this Linux has a driver that torch could use, without asking torch."""
    places = ("/proc/driver/nvidia/version", "/usr/lib/wsl/lib/libcuda.so.1")
    return any(map(os.path.exists, places)) or shutil.which("nvidia-smi") is not None


def named(build: str) -> str:
    """A build of torch in words."""
    if build == CPU:
        return "with torch for CPUs"
    return "with torch and its CUDA libraries" if sys.platform == "linux" else "with torch"


def install_torch(folder: Path, build: str, cpu_index: str) -> None:
    """torch and torchvision, in place of another build of theirs. PyPI's where the CPU build cannot be had."""
    present = installed_build(folder)
    if build == CPU:
        pins = [f"{name}=={version}+cpu" for name, version in locked_versions().items()]
        try:
            uv(folder, "--no-deps", "--index", cpu_index, *pins, quiet=True)
            return
        except subprocess.CalledProcessError as error:
            say(
                f"torch's CPU build cannot be had from {cpu_index} ({reason(error.stderr)}). "
                f"Installing PyPI's, with its CUDA libraries, about {GIGABYTES[PYPI]:g} GB: it runs on a CPU too."
            )
            if present != PYPI:
                check_space(folder, GIGABYTES[PYPI])
    again = ["--reinstall-package", "torch", "--reinstall-package", "torchvision"] if present == CPU else []
    uv(folder, *again, *LOCKED, HERE / "torch.lock")


def locked_versions() -> dict[str, str]:
    """The versions of torch and torchvision in the lock."""
    text = (HERE / "torch.lock").read_text()
    return {name: re.findall(rf"^{name}==([^ ;+]+)", text, re.MULTILINE)[0] for name in ("torch", "torchvision")}


def installed_build(folder: Path) -> str | None:
    """Which build of torch an environment has, if any."""
    found = [path.name for path in folder.glob("[Ll]ib/**/site-packages/torch-*.dist-info")]
    return None if not found else CPU if any("+cpu" in name for name in found) else PYPI


def make_environment(folder: Path) -> None:
    """An environment with uv in it."""
    if not program(folder, "python").exists():
        venv.create(folder, with_pip=True)
    python = program(folder, "python")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *LOCKED, HERE / "installer.lock")


def uv(folder: Path, *arguments: str | Path, quiet: bool = False) -> None:
    """Install with uv. Compiled here, once, torch and MLflow are imported in half the time by every process."""
    python = program(folder, "python")
    run(
        program(folder, "uv"),
        "pip",
        "install",
        "--quiet",
        "--compile-bytecode",
        "--python",
        python,
        *arguments,
        quiet=quiet,
    )


def run(*command: str | Path, quiet: bool = False) -> None:
    """Run a program; quiet: keep what it says for the caller. Raises CalledProcessError where it fails."""
    subprocess.run([str(part) for part in command], check=True, text=True, capture_output=quiet)


def program(folder: Path, name: str) -> Path:
    """A program of an environment."""
    return folder / "Scripts" / f"{name}.exe" if os.name == "nt" else folder / "bin" / name


def reason(message: str) -> str:
    """The last cause in what uv said."""
    return " ".join(re.split("(?:cause|error):", message)[-1].split()) or "no reason given"


def check_space(folder: Path, needed: float) -> None:
    """Raise RefusedError where a folder's disk has fewer gigabytes left than what is not there yet needs."""
    missing = needed - (gigabytes(folder) if folder.exists() else 0)
    free = free_gigabytes(folder)
    if free < missing:
        raise RefusedError(
            f"{missing:.1f} GB are needed for {folder}, and {free:.1f} GB are free; make room, or name another place "
            "with make VENV=folder"
        )


def free_gigabytes(folder: Path) -> float:
    """What is free on the disk that a folder is or will be on."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free / 1e9


def gigabytes(folder: Path) -> float:
    """What a folder's files take."""
    files = (os.path.join(place, name) for place, _, names in os.walk(folder) for name in names)
    return sum(os.lstat(file).st_size for file in files) / 1e9


def say(text: str) -> None:
    """Tell the person who waits."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
