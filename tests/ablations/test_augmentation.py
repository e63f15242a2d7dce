"""Batched crops and flips against torchvision's own, under the same draws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tv

from ablations.techniques.augmentation import Augmentation, crop_and_flip
from study.randomness import StepDraws

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
