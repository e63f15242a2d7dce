"""Metrics: what is known of them by name, their numbers against scipy's, and that one is added in one place."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from cifar_ablations.ablations import metrics, schema
from cifar_ablations.ablations.metrics import METRICS, Ended, Metric, metric

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("found", "bounds"),
    [
        (Metric("loss"), (-math.inf, math.inf)),
        (Metric("accuracy", share=True), (0.0, 1.0)),
        (Metric("a gap", share=True, signed=True), (-1.0, 1.0)),
    ],
)
def test_a_share_is_bounded_and_other_metrics_are_not(found: Metric, bounds: tuple[float, float]) -> None:
    assert found.bounds == bounds


def test_no_two_metrics_have_one_title() -> None:
    titles = [known.title for known in METRICS.values()]
    assert len(titles) == len(set(titles))


def test_one_that_is_not_listed_is_called_by_its_name() -> None:
    assert metric("own/metric") == Metric("own/metric")


def _predicted(log_probabilities: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    history = [{schema.TRAIN_LOSS: 2.0}, {schema.TRAIN_LOSS: 1.0}]
    return metrics.of_training(Ended(history, 0.25, 1.5, 0.75, log_probabilities, targets))


def test_entropy_is_scipys_and_calibration_that_of_a_loop_over_bins() -> None:
    logits, targets = 3 * torch.randn(500, 7, dtype=torch.float64), torch.randint(0, 7, (500,))
    numbers = _predicted(F.log_softmax(logits, dim=1), targets)
    probabilities = F.softmax(logits, dim=1).numpy()
    assert numbers[schema.ENTROPY] == pytest.approx(stats.entropy(probabilities, axis=1).mean())
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == targets.numpy()
    expected = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - correct[inside].mean())
    assert numbers[schema.CALIBRATION_ERROR] == pytest.approx(expected)
    assert numbers[schema.GENERALISATION_GAP] == 0.5
    assert numbers[schema.FIRST_EPOCH_LOSS] == 2.0


def test_a_perfectly_calibrated_answer_has_no_error() -> None:
    log_probabilities = torch.tensor([0.8, 0.2], dtype=torch.float64).log().expand(1000, 2)
    targets = (torch.arange(1000) % 5 == 0).long()
    assert _predicted(log_probabilities, targets)[schema.CALIBRATION_ERROR] == pytest.approx(0, abs=1e-6)


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
from cifar_ablations.study.data.image_archive import Images
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
