"""The comparison of a plain program with the suite: its statistics, its folder of images, and one whole call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.script_equality import MARGIN, as_folder, compared, row
from cifar_ablations.study.data.dataset import Dataset, load

groups = st.lists(st.floats(0.5, 0.9), min_size=2, max_size=8).filter(lambda values: np.std(values) > 1e-6)


@given(script=groups, suite=groups)
@settings(max_examples=50, deadline=None)
def test_the_tests_are_those_of_scipy(script: list[float], suite: list[float]) -> None:
    found = compared(script, suite)
    sides = [
        stats.ttest_ind(np.array(script) + MARGIN, suite, equal_var=False, alternative="greater").pvalue,
        stats.ttest_ind(np.array(script) - MARGIN, suite, equal_var=False, alternative="less").pvalue,
    ]
    assert found.p == pytest.approx(max(sides), abs=1e-9)
    interval = stats.ttest_ind(script, suite, equal_var=False).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-9)
    if found.p != pytest.approx(0.05):
        assert found.equivalent == (max(-found.low, found.high) < MARGIN)


def test_a_row_says_what_was_found_and_what_diverged() -> None:
    near = row("mine", [0.70, 0.71, 0.70], [0.702, 0.708, 0.70])
    assert near.startswith("| mine | 70.33 ± 0.58 % | 70.33 ± 0.42 % | ")
    far = row("mine", [0.70, 0.71, np.nan], [0.75, 0.76, 0.75])
    assert " 1 diverged | " in far
    assert far.endswith("| not shown |")
    assert row("mine", [np.nan, np.nan], [0.7, 0.8]) == "| mine | 2 diverged |  | | | | |"


def test_the_folder_holds_the_images_themselves(tiny_data: Dataset, tmp_path: Path) -> None:
    as_folder(tiny_data, tmp_path / "images")
    again = load(tmp_path / "images", tmp_path / "cache", say=lambda line: None)
    assert again.classes == tiny_data.classes
    for split in ("train", "test"):
        ours, theirs = (getattr(data, f"{split}_images").flatten(1) for data in (tiny_data, again))
        # Class by class in a folder, so that their order is another one.
        assert torch.equal(torch.unique(ours, dim=0), torch.unique(theirs, dim=0))
