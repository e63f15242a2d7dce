"""Parquet files as the Hugging Face Hub keeps them, against the same images in folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from cifar_ablations.study.data.dataset import load
from cifar_ablations.study.data.images import DataError
from tests.image_sets import CLASSES, as_folder, encoded, picture, read, small_set

HUB = "plain_text/{}-00000-of-00001.parquet"
"""As uoft-cs/cifar10 has it."""


def _table(
    files: dict[str, bytes], split: str, image: str = "img", label: str = "label", names: Any = CLASSES
) -> pyarrow.Table:
    """The images of a split, in the order of their numbers, with the features that the `datasets` library writes."""
    paths = sorted((p for p in files if p.startswith(f"{split}/")), key=lambda p: p.split("/")[::-1])
    rows = [{"bytes": files[path], "path": path} for path in paths]
    labels = [CLASSES.index(path.split("/")[1]) for path in paths]
    columns: dict[str, Any] = {image: rows, label: pyarrow.array(labels, pyarrow.int64())}
    features: dict[str, Any] = {image: {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}
    if label == "fine_label":
        columns["coarse_label"] = pyarrow.array([0] * len(labels), pyarrow.int64())
        features["coarse_label"] = {"names": ["all"], "_type": "ClassLabel"}
    return pyarrow.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _put(tables: dict[str, pyarrow.Table], folder: Path) -> Path:
    for name, table in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(table, folder / name)
    return folder


def _hub(folder: Path, name: str = HUB, **options: Any) -> Path:
    return _put({name.format(split): _table(small_set(), split, **options) for split in ("train", "test")}, folder)


def _refusal(source: Path, folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(source, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", [HUB, "{}.parquet", "data/{}-00000-of-00001.parquet", "default/{}/0000.parquet"])
@pytest.mark.parametrize("columns", [{}, {"image": "image"}, {"label": "fine_label"}])
def test_they_are_the_images_of_the_folders(name: str, columns: dict[str, Any], tmp_path: Path) -> None:
    expected = read(as_folder(small_set(), tmp_path / "plain"), tmp_path)
    source = _hub(tmp_path / "Hub data", name, **columns)
    dataset = read(source, tmp_path)
    assert dataset.digest == expected.digest
    assert (dataset.name, dataset.classes, dataset.notes) == ("hub-data", CLASSES, ())
    assert dataset.source == "Images in Hub data."


def test_several_files_of_a_split_are_read_in_order(tmp_path: Path) -> None:
    table = _table(small_set(train=4), "train")
    parts = {f"train-{i:05}-of-00003.parquet": table.slice(4 * i, 4) for i in range(3)}
    source = _put(parts | {"test-00000-of-00001.parquet": _table(small_set(train=4), "test")}, tmp_path / "hub")
    expected = read(as_folder(small_set(train=4), tmp_path / "plain"), tmp_path)
    assert read(source, tmp_path).digest == expected.digest


def test_tables_of_others_need_no_features(tmp_path: Path) -> None:
    tables = {}
    for split in ("train", "test"):
        hub = _table(small_set(), split)
        content = [row["bytes"] for row in hub["img"].to_pylist()]
        labels = [CLASSES[i] for i in hub["label"].to_pylist()]
        tables[f"{split}.parquet"] = pyarrow.table({"picture": content, "label": labels})
    expected = read(as_folder(small_set(), tmp_path / "plain"), tmp_path)
    assert read(_put(tables, tmp_path / "own"), tmp_path).digest == expected.digest


def test_a_changed_file_is_read_anew_and_a_declaration_counts(tmp_path: Path) -> None:
    source = _hub(tmp_path / "hub")
    before = read(source, tmp_path)
    assert read(source, tmp_path).folder == before.folder
    _put({HUB.format("train"): _table(small_set(), "train", names=("cow", "dog", "ship"))}, source)
    assert "train/cow but no test/cow" in _refusal(source, tmp_path)
    _hub(source)
    (source / "dataset.toml").write_text("mirror_safe = false")
    assert before.mirror_safe
    assert not read(source, tmp_path).mirror_safe


@pytest.mark.parametrize("name", [HUB, "{}.parquet", "default/{}/0000.parquet"])
def test_a_validation_split_is_used_and_offered_where_there_is_no_test(name: str, tmp_path: Path) -> None:
    source = _hub(tmp_path / "hub", name)
    plain = read(source, tmp_path).digest
    more = {path.replace("train", "validation"): image for path, image in small_set(train=3).items() if "train" in path}
    _put({name.format("validation"): _table(more, "validation")}, source)
    lines: list[str] = []
    found = load(source, tmp_path / "cache", say=lines.append)
    assert found.notes[0].startswith("The validation images are the 9 of validation, and none is held out of train")
    assert found.notes[0] in lines[-1]
    assert found.digest != plain
    assert found.digest == read(as_folder(small_set() | more, tmp_path / "plain"), tmp_path).digest
    assert read(source, tmp_path).folder == found.folder
    (source / name.format("test")).unlink()
    said = _refusal(source, tmp_path)
    assert "hub holds no test-….parquet, which it needs. To take validation for it, rename its files to test-…" in said


def test_all_rows_that_are_wrong_are_named(tmp_path: Path) -> None:
    table = _table(small_set(), "train")
    rows, labels = table["img"].to_pylist(), table["label"].to_pylist()
    rows[1]["bytes"], rows[2]["bytes"], labels[3], labels[4] = None, b"no image", -1, None
    columns = {"img": rows, "label": pyarrow.array(labels, pyarrow.int64())}
    broken = pyarrow.table(columns).replace_schema_metadata(table.schema.metadata)
    said = _refusal(_put({HUB.format("train"): broken}, _hub(tmp_path / "hub")), tmp_path)
    assert said.startswith("4 files or folders in hub cannot be used: ")
    for row, what in {
        1: "holds no image",
        2: "cannot be read as an image",
        3: "has no label",
        4: "has no label",
    }.items():
        assert f"{HUB.format('train')} row {row:09d} {what}" in said


def test_columns_that_are_not_known_are_named(tmp_path: Path) -> None:
    table = pyarrow.table({"x": [1], "y": [2]})
    said = _refusal(_put({"train.parquet": table, "test.parquet": table}, tmp_path / "own"), tmp_path)
    assert said == (
        "test.parquet has the columns x, y; one of images (bytes) and one called fine_label or label are needed."
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n", "say `git lfs pull` there"),
        (b"PAR1 and no more", "is not a readable Parquet file"),
        (b"", "is not a readable Parquet file"),
    ],
)
def test_a_file_that_is_no_table_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    source = _hub(tmp_path / "hub")
    (source / HUB.format("test")).write_bytes(content)
    words = _refusal(source, tmp_path)
    assert HUB.format("test") in words
    assert said in words


def test_one_table_alone_and_several_data_sets_are_refused(tmp_path: Path) -> None:
    source = _hub(tmp_path / "hub")
    assert "give the folder that holds those of train and of test" in _refusal(source / HUB.format("train"), tmp_path)
    _hub(source, "full_numbers/{}-00000-of-00001.parquet")
    assert "hub holds several data sets (full_numbers, plain_text); name the folder of one" in _refusal(
        source, tmp_path
    )
    assert read(source / "plain_text", tmp_path).classes == CLASSES


def test_a_table_beside_folders_of_images_is_left_alone(tmp_path: Path) -> None:
    plain = as_folder(small_set(), tmp_path / "plain")
    before = read(plain, tmp_path).digest
    _put({"metadata.parquet": pyarrow.table({"file_name": ["0.png"]})}, plain)
    assert read(plain, tmp_path).digest == before


def test_several_sizes_are_refused_as_in_folders(tmp_path: Path) -> None:
    files = small_set() | {"train/cat/0.png": encoded(picture(0, side=48))}
    source = _put({f"{split}.parquet": _table(files, split) for split in ("train", "test")}, tmp_path / "own")
    assert "--image-size 32" in _refusal(source, tmp_path)


def test_the_labels_belong_to_their_images(tmp_path: Path) -> None:
    dataset = read(_hub(tmp_path / "hub"), tmp_path)
    images = dataset.train_images.permute(0, 2, 3, 1).numpy()
    for image, label in zip(images, dataset.train_labels.tolist(), strict=True):
        seed = next(i for i, path in enumerate(small_set()) if np.array_equal(np.asarray(picture(i)), image))
        assert list(small_set())[seed].split("/")[1] == CLASSES[label]
