"""Images that are in a data set more than once: what a test on them, or training with them, is worth less by."""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np

from cifar_ablations.study.data.images import Images

Labels = dict[bytes, list[int]]
"""The labels of all copies of each picture, by a hash of its pixels."""


def notes(images: Images) -> tuple[str, ...]:
    """What a reader must know about images that are equal in all pixels, a sentence each; empty where none are."""
    trained, tested = _labels(images.train_images, images.train_labels), _labels(images.test_images, images.test_labels)
    own: Labels = {}
    if images.validation_images is not None and images.validation_labels is not None:
        own = _labels(images.validation_images, images.validation_labels)
    again = sum(len(labels) - 1 for labels in trained.values())
    unclear = sum(
        len({label for labels in (trained, tested, own) for label in labels.get(picture, ())}) > 1
        for picture in trained.keys() | tested.keys() | own.keys()
    )
    several = f"{unclear:,} {'image has' if unclear == 1 else 'images have'}"
    repeated = f"{again:,} of the {len(images.train_labels):,} training images {'repeats' if again == 1 else 'repeat'}"
    so_that = "" if own else ", so that validation images may be among those trained on"
    said = [
        _among(tested, "test", trained, "training", "accuracy on such images is no measure of what was learned"),
        _among(own, "validation", trained, "training", "accuracy on such images is no measure of what was learned"),
        _among(own, "validation", tested, "test", "what is chosen by them is chosen by test images"),
        (f"{several} more than one label: no network can be right about all copies.", unclear),
        (f"{repeated} another one{so_that}.", again),
    ]
    return tuple(note for note, count in said if count)


def _among(some: Labels, name: str, others: Labels, other: str, meaning: str) -> tuple[str, int]:
    """How many of some images are among others, in a sentence and as a number."""
    known = sum(len(labels) for picture, labels in some.items() if picture in others)
    total = sum(map(len, some.values()))
    are = "is" if known == 1 else "are"
    return (
        f"{known:,} of the {total:,} {name} images {are} among the {other} images too, pixel by pixel: {meaning}.",
        known,
    )


def _labels(images: np.ndarray, labels: np.ndarray) -> Labels:
    found: Labels = defaultdict(list)
    for image, label in zip(images, labels.tolist(), strict=True):
        found[hashlib.blake2b(image.tobytes(), digest_size=16).digest()].append(label)
    return found
