"""The table of both backends, on a data set of seconds."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import equality
from cifar_ablations.ablations.budget import Budget
from cifar_ablations.study.training.kernels import build


@pytest.mark.exhaustive
def test_its_table_has_both_backends_and_their_difference(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        build.library()
    except build.UnavailableError as reason:
        pytest.skip(str(reason))
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ABLATE_DATA", str(tiny_folder))
    budget = Budget(epochs=2, batch_size=32, train_images=80, validation_images=40, test_images=60)
    monkeypatch.setitem(equality.PROFILES, "smoke", replace(equality.PROFILES["smoke"], budget=budget))
    results = tmp_path / "RESULTS.md"
    words = ["--profile=smoke", "--seeds=2", f"--results={results}", "--arms", "full recipe"]
    monkeypatch.setattr(sys, "argv", ["equality", *words])
    equality.main()
    (row,) = [line for line in results.read_text().splitlines() if line.startswith("| full recipe ")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    accuracies = [float(cell.removesuffix(" %")) for cell in cells[1:3]]
    assert all(0 < accuracy < 100 for accuracy in accuracies)
    assert float(cells[3].removesuffix(" pp")) == pytest.approx(accuracies[1] - accuracies[0], abs=0.02)
    assert float(cells[5]) < 1e-3
