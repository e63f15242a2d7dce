"""Every module has its tests where one looks for them: those of `study/store/home.py` in `study/store/test_home.py`.

What is found by discovery is tested by discovery: a new technique, plan, search, demonstration or figure of one runs
through the tests in DISCOVERED by being there. Figures of plans and searches are imported by a test of reports. Any
other module without a test file of its own is in ELSEWHERE, with the reason.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from cifar_ablations.ablations import catalog
from cifar_ablations.reports.pages import foundations_page
from cifar_ablations.study.foundations.catalog import demonstrations

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"

DISCOVERED = {
    "ablations/techniques": ("contracts/test_every_technique.py", "catalog.techniques()"),
    "ablations/plans": ("ablations/test_plan.py", "catalog.plan_names()"),
    "ablations/searches": ("ablations/test_search_spaces.py", "catalog.search_names()"),
    "study/foundations": ("study/foundations/test_foundations.py", "demonstrations()"),
    "reports/figures": ("reports/pages/test_foundations_page.py", "figure_modules()"),
}
"""Folders whose modules are found by looking, with the test that looks too, and how it does."""

ELSEWHERE = {
    "ablations/adopted.py": ("ablations/test_search_spaces.py", "its files hold what a search found"),
    "ablations/comparison.py": ("test_interface.py", "the plan behind what Python compares"),
    "ablations/errors.py": ("study/commands/test_app.py", "the command line tells it from other errors"),
    "ablations/search.py": ("ablations/test_search_spaces.py", "tested on the searches made of it"),
    "ablations/technique.py": ("contracts/test_every_technique.py", "tested on every technique"),
    "ablations/update_rule.py": ("study/training/test_optimizer.py", "numbers alone; what they mean is tested"),
    "study/execution/on_node.py": ("study/execution/test_on_ray.py", "what a cluster runs is tested on one"),
    "study/execution/events.py": ("study/execution/test_pool.py", "what is told is tested where it is told"),
    "reports/pages/command_page.py": ("study/commands/test_own_program.py", "what was run is read back and judged"),
    "reports/pages/findings.py": ("reports/pages/test_plan_page.py", "gathers what a page says"),
    "reports/pages/index_page.py": ("reports/reading/test_load.py", "an index of what is read from a store"),
    "reports/pages/result.py": ("test_interface.py", "what Python gets"),
    "reports/reading/command_plans.py": ("study/commands/test_own_program.py", "what was run is read back"),
    "reports/reading/searches.py": ("reports/pages/test_search_page.py", "reads what the page shows"),
    "reports/wording/answer.py": ("reports/inference/test_verdict.py", "answers are worded from verdicts"),
    "study/commands/demonstrate.py": ("study/foundations/test_foundations.py", "runs all demonstrations"),
    "study/commands/ending.py": ("study/commands/test_app.py", "how commands end is tested on commands"),
    "study/commands/execute.py": ("study/commands/test_app.py", "what a command does once it is understood"),
    "study/commands/folder_check.py": ("study/commands/test_store_check.py", "its parts are looked at one by one"),
    "study/commands/options.py": ("study/commands/test_app.py", "how options are read is tested on commands"),
    "study/commands/outside.py": ("study/commands/test_judge.py", "declares commands, each tested in its own file"),
    "study/commands/tune.py": ("study/search/test_adopting.py", "from a search to an adopted recipe"),
    "study/commands/runs_check.py": ("study/commands/test_store_check.py", "its parts are looked at one by one"),
    "study/commands/store_findings.py": ("study/commands/test_store_check.py", "what is found is shown"),
    "study/execution/command_runner.py": ("study/commands/test_own_program.py", "runs, is stopped and goes on"),
    "study/commands/upkeep.py": ("study/commands/test_store_check.py", "declares commands, tested in their own files"),
    "study/execution/fleets.py": ("study/execution/test_runner.py", "what plans and searches share of running"),
    "study/execution/invocation.py": ("study/execution/test_runner.py", "what is run"),
    "study/foundations/catalog.py": ("study/foundations/test_foundations.py", "finds the demonstrations"),
    "study/foundations/demonstration.py": ("study/foundations/test_foundations.py", "what a demonstration returns"),
    "study/foundations/paths.py": ("study/foundations/test_foundations.py", "walks for several demonstrations"),
    "study/search/invocation.py": ("study/search/test_search.py", "what is searched"),
    "study/store/command_log.py": ("study/commands/test_own_program.py", "written and read back"),
    "study/store/foundations_log.py": ("reports/pages/test_foundations_page.py", "written and read back"),
    "study/store/search_log.py": ("study/search/test_search.py", "what a search logs"),
    "study/store/tracking.py": ("study/execution/test_runner.py", "what a run logs"),
    "study/training/events.py": ("study/training/test_engine.py", "what is reported, and when"),
    "study/training/step.py": ("study/training/test_engine.py", "steps against a plain loop"),
}
"""Modules without a test file of their own: the one that tests them (a folder's first, where several do), and why."""

MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for package in ("ablations", "study", "reports")
    for path in (ROOT / package).rglob("*.py")
    if path.name != "__init__.py"
)


def _of_its_own(module: str) -> Path:
    path = TESTS / module
    return path.with_name(f"test_{path.name}")


def _imported_from(package: str, folder: Path) -> set[str]:
    """The modules of a package that files below a folder import."""
    found = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == package:
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{package}."):
                found.add(node.module.removeprefix(f"{package}."))
    return found


@cache
def _tested_by_discovery() -> frozenset[str]:
    figures = {module.__name__.rpartition(".")[2] for module in foundations_page.figure_modules().values()}
    figures |= _imported_from("cifar_ablations.reports.figures", TESTS / "reports")
    names = {
        "ablations/techniques": set(catalog.techniques()),
        "ablations/plans": {name.partition("/")[0].replace("-", "_") for name in catalog.plan_names()},
        "ablations/searches": {name.replace("-", "_") for name in catalog.search_names()},
        "study/foundations": set(demonstrations()),
        "reports/figures": figures,
    }
    assert set(names) == set(DISCOVERED)
    return frozenset(f"{folder}/{name}.py" for folder, found in names.items() for name in found)


def test_every_module_has_its_tests_where_one_looks_for_them() -> None:
    tested = _tested_by_discovery() | set(ELSEWHERE)
    missing = [module for module in MODULES if module not in tested and not _of_its_own(module).is_file()]
    assert missing == [], "write test_<module>.py in the same folder of tests/"


@pytest.mark.parametrize("folder", DISCOVERED)
def test_what_is_found_by_looking_is_tested_by_looking(folder: str) -> None:
    test, call = DISCOVERED[folder]
    assert call in (TESTS / test).read_text(encoding="utf-8")


@pytest.mark.parametrize("module", ELSEWHERE)
def test_what_is_tested_elsewhere_has_no_tests_of_its_own(module: str) -> None:
    test, reason = ELSEWHERE[module]
    assert module in MODULES, "the module is gone; so may its entry be"
    assert not _of_its_own(module).exists(), "it has a test file now; its entry may go"
    assert module not in _tested_by_discovery()
    assert (TESTS / test).is_file()
    assert reason
