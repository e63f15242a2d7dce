"""Images that are in a data set more than once are counted as a plain comparison of all pairs counts them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cifar_ablations.study.data.dataset import load
from cifar_ablations.study.data.images import Images
from cifar_ablations.study.data.repeats import notes
from tests.image_sets import as_zip, small_set


def _images(
    train: list[tuple[int, int]], test: list[tuple[int, int]], validation: list[tuple[int, int]] | None = None
) -> Images:
    """Images of one colour each, as (colour, label)."""
    splits = []
    for rows in filter(None, (train, test, validation)):
        splits.append(np.stack([np.full((32, 32, 3), colour, np.uint8) for colour, _ in rows]))
        splits.append(np.array([label for _, label in rows]))
    own = {"validation_images": splits[4], "validation_labels": splits[5]} if validation else {}
    return Images(("a", "b"), *splits[:4], **own)


def test_a_set_without_repeats_has_no_notes() -> None:
    assert notes(_images([(1, 0), (2, 1)], [(3, 0), (4, 1)])) == ()


def test_test_images_among_the_training_images_are_counted_with_their_copies() -> None:
    (said,) = notes(_images([(1, 0), (2, 1)], [(1, 0), (1, 0), (4, 1)]))
    assert said.startswith("2 of the 3 test images are among the training images too, pixel by pixel")


def test_one_image_under_two_labels_is_counted_in_a_split_and_across() -> None:
    (said, more) = notes(_images([(1, 0), (1, 1), (2, 1)], [(5, 0)]))
    assert said.startswith("1 image has more than one label")
    assert more.startswith("1 of the 3 training images repeats another one")
    across = notes(_images([(1, 0), (2, 1)], [(1, 1), (2, 0)]))
    assert [line.partition(":")[0] for line in across] == [
        "2 of the 2 test images are among the training images too, pixel by pixel",
        "2 images have more than one label",
    ]


def test_the_counts_are_those_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    train, test = ([(int(c), int(k)) for c, k in zip(*rng.integers(0, [[9], [2]], (2, 12)), strict=True)] for _ in "ab")
    colours = {colour for colour, _ in train}
    known = sum(colour in colours for colour, _ in test)
    labels = {colour: {k for c, k in [*train, *test] if c == colour} for colour, _ in [*train, *test]}
    unclear, again = sum(len(found) > 1 for found in labels.values()), len(train) - len(colours)
    said = notes(_images(train, test))
    assert min(known, unclear, again) > 1
    assert [int(line.split()[0]) for line in said] == [known, unclear, again]


def test_they_are_said_at_every_load_and_stand_in_the_source(tmp_path: Path) -> None:
    files = small_set()
    files["test/cat/0.png"] = files["train/dog/0.png"]
    source = as_zip(files, tmp_path / "twins.zip")
    for _ in range(2):
        said: list[str] = []
        dataset = load(source, tmp_path / "cache", say=said.append)
        assert "\n  1 of the 3 test images is among the training images too" in said[-1]
        assert "\n  1 image has more than one label" in said[-1]
        assert dataset.source == " ".join(["Images in twins.zip.", *dataset.notes])
    assert len(said) == 1, "the second time it is cached"


@pytest.mark.parametrize("copies", [2, 3])
def test_a_repeated_training_image_is_counted_once_for_each_copy_beyond_the_first(copies: int) -> None:
    (said,) = notes(_images([(1, 0)] * copies + [(2, 1)], [(3, 0)]))
    assert said.startswith(f"{copies - 1} of the {copies + 1} training images")


def test_the_sets_own_validation_images_are_looked_for_in_both_other_splits() -> None:
    said = notes(_images([(1, 0), (1, 0), (2, 1)], [(3, 0), (4, 1)], [(1, 0), (3, 1), (3, 1), (9, 0)]))
    assert [line.partition(":")[0] for line in said] == [
        "1 of the 4 validation images is among the training images too, pixel by pixel",
        "2 of the 4 validation images are among the test images too, pixel by pixel",
        "1 image has more than one label",
        "1 of the 3 training images repeats another one.",
    ]
    assert said[1].endswith(": what is chosen by them is chosen by test images.")
    assert notes(_images([(1, 0)], [(2, 1)], [(3, 0)])) == ()
