"""The stand-in images: balanced, the same everywhere, and harder to fit from few images than to recognise."""

import hashlib

import numpy as np
import pytest

from cifar_ablations.study.data import synthetic


def test_labels_go_round_the_classes_so_every_prefix_is_balanced():
    images, labels = synthetic.draw("train", 430)
    assert images.shape == (430, 32, 32, 3)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert np.bincount(labels).tolist() == [43] * 10
    assert len(set(synthetic.CLASSES)) == 10


def test_a_smaller_set_is_a_prefix_of_a_larger_one():
    few, _ = synthetic.draw("test", 7)
    more, _ = synthetic.draw("test", synthetic.CHUNK + 20)
    assert np.array_equal(few, more[:7])
    assert not np.array_equal(more[0], more[synthetic.CHUNK])


def test_train_and_test_share_no_image():
    train, test = (synthetic.draw(split, 300)[0] for split in ("train", "test"))
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in test}


@pytest.mark.parametrize(("split", "digest"), [("train", "748998089b56c3cf"), ("test", "ab3b7e0b45660ca7")])
def test_the_bytes_are_frozen(split, digest):
    images, _ = synthetic.draw(split, 1000)
    # Whoever changes a pixel on purpose raises synthetic.VERSION with it.
    assert synthetic.VERSION == "1"
    assert hashlib.sha256(images.tobytes()).hexdigest()[:16] == digest


def test_colour_and_brightness_do_not_give_the_class_away():
    images, labels = synthetic.draw("train", 2000)
    means = images.reshape(2000, -1, 3).mean(axis=1)
    by_class = np.stack([means[labels == k].mean(axis=0) for k in range(10)])
    assert by_class.std(axis=0).max() < 0.25 * means.std(axis=0).min()


@pytest.mark.parametrize("kind", range(5))
@pytest.mark.parametrize("fields", [synthetic.OUTLINES, synthetic.PATTERNS])
def test_every_kind_is_its_own_mirror_image(fields, kind):
    x, y = np.meshgrid(np.linspace(-1.5, 1.5, 13, dtype=np.float32), np.linspace(-1.5, 1.5, 13, dtype=np.float32))
    np.testing.assert_allclose(fields[kind](x, y), fields[kind](-x, y), atol=1e-5)


def test_figures_keep_their_distance_from_the_border():
    draws = synthetic._Draws([0])
    x, y, radius = synthetic._frames(draws, 5.0, 11.0, margin=synthetic.MARGIN, tilt=synthetic.TILT)
    inside = np.sqrt(x * x + y * y) < 1
    border = np.ones((32, 32), bool)
    border[4:-4, 4:-4] = False
    assert inside.any(axis=(1, 2)).all()
    assert not (inside & border).any()
    assert 5 <= radius.min() <= radius.max() <= 11


@pytest.mark.parametrize(("split", "count"), [("validation", 10), ("train", 50_001), ("test", -1)])
def test_what_cannot_be_drawn_is_refused(split, count):
    with pytest.raises(ValueError, match="must"):
        synthetic.draw(split, count)
