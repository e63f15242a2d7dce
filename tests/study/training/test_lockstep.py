"""A fleet in training: which images its members get, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.training.fleet import Member
from cifar_ablations.study.training.lockstep import Training, split
from cifar_ablations.study.training.step import normalize

CPU = torch.device("cpu")


def test_the_split_is_by_seed_disjoint_and_the_same_for_all_arms(recipe: Recipe) -> None:
    training, validation = split(200, Member(recipe, 0))
    assert len(training) == 80
    assert len(validation) == 40
    assert not set(training.tolist()) & set(validation.tolist())
    for arm in (recipe.without("dropout"), recipe.without("optimizer")):
        assert torch.equal(split(200, Member(arm, 0))[0], training)
    assert not torch.equal(split(200, Member(recipe, 1))[0], training)
    smaller = recipe.set("budget.train_images=30")
    assert torch.equal(split(200, Member(smaller, 0))[0], training[:30])


def test_a_budget_beyond_the_data_is_refused(recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="together exceed the 100 training images"):
        split(100, Member(recipe, 0))


@pytest.fixture
def with_own(tiny_data: Dataset) -> Dataset:
    """The tiny data set, with 25 validation images of its own."""
    own = {"validation_images": tiny_data.test_images[:25], "validation_labels": tiny_data.test_labels[:25]}
    return replace(tiny_data, **own)


def test_with_validation_images_of_its_own_a_set_holds_none_out(recipe: Recipe) -> None:
    plain, _ = split(200, Member(recipe, 3))
    training, looked_at = split(200, Member(recipe, 3), 90)
    assert torch.equal(training, plain)
    assert looked_at.tolist() == sorted({*looked_at.tolist()})
    assert len(looked_at) == recipe.budget.validation_images == 40
    assert int(looked_at.max()) < 90
    assert torch.equal(looked_at, split(200, Member(recipe, 4), 90)[1]), "the same for every seed"
    assert split(200, Member(recipe, 3), 25)[1].tolist() == list(range(25))
    assert len(split(80, Member(recipe, 0), 25)[0]) == 80
    with pytest.raises(ValueError, match=r"budget.train_images \(80\) exceeds the 79 training images"):
        split(79, Member(recipe, 0), 25)


def test_its_own_validation_images_are_looked_at_and_nothing_else_changes(
    recipe: Recipe, tiny_data: Dataset, with_own: Dataset, backend: str
) -> None:
    members = [Member(recipe, 0), Member(recipe.without("dropout"), 1)]
    held_out, own = (Training(members, data, CPU, backend=backend) for data in (tiny_data, with_own))
    for _ in range(recipe.budget.epochs):
        for before, after in zip(held_out.run_epoch(), own.run_epoch(), strict=True):
            assert after.metrics[schema.TRAIN_LOSS] == before.metrics[schema.TRAIN_LOSS]
            assert after.metrics[schema.VALIDATION_LOSS] != before.metrics[schema.VALIDATION_LOSS]
    tested = [
        [outcome.metrics[schema.TEST_ACCURACY] for outcome in t.outcomes([0, 1], schema.FINISHED)]
        for t in (held_out, own)
    ]
    assert tested[0] == tested[1]
    for row, score in enumerate(own.evaluator.on_validation_images()):
        network = own.fleet.networks[row].eval()
        inputs = normalize(with_own.validation_images, *own.evaluator.scales[members[row]])
        with torch.no_grad():
            answers = network(inputs).argmax(dim=1)
        assert score.correct.tolist() == (answers == with_own.validation_labels).tolist()


def test_the_test_set_is_read_once_at_the_end(recipe: Recipe, tiny_data) -> None:
    training = Training([Member(recipe, 0)], tiny_data, CPU)
    training.evaluator.data = replace(tiny_data, test_images=None)
    for _ in range(recipe.budget.epochs):
        training.run_epoch()
    with pytest.raises(AttributeError, match="'NoneType'"):
        training.outcomes([0], schema.FINISHED)


def test_masks_are_drawn_for_each_member_and_step(recipe: Recipe, tiny_data) -> None:
    recipe = recipe.set("model.width=0.5").set("budget.batch_size=40")
    training = Training([Member(recipe, 0), Member(recipe.without("weight_decay"), 0)], tiny_data, CPU)
    training.run_epoch()  # of two steps
    stepper = training._stepper
    stepper.begin(1, training._images())
    training.fleet.train(True)
    masks = []
    for step in (0, 1):
        stepper.run(step)
        masks += [network.dropout.mask for network in training.fleet.networks]
    for mask in masks:
        assert set(mask.unique().tolist()) == {0.0, 2.0}
        assert mask.mean().item() == pytest.approx(1.0, abs=0.05)
    kept = torch.stack([mask.flatten() for mask in masks])
    correlation = torch.corrcoef(kept) - torch.eye(len(masks))
    assert correlation.abs().max() < 5 / kept.shape[1] ** 0.5
