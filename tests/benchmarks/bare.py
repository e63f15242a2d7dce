"""A machine on which few packages are installed, for processes that a test starts."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment_with(*packages: str, folder: Path) -> dict[str, str]:
    """Environment variables under which no package can be imported but these, and what they require themselves.

    Processes that are started from there are without the others too, as Python imports `sitecustomize` wherever it
    starts. It is written to a new folder in the given one, where output goes as well.
    """
    kept: set[str] = set()
    for package in packages:
        _add_required(package, kept)
    ours = {path.name for path in ROOT.iterdir()} | set(sys.stdlib_module_names)
    modules = packages_distributions()
    missing = sorted(m for m, of in modules.items() if m not in ours and not {_name(d) for d in of} & kept)
    assert {"mlflow", "optuna", "pandas", "scipy", "typer", "rich", "psutil", "pyarrow", "sqlalchemy"} <= set(missing)
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(
        "import importlib.machinery as machinery\n"
        "find = machinery.PathFinder.find_spec\n"
        f"missing = {missing!r}\n"
        "def find_spec(cls, name, path=None, target=None):\n"
        "    return None if name.partition('.')[0] in missing else find(name, path, target)\n"
        "machinery.PathFinder.find_spec = classmethod(find_spec)\n"
    )
    given = {"PYTHONPATH": str(folder / "site"), "ABLATE_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    return os.environ | given | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def _add_required(package: str, known: set[str]) -> None:
    if _name(package) in known:
        return
    known.add(_name(package))
    with suppress(PackageNotFoundError):  # what is for another platform
        for line in distribution(package).requires or ():
            if "extra ==" not in line:
                _add_required(re.split(r"[^A-Za-z0-9._-]", line)[0], known)


def _name(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()
