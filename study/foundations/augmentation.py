"""Augmentation: the 4×4 flip, one image under the engine's pipelines, and which changes keep which labels."""

from __future__ import annotations

from functools import partial

import pandas as pd
import torch
from torch import Tensor

from cifar_ablations.ablations.record import LinkRecord
from cifar_ablations.ablations.techniques.augmentation import Augmentation, crop_and_flip, rotate
from cifar_ablations.study.data.synthetic import CLASSES, draw
from cifar_ablations.study.execution.gallery import png
from cifar_ablations.study.foundations.demonstration import (
    CLOSED_FORM,
    Demonstration,
    between,
    near,
    prints,
    says,
)
from cifar_ablations.study.training.randomness import StepDraws

NAME = "augmentation"
TITLE = "Data augmentation"
CHAPTER = 3

LEVELS = {
    "on": "crop and flip, as the notebook has it",
    "rotation": "and turned by up to 15 degrees",
    "colour": "and brightness, contrast, saturation",
    "cutout": "and a square erased",
}
COPIES = 7
SUBJECT = 13
"""Which drawn image the gallery shows: a triangle, whose every change can be seen."""
VERSIONS = 9 * 9 * 2
"""Crops and flips that the notebook's pipeline can make of one image, all equally likely."""
DRAWS = 4_000

SEGMENTS = {
    "0": "abcdef",
    "1": "bc",
    "2": "abdeg",
    "3": "abcdg",
    "4": "bcfg",
    "5": "acdfg",
    "6": "acdefg",
    "7": "abc",
    "8": "abcdefg",
    "9": "abcdfg",
}
"""Digits of seven segments: a above, b and c right, d below, e and f left, g across."""
PRINTED = ((4, 3, 2, 1), (8, 7, 6, 5), (12, 11, 10, 9), (16, 15, 14, 13))


def mirrored(images: Tensor) -> Tensor:
    """Images uint8 [B, C, H, W] mirrored left to right by the engine."""
    nothing = torch.zeros(len(images), dtype=torch.int64)
    return crop_and_flip(images, nothing, nothing, torch.ones(len(images), dtype=torch.bool), 0)


def half_turned(images: Tensor) -> Tensor:
    """Images uint8 [B, C, H, W] turned by 180 degrees by the engine."""
    return rotate(images, torch.full((len(images),), 180.0))


def digits() -> Tensor:
    """The ten digits as drawn figures, uint8 [10, 1, 11, 7], 255 where a segment is lit."""
    places = {
        "a": (slice(1, 2), slice(2, 5)),
        "g": (slice(5, 6), slice(2, 5)),
        "d": (slice(9, 10), slice(2, 5)),
        "f": (slice(2, 5), slice(1, 2)),
        "b": (slice(2, 5), slice(5, 6)),
        "e": (slice(6, 9), slice(1, 2)),
        "c": (slice(6, 9), slice(5, 6)),
    }
    images = torch.zeros(10, 1, 11, 7, dtype=torch.uint8)
    for digit, lit in SEGMENTS.items():
        for segment in lit:
            images[(int(digit), 0, *places[segment])] = 255
    return images


def read(images: Tensor) -> list[str]:
    """Which digit each image is, pixel by pixel, and "none" where it is no digit."""
    known = digits()
    found = [[int(d) for d in range(10) if torch.equal(image, known[d])] for image in images]
    return [str(matches[0]) if matches else "none" for matches in found]


def run(seed: int) -> Demonstration:
    """The flip, a gallery of one drawn image, and digits mirrored and turned."""
    named = partial(StepDraws.named, torch.device("cpu"), seed, "foundations", NAME)
    small = torch.arange(1, 17, dtype=torch.uint8).view(1, 1, 4, 4)
    flipped = mirrored(small)
    drawn, _ = draw("train", SUBJECT + 1)
    image = torch.from_numpy(drawn[SUBJECT]).permute(2, 0, 1)[None].contiguous()
    read_mirrored, read_turned = read(mirrored(digits())), read(half_turned(digits()))
    known = [str(d) for d in range(10)]
    many = Augmentation.at("on").augment(image.expand(DRAWS, -1, -1, -1), named("many"))
    distinct = len({one.tobytes() for one in many.numpy()})
    top, left, flips = named("beside").integers(9, (64,)), named("left").integers(9, (64,)), torch.arange(64) % 2 == 0
    ours = crop_and_flip(image.expand(64, -1, -1, -1), top, left, flips, 4)
    theirs = torch.stack([_cut_out(image[0], *place) for place in zip(top, left, flips, strict=True)])
    checks = (
        near(
            "The flip of the 4×4 example is the one printed: equal numbers of 16",
            expected=16,
            found=int((flipped[0, 0] == torch.tensor(PRINTED)).sum()),
            tolerance=0,
            source=prints("the flipped matrix"),
        ),
        near(
            "A flip of the flip is the image itself: pixels that differ", 0, int((mirrored(flipped) != small).sum()), 0
        ),
        near(
            "The pipeline is a black border, a window cut out of it and a mirror: pixels that differ in 64 images",
            expected=0,
            found=int((ours != theirs).sum()),
            tolerance=0,
            source=says("RandomCrop(32, padding=4), RandomHorizontalFlip()"),
        ),
        near(f"One image has 9 · 9 · 2 versions: distinct images among {DRAWS:,}", VERSIONS, distinct, 0, CLOSED_FORM),
        near(
            "A 9 turned by 180 degrees is a 6: pixels that differ",
            expected=0,
            found=int((half_turned(digits()[9:])[0] != digits()[6]).sum()),
            tolerance=0,
            source=says("a flipped 9 may become a 6"),
        ),
        between(
            "A 9 mirrored left to right, the flip of the pipeline, is a 6: pixels that differ",
            expected=0,
            found=int((mirrored(digits()[9:])[0] != digits()[6]).sum()),
            low=None,
            high=0,
            source=says("a flipped 9 may become a 6"),
        ),
        near(
            "Mirrored, a 2 and a 5 are each other: how many of the two",
            expected=2,
            found=(read_mirrored[2] == "5") + (read_mirrored[5] == "2"),
            tolerance=0,
        ),
        near(
            "Digits that keep their label when mirrored: 0 and 8",
            expected=2,
            found=sum(a == b for a, b in zip(read_mirrored, known, strict=True)),
            tolerance=0,
        ),
    )
    return Demonstration(
        name=NAME,
        title=TITLE,
        question="What does a network see instead of one image, and is it still the same thing?",
        idea=(
            "A shifted or mirrored photograph shows the same object in other pixels, so a network that has to give the "
            "same answer to all versions cannot learn pixels by heart. Each epoch draws one of 162 versions of every "
            "image, with no image added to the data. The change must keep the label, and whether it does depends on "
            "what is shown: a horse may be mirrored, a digit may not."
        ),
        frames={
            "flip": _matrices({"before": small, "after": flipped}),
            "gallery": _gallery(image, named),
            "digits": _digits({"mirrored": read_mirrored, "half a turn": read_turned}),
        },
        checks=checks,
        links=(
            LinkRecord(
                "claims", "augmentation against the generalisation gap, and for accuracy", "without augmentation"
            ),
            LinkRecord("claims", "worth more where there is less data", "an eighth, without augmentation"),
            LinkRecord("levels/augmentation", "crop, flip, rotation, colour and cutout, one by one"),
        ),
    )


def _cut_out(image: Tensor, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
    """A window of the image in a black border four pixels wide, mirrored where asked, by slices."""
    bordered = torch.zeros(3, 40, 40, dtype=torch.uint8)
    bordered[:, 4:36, 4:36] = image
    window = bordered[:, int(top) : int(top) + 32, int(left) : int(left) + 32]
    return window.flip(2) if flip else window


def _matrices(named: dict[str, Tensor]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"which": which, "row": row, "column": column, "value": int(matrix[0, 0, row, column])}
            for which, matrix in named.items()
            for row in range(4)
            for column in range(4)
        ]
    )


def _gallery(image: Tensor, named: partial[StepDraws]) -> pd.DataFrame:
    """The image itself and some draws of every pipeline; all share the draws they have in common."""
    label = CLASSES[SUBJECT % len(CLASSES)]
    rows = [{"level": "itself", "about": f"the image, a {label}", "draw": 0, "png": png(image[0])}]
    for level, about in LEVELS.items():
        versions = Augmentation.at(level).augment(image.expand(COPIES, -1, -1, -1), named("gallery"))
        rows += [{"level": level, "about": about, "draw": i, "png": png(one)} for i, one in enumerate(versions)]
    return pd.DataFrame(rows)


def _digits(read_as: dict[str, list[str]]) -> pd.DataFrame:
    """Every digit, as it is and after each change, and the digit that the result is read as."""
    changed = {"itself": digits(), "mirrored": mirrored(digits()), "half a turn": half_turned(digits())}
    names = {"itself": [str(d) for d in range(10)], **read_as}
    return pd.DataFrame(
        [
            {"change": change, "digit": digit, "read_as": names[change][digit], "png": png(image)}
            for change, images in changed.items()
            for digit, image in enumerate(images)
        ]
    )
