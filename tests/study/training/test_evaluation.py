"""Evaluation against NumPy, and against each network asked on its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.training import evaluation
from cifar_ablations.study.training.backend import TorchBackend
from cifar_ablations.study.training.engine import Training
from cifar_ablations.study.training.evaluation import predict, scores
from cifar_ablations.study.training.events import Epoch
from cifar_ablations.study.training.fleet import Fleet, Member
from cifar_ablations.study.training.randomness import permutation
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


def test_logits_for_an_image_and_its_mirror_image_are_averaged_when_training_is_over(
    recipe: Recipe, tiny_data: Dataset, backend: str
) -> None:
    mirrored, plain = Member(recipe.set("mirrored_testing=on"), 1), Member(recipe, 1)
    trainings = [
        Training(members, tiny_data, CPU, backend=backend) for members in ([mirrored, plain], [plain], [mirrored])
    ]
    both = trainings[0]
    epochs = [[e.metrics for e in t.run_epoch() if isinstance(e, Epoch)] for t in trainings]
    for name in (schema.TRAIN_LOSS, schema.VALIDATION_LOSS, schema.VALIDATION_ACCURACY):
        assert len({metrics[name] for told in epochs for metrics in told}) == 1, "before the end nothing is otherwise"
    assert torch.equal(both.fleet.weights[0], both.fleet.weights[1]), "dropout's masks too are the same"
    logits, targets = both.evaluator.on_test_images([0, 1])
    alone = [training.evaluator.on_test_images([0])[0][0] for training in trainings[1:]]
    assert torch.equal(logits[1], alone[0])
    assert torch.equal(logits[0], alone[1])
    network = both.fleet.networks[0].eval()

    def mean_of_two(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            views = [normalize(v, *both.evaluator.scales[mirrored]) for v in (images, tv.horizontal_flip(images))]
            return (network(views[0]) + network(views[1])) / 2

    tested = permutation(len(tiny_data.test_labels), "test images")[: recipe.budget.test_images].sort().values
    torch.testing.assert_close(logits[0], mean_of_two(tiny_data.test_images[tested]), rtol=1e-4, atol=1e-5)
    assert torch.equal(tiny_data.test_labels[tested], targets)
    assert not torch.allclose(logits[0], logits[1], atol=1e-3)
    images, _ = both._splits[1]
    (known,) = both.evaluator.on_known_images([0])
    loss = torch.nn.functional.cross_entropy(
        mean_of_two(tiny_data.train_images[images]), tiny_data.train_labels[images]
    )
    assert known.loss == pytest.approx(loss.item(), rel=1e-4)
