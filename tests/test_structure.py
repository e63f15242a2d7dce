"""Who may import whom, and what stays cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIGHT = {"ablations.schema", "ablations.naming", "ablations.metrics"}
"""Modules of `ablations` that need nothing heavy, and so may be used by reports."""


def _imports(package: str) -> list[tuple[Path, str]]:
    found = []
    for file in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found += [(file, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.append((file, node.module))
                found += [(file, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def _within(module: str, *packages: str) -> bool:
    return any(module == p or module.startswith(f"{p}.") for p in packages)


def test_definitions_import_neither_runs_nor_reports() -> None:
    assert [i for i in _imports("ablations") if _within(i[1], "study", "reports", "mlflow", "optuna")] == []


def test_reports_meet_runs_in_the_store_alone() -> None:
    assert [i for i in _imports("reports") if _within(i[1], "study", "torch", "torchvision")] == []
    from_ablations = {m for _, m in _imports("reports") if _within(m, "ablations")}
    assert {m for m in from_ablations if m != "ablations" and not _within(m, *LIGHT)} == set()


def test_only_the_logs_write_and_only_reports_read_mlflow() -> None:
    users = {f.relative_to(ROOT).as_posix() for f, m in _imports("study") if _within(m, "mlflow")}
    assert users == {"study/tracking.py", "study/search_log.py", "study/foundations/log.py", "study/ui.py"}


def test_only_the_command_line_sees_reports() -> None:
    users = {f.relative_to(ROOT).as_posix() for f, m in _imports("study") if _within(m, "reports")}
    assert users <= {"study/cli.py", "study/cli_tuning.py", "study/show.py"}


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        (
            "import study.cli; study.cli.app(['--help'], standalone_mode=False)",
            ("torch", "mlflow", "seaborn", "pandas"),
        ),
        ("import study.engine, study.fleet", ("mlflow", "optuna", "torchvision", "pandas")),
        ("import reports.page", ("torch", "torchvision", "optuna")),
    ],
)
def test_what_is_slow_is_imported_by_who_needs_it(code: str, forbidden: tuple[str, ...]) -> None:
    check = f"{code}\nimport sys; print(*[m for m in {forbidden!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == ""
