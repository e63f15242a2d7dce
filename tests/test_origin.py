"""What is tested is what was meant: the package of this folder, or the one that `make test-wheel` names."""

from __future__ import annotations

import os
from pathlib import Path

import cifar_ablations
from cifar_ablations import ablations, reports, study

ROOT = Path(__file__).parents[1]


def test_every_package_comes_from_the_folder_that_is_meant() -> None:
    meant = Path(os.environ.get("TESTED_FOLDER", ROOT)).resolve()
    for package in (cifar_ablations, ablations, study, reports):
        assert Path(str(package.__file__)).resolve().is_relative_to(meant), package.__file__
