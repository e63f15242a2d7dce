"""What a folder is found to hold, and what of it cannot be opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cifar_ablations.study.data import image_folder
from cifar_ablations.study.data.image_folder import image_root
from cifar_ablations.study.data.images import DataError
from tests.image_sets import as_folder, read, small_set


def _refusal(source: Path, folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(source, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_root_is_the_folder_or_the_outermost_one_below_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "cifar" / "train").mkdir(parents=True)
    (tmp_path / ".hidden" / "train").mkdir(parents=True)
    assert image_root(tmp_path) == tmp_path / "a" / "cifar"
    assert image_root(tmp_path / "a" / "cifar") == tmp_path / "a" / "cifar"
    (tmp_path / "cifar" / "train").mkdir(parents=True)
    assert image_root(tmp_path) == tmp_path / "cifar"
    (tmp_path / "other" / "test").mkdir(parents=True)
    with pytest.raises(DataError, match=r"holds several image folders \(cifar, other\)"):
        image_root(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds neither"):
        image_root(tmp_path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("train-images-idx3-ubyte.gz", "MNIST's own"),
        ("t10k-images-idx3-ubyte", "MNIST's own"),
        ("train_32x32.mat", "Matlab"),
        ("mnist.npz", "NumPy"),
        ("data-00000-of-00001.arrow", "Arrow"),
    ],
)
def test_formats_that_are_not_read_are_named(name: str, kind: str, tmp_path: Path) -> None:
    folder = as_folder({name: b"x"}, tmp_path / "given")
    said = _refusal(folder, tmp_path)
    assert f"given holds {name}, of {kind} format, which is not read; write its images to train/<class>/…" in said


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Folders and files, by the end of their path, that may not be opened, also not by root, as tests may run."""
    names: set[str] = set()

    def refuse(path: Any) -> None:
        if str(path).endswith(tuple(names) or ("\0",)):
            raise PermissionError(13, "Permission denied", str(path))

    scandir, opened = os.scandir, image_folder.read_named

    def scanned(path: Any) -> Any:
        refuse(path)
        return scandir(path)

    def opening(path: Any, *args: Any, **options: Any) -> Any:
        refuse(path)
        return opened(path, *args, **options)

    monkeypatch.setattr(os, "scandir", scanned)
    monkeypatch.setattr(image_folder, "read_named", opening)
    return names


@pytest.mark.parametrize("splits", [("train", "test"), ("train",), ("test",)])
def test_a_class_that_may_not_be_opened_is_named_and_not_left_out(
    splits: tuple[str, ...], closed: set[str], tmp_path: Path
) -> None:
    folder = as_folder(small_set(), tmp_path / "images")
    closed |= {f"{split}/dog" for split in splits}
    said = _refusal(folder, tmp_path)
    for split in splits:
        assert f"{split}/dog" in said
    assert "cannot be opened (Permission denied)" in said
    assert "make it readable or remove it" in said


def test_folders_and_files_that_may_not_be_opened_are_named_together(closed: set[str], tmp_path: Path) -> None:
    folder = as_folder(small_set(), tmp_path / "images")
    closed |= {"train/dog", "test/cat/0.png", "test/ship/0.png"}
    said = _refusal(folder, tmp_path)
    assert said.startswith("3 files or folders in images cannot be used: ")
    closed.clear()
    assert len(read(folder, tmp_path).classes) == 3, "nothing of the refusal is kept"


def test_a_split_that_may_not_be_opened_is_named(closed: set[str], tmp_path: Path) -> None:
    folder = as_folder(small_set(), tmp_path / "images")
    closed.add("/train")
    assert "train in images cannot be opened (Permission denied)" in _refusal(folder, tmp_path)


@pytest.mark.parametrize("path", ["", "/dataset.toml"])
def test_the_folder_itself_and_its_declaration_are_named(path: str, closed: set[str], tmp_path: Path) -> None:
    folder = as_folder(small_set() | {"dataset.toml": b""}, tmp_path / "images")
    closed.add(f"images{path}")
    said = _refusal(folder, tmp_path)
    assert (path or "images").lstrip("/") in said
    assert "cannot be opened (Permission denied)" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_without_permission_nothing_is_left_out(tmp_path: Path) -> None:
    folder = as_folder(small_set(), tmp_path / "images")
    for split in ("train", "test"):
        (folder / split / "dog").chmod(0)
    assert "2 files or folders in images cannot be used" in _refusal(folder, tmp_path)


@pytest.mark.parametrize(
    ("link", "target", "said"),
    [
        ("train/cat/loop", "..", "train/cat/loop in images is a link to a folder within a class"),
        ("train/cat/loop", "../..", "train/cat/loop in images is a link to a folder within a class"),
        ("train/cat/loop.png", "loop.png", "cannot be opened (Too many levels of symbolic links)"),
        ("train/cat/gone.png", "nowhere.png", "train/cat/gone.png in images cannot be opened (No such file"),
        ("train/loop", "..", "train/loop/train is a folder within a class"),
        ("train/loop", "loop", "train/loop in images is a link that leads nowhere; remove it"),
    ],
)
def test_links_that_lead_in_a_circle_or_nowhere_are_named(link: str, target: str, said: str, tmp_path: Path) -> None:
    folder = as_folder(small_set(), tmp_path / "images")
    (folder / link).symlink_to(target)
    words = _refusal(folder, tmp_path)
    assert said in words


@pytest.mark.parametrize("target", ["test", "nowhere"])
def test_a_split_that_is_a_link_to_nothing_is_named(target: str, tmp_path: Path) -> None:
    folder = as_folder({path: c for path, c in small_set().items() if path.startswith("train")}, tmp_path / "images")
    (folder / "test").symlink_to(target)
    assert "test in images is no folder, or a link that leads nowhere" in _refusal(folder, tmp_path)


@pytest.mark.parametrize("target", ["images", "nowhere"])
def test_a_source_that_is_a_link_to_nothing_is_named(target: str, tmp_path: Path) -> None:
    (tmp_path / "images").symlink_to(target)
    assert "images is a link that leads nowhere, or a loop of links" in _refusal(tmp_path / "images", tmp_path)


def test_links_to_images_classes_and_splits_are_followed(tmp_path: Path) -> None:
    plain = as_folder(small_set(), tmp_path / "plain")
    linked = tmp_path / "linked"
    (linked / "train" / "cat").mkdir(parents=True)
    for i in range(2):
        (linked / "train" / "cat" / f"{i}.png").symlink_to(plain / f"train/cat/{i}.png")
    for name in ("dog", "ship"):
        (linked / "train" / name).symlink_to(plain / "train" / name)
    (linked / "test").symlink_to(plain / "test")
    assert read(linked, tmp_path).digest == read(plain, tmp_path).digest
    (plain / "train/dog/0.png").write_bytes((plain / "train/cat/0.png").read_bytes())
    assert read(linked, tmp_path).digest == read(plain, tmp_path).digest, "a change behind a link is noticed"


def test_an_empty_folder_within_a_class_does_no_harm_and_a_full_one_is_named(tmp_path: Path) -> None:
    folder = as_folder(small_set(), tmp_path / "images")
    (folder / "train/cat/more").mkdir()
    (folder / "train/cat/.ipynb_checkpoints").mkdir()
    (folder / "train/cat/.ipynb_checkpoints/0.png").write_bytes(b"junk")
    assert len(read(folder, tmp_path).train_labels) == 6
    (folder / "train/cat/more/0.png").write_bytes(b"")
    assert "train/cat/more in images is a folder within a class; move or remove it" in _refusal(folder, tmp_path)


@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines", b"50% #1 ?x=%20", b"'quoted' \"name\""])
def test_the_folder_may_have_any_name(name: bytes, tmp_path: Path) -> None:
    folder = as_folder(small_set(), tmp_path / os.fsdecode(name))
    dataset = read(folder, tmp_path)
    assert dataset.source.isprintable()
    assert dataset.source.encode()
    assert dataset.name == dataset.name.lower()
    (folder / "train/cat/0.png").write_bytes(b"")
    assert _refusal(folder, tmp_path).encode()
