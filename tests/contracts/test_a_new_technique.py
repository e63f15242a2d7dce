"""Adding a technique is one new file: the README's example, put into a copy of the suite, is found and trained."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

CHECK = """
import torch
from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.study.training.engine import Outcome, train
from cifar_ablations.study.training.fleet import Member

def test_brightness_is_found_and_trained(tiny_data):
    assert "brightness" in catalog.techniques()
    assert "levels/brightness" in catalog.plan_names()
    size = PROFILES["smoke"]
    recipe = size.apply(catalog.notebook_recipe()).set("brightness=on")
    recipe = recipe.set("budget.train_images=80").set("budget.validation_images=40").set("budget.test_images=60")
    plan = catalog.make_plan("techniques", recipe, size, (0,))
    assert "without brightness jitter" in [arm.name for arm in plan.arms]
    title = lambda setting: recipe.set(setting).titles()["brightness"]
    assert title("brightness.strength=0.33") == "brightness jitter (strength 0.33)"
    assert title("brightness=on") == title("brightness=off") == "brightness jitter"
    levels = catalog.make_plan("levels/brightness", recipe, size, (0,))
    assert [arm.name for arm in levels.arms] == ["brightness jitter", "no brightness jitter"]
    ended = []
    members = [Member(plan.arm(name).recipe, 0) for name in ("full recipe", "without brightness jitter")]
    train(members, tiny_data, torch.device("cpu"), ended.append)
    losses = {e.metrics[schema.TEST_LOSS] for e in ended if isinstance(e, Outcome)}
    assert len(losses) == 2, losses
"""


def test_the_readmes_example_is_one_new_file_and_nothing_else(tmp_path: Path) -> None:
    for package in ("ablations", "study", "reports", "cifar_ablations"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, symlinks=True, ignore=ignored)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    (example,) = [block for block in blocks if "(Technique)" in block]
    (tmp_path / "ablations" / "techniques" / "brightness.py").write_text(example)
    shutil.copytree(ROOT / "tests" / "contracts", tmp_path / "tests" / "contracts")
    for name in ("tests/conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    (tmp_path / "tests" / "contracts" / "test_the_example.py").write_text(CHECK)
    files = [
        f"tests/contracts/{name}.py" for name in ("test_the_example", "test_every_technique", "test_names_of_settings")
    ]
    command = [sys.executable, "-m", "pytest", *files, "-k", "brightness", "-o", "addopts=-q"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    (passed,) = re.findall(r"^(\d+) passed", done.stdout, re.MULTILINE)
    assert int(passed) > 5, "what every technique must satisfy, and that it is found"
