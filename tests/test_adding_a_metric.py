"""A metric is added in one place: an entry in a copy of the suite, seen in an outcome and in a report."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ENTRY = """
TOP_3 = _declare(
    "test/top_3",
    Metric(
        "top-3 accuracy",
        ENDING,
        share=True,
        of_training=lambda end: float(
            (end.log_probabilities.topk(3, dim=1).indices == end.targets[:, None]).any(dim=1).double().mean()
        ),
    ),
)
"""

USE = """
import pathlib, sys, numpy as np, torch
from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.profiles import profile
from cifar_ablations.reports.reading.load import METRIC_COLUMNS
from cifar_ablations.reports.wording import phrases
from cifar_ablations.study.data.dataset import store
from cifar_ablations.study.data.images import Images
from cifar_ablations.study.training.engine import train
from cifar_ablations.study.training.fleet import Member

images, labels = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8), np.arange(40) % 10
classes = tuple("abcdefghij")
data = store(Images(classes, images, labels, images, labels), pathlib.Path("data"), name="noise", source="")
recipe = profile("smoke").apply(catalog.notebook_recipe())
for setting in ("model.width=0.0625", "budget.epochs=1", "budget.train_images=30", "budget.validation_images=10",
                "budget.test_images=40"):
    recipe = recipe.set(setting)
events = []
train([Member(recipe, 0)], data, torch.device("cpu"), events.append)
metrics = events[-1].metrics
assert metrics[schema.TEST_ACCURACY] <= metrics[schema.TOP_3] <= 1
assert metrics[schema.TOP_3] > 0
assert schema.TOP_3 in METRIC_COLUMNS
print(phrases.metric_title("test/top_3"), round(metrics[schema.TOP_3] * 40, 9) % 1)
"""


@pytest.mark.exhaustive
def test_adding_a_metric_is_one_entry_and_nothing_else(tmp_path: Path) -> None:
    """Put into a copy of the suite, it is in an outcome, a column of what reports read, and called by its title."""
    for package in ("ablations", "study", "reports", "cifar_ablations"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, symlinks=True, ignore=ignored)
    home = tmp_path / "ablations" / "metrics.py"
    before, entries, after = home.read_text().partition("\nTEST_LOSS = ")
    home.write_text(f"{before}{ENTRY}{entries}{after}")
    environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", USE]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "top-3 accuracy 0.0\n", done.stderr
