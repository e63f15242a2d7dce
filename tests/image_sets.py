"""Small sets of images, and the folders and archives that people keep them in."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cifar_ablations.study.data.dataset import Dataset, load

CLASSES = ("cat", "dog", "ship")


def picture(seed: int, side: int = 32) -> Image.Image:
    """Random pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def small_set(train: int = 2, test: int = 1, side: int = 32) -> dict[str, bytes]:
    """Encoded images by path, as a folder would hold them."""
    counts = {"train": train, "test": test}
    paths = [f"{split}/{name}/{i}.png" for split in counts for name in CLASSES for i in range(counts[split])]
    return {path: encoded(picture(seed, side)) for seed, path in enumerate(paths)}


def as_folder(files: Mapping[str, bytes], folder: Path) -> Path:
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder


def as_tar(files: Mapping[str, bytes], path: Path, mode: Any = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def as_zip(files: Mapping[str, bytes], path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def read(source: Path | str, folder: Path) -> Dataset:
    """A data set, by way of a cache in a folder."""
    return load(source, folder / "cache", say=lambda line: None)


def trained(dataset: Dataset) -> np.ndarray:
    """The training images, [N, 32, 32, 3]."""
    return dataset.train_images.permute(0, 2, 3, 1).numpy()
