"""Pictures of the input of a plan's networks: a few training images in the first epochs, for each input pipeline."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor

from cifar_ablations.ablations.plan import Arm
from cifar_ablations.ablations.purposes import AUGMENTATION
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import GalleryRecord, PictureRecord
from cifar_ablations.ablations.technique import Technique, overrides
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.training.engine import split
from cifar_ablations.study.training.fleet import Member
from cifar_ablations.study.training.randomness import ImageVisits, StepDraws
from cifar_ablations.study.training.step import Preparation, image_key, order, scales, take

VISITS = 8
"""Epochs shown of a training, at most."""
FEW, MANY = 1, 3
"""Images shown of each pipeline: MANY of one or two pipelines, FEW where there are more of them."""
AMONG = 32
"""They are chosen among the first so many of the training split, so that arms with less data show the same ones."""

CPU = torch.device("cpu")


def of_arms(arms: Iterable[Arm], seed: int, data: Dataset) -> GalleryRecord:
    """The first training images of a seed as every kind of input pipeline among the arms shows them.

    They are computed by the steps' own code from the steps' own draws, so that they are what the first arm of each
    pipeline is trained on with that seed.
    """
    piped: dict[str, list[Arm]] = {}
    for arm in arms:
        piped.setdefault(pipeline(arm.recipe), []).append(arm)
    subjects = MANY if len(piped) <= 2 else FEW
    pictures = [
        picture
        for name, alike in piped.items()
        for picture in _pictures(name, alike, Member(alike[0].recipe, seed + alike[0].seed_offset), data, subjects)
    ]
    return GalleryRecord(seed, tuple(pictures))


def pipeline(recipe: Recipe) -> str:
    """The changes that a recipe makes to its training images, in words; empty for none."""
    doing = [
        t
        for t in recipe.techniques
        if not t.is_off and (overrides(t, "augment") or overrides(t, "augment_by_epoch") or _mixes_images(t))
    ]
    return ", ".join(t.setting_title for t in doing)


def _mixes_images(technique: Technique) -> bool:
    """Whether a technique mixes images, and not their labels alone."""
    if not overrides(technique, "mix"):
        return False
    images = torch.rand((64, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    mixed, _ = technique.mix(images.clone(), torch.eye(10)[torch.arange(64) % 10], StepDraws.named(CPU, "gallery"))
    return not torch.equal(mixed, images)


def _pictures(name: str, alike: Sequence[Arm], member: Member, data: Dataset, subjects: int) -> Iterator[PictureRecord]:
    """The pictures of a pipeline, as a member of the first of its arms gets them."""
    names = tuple(arm.name for arm in alike)
    chosen, _ = split(len(data.train_labels), member, data.own_validation)
    for subject, index in enumerate(_of_many_classes(chosen[:AMONG].tolist(), data, subjects)):
        label = data.classes[int(data.train_labels[index])]
        yield PictureRecord(name, names, subject, label, 0, png(data.train_images[index]))
        for epoch in range(min(VISITS, member.recipe.sized.budget.epochs)):
            if (image := seen(member, data, index, epoch)) is not None:
                yield PictureRecord(name, names, subject, label, epoch + 1, png(image))


def _of_many_classes(indices: list[int], data: Dataset, count: int) -> list[int]:
    """The first `count` of the images, one of each class before a second one of any."""
    first = {int(data.train_labels[index]): index for index in reversed(indices)}
    chosen = [index for index in indices if index in first.values()]
    return [*chosen, *(index for index in indices if index not in chosen)][:count]


def seen(member: Member, data: Dataset, index: int, epoch: int) -> Tensor | None:
    """A training image as a member's network gets it in an epoch (from 0); index: the image's place in the data set.

    uint8 [3, H, W], with the normalisation undone; None where the member's order leaves the image out of the epoch.
    """
    budget = member.recipe.sized.budget
    trained, _ = split(len(data.train_labels), member, data.own_validation)
    visits = order(member, trained, data.train_labels, epoch)
    places = (visits == index).nonzero()
    if not len(places):
        return None
    within, position = divmod(int(places[0, 0]), budget.batch_size)
    together = visits[within * budget.batch_size : (within + 1) * budget.batch_size]
    mean, std = scales([member], data, CPU)[member]
    targets = torch.eye(len(data.classes))[data.train_labels[together]]
    seed, step = member.seed_of(AUGMENTATION), epoch * budget.steps_per_epoch + within
    images, _ = Preparation.of(member.recipe, (mean, std)).batch(
        take(data.train_images, together),
        targets,
        lambda t: StepDraws.named(CPU, seed, t.name, step),
        lambda t: ImageVisits(image_key(seed, t, CPU), together, torch.tensor([step]), budget.steps_per_epoch),
    )
    return (images[position] * std + mean).mul(255).round().clamp(0, 255).to(torch.uint8)


def png(image: Tensor) -> str:
    """An image, uint8 [C, H, W] with one channel or three, as base64 text of a PNG file."""
    pixels = image.permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()
