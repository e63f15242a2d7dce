"""Metrics: what is known of them by name, their numbers against scipy's."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from cifar_ablations.ablations import metrics, schema
from cifar_ablations.ablations.metrics import METRICS, Ended, Metric, metric


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
