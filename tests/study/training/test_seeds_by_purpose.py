"""Draws for one purpose follow the run's seed and all others are held: that draw changes, and nothing else does."""

from __future__ import annotations

import pytest
import torch

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.purposes import AUGMENTATION, MASKS, ORDER, PURPOSES, SPLIT, WEIGHTS
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.seeding import HELD, Seeding
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.execution import gallery
from cifar_ablations.study.training import step
from cifar_ablations.study.training.engine import Outcome, train
from cifar_ablations.study.training.fleet import Fleet, Member, initialised
from cifar_ablations.study.training.lockstep import split

CPU = torch.device("cpu")
LABELS = torch.arange(200) % 10


def _drawn(member: Member) -> dict[str, object]:
    """By purpose, what a member draws, as values that can be compared."""
    images = split(200, member)[0]
    places = {image: place for place, image in enumerate(images.tolist())}
    visits = [[places[image] for image in step.order(member, images, LABELS, epoch).tolist()] for epoch in (0, 1)]
    slots = step._slots(Fleet([member], 10, CPU))
    return {
        SPLIT: [part.tolist() for part in split(200, member)],
        ORDER: visits,
        AUGMENTATION: [slot for slot in slots if len(slot) == 2],
        WEIGHTS: [parameter.tolist() for parameter in initialised(member, 10).parameters()],
        MASKS: [(seed, *place) for seed, _, *place in (slot for slot in slots if len(slot) == 4)],
    }


@pytest.mark.parametrize("varies", PURPOSES)
def test_only_the_one_draw_changes(varies: str, recipe: Recipe) -> None:
    found = _drawn(Member(recipe.with_technique(Seeding(varies)), 3))
    own, held = _drawn(Member(recipe, 3)), _drawn(Member(recipe, HELD))
    for purpose in PURPOSES:
        assert own[purpose] != held[purpose], "nothing would be told apart"
        assert found[purpose] == (own if purpose == varies else held)[purpose], purpose


@pytest.mark.exhaustive
def test_members_of_one_fleet_are_trained_as_they_would_be_alone(recipe: Recipe, tiny_data: Dataset) -> None:
    """Seeds differ by purpose, so what members share in a step is told by all of them."""
    mixed = recipe.set("cutmix=on")
    members = [Member(mixed.with_technique(Seeding(purpose)), seed) for purpose in PURPOSES for seed in (3, 4)]
    together = _ended([*members, Member(mixed, 3), Member(mixed, HELD)], tiny_data)
    for member in members:
        assert together[member] == _ended([member], tiny_data)[member]
    assert len({tuple(metrics.values()) for metrics in together.values()}) == len(together)


def test_left_alone_a_run_is_bitwise_the_run_without_it(recipe: Recipe, tiny_data: Dataset) -> None:
    plain, off = Member(recipe, 3), Member(recipe.with_technique(Seeding()), 3)
    assert _ended([off], tiny_data)[off] == _ended([plain], tiny_data)[plain]


def test_the_gallery_shows_what_is_drawn(recipe: Recipe, tiny_data: Dataset) -> None:
    index = int(split(200, Member(recipe, HELD))[0][0])

    def seen(seed: int, *techniques: Seeding) -> list[int]:
        member = Member(recipe.with_technique(*techniques) if techniques else recipe, seed)
        image = gallery.seen(member, tiny_data, index, 1)
        assert image is not None
        return image.flatten().tolist()

    assert seen(3, Seeding(WEIGHTS)) == seen(HELD)
    assert seen(3, Seeding(AUGMENTATION)) != seen(HELD)


def _ended(members: list[Member], data: Dataset) -> dict[Member, dict[str, float]]:
    events: list[object] = []
    train(members, data, CPU, events.append)
    timed = {schema.SECONDS, schema.IMAGES_PER_SECOND}
    return {
        event.member: {name: value for name, value in event.metrics.items() if name not in timed}
        for event in events
        if isinstance(event, Outcome)
    }
