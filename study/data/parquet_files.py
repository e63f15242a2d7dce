"""Images in Parquet files, as the Hugging Face Hub keeps them: `plain_text/train-00000-of-00001.parquet` and others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_ablations.ablations.files import parse_json, read_named
from cifar_ablations.study.data.image_tree import OTHERWISE, VALIDATION, assemble, is_about
from cifar_ablations.study.data.images import (
    LFS,
    MOST_BYTES,
    SPLITS,
    DataError,
    Entry,
    FaultError,
    Images,
    first_of,
    is_junk,
    reason,
    shown,
)

if TYPE_CHECKING:
    import pyarrow.parquet

DEPTH = 3
"""How many folders deep the files may lie."""
ROWS = 64
"""Rows that are read at a time: each may hold as much as an image may."""
LABELS = ("fine_label", "label", "labels", "class", "target")
"""What the column of labels is called, the first that there is."""


def find(source: Path) -> list[str]:
    """The Parquet files of a folder whose names, or whose folders' names, tell the split; paths below it, sorted.

    A table that lies beside folders of images is none of them.
    """
    found = []
    for depth in range(DEPTH):
        for path in source.glob("/".join(["*"] * depth + ["*.parquet"])):
            parts = path.relative_to(source).parts
            if not is_junk(parts) and _split(path) and not _beside_classes(path):
                found.append("/".join(parts))
    return sorted(found)


def read(source: Path, files: list[str], image_size: int | None = None) -> Images:
    """The images of the files that `find` found. Raises DataError, in a line, for what cannot be used."""
    configurations = sorted({_configuration(Path(file)) for file in files})
    if len(configurations) > 1:
        raise DataError(
            f"{shown(source.name)} holds several data sets ({first_of(configurations)}); name the folder of one."
        )
    splits = {_split(source / file) for file in files}
    for split in SPLITS:
        if split not in splits:
            other = next((name for name in OTHERWISE[split] if name in splits), None)
            rename = f" To take {other} for it, rename its files to {split}-….parquet." if other else ""
            raise DataError(f"{shown(source.name)} holds no {split}-….parquet, which it needs.{rename}")
    return assemble(shown(source.name), _entries(source, files), image_size)


def declarations(source: Path) -> list[str]:
    """The names of the declarations that lie beside the files or the folders that hold them."""
    return sorted(child.name for child in source.iterdir() if is_about(child.name) and child.is_file())


def _entries(source: Path, files: list[str]) -> Iterator[Entry]:
    for name in declarations(source):
        yield Entry((name,), partial(read_named, source / name))
    for file in files:
        split = _split(source / file)
        if split in (*SPLITS, *VALIDATION):
            yield from _rows(source / file, file, split)


def _rows(path: Path, file: str, split: str) -> Iterator[Entry]:
    """An entry per row of a file: its split, its class, and the file with the number of the row."""
    import pyarrow
    import pyarrow.parquet

    try:
        opened = pyarrow.parquet.ParquetFile(path)
        picture, label, names = _columns(opened, file)
        row = 0
        for batch in opened.iter_batches(ROWS, columns=[picture, label]):
            for image, value in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
                yield Entry(
                    (split, _class(value, names), f"{file} row {row:09d}"), partial(_encoded, image, value, names)
                )
                row += 1
    except DataError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, AttributeError, MemoryError) as error:
        with path.open("rb") as start:
            if start.read(len(LFS)) == LFS:
                raise DataError(f"{file} is the place-holder of a large file; say `git lfs pull` there.") from error
        raise DataError(f"{file} is not a readable Parquet file ({reason(error)}); download it again.") from error


def _columns(opened: pyarrow.parquet.ParquetFile, file: str) -> tuple[str, str, list[str] | None]:
    """The columns of images and of labels, and the names of the classes where the file says them."""
    import pyarrow

    schema = opened.schema_arrow
    features = parse_json((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    pictures = [
        field.name
        for field in schema
        if pyarrow.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
    ] or [field.name for field in schema if _is_binary(field.type)]
    classes = [name for name, feature in features.items() if _is_class(feature)]
    labels = [name for name in LABELS if name in (classes or schema.names)] or classes[:1]
    if len(pictures) != 1 or not labels:
        raise DataError(
            f"{file} has the columns {', '.join(schema.names)}; one of images (bytes) and one called "
            f"{' or '.join(LABELS[:2])} are needed."
        )
    return pictures[0], labels[0], features[labels[0]].get("names") if labels[0] in classes else None


def _is_binary(kind: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))


def _is_class(feature: Any) -> bool:
    return isinstance(feature, dict) and feature.get("_type") == "ClassLabel"


def _class(value: Any, names: list[str] | None) -> str:
    """The name of a class; of a label out of range, the label."""
    return names[value] if names and isinstance(value, int) and 0 <= value < len(names) else str(value)


def _encoded(image: Any, label: Any, names: list[str] | None) -> bytes:
    """The encoded image of a row. Raises FaultError where it has none, or no label."""
    content = image.get("bytes") if isinstance(image, dict) else image
    if isinstance(content, bytes) and len(content) > MOST_BYTES:
        raise FaultError(
            f"has {len(content):,} bytes, and images of at most {MOST_BYTES:,} are read", "make it smaller"
        )
    if not isinstance(content, bytes) or not content:
        raise FaultError("holds no image", "download the file again, or remove the row")
    if label is None or (names is not None and not (isinstance(label, int) and 0 <= label < len(names))):
        raise FaultError("has no label", "name a data set whose test images have labels")
    return content


def _split(path: Path) -> str:
    """The split that a file's name begins with, or its folder is called; "" for none."""
    known = [*SPLITS, *(name for names in OTHERWISE.values() for name in names)]
    for name in (re.split(r"[-._]", path.name)[0], path.parent.name):
        if name.lower() in known:
            return name.lower()
    return ""


def _configuration(file: Path) -> str:
    """The folder of a file, without the one that is called as a split."""
    parent = file.parent
    return str(parent.parent if _split(Path(parent.name) / "x") and parent.name else parent)


def _beside_classes(path: Path) -> bool:
    return path.parent.name in SPLITS and any(child.is_dir() for child in path.parent.iterdir())
