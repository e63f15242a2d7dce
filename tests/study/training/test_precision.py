"""bf16 is an arithmetic, not another experiment: it reaches what fp32 reaches, within a margin, over seeds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from statsmodels.stats.weightstats import ttost_paired

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.profiles import PROFILES
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.data.dataset import load
from cifar_ablations.study.execution.workers import train_fleets
from cifar_ablations.study.training.engine import Epoch, Outcome, train
from cifar_ablations.study.training.fleet import Member

MARGIN = 0.02
SEEDS = 10


def _accuracies(recipe: Recipe, folder: Path) -> np.ndarray:
    members = [Member(recipe, seed) for seed in range(SEEDS)]
    fleets = [members[: SEEDS // 2], members[SEEDS // 2 :]]
    found = {
        event.member.seed: event.metrics[schema.TEST_ACCURACY]
        for event in train_fleets(fleets, folder, "cpu", workers=2)
        if isinstance(event, Outcome)
    }
    return np.array([found[seed] for seed in range(SEEDS)])


@pytest.mark.exhaustive
def test_bf16_reaches_the_accuracy_of_fp32(tmp_path: Path) -> None:
    data = load(os.environ.get("ABLATE_DATA"), tmp_path)
    if data.stand_in:
        pytest.skip("the stand-in's accuracy after six epochs varies by 8 points: ABLATE_DATA names real images")
    assert data.folder is not None
    recipe = PROFILES["quick"].apply(catalog.notebook_recipe()).set("budget.epochs=6")
    fp32 = _accuracies(recipe, data.folder)
    bf16 = _accuracies(recipe.set("budget.precision=bf16"), data.folder)
    p = ttost_paired(bf16, fp32, -MARGIN, MARGIN)[0]
    difference = 100 * (bf16 - fp32)
    print(
        f"\n{data.name}, {SEEDS} paired seeds: fp32 {100 * fp32.mean():.2f} %, bf16 {100 * bf16.mean():.2f} %, "
        f"difference {difference.mean():+.2f} pp (sd {difference.std(ddof=1):.2f}); within "
        f"{100 * MARGIN:g} pp: p = {p:.2g}"
    )
    assert p < 0.05


def test_bf16_follows_fp32_from_the_first_step(recipe: Recipe, tiny_data) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        epochs: list[Epoch | Outcome] = []
        train([Member(recipe.set(f"budget.precision={precision}"), 0)], tiny_data, torch.device("cpu"), epochs.append)
        losses[precision] = [e.metrics[schema.TRAIN_LOSS] for e in epochs if isinstance(e, Epoch)]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=1e-1)
    assert losses["bf16"] != losses["fp32"]
