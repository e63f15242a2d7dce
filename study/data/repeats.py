"""Images that are in a data set more than once: what a test on them, or training with them, is worth less by."""

from __future__ import annotations

import hashlib
from collections import defaultdict

import numpy as np

from cifar_ablations.study.data.images import Images


def notes(images: Images) -> tuple[str, ...]:
    """What a reader must know about images that are equal in all pixels, a sentence each; empty where none are."""
    trained, tested = _labels(images.train_images, images.train_labels), _labels(images.test_images, images.test_labels)
    known = sum(len(labels) for picture, labels in tested.items() if picture in trained)
    again = sum(len(labels) - 1 for labels in trained.values())
    unclear = sum(
        len({*trained.get(picture, ()), *tested.get(picture, ())}) > 1 for picture in trained.keys() | tested.keys()
    )
    said = {
        f"{known:,} of the {len(images.test_labels):,} test images {_are(known)} among the training images too, pixel "
        "by pixel: accuracy on such images is no measure of what was learned.": known,
        f"{unclear:,} {'image has' if unclear == 1 else 'images have'} more than one label: no network can be right "
        "about all copies.": unclear,
        f"{again:,} of the {len(images.train_labels):,} training images {'repeats' if again == 1 else 'repeat'} "
        "another one, so that validation images may be among those trained on.": again,
    }
    return tuple(note for note, count in said.items() if count)


def _labels(images: np.ndarray, labels: np.ndarray) -> dict[bytes, list[int]]:
    """The labels of all copies of each picture, by a hash of its pixels."""
    found: dict[bytes, list[int]] = defaultdict(list)
    for image, label in zip(images, labels.tolist(), strict=True):
        found[hashlib.blake2b(image.tobytes(), digest_size=16).digest()].append(label)
    return found


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
