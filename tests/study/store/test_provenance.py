"""What a run says of where it comes from, against what the system and the libraries say themselves."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

from cifar_ablations.study.store import provenance as module
from cifar_ablations.study.store.provenance import environment, processor, provenance, user

CPU = torch.device("cpu")


def test_versions_are_those_the_libraries_give_themselves() -> None:
    facts = provenance(CPU, 3, "torch")
    assert (facts.python, facts.numpy, facts.mlflow) == (platform.python_version(), np.__version__, mlflow.__version__)
    assert (facts.device, facts.workers, facts.cores) == ("cpu", "3", str(os.cpu_count()))
    assert all(asdict(facts).values()), "what cannot be known says so"


def test_outside_a_checkout_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "__file__", str(tmp_path / "provenance.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    facts = provenance(CPU, 1)
    assert (facts.commit, facts.dirty) == ("unknown", "unknown")


def test_the_index_of_a_checkout_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "provenance.py"
    file.write_text("x = 1\n")
    by = ["-c", "user.name=x", "-c", "user.email=x@x"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run(["git", *by, *words], cwd=tmp_path, check=True)
    os.utime(file, (1, 1))  # git would note that it is unchanged
    before = (tmp_path / ".git" / "index").read_bytes()
    monkeypatch.setattr(module, "__file__", str(file))
    assert provenance(CPU, 1).dirty == "false"
    assert (tmp_path / ".git" / "index").read_bytes() == before


def test_without_git_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance(CPU, 1).commit == "unknown"


def test_an_environment_is_of_the_process_that_trains() -> None:
    facts = environment(CPU, 2, "torch")
    assert (facts.threads, facts.torch) == (2, torch.__version__)
    assert facts.instructions == torch.backends.cpu.get_cpu_capability()
    assert (facts.backend, facts.kernels) == ("torch", "")


def test_an_environment_says_which_build_of_the_kernels_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    for build in ("00ff", "11ff"):
        monkeypatch.setattr(module.build, "library_path", lambda build=build: Path(f"/cache/kernels-{build}.so"))
        assert environment(CPU, 1, "kernels").kernels == build


def test_an_environment_says_what_holds_libraries_to_other_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = environment(CPU, 1, "torch")
    for name in module.HOLDS_LIBRARIES:
        with monkeypatch.context() as held:
            held.setenv(name, "AVX2")
            assert environment(CPU, 1, "torch") != plain
            assert environment(CPU, 1, "torch").instructions.endswith(f", {name}=AVX2")


def test_a_user_without_a_name_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody")
    assert user() == "somebody"
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000 - 1)
    assert user() == "unknown"


def test_a_processor_has_a_name() -> None:
    assert processor()
