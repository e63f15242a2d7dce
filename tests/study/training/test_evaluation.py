"""Evaluation against NumPy, and against each network asked on its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.training import evaluation
from cifar_ablations.study.training.backend import TorchBackend
from cifar_ablations.study.training.evaluation import predict, scores
from cifar_ablations.study.training.fleet import Fleet, Member
from cifar_ablations.study.training.step import normalize, scales, take

CPU = torch.device("cpu")


def test_scores_are_the_mean_negative_log_of_the_softmax_and_the_share_of_largest_logits() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(0, 3, (2, 50, 10)), rng.integers(0, 10, (2, 50))
    found = scores(list(torch.from_numpy(logits)), list(torch.from_numpy(targets)))
    for score, of_member, target in zip(found, logits, targets, strict=True):
        shares = np.exp(of_member) / np.exp(of_member).sum(axis=1, keepdims=True)
        assert score.loss == pytest.approx(-np.log(shares[np.arange(50), target]).mean(), rel=1e-12)
        assert score.correct.tolist() == (of_member.argmax(axis=1) == target).tolist()
        assert score.accuracy == np.mean(of_member.argmax(axis=1) == target)


def test_predictions_are_those_of_each_network_alone_in_evaluation_mode(
    recipe: Recipe, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(evaluation.BATCH, "cpu", 16)  # 50 images in three batches and a smaller one
    members = [Member(recipe.set("dropout=on"), 1), Member(recipe, 2), Member(recipe.set("dropout=off"), 1)]
    fleet, scale = Fleet(members, 10, CPU), scales(members, tiny_data, CPU)
    generator = torch.Generator().manual_seed(0)
    chosen = {seed: torch.randperm(len(tiny_data.train_images), generator=generator)[:50] for seed in (1, 2)}
    ticks: list[None] = []
    backend, images = TorchBackend(fleet, CPU), tiny_data.train_images
    found = predict(fleet, backend, [2, 0], images, chosen, scale, lambda: ticks.append(None))
    assert len(ticks) == 2 * 4
    for row, logits in zip([2, 0], found, strict=True):
        member, network = members[row], fleet.networks[row].eval()
        inputs = normalize(take(tiny_data.train_images, chosen[member.seed]), *scale[member])
        with torch.no_grad():
            torch.testing.assert_close(logits, network(inputs))
