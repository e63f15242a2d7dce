"""The training loop: equal to a plain one, whatever the fleet, and honest about its endings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import transforms
from torchvision.transforms import v2

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.designs import switched_on
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.technique import overrides
from cifar_ablations.ablations.techniques.optimizer import Optimizer
from cifar_ablations.study.execution.events import Event
from cifar_ablations.study.training.backend import KERNELS, TORCH
from cifar_ablations.study.training.engine import Epoch, Outcome, split, train
from cifar_ablations.study.training.fleet import Member, initialised
from cifar_ablations.study.training.randomness import permutation
from cifar_ablations.study.training.step import normalize

CPU = torch.device("cpu")
TIMES = {schema.SECONDS, schema.IMAGES_PER_SECOND}


def _trained(members: list[Member], data, backend: str = TORCH) -> dict[Member, tuple]:
    """Per member: its epochs' metrics, its outcome, and which test images it got right. Times are left out."""
    events: list[Event] = []
    train(members, data, CPU, events.append, backend=backend)
    numbers = {}
    for member in members:
        own = [e for e in events if isinstance(e, Epoch | Outcome) and e.member == member]
        ending = own[-1]
        assert isinstance(ending, Outcome)
        metrics = [{k: v for k, v in e.metrics.items() if k not in TIMES} for e in own]
        # As text, in which a NaN of a diverged run equals another one.
        details = repr({name: values.tolist() for name, values in ending.details.items()})
        correct = ending.details["correct"].tolist() if "correct" in ending.details else None
        numbers[member] = (metrics, ending.outcome, ending.epochs, correct, details)
    return numbers


OWN_NETWORK = """
from torch import nn
from cifar_ablations.study.training.model import DropoutSite
def factory(width, classes):
    size = max(1, round(64 * width))
    first = [nn.Conv2d(3, size, 5, stride=2), nn.BatchNorm2d(size), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*first, nn.LayerNorm(4 * size), DropoutSite(4 * size), nn.Linear(4 * size, classes))
"""


@pytest.fixture(params=["notebook", "notebook-deeper", "resnet9", "convnext", "own_network:factory"])
def on_any_network(request, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """The recipe with each network: those that come with the suite, and one that a user wrote."""
    if ":" in request.param:
        (tmp_path / "own_network.py").write_text(OWN_NETWORK)
        monkeypatch.syspath_prepend(str(tmp_path))
    return recipe.set(f"model.name={request.param}")


@pytest.fixture
def on_network(on_any_network: Recipe, backend: str) -> Recipe:
    """Of these, those that the backend computes."""
    if backend == KERNELS and on_any_network.model.name != "notebook":
        pytest.skip("the kernels know the notebook's network only")
    return on_any_network


@pytest.fixture
def arms(on_network: Recipe) -> list[Member]:
    """The arms of the techniques plan at two seeds: every technique on and off."""
    recipes = [on_network, *(on_network.without(t.name) for t in switched_on(on_network))]
    return [Member(r, seed) for seed in (0, 1) for r in recipes]


def _of_few_images(recipe: Recipe) -> Recipe:
    return replace(recipe, budget=replace(recipe.budget, train_images=40, validation_images=20, test_images=20))


@pytest.mark.slow
def test_a_run_is_bitwise_the_same_in_any_fleet(arms: list[Member], tiny_data, backend: str) -> None:
    # The full recipe, without augmentation, dropout and the optimizer, and with another seed. Of few images, and a last
    # batch that is not full.
    some = [replace(arms[i], recipe=_of_few_images(arms[i].recipe)) for i in (0, 1, 2, 4, 7)]
    together = _trained(some, tiny_data, backend)
    in_twos = {k: v for i in (4, 2, 0) for k, v in _trained(some[i : i + 2][::-1], tiny_data, backend).items()}
    assert in_twos == together
    alone = {k: v for member in some for k, v in _trained([member], tiny_data, backend).items()}
    assert alone == together


@pytest.mark.exhaustive
def test_a_fleet_of_every_optimizer_schedule_and_augmentation_equals_its_members_alone(
    recipe: Recipe, tiny_data, backend: str
) -> None:
    # All techniques but those that change the network's or the budget's size, which a fleet shares.
    levels = {
        name: list(cls.levels) for name, cls in catalog.techniques().items() if not overrides(cls.at("off"), "resize")
    }
    longest = max(map(len, levels.values()))
    mixed = []
    for i in range(longest):
        one = recipe
        for name, names in levels.items():
            one = one.with_technique(catalog.techniques()[name].at(names[i % len(names)]))
        mixed.append(Member(one, i % 3))
    together = _trained(mixed, tiny_data, backend)
    assert {k: v for m in mixed for k, v in _trained([m], tiny_data, backend).items()} == together


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["off", "on"])
def test_a_member_equals_a_plain_loop_with_torch_optim(
    optimizer: str, on_network: Recipe, tiny_data, backend: str
) -> None:
    # Without augmentation and dropout, whose draws a plain loop would not share.
    recipe = on_network.without("augmentation").without("dropout").with_technique(Optimizer.at(optimizer))
    member, budget = Member(recipe, 4), recipe.budget
    network = initialised(member, 10)
    rule = recipe.update_rule()
    kind = torch.optim.Adam if optimizer == "on" else torch.optim.SGD
    torchs = kind(network.parameters(), lr=rule.rate, weight_decay=rule.coupled_decay)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(torchs, [round(m * budget.epochs) for m in (0.6, 0.8)], gamma=0.1)
    pipeline = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(tiny_data.mean, tiny_data.std)])
    own, _ = split(len(tiny_data.train_labels), member)
    losses = []
    for epoch in range(budget.epochs):
        total = 0.0
        for chosen in own[permutation(len(own), 4, "order", epoch)].split(budget.batch_size):
            torchs.zero_grad()
            loss = nn.functional.cross_entropy(
                network(pipeline(tiny_data.train_images[chosen])), tiny_data.train_labels[chosen]
            )
            loss.backward()
            torchs.step()
            total += loss.item() * len(chosen)
        scheduler.step()
        losses.append(total / len(own))
    network.eval()
    with torch.no_grad():
        answers = network(pipeline(tiny_data.test_images)).argmax(dim=1)

    metrics, outcome, _, correct, _ = _trained([member], tiny_data, backend)[member]
    assert outcome == schema.FINISHED
    assert [m[schema.TRAIN_LOSS] for m in metrics[:-1]] == pytest.approx(losses, rel=1e-4)
    tested = permutation(len(tiny_data.test_labels), "test images")[: budget.test_images].sort().values
    assert correct == (answers == tiny_data.test_labels)[tested].tolist()
    assert metrics[-1][schema.TEST_ACCURACY] == pytest.approx(np.mean(correct))


def test_normalising_is_bitwise_torchvisions(tiny_data) -> None:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (tiny_data.mean, tiny_data.std))
    pipeline = transforms.Compose([transforms.ToTensor(), transforms.Normalize(tiny_data.mean, tiny_data.std)])
    images = tiny_data.train_images[:50]
    expected = torch.stack([pipeline(image.permute(1, 2, 0).numpy()) for image in images])
    assert torch.equal(normalize(images, mean, std), expected)


def test_training_learns(recipe: Recipe, tiny_data, backend: str) -> None:
    longer = recipe.set("budget.epochs=8").set("budget.train_images=150").without("dropout")
    metrics, *_ = _trained([Member(longer, 0)], tiny_data, backend)[Member(longer, 0)]
    assert metrics[-1][schema.TEST_ACCURACY] > 0.3  # chance is 0.1
    assert metrics[-2][schema.TRAIN_LOSS] < metrics[0][schema.TRAIN_LOSS]


def _diverging(recipe: Recipe) -> Recipe:
    """A recipe whose decay multiplies every weight by -99 at each step."""
    return recipe.with_technique(Optimizer(rate=100.0)).set("weight_decay.strength=1").set("budget.epochs=4")


@pytest.mark.slow
def test_a_diverged_run_ends_and_the_others_do_not_notice(recipe: Recipe, tiny_data, backend: str) -> None:
    wild = Member(_diverging(recipe), 0)
    calm = [Member(recipe.set("budget.epochs=4"), 0), Member(recipe.without("optimizer").set("budget.epochs=4"), 0)]
    together = _trained([wild, *calm], tiny_data, backend)
    metrics, outcome, epochs, correct, _ = together[wild]
    assert outcome == schema.DIVERGED
    assert epochs < 4
    assert correct is None
    assert schema.TEST_ACCURACY not in metrics[-1]
    alone = _trained(calm, tiny_data, backend)
    assert {m: together[m] for m in calm} == alone


def test_what_diverges_diverges_at_the_same_epoch_by_every_backend(recipe: Recipe, tiny_data, backend: str) -> None:
    wild = Member(_diverging(recipe), 0)
    (_, outcome, epochs, *_), (_, expected, after, *_) = (
        _trained([wild], tiny_data, name)[wild] for name in (backend, TORCH)
    )
    assert (outcome, epochs) == (expected, after) == (schema.DIVERGED, after)


def test_a_fleet_that_diverges_whole_ends(recipe: Recipe, tiny_data, backend: str) -> None:
    wild = [Member(_diverging(recipe), seed) for seed in (0, 1)]
    assert {numbers[1] for numbers in _trained(wild, tiny_data, backend).values()} == {schema.DIVERGED}


def test_without_validation_images_none_are_read(recipe: Recipe, tiny_data) -> None:
    everything = recipe.set("budget.train_images=200").set("budget.validation_images=0")
    metrics, outcome, *_ = _trained([Member(everything, 0)], tiny_data)[Member(everything, 0)]
    assert outcome == schema.FINISHED
    assert schema.VALIDATION_ACCURACY not in metrics[0]
