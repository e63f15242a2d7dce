"""Compiles the kernels for the machine at hand, once, and keeps the library in the user's cache folder."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

SOURCES = Path(__file__).parent
FLAGS = (
    *("-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno"),
    *("-fno-exceptions", "-fno-rtti", "-fPIC", "-shared"),
)
COMPILERS = ("c++", "g++", "clang++")
LONGEST_SECONDS = 300.0


class UnavailableError(Exception):
    """Why the kernels cannot be used here, in half a sentence."""


@cache
def library() -> ctypes.CDLL:
    """The kernels, compiled if they have not been on this machine. Raises UnavailableError, with the reason."""
    path = library_path()
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise UnavailableError(f"the compiled kernels cannot be loaded: {error}") from error


@cache
def library_path() -> Path:
    """Where the library of the kernels lies, compiled if it has not been. Raises UnavailableError, with the reason."""
    if reason := _missing_instructions():
        raise UnavailableError(reason)
    compiler = _compiler()
    path = cache_folder() / f"kernels-{_key(compiler)}.so"
    if not path.exists():
        _compile(compiler, path)
    for place in (path.parent, path):
        about = place.stat()
        if hasattr(os, "getuid") and (about.st_uid != os.getuid() or about.st_mode & 0o022):
            raise UnavailableError(f"{place} is not this user's alone, and what lies there would be run")
    return path


def cache_folder() -> Path:
    """Where what was compiled and measured on this machine is kept for the next time."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "cifar-ablations"
    try:
        return Path.home() / ".cache" / "cifar-ablations"
    except RuntimeError as error:
        raise UnavailableError("there is no home folder to keep them in; set XDG_CACHE_HOME") from error


def processor_key() -> str:
    """What the processor can do, in 16 hex digits: a library for another one may not run here."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        facts = [line for line in lines if line.startswith(("flags", "Features", "model name"))][:2]
    except OSError:
        facts = [platform.processor(), platform.version()]
    return digest([platform.machine(), *facts])


def _missing_instructions() -> str | None:
    """Why this machine cannot run them. Without a fused multiplication and addition they would be slow, and round
    otherwise."""
    if sys.platform == "win32":
        return "the kernels are not compiled on Windows"
    machine = platform.machine().lower()
    if machine in ("aarch64", "arm64"):
        return None
    if machine not in ("x86_64", "amd64"):
        return f"the kernels are not written for {machine} processors"
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return None  # macOS: every machine of the last ten years has them
    return None if " fma " in flags and " avx2 " in flags else "this processor has no AVX2 and FMA instructions"


def _compiler() -> tuple[str, ...]:
    """The command of a C++ compiler: $CXX, one that is installed, or the one in the package ziglang."""
    if given := os.environ.get("CXX"):
        with suppress(ValueError):  # an open quotation mark
            words = tuple(shlex.split(given))
            if words and shutil.which(words[0]):
                return words
        raise UnavailableError(f"CXX={given} is no program")
    for name in COMPILERS:
        if found := shutil.which(name):
            return (found,)
    if find_spec("ziglang"):
        return (sys.executable, "-m", "ziglang", "c++", "-nostdlib++")
    raise UnavailableError("there is no C++ compiler (install g++ or clang, or: pip install ziglang)")


def _key(compiler: tuple[str, ...]) -> str:
    """Stands for the sources, the compiler and the processor."""
    parts = [path.read_text("utf-8") for path in sorted(SOURCES.iterdir()) if path.suffix in (".h", ".cpp")]
    try:
        version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise UnavailableError(f"{shlex.join(compiler)} does not run: {error}") from error
    return digest([*parts, *compiler, version.stdout, *_flags(), processor_key()])


def _flags() -> tuple[str, ...]:
    arm = platform.machine().lower() in ("aarch64", "arm64")
    return (*FLAGS, "-mcpu=native" if arm else "-march=native")


def _compile(compiler: tuple[str, ...], path: Path) -> None:
    """Write the library, whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="building-") as folder:
            made = Path(folder) / path.name
            _run([*compiler, *_flags(), "-o", str(made), str(SOURCES / "library.cpp")])
            made.chmod(0o700)
            os.replace(made, path)
    except OSError as error:
        raise UnavailableError(f"they cannot be kept in {path.parent}: {error.strerror or error}") from error


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{command[0]} did not end within {LONGEST_SECONDS:.0f} s") from error
    except OSError as error:
        raise UnavailableError(f"{command[0]} cannot be run: {error.strerror or error}") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        raise UnavailableError(f"{command[0]} could not compile them: {said[0]}")


def digest(parts: Sequence[str]) -> str:
    """16 hex digits that stand for the parts."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]
