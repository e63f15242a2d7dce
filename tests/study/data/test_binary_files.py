"""The binary version of CIFAR, written as its page describes it, is read as torchvision reads the Python version."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100

from cifar_ablations.study.data.images import DataError
from tests.image_sets import read
from tests.official_like import put_official


def _records(python_file: Path) -> np.ndarray:
    """The records of a binary file with the images of a Python one: labels, then red, green and blue planes."""
    values = pickle.loads(python_file.read_bytes())
    labels = [np.array(values["labels"], np.uint8)] if "labels" in values else []
    if "fine_labels" in values:
        fine = np.array(values["fine_labels"], np.uint8)
        labels = [np.full(len(fine), 7, np.uint8), fine]  # the coarse label comes first
    return np.concatenate([*(row[:, None] for row in labels), values["data"]], axis=1)


def _binary(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A folder of the binary version, and one of the Python version with the same images."""
    python = put_official(name, root / "python", monkeypatch).parent
    reader = {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]
    folder = root / {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary"}[name]
    folder.mkdir()
    for file, _ in (*reader.train_list, *reader.test_list):
        (folder / f"{file}.bin").write_bytes(_records(python / reader.base_folder / file).tobytes())
    names = "batches.meta.txt" if name == "cifar10" else "fine_label_names.txt"
    (folder / names).write_text("class0\nclass1\n\n")
    return folder, python


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_it_is_read_as_the_python_version_with_its_archive_and_under_another_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, python = _binary(name, tmp_path, monkeypatch)
    official = read(python, tmp_path)
    packed = tmp_path / "binary.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(folder, folder.name)
    holds = tmp_path / "holds"
    holds.mkdir()
    (holds / folder.name).symlink_to(folder)
    renamed = tmp_path / "renamed"
    renamed.symlink_to(folder)
    for source in (folder, packed, holds, renamed):
        dataset = read(source, tmp_path)
        assert dataset.digest == official.digest
        assert dataset.name not in ("cifar10", "cifar100"), "which only files with known sums are"
        assert "The binary version of CIFAR-" in dataset.source
    before = read(folder, tmp_path).digest
    file = folder / ("data_batch_2.bin" if name == "cifar10" else "train.bin")
    file.write_bytes(file.read_bytes()[:-1] + b"\x55")
    assert read(folder, tmp_path).digest != before


def test_all_files_that_are_wrong_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = _binary("cifar10", tmp_path, monkeypatch)
    (folder / "data_batch_1.bin").write_bytes(bytes(3072))
    (folder / "data_batch_3.bin").unlink()
    (folder / "data_batch_4.bin").write_bytes(b"")
    (folder / "test_batch.bin").write_bytes(b"\x09" + bytes(3072))
    with pytest.raises(DataError) as caught:
        read(folder, tmp_path)
    said = str(caught.value)
    assert said.startswith("4 files or folders in cifar-10-batches-bin cannot be used: ")
    assert "data_batch_1.bin is not made of records of 3,073 bytes" in said
    assert "data_batch_3.bin cannot be opened (No such file or directory)" in said
    assert "test_batch.bin has labels that the 2 class names do not reach to" in said
    (folder / "batches.meta.txt").unlink()
    with pytest.raises(DataError, match=r"batches\.meta\.txt in cifar-10-batches-bin cannot be read"):
        read(folder, tmp_path)
