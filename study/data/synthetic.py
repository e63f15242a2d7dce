"""Ten kinds of procedurally drawn 32×32 colour images that stand in for CIFAR-10 when no photographs can be had.

Each image shows one figure: five kinds differ in their outline, five in the pattern on a patch.
Colours, place, size, tilt, contrast, light, clutter, an occluding bar and noise are drawn independently of the class.
The label survives a horizontal flip, since every kind and every distribution is its own mirror image, and a shift by
up to 4 pixels with black coming in, since figures keep that distance from the border.

The bytes are the same on every machine: they come from raw generator output by integer arithmetic and by operations
that IEEE 754 rounds exactly (+, -, *, /, square root); sines and sums differ in the last digit between processors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_ablations.ablations.errors import AblateError

VERSION = "1"  # raise it when any pixel changes
SIZES = {"train": 50_000, "test": 10_000}
SIDE = 32
MARGIN = 4  # pixels between a figure and the border
CHUNK = 200  # images drawn from one generator, so that a smaller set is a prefix of a larger one
SEED = 2026
TILT = 0.12  # tangent of half the largest tilt: 14 degrees either way

Floats = NDArray[np.floating[Any]]
"""float32: fields [n, 32, 32], parameters of an image [n, 1, 1], colours [n, 3, 1, 1]."""
Kinds = NDArray[np.int64]
Field = Callable[[Floats, Floats], Floats]


def _disc(x: Floats, y: Floats) -> Floats:
    return np.sqrt(x * x + y * y) - 0.95


def _ring(x: Floats, y: Floats) -> Floats:
    return np.abs(np.sqrt(x * x + y * y) - 0.75) - 0.2


def _square(x: Floats, y: Floats) -> Floats:
    return np.maximum(np.abs(x), np.abs(y)) - 0.8


def _triangle(x: Floats, y: Floats) -> Floats:
    triangle: Floats = np.maximum(y - 0.7, np.abs(x) * 0.87 - y * 0.5 - 0.5)
    return triangle


def _cross(x: Floats, y: Floats) -> Floats:
    a, b = np.abs(x), np.abs(y)
    cross: Floats = np.maximum(np.maximum(a, b) - 0.95, np.minimum(a, b) - 0.3)
    return cross


def _wave(x: Floats) -> Floats:
    """A triangle wave of period 1 between -1 and 1."""
    wave: Floats = np.abs(x - np.floor(x) - 0.5) * 4 - 1
    return wave


def _stripes_across(x: Floats, y: Floats) -> Floats:
    return _wave(y)


def _stripes_upright(x: Floats, y: Floats) -> Floats:
    return _wave(x)


def _checks(x: Floats, y: Floats) -> Floats:
    return _wave(x) * _wave(y) * 2


def _dots(x: Floats, y: Floats) -> Floats:
    return _wave(x) + _wave(y) - 0.5


def _lattice(x: Floats, y: Floats) -> Floats:
    """Lines of both slants, so that it is its own mirror image."""
    return np.maximum(_wave((x + y) * 0.7), _wave((x - y) * 0.7)) - 0.4


OUTLINES: tuple[Field, ...] = (_disc, _ring, _square, _triangle, _cross)
"""Signed distances, negative inside, of figures about 1 in radius."""
PATTERNS: tuple[Field, ...] = (_stripes_across, _stripes_upright, _checks, _dots, _lattice)
"""Heights of period 1; one colour where positive, another where negative."""
CLASSES = tuple(field.__name__.strip("_").replace("_", "-") for field in (*OUTLINES, *PATTERNS))


def draw(split: str, count: int | None = None) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The first `count` images (all by default) of "train" or "test": uint8 [N, 32, 32, 3], int64 labels [N].

    Labels go round the classes, so every prefix is balanced. Raises AblateError for another split or too large a count.
    """
    if split not in SIZES:
        raise AblateError(f"split must be one of {', '.join(SIZES)}, not {split!r}")
    count = SIZES[split] if count is None else count
    if not 0 <= count <= SIZES[split]:
        raise AblateError(f"count must lie between 0 and {SIZES[split]}, not at {count!r}")
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for start in range(0, count, CHUNK):
        chunk = _chunk(_Draws([SEED, list(SIZES).index(split), start]))
        images[start : start + CHUNK] = chunk[: count - start]
    return images, np.arange(count, dtype=np.int64) % len(CLASSES)


class _Draws:
    """Random numbers from a generator's raw output, which numpy keeps the same from version to version."""

    def __init__(self, seed: list[int]) -> None:
        self._generator = np.random.PCG64(np.random.SeedSequence(seed))

    def between(self, low: float, high: float, shape: tuple[int, ...] = (CHUNK, 1, 1)) -> Floats:
        """float32 of that shape, uniform in [low, high)."""
        raw = self._generator.random_raw(int(np.prod(shape))).reshape(shape)
        return (raw >> np.uint64(40)).astype(np.float32) * np.float32((high - low) / 2**24) + np.float32(low)

    def below(self, bound: int) -> Kinds:
        """int64 [CHUNK], uniform in 0 … bound - 1."""
        return (self._generator.random_raw(CHUNK) >> np.uint64(32)).astype(np.int64) % bound

    def grain(self) -> Floats:
        """float32 [CHUNK, 3, 32, 32] of mean 0 and standard deviation 1, as two dice of 256 sides fall."""
        shape = (2, CHUNK, 3, SIDE, SIDE)
        dice = self._generator.random_raw(int(np.prod(shape)) // 8).astype("<u8").view(np.uint8).reshape(shape)
        grain: Floats = dice[0].astype(np.float32)
        grain += dice[1]
        grain -= 255
        grain *= np.float32(1 / 104.5)
        return grain


def _chunk(draws: _Draws) -> NDArray[np.uint8]:
    """uint8 [CHUNK, 32, 32, 3]; the class of image i is i modulo the number of classes."""
    ground, figure, second = _colours(draws)
    images: Floats = ground + _light(draws)[:, None]
    for _ in range(3):
        x, y, radius = _frames(draws, 1.5, 4.0, margin=0, tilt=1.0)
        cover: Floats = _cover(draws.below(len(OUTLINES)), x, y, radius) * draws.between(0.2, 0.8)
        _paint(images, cover, draws.between(0, 1, (CHUNK, 3, 1, 1)))

    kinds = np.arange(CHUNK) % len(CLASSES)
    x, y, radius = _frames(draws, 5.0, 11.0, margin=MARGIN, tilt=TILT)
    patches = np.array([0, 2, 3])[draws.below(3)]  # the wide outlines, on which a pattern shows
    cover = _cover(np.where(kinds < len(OUTLINES), kinds, patches), x, y, radius)
    _paint(images, cover, figure)
    pixels_per_period = draws.between(4.0, 8.0)
    scale = radius / pixels_per_period
    height = _by_kind(PATTERNS, kinds - len(OUTLINES), x * scale + draws.between(0, 1), y * scale + draws.between(0, 1))
    _paint(images, cover * np.clip(height * pixels_per_period * 0.25 + 0.5, 0, 1), second)

    x, y, _ = _frames(draws, 1.0, 1.0, margin=0, tilt=1.0)
    bar = np.clip(draws.between(-1.0, 2.0) - np.abs(x) + 0.5, 0, 1)
    _paint(images, bar, draws.between(0, 1, (CHUNK, 3, 1, 1)))
    images += _light(draws)[:, None]
    grain = draws.grain()
    grain *= draws.between(0.01, 0.12)[:, None]
    images += grain
    images *= 255
    images += 0.5
    return np.clip(images, 0, 255, out=images).astype(np.uint8).transpose(0, 2, 3, 1)


def _colours(draws: _Draws) -> tuple[Floats, Floats, Floats]:
    """Colours [n, 3, 1, 1] of the ground, of a figure lighter or darker than it, and of the pattern on the figure."""
    ground = draws.between(0.15, 0.85)[:, None]
    towards = np.where(ground < 0.5, np.float32(1), np.float32(-1))
    figure = ground + towards * draws.between(0.12, 0.5)[:, None]
    # The pattern's second colour may be near the ground's: then the patch looks pierced.
    second = figure - towards * draws.between(0.12, 0.5)[:, None]
    tints = (draws.between(-0.15, 0.15, (CHUNK, 3, 1, 1)) for _ in range(3))
    ground, figure, second = (light + tint for light, tint in zip((ground, figure, second), tints, strict=True))
    return ground, figure, second


def _light(draws: _Draws) -> Floats:
    """A slope of brightness across the image, [n, 32, 32]."""
    column = (np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2) / SIDE
    return draws.between(-0.25, 0.25) * column[None, None, :] + draws.between(-0.25, 0.25) * column[None, :, None]


def _frames(
    draws: _Draws, smallest: float, largest: float, *, margin: float, tilt: float
) -> tuple[Floats, Floats, Floats]:
    """Coordinates x, y [n, 32, 32] that put a drawn place, tilt and radius at 0, 0 and 1; and the radius."""
    radius = draws.between(smallest, largest)
    room = np.float32((SIDE - 1) / 2 - margin) - radius
    column = np.arange(SIDE, dtype=np.float32) - np.float32((SIDE - 1) / 2)
    across = column[None, None, :] - room * draws.between(-1, 1)
    down = column[None, :, None] - room * draws.between(-1, 1)
    half = draws.between(-tilt, tilt)  # the tangent of half the angle gives sine and cosine without calling either
    square = half * half
    cosine, sine = (1 - square) / (1 + square) / radius, 2 * half / (1 + square) / radius
    return across * cosine + down * sine, down * cosine - across * sine, radius


def _cover(kinds: Kinds, x: Floats, y: Floats, radius: Floats) -> Floats:
    """The share of each pixel that the outline of the image's kind covers, [n, 32, 32] in [0, 1]."""
    return np.clip(_by_kind(OUTLINES, kinds, x, y) * -radius + np.float32(0.5), 0, 1)


def _by_kind(fields: tuple[Field, ...], kinds: Kinds, x: Floats, y: Floats) -> Floats:
    """The field of each image's kind, [n, 32, 32]; far below zero where the kind is none of these."""
    values = np.full_like(x, -1e3)
    for kind, field in enumerate(fields):
        chosen = kinds == kind
        values[chosen] = field(x[chosen], y[chosen])
    return values


def _paint(images: Floats, cover: Floats, colour: Floats) -> None:
    """Blend a colour into the images, in place."""
    change = colour - images
    change *= cover[:, None]
    images += change
