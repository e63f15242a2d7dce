"""Compiling on first use, and the sentences where that cannot be."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cifar_ablations.study.training.kernels import build


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine on which nothing has been compiled; yields the folder where it will be kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    _forget()
    yield tmp_path / "cache" / "cifar-ablations"
    _forget()


def _forget() -> None:
    build.library.cache_clear()
    build.library_path.cache_clear()


def _program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def _fails() -> str:
    with pytest.raises(build.UnavailableError) as caught:
        build.library()
    return str(caught.value)


@pytest.mark.exhaustive
def test_it_is_compiled_once_and_kept(elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        compiler = build._compiler()
        build.library()
    except build.UnavailableError as reason:
        pytest.skip(str(reason))
    (kept,) = elsewhere.iterdir()
    made = kept.stat()
    assert stat.S_ISREG(made.st_mode)
    _forget()
    assert build.library().lanes() in (4, 8, 16)
    assert kept.stat().st_mtime_ns == made.st_mtime_ns
    # The same compiler by another name may be another one.
    monkeypatch.setenv("CXX", str(_program(tmp_path / "other", f'exec {" ".join(compiler)} "$@"')))
    _forget()
    build.library()
    assert len(list(elsewhere.iterdir())) == 2


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "is no program"),
        ("exit 1", "does not run"),
        ('[ "$1" = --version ] && exit 0; echo "it is broken" >&2; exit 1', "could not compile them: it is broken"),
        ('[ "$1" = --version ] && exit 0; kill $$', "could not compile them: no message"),
        ("""for word; do out=$last; last=$word; done
            while [ $# -gt 0 ]; do [ "$1" = -o ] && echo text > "$2"; shift; done""", "cannot be loaded"),
    ],
)  # fmt: skip
def test_a_compiler_that_does_not_do_its_work_is_told_of(
    script: str | None, said: str, elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "compiler"
    if script is not None:
        _program(compiler, script)
    monkeypatch.setenv("CXX", str(compiler))
    assert said in _fails()
    assert not list(elsewhere.glob("building-*"))


def test_without_any_compiler_it_is_said_how_to_get_one(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "pip install ziglang" in _fails()


SWEEP = """
import itertools, sys
import torch
from cifar_ablations.ablations.budget import Budget, Network
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.techniques.activation import Activation
from cifar_ablations.study.training.fleet import Fleet, Member
from cifar_ablations.study.training.kernels import build, kernel_backend

build.FLAGS += tuple(sys.argv[2:])
kernel_backend.OVERHANG = int(sys.argv[1])
torch.set_num_threads(1)
for width, classes, function in itertools.product((0.0625, 0.25, 0.3), (2, 10, 100), Activation.levels):
    recipe = Recipe(Network(width=width), Budget(batch_size=33), (Activation.at(function),))
    fleet = Fleet([Member(recipe, 0)], classes, torch.device("cpu"))
    backend = kernel_backend.KernelBackend(fleet)
    fleet.train(True)
    for size in (33, 1, 2):
        torch.manual_seed(size)
        images, targets = torch.randn(size, 3, 32, 32), torch.rand(size, classes).softmax(dim=1)
        backend.gradients(0, images, targets)
        print(width, classes, function, size, hash(fleet.gradients.numpy().tobytes()), end=" ")
        print(hash(backend.logits(0, images).numpy().tobytes()))
print("done")
"""


def _sweep(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Gradients and logits of many networks and batches in a process of its own; words: of SWEEP's command line."""
    given = os.environ | {"PYTHONHASHSEED": "0"} | environment
    return subprocess.run([sys.executable, "-c", SWEEP, *words], env=given, capture_output=True, text=True)


@pytest.mark.exhaustive
def test_the_width_of_the_vectors_changes_no_bit(elsewhere: Path) -> None:
    try:
        build.library()
    except build.UnavailableError as reason:
        pytest.skip(str(reason))
    said = [_sweep("16", f"-DLANES={lanes}", "-Wno-psabi").stdout for lanes in (4, 8, 16)]
    assert said[0].endswith("done\n")
    assert said[0] == said[1] == said[2]


@pytest.mark.exhaustive
def test_nothing_is_read_or_written_outside_of_its_piece_of_memory(elsewhere: Path) -> None:
    found = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=False)
    if found.returncode or not Path(found.stdout.strip()).is_absolute():
        pytest.skip("g++ has no address sanitizer here")
    flags = ("-fsanitize=address", "-fno-omit-frame-pointer", "-O1")
    places = {"LD_PRELOAD": found.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0", "CXX": "g++"}
    done = _sweep("7", *flags, **places)
    assert done.stdout.endswith("done\n"), done.stderr[-3000:]
    caught = _sweep("6", *flags, **places)
    assert "ERROR: AddressSanitizer" in caught.stderr


def test_a_cache_that_cannot_be_written_is_told_of(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("")
    monkeypatch.setenv("CXX", str(_program(tmp_path / "compiler", "exit 0")))
    assert "cannot be kept in" in _fails()


@pytest.mark.exhaustive
def test_a_library_that_others_could_have_put_there_is_not_loaded(elsewhere: Path) -> None:
    try:
        build.library()
    except build.UnavailableError as reason:
        pytest.skip(str(reason))
    assert elsewhere.stat().st_mode & 0o077 == 0
    elsewhere.chmod(0o777)
    _forget()
    assert "not this user's alone" in _fails()


def test_without_a_home_or_with_half_a_command_it_is_said(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("CXX", 'g++ "')
    assert "is no program" in _fails()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(build.Path, "home", nobody)
    assert "set XDG_CACHE_HOME" in _fails()


def test_an_odd_processor_is_told_of(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.platform, "machine", lambda: "riscv64")
    assert "not written for riscv64" in _fails()
    monkeypatch.setattr(build.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(build.Path, "read_text", lambda path, **_: "flags : sse2")
    assert "no AVX2 and FMA" in _fails()


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert build.cache_folder() == Path(os.path.expanduser("~")) / ".cache" / "cifar-ablations"
