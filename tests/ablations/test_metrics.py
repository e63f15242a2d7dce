"""What is known of a metric by its name."""

from __future__ import annotations

import math

import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.metrics import METRICS, Metric, metric


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


def test_whatever_is_logged_at_the_end_of_a_run_has_a_title() -> None:
    assert {*schema.ENDINGS, *schema.STATES} - {schema.SECONDS} <= set(METRICS)
    titles = [known.title for known in METRICS.values()]
    assert len(titles) == len(set(titles))


def test_one_that_is_not_listed_is_called_by_its_name() -> None:
    assert metric("own/metric") == Metric("own/metric")
