"""Techniques are found by looking in their folder, and searches look up their knobs without the catalog of searches."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cifar_ablations.ablations import catalog, discovery

FOLDER = Path(discovery.__file__).parent / "techniques"


def test_every_file_is_a_technique() -> None:
    names = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
    assert list(discovery.techniques()) == names
    assert catalog.techniques is discovery.techniques


def test_searches_stand_beneath_the_catalog() -> None:
    code = "import sys, cifar_ablations.ablations.search; print('cifar_ablations.ablations.catalog' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
