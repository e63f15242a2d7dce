"""Compiling on first use, and the sentences where that cannot be."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cifar_ablations.study.training.kernels import build


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine on which nothing has been compiled; yields the folder where it will be kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    build.library.cache_clear()
    yield tmp_path / "cache" / "cifar-ablations"
    build.library.cache_clear()


def _program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def _fails() -> str:
    with pytest.raises(build.UnavailableError) as caught:
        build.library()
    return str(caught.value)


def test_it_is_compiled_once_and_kept(elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        compiler = build._compiler()
        build.library()
    except build.UnavailableError as reason:
        pytest.skip(str(reason))
    (kept,) = elsewhere.iterdir()
    made = kept.stat()
    assert stat.S_ISREG(made.st_mode)
    build.library.cache_clear()
    assert build.library().lanes() in (4, 8, 16)
    assert kept.stat().st_mtime_ns == made.st_mtime_ns
    # The same compiler by another name may be another one.
    monkeypatch.setenv("CXX", str(_program(tmp_path / "other", f'exec {" ".join(compiler)} "$@"')))
    build.library.cache_clear()
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


def test_a_cache_that_cannot_be_written_is_told_of(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("")
    monkeypatch.setenv("CXX", str(_program(tmp_path / "compiler", "exit 0")))
    assert "cannot be kept in" in _fails()


def test_an_odd_processor_is_told_of(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.platform, "machine", lambda: "riscv64")
    assert "not written for riscv64" in _fails()
    monkeypatch.setattr(build.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(build.Path, "read_text", lambda path, **_: "flags : sse2")
    assert "no AVX2 and FMA" in _fails()


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert build.cache_folder() == Path(os.path.expanduser("~")) / ".cache" / "cifar-ablations"
