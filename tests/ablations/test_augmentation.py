"""Batched crops and flips against torchvision's own, under the same draws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tv

from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.techniques.augmentation import (
    Augmentation,
    alternate,
    crop_and_flip,
    erase,
    jitter,
    rotate,
)
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.training.engine import Training
from cifar_ablations.study.training.fleet import Member
from cifar_ablations.study.training.randomness import StepDraws
from cifar_ablations.study.training.step import order

CPU = torch.device("cpu")


def _images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@given(padding=st.integers(0, 6), seed=st.integers(0, 2**31), channels_last=st.booleans())
@settings(max_examples=25, deadline=None)
def test_equals_torchvisions_pad_crop_and_flip(padding: int, seed: int, channels_last: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = _images(9, seed)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    top = torch.randint(0, 2 * padding + 1, (9,), generator=generator)
    left = torch.randint(0, 2 * padding + 1, (9,), generator=generator)
    mirrored = torch.rand(9, generator=generator) < 0.5
    ours = crop_and_flip(images, top, left, mirrored, padding)
    for i, image in enumerate(images):
        expected = tv.crop(tv.pad(image, [padding], fill=0), int(top[i]), int(left[i]), 32, 32)
        if mirrored[i]:
            expected = tv.horizontal_flip(expected)
        assert torch.equal(ours[i], expected)


def test_corners_and_middle_are_reached_and_padding_is_black() -> None:
    images = torch.full((4000, 3, 32, 32), 255, dtype=torch.uint8)
    augmented = Augmentation(padding=4, flip=0.0).augment(images, StepDraws.named(CPU, 0, "augmentation", 0))
    black = (augmented[:, 0] == 0).float()
    rows = black.mean(dim=2).eq(1).sum(dim=1)
    assert set(rows.tolist()) == {0, 1, 2, 3, 4}
    assert set(augmented.unique().tolist()) == {0, 255}


def test_parameters_are_drawn_for_every_image() -> None:
    image = _images(1).expand(64, 3, 32, 32)
    augmented = Augmentation(padding=4, flip=0.5).augment(image, StepDraws.named(CPU, 0, "augmentation", 0))
    assert len({a.numpy().tobytes() for a in augmented}) > 40


@pytest.mark.parametrize("flip", [0.0, 0.3, 1.0])
def test_flips_happen_as_often_as_asked(flip: float) -> None:
    images = _images(1).expand(4000, 3, 32, 32)
    flipped = Augmentation(flip=flip).augment(images, StepDraws.named(CPU, 1, "augmentation", 0))
    share = (flipped != images).flatten(1).any(dim=1).float().mean().item()
    assert share == pytest.approx(flip, abs=5 * (flip * (1 - flip) / 4000) ** 0.5)


def test_levels_share_the_draws_they_have_in_common() -> None:
    images = _images(32)
    both = Augmentation(padding=4, flip=0.5).augment(images, StepDraws.named(CPU, 2, "augmentation", 3))
    crops = Augmentation(padding=4).augment(images, StepDraws.named(CPU, 2, "augmentation", 3))
    for one, other in zip(both, crops, strict=True):
        assert torch.equal(one, other) or torch.equal(one, other.flip(2))


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_alternate_mirrors_the_first_ones_in_even_epochs_and_the_others_in_odd_ones(
    first: list[bool], epoch: int
) -> None:
    images = _images(len(first))
    changed = alternate(images, torch.tensor(first), torch.tensor([epoch]))
    for image, mirrored, found in zip(images, first, changed, strict=True):
        assert torch.equal(found, tv.horizontal_flip(image) if mirrored == (epoch % 2 == 0) else image)


def test_with_alternating_flips_the_rest_is_drawn_as_ever() -> None:
    images = _images(32)
    alternating = Augmentation.at("alternating_flip").augment(images, StepDraws.named(CPU, 2, "augmentation", 3))
    assert torch.equal(alternating, Augmentation.at("crop").augment(images, StepDraws.named(CPU, 2, "augmentation", 3)))


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 0.2])
def test_every_image_of_a_training_is_mirrored_in_every_second_epoch(
    share: float, recipe: Recipe, tiny_data: Dataset
) -> None:
    alternating = recipe.with_technique(Augmentation(flip=share, flipping="alternating")).set("budget.epochs=4")
    alternating = alternating.set("budget.train_images=160")
    firsts = []
    # What a member is given depends neither on its batches nor on who else is in the fleet.
    for size, beside in ((32, [0, 2]), (64, [])):
        member = Member(alternating.set(f"budget.batch_size={size}"), 1)
        training = Training([*(Member(member.recipe, seed) for seed in beside), member], tiny_data, CPU)
        row, given = training.fleet.members.index(member), list[torch.Tensor]()
        gradients = training._stepper.backend.gradients

        def noted(at: int, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            if at == row:  # noqa: B023
                given.append(images.clone())  # noqa: B023
            return gradients(at, images, targets)  # noqa: B023

        training._stepper.backend.gradients = noted  # type: ignore[method-assign]
        images, mirrored = training._images()[member.seed], []
        mean, std = training.evaluator.scales[member]
        for epoch in range(4):
            given.clear()
            training.run_epoch()
            visits = order(member, images, tiny_data.train_labels, epoch)
            seen = ((torch.cat(given) * std + mean) * 255).round().to(torch.uint8)
            plain = tiny_data.train_images[visits]
            assert ((seen == plain).flatten(1).all(1) ^ (seen == plain.flip(3)).flatten(1).all(1)).all()
            mirrored.append((seen == plain.flip(3)).flatten(1).all(1)[visits.argsort()])
        assert torch.equal(mirrored[0], mirrored[2])
        assert torch.equal(mirrored[1], mirrored[3])
        assert torch.equal(mirrored[0], ~mirrored[1])
        assert mirrored[0].float().mean().item() == pytest.approx(share, abs=5 * (share * (1 - share) / 160) ** 0.5)
        firsts.append(mirrored[0])
    assert torch.equal(*firsts)


@given(st.floats(-180, 180), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_rotating_is_torchvisions(degrees: float, seed: int) -> None:
    images = _images(4, seed)
    ours = rotate(images, torch.full((4,), degrees))
    theirs = tv.rotate(images, degrees, interpolation=tv.InterpolationMode.NEAREST, fill=0)
    differing = (ours != theirs).any(dim=1).float().mean().item()
    assert differing < 0.01, "but for ties between pixels"


def test_a_quarter_turn_is_exact() -> None:
    images = _images(3)
    assert torch.equal(rotate(images, torch.full((3,), 90.0)), images.rot90(1, (2, 3)))
    assert torch.equal(rotate(images, torch.zeros(3)), images)


@given(st.floats(0, 2), st.floats(0, 2), st.floats(0, 2), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_jitter_is_torchvisions(brightness: float, contrast: float, saturation: float, seed: int) -> None:
    images = _images(4, seed)
    ours = jitter(images, *(torch.full((4,), factor) for factor in (brightness, contrast, saturation)))
    theirs = tv.adjust_brightness(images, brightness)
    theirs = tv.adjust_saturation(tv.adjust_contrast(theirs, contrast), saturation)
    # Each of the three steps rounds down, where a last bit may decide; factors stretch what an earlier one left.
    difference = (ours.int() - theirs.int()).abs()
    assert difference.max() <= 4
    assert (difference > 1).float().mean() < 0.01


@pytest.mark.parametrize("side", [1, 8, 9, 32])
def test_a_black_square_of_the_asked_side_is_cut_off_at_the_borders(side: int) -> None:
    images = torch.full((1024, 3, 32, 32), 255, dtype=torch.uint8)
    row, column = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    erased = erase(images, row.flatten(), column.flatten(), side)
    assert set(erased.unique().tolist()) == {0, 255}
    black = (erased[:, 0] == 0).flatten(1).sum(dim=1).view(32, 32)
    expected = torch.tensor([min(32, m - side // 2 + side) - max(0, m - side // 2) for m in range(32)])
    assert torch.equal(black, expected[:, None] * expected[None, :])


@pytest.mark.parametrize("level", ["rotation", "colour", "cutout"])
def test_further_levels_keep_the_crops_and_flips_of_on(level: str) -> None:
    images = _images(64)
    on, more = (Augmentation.at(name).augment(images, StepDraws.named(CPU, 0, "a", 0)) for name in ("on", level))
    assert not torch.equal(on, more)
    if level == "cutout":
        assert ((more == on) | (more == 0)).all()
