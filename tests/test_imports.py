"""What stays cheap to import, and under which names; who may import whom is a contract in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
P = "cifar_ablations"


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        (
            f"from {P}.study.commands.app import app; app(['--help'], standalone_mode=False)",
            ("torch", "mlflow", "seaborn", "pandas", "optuna"),
        ),
        (f"import {P}.study.training.engine, {P}.study.data.dataset", ("mlflow", "optuna", "torchvision", "pandas")),
        (f"import {P}.reports.pages.plan_page", ("torch", "torchvision", "optuna")),
    ],
)
def test_what_is_slow_is_imported_by_who_needs_it(code: str, forbidden: tuple[str, ...]) -> None:
    check = f"{code}\nimport sys; print(*[m for m in {forbidden!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == ""


@pytest.mark.exhaustive
def test_folders_of_a_persons_own_are_not_shadowed(tmp_path: Path) -> None:
    """Only one name is installed; `reports` and `study` are whatever lies in the current folder."""
    for name in ("reports", "study", "ablations"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    code = f"import reports, study, ablations, {P}.reports.pages.plan_page; print(reports.__file__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == str(tmp_path / "reports" / "__init__.py")
