"""Workers are there at once, and import what they train with and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cifar_ablations.study.execution.starting import PRELOADED, start_method

NOT_NEEDED = ("mlflow", "pandas", "matplotlib", "pydantic", "scipy", "sympy", "optuna", "torchvision", "torch._dynamo")
"""What takes long to import and no training needs."""

ASK_A_WORKER = f"""
import multiprocessing, sys
from cifar_ablations.study.execution import starting

def imported():
    return [name for name in ("torch", {PRELOADED!r}, *{NOT_NEEDED!r}) if name in sys.modules]

if __name__ == "__main__":
    starting.prepare("cpu")
    with multiprocessing.get_context(starting.start_method("cpu")).Pool(1) as pool:
        print(*pool.apply(imported))
"""


@pytest.mark.exhaustive
@pytest.mark.skipif(start_method("cpu") != "forkserver", reason="where workers are forked")
def test_a_worker_has_imported_what_it_trains_with_and_nothing_else(tmp_path: Path) -> None:
    script = tmp_path / "ask.py"
    script.write_text(ASK_A_WORKER)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["torch", PRELOADED]
    assert done.stderr == ""


@pytest.mark.exhaustive
def test_the_collector_is_on_again_afterwards() -> None:
    code = f"import gc, {PRELOADED}; print(gc.isenabled(), gc.get_freeze_count() > 10_000)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
