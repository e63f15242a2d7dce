"""What is wrong with a tree of images is named, all of it in one go; folders and archives are judged alike."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cifar_ablations.study.data.dataset import load
from cifar_ablations.study.data.images import DataError
from tests.image_sets import CLASSES, as_folder, as_tar, as_zip, encoded, picture, read, small_set, trained

MAKERS = [as_folder, as_tar, as_zip]
Maker = Callable[[Mapping[str, bytes], Path], Path]


def _refusal(source: Path, folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(source, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("make", MAKERS)
def test_all_that_is_wrong_is_named_in_one_go(make: Maker, tmp_path: Path) -> None:
    wrong = {
        "train/cat/empty.png": b"",
        "train/dog/note.txt": b"hello",
        "train/notes.txt": b"hello",
        "test/ship/large.png": encoded(picture(0, side=48)),
    }
    said = _refusal(make(small_set() | wrong, tmp_path / "images"), tmp_path)
    assert said.startswith("4 files or folders in images cannot be used: ")
    for path in wrong:
        assert path in said
    for part in ("is 48×48 pixels and the first image 32×32", "replace or remove it", "--image-size 32"):
        assert part in said


@pytest.mark.parametrize("make", MAKERS)
def test_the_first_training_image_tells_the_size(make: Maker, tmp_path: Path) -> None:
    files = {path: encoded(picture(i, 48 if path.startswith("test") else 32)) for i, path in enumerate(small_set())}
    said = _refusal(make(files, tmp_path / "images"), tmp_path)
    assert said.startswith("3 files or folders in images cannot be used: test/cat/0.png is 48×48 pixels and the first")


def test_of_many_ten_are_named(tmp_path: Path) -> None:
    wrong = {f"train/cat/bad{i:02}.png": b"no image" for i in range(25)}
    said = _refusal(as_folder(small_set() | wrong, tmp_path / "images"), tmp_path)
    assert said.startswith("25 files or folders in images cannot be used: ")
    assert said.count("bad") == 10
    assert "; and 15 more." in said


@pytest.mark.parametrize("make", MAKERS)
def test_all_classes_without_a_counterpart_are_named(make: Maker, tmp_path: Path) -> None:
    more = {f"{place}/0.png": encoded(picture(0)) for place in ("train/ant", "test/bee", "train/cow")}
    said = _refusal(make(small_set() | more, tmp_path / "images"), tmp_path)
    for part in ("train/ant but no test/ant", "test/bee but no train/bee", "train/cow but no test/cow"):
        assert part in said


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("named", "said"), [("cat ", "'cat '"), ("Cat", "Cat"), (" cat", "' cat'"), ("ｃat", "ｃat")])
def test_names_that_look_alike_are_said_to(make: Maker, named: str, said: str, tmp_path: Path) -> None:
    files = {path.replace("test/cat", f"test/{named}"): content for path, content in small_set().items()}
    words = _refusal(make(files, tmp_path / "images"), tmp_path)
    assert f"test/{said} but no train/{said}" in words
    assert "Some differ in capitals or spaces alone; rename those." in words


@pytest.mark.parametrize("make", MAKERS)
def test_two_forms_of_unicode_are_one_class(make: Maker, tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    assert composed != apart
    plain = {path.replace("cat", composed): content for path, content in small_set().items()}
    mixed = {path.replace("test/cat", f"test/{apart}"): content for path, content in small_set().items()}
    mixed = {path.replace("train/cat", f"train/{composed}"): content for path, content in mixed.items()}
    expected = read(make(plain, tmp_path / "plain"), tmp_path)
    found = read(make(mixed, tmp_path / "mixed"), tmp_path)
    assert found.classes == expected.classes == (composed, "dog", "ship")
    assert found.digest == expected.digest


@pytest.mark.parametrize("make", MAKERS)
def test_both_forms_in_one_split_are_named(make: Maker, tmp_path: Path) -> None:
    files = small_set()
    for i, form in enumerate(("NFC", "NFD")):
        for split in ("train", "test"):
            files[f"{split}/{unicodedata.normalize(form, 'café')}/{i}.png"] = encoded(picture(i))
    assert "twice, in two forms of Unicode" in _refusal(make(files, tmp_path / "images"), tmp_path)


@pytest.mark.parametrize("make", [as_folder, as_tar])
def test_a_class_whose_name_is_not_utf_8_is_named_once(make: Maker, tmp_path: Path) -> None:
    files = {path.replace("cat", "caf\udce9"): content for path, content in small_set().items()}
    said = _refusal(make(files, tmp_path / "images"), tmp_path)
    assert said.startswith("2 files or folders in images cannot be used: ")
    assert r"train/caf\xe9" in said
    assert "has a name that is not UTF-8" in said


@pytest.mark.parametrize("make", [as_folder, as_tar])
def test_the_name_of_an_image_may_be_anything(make: Maker, tmp_path: Path) -> None:
    files = small_set() | {"train/cat/caf\udce9\n.png": encoded(picture(77))}
    assert np.array_equal(trained(read(make(files, tmp_path / "images"), tmp_path))[6], np.asarray(picture(77)))
    files["train/cat/caf\udce9\n.png"] = b"no image"
    assert r"train/cat/caf\xe9\n.png" in _refusal(make(files, tmp_path / "others"), tmp_path)


# Other names of the splits


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "Test", "testing", "VAL"])
@pytest.mark.parametrize("top", ["", "outer/"])
def test_what_stands_for_test_is_offered_and_the_offer_works(name: str, top: str, tmp_path: Path) -> None:
    files = {top + path.replace("test/", f"{name}/"): content for path, content in small_set().items()}
    folder = as_folder(files, tmp_path / "my images")
    said = _refusal(folder, tmp_path)
    offer, _, command = said.partition(": to take that, ")
    assert (
        f"holds no test/<class>/… images; it needs train/<class>/… and test/<class>/… images. It has {name}/" in offer
    )
    assert shlex.split(command)[0] == "mv"
    subprocess.run(command, shell=True, check=True)
    expected = read(as_folder(small_set(), tmp_path / "plain"), tmp_path)
    assert read(folder, tmp_path).digest == expected.digest


@pytest.mark.parametrize("make", [as_tar, as_zip])
def test_in_an_archive_it_is_offered_too(make: Maker, tmp_path: Path) -> None:
    files = {path.replace("test/", "val/"): content for path, content in small_set().items()}
    said = _refusal(make(files, tmp_path / "a"), tmp_path)
    assert said.endswith("It has val/: to take that, unpack it and call the folder test.")


def test_both_splits_may_be_called_otherwise(tmp_path: Path) -> None:
    files = {path.replace("/", "ing/", 1): content for path, content in small_set().items()}
    assert "It has training/: to take that, mv " in _refusal(as_folder(files, tmp_path / "images"), tmp_path)


# Validation images


def _with(name: str, classes: Sequence[str] = CLASSES, count: int = 2) -> dict[str, bytes]:
    """The small set, with so many images of each class in a folder beside."""
    paths = [f"{name}/{label}/{i}.png" for label in classes for i in range(count)]
    return small_set() | {path: encoded(picture(100 + seed)) for seed, path in enumerate(paths)}


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("name", ["val", "Valid", "validation", "dev", "eval"])
@pytest.mark.parametrize("top", ["", "dev/"])
def test_a_validation_folder_is_the_validation_split(make: Maker, name: str, top: str, tmp_path: Path) -> None:
    plain = read(make(small_set(), tmp_path / "plain"), tmp_path)
    source = make({top + path: content for path, content in _with(name).items()}, tmp_path / "more")
    lines: list[str] = []
    found = load(source, tmp_path / "cache", say=lines.append)
    assert lines[-1].startswith("Data: more, 6 training, 6 validation and 3 test images, digest ")
    assert found.notes[0].startswith(f"The validation images are the 6 of {name}, and none is held out of train: ")
    assert len(found.notes) == 1
    assert found.notes[0] in lines[-1]
    assert found.source.endswith(found.notes[0])
    assert torch.equal(found.train_images, plain.train_images)
    assert (found.mean, found.std) == (plain.mean, plain.std)
    assert found.validation_labels is not None
    assert found.validation_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert found.validation_images is not None
    for row, seed in enumerate((100, 102, 104, 101, 103, 105)):
        assert np.array_equal(found.validation_images[row].permute(1, 2, 0).numpy(), np.asarray(picture(seed)))
    assert found.digest != plain.digest
    again = read(source, tmp_path)
    assert again.folder == found.folder
    assert torch.equal(again.validation_images, found.validation_images)
    assert not plain.own_validation


@pytest.mark.parametrize("make", MAKERS)
def test_the_digest_is_also_of_the_validation_images(make: Maker, tmp_path: Path) -> None:
    files = _with("val")
    moved = {path.replace("val/", "valid/"): content for path, content in files.items()}
    changed = files | {"val/cat/0.png": encoded(picture(7))}
    relabelled = files | {"val/cat/0.png": files["val/dog/0.png"], "val/dog/0.png": files["val/cat/0.png"]}
    first, same, *others = (
        read(make(some, tmp_path / f"{i}"), tmp_path).digest
        for i, some in enumerate((files, moved, changed, relabelled, small_set()))
    )
    assert first == same
    assert len({first, *others}) == 4


def test_an_image_that_is_added_to_the_validation_folder_is_noticed(tmp_path: Path) -> None:
    folder = as_folder(_with("val"), tmp_path / "images")
    before = read(folder, tmp_path)
    (folder / "val/cat/9.png").write_bytes(encoded(picture(9)))
    assert read(folder, tmp_path).own_validation == before.own_validation + 1


@pytest.mark.parametrize("make", MAKERS)
def test_classes_may_be_missing_among_validation_images_but_not_be_new(make: Maker, tmp_path: Path) -> None:
    found = read(make(_with("val", ("ship",)), tmp_path / "one"), tmp_path)
    assert found.notes[1] == "val has no images of some classes: cat, dog."
    assert found.validation_labels is not None
    assert found.validation_labels.tolist() == [2, 2]
    said = _refusal(make(_with("val", ("cat", "cow", "ant")), tmp_path / "two"), tmp_path)
    assert said == "two has val/ant but no train/ant, val/cow but no train/cow; rename or remove it."


@pytest.mark.parametrize("make", MAKERS)
def test_a_class_of_validation_images_may_be_called_as_a_split_is(make: Maker, tmp_path: Path) -> None:
    files = {path.replace("cat", "train").replace("dog", "val"): content for path, content in _with("val").items()}
    found = read(make(files, tmp_path / "images"), tmp_path)
    assert found.classes == ("ship", "train", "val")
    assert found.validation_labels is not None
    assert found.validation_labels.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("make", MAKERS)
def test_what_is_wrong_with_validation_images_is_named(make: Maker, tmp_path: Path) -> None:
    wrong = {
        "val/cat/broken.png": b"no image",
        "val/notes.txt": b"hello",
        "val/dog/more/0.png": encoded(picture(0)),
        "train/cat/broken.png": b"",
    }
    said = _refusal(make(_with("val") | wrong, tmp_path / "images"), tmp_path)
    assert said.startswith("4 files or folders in images cannot be used: ")
    for path in ("val/cat/broken.png", "val/notes.txt", "val/dog/more", "train/cat/broken.png"):
        assert path in said


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("stray", ["dev/notes.txt", "dev/scripts/run.sh", "dev/old/cat/0.png", "dev/train/cat/0.png"])
def test_a_folder_of_such_a_name_without_the_classes_is_left_alone(make: Maker, stray: str, tmp_path: Path) -> None:
    plain = read(make(small_set(), tmp_path / "plain"), tmp_path)
    found = read(make(small_set() | {stray: b"hello"}, tmp_path / "more"), tmp_path)
    assert found.notes == ("dev is not used: it holds images of none of the classes.",)
    assert found.digest == plain.digest


@pytest.mark.parametrize("make", MAKERS)
def test_of_several_validation_folders_one_is_used(make: Maker, tmp_path: Path) -> None:
    files = _with("val") | {path: content for path, content in _with("dev", count=1).items() if "dev" in path}
    found = read(make(files, tmp_path / "images"), tmp_path)
    assert found.notes[1:2] == ("dev is not used: validation images are those of val.",)
    assert found.digest == read(make(_with("val"), tmp_path / "plain"), tmp_path).digest


def test_a_validation_folder_that_cannot_be_followed_is_named(tmp_path: Path) -> None:
    folder = as_folder(small_set(), tmp_path / "images")
    (folder / "val").symlink_to(tmp_path / "nowhere")
    said = _refusal(folder, tmp_path)
    assert said.startswith("val in images is no folder, or a link that leads nowhere")
    (folder / "val").unlink()
    (folder / "val").mkdir()
    assert read(folder, tmp_path).notes == ("val is not used: it holds images of none of the classes.",)
    (folder / "val").rmdir()
    as_folder({"val/cat/0.png": encoded(picture(50))}, tmp_path / "elsewhere")
    (folder / "val").symlink_to(tmp_path / "elsewhere" / "val")
    assert read(folder, tmp_path).own_validation == 1


# Declarations


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("name", ["dataset.toml", "outer/dataset.toml", "outer/inner/dataset.toml"])
@pytest.mark.parametrize("content", [b"mirror_safe = false", b"\xef\xbb\xbfmirror_safe = false\r\n"])
def test_a_declaration_counts_beside_the_images_and_further_out(
    make: Maker, name: str, content: bytes, tmp_path: Path
) -> None:
    files = {f"outer/inner/{path}": image for path, image in small_set().items()}
    assert read(make(files, tmp_path / "plain"), tmp_path).mirror_safe
    assert not read(make(files | {name: content}, tmp_path / "declared"), tmp_path).mirror_safe
    capital = name.replace("dataset", "Dataset")
    assert not read(make(files | {capital: content}, tmp_path / "capital"), tmp_path).mirror_safe


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("name", ["other/dataset.toml", "outer/other/dataset.toml"])
def test_one_elsewhere_does_not_count(make: Maker, name: str, tmp_path: Path) -> None:
    files = {f"outer/{path}": image for path, image in small_set().items()}
    assert read(make(files | {name: b"mirror_safe = false"}, tmp_path / "images"), tmp_path).mirror_safe


@pytest.mark.parametrize("make", MAKERS)
def test_two_declarations_and_one_of_another_name_are_named(make: Maker, tmp_path: Path) -> None:
    files = {f"outer/{path}": image for path, image in small_set().items()}
    two = files | {"dataset.toml": b"mirror_safe = false", "outer/Dataset.toml": b""}
    assert "holds dataset.toml and outer/Dataset.toml; keep one" in _refusal(make(two, tmp_path / "two"), tmp_path)
    other = files | {"outer/dataset.toml.txt": b"mirror_safe = false"}
    said = _refusal(make(other, tmp_path / "other"), tmp_path)
    assert "dataset.toml.txt in other is not read under this name; call it dataset.toml" in said


def test_a_changed_declaration_is_noticed(tmp_path: Path) -> None:
    folder = as_folder(small_set() | {"dataset.toml": b"mirror_safe = true "}, tmp_path / "images")
    assert read(folder, tmp_path).mirror_safe
    (folder / "dataset.toml").write_bytes(b"mirror_safe = false")
    assert not read(folder, tmp_path).mirror_safe


# Outer folders


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("top", ["a/", "a/b/", "a/b/c/"])
def test_the_splits_may_lie_further_in(make: Maker, top: str, tmp_path: Path) -> None:
    files = {top + path: content for path, content in small_set().items()} | {"README.md": b"hello"}
    expected = read(as_folder(small_set(), tmp_path / "plain"), tmp_path)
    assert read(make(files, tmp_path / "images"), tmp_path).digest == expected.digest


@pytest.mark.parametrize("make", MAKERS)
def test_the_outermost_pair_counts(make: Maker, tmp_path: Path) -> None:
    files = small_set() | {"backup/old/train/notes/bad.txt": b"no image"}
    expected = read(as_folder(small_set(), tmp_path / "plain"), tmp_path)
    assert read(make(files, tmp_path / "images"), tmp_path).digest == expected.digest


@pytest.mark.parametrize("make", MAKERS)
def test_a_class_may_be_called_as_a_split_is(make: Maker, tmp_path: Path) -> None:
    files = {path.replace("cat", "test").replace("dog", "val"): content for path, content in small_set().items()}
    assert read(make(files, tmp_path / "images"), tmp_path).classes == ("ship", "test", "val")


# Odd names


@pytest.mark.parametrize("make", MAKERS)
def test_odd_names_are_names_like_any_other(make: Maker, tmp_path: Path) -> None:
    files = {
        path.replace("cat", "c\na\tt").replace("dog", "d" * 200).replace("0.png", f"{'x' * 240}\n.PNG"): content
        for path, content in small_set().items()
    }
    found = read(make(files, tmp_path / "images"), tmp_path)
    assert found.classes == ("c\na\tt", "d" * 200, "ship")
    assert sorted(map(bytes, trained(found))) == sorted(map(bytes, trained(read(_plain(tmp_path), tmp_path))))


def _plain(folder: Path) -> Path:
    return as_folder(small_set(), folder / "plain")


@pytest.mark.parametrize("make", MAKERS)
def test_hidden_folders_and_what_systems_leave_behind_are_passed_over(make: Maker, tmp_path: Path) -> None:
    stray = ["train/.ipynb_checkpoints/0.png", "train/cat/.ipynb_checkpoints/0.png", "val/.DS_Store", "test/THUMBS.DB"]
    stray += ["train/cat/thumbs.db", "test/cat/Desktop.ini", "train/cat/0.png:Zone.Identifier", "val/Desktop.ini"]
    files = small_set() | dict.fromkeys(stray, b"no image")
    found = read(make(files, tmp_path / "images"), tmp_path)
    assert found.digest == read(_plain(tmp_path), tmp_path).digest


def test_a_split_or_a_class_may_be_a_link(tmp_path: Path) -> None:
    plain, linked = _plain(tmp_path), tmp_path / "linked"
    (linked / "test").mkdir(parents=True)
    (linked / "train").symlink_to(plain / "train")
    for name in CLASSES:
        (linked / "test" / name).symlink_to(plain / "test" / name)
    assert read(linked, tmp_path).digest == read(plain, tmp_path).digest


@pytest.mark.exhaustive
@pytest.mark.parametrize("make", MAKERS)
def test_of_thousands_of_classes_each_may_have_one_image(make: Maker, tmp_path: Path) -> None:
    small = encoded(Image.new("RGB", (32, 32), 80))
    files = {f"{split}/{k:04}/0.png": small for split in ("train", "test") for k in range(1200)}
    found = read(make(files, tmp_path / "images"), tmp_path)
    assert len(found.classes) == len(found.train_labels) == 1200
    assert found.train_labels.tolist() == list(range(1200))


# Sizes


@pytest.mark.parametrize("make", MAKERS)
def test_several_sizes_are_resized_by_the_option_alone(make: Maker, tmp_path: Path) -> None:
    from cifar_ablations.study.data.typed import typed_source

    files = small_set() | {"train/cat/0.png": encoded(picture(0, side=48))}
    source = make(files, tmp_path / "images")
    assert "--image-size 32" in _refusal(source, tmp_path)
    dataset = read(typed_source(str(source), 32) or "", tmp_path)
    assert dataset.source == (
        "Images in images, resized from 2 sizes (32 to 48 pixels wide, 32 to 48 high) to 32×32, bicubic, whatever "
        "their proportions."
    )
    expected = picture(0, side=48).resize((32, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(trained(dataset)[0], np.asarray(expected))
    with pytest.raises(DataError, match="--image-size must be 32"):
        read(typed_source(str(source), 64) or "", tmp_path)
    assert "--image-size 32" in _refusal(source, tmp_path), "what is cached was asked for otherwise"


def test_the_option_is_part_of_what_is_cached(tmp_path: Path) -> None:
    from cifar_ablations.study.data.typed import typed_source

    source = as_zip(small_set(side=48), tmp_path / "large.zip")
    plain, asked = read(source, tmp_path), read(typed_source(str(source), 32) or "", tmp_path)
    assert plain.digest != asked.digest
    assert plain.source == "Images in large.zip, resized from 48×48 to 32×32."
    assert asked.source == "Images in large.zip, resized from 48×48 to 32×32, bicubic."
    assert read(source, tmp_path).digest == plain.digest


@pytest.mark.parametrize("side", [28, 32])
def test_grey_digits_of_either_size_are_read_and_said_to_be_grey(side: int, tmp_path: Path) -> None:
    files = {path: encoded(picture(i, side).convert("L")) for i, path in enumerate(small_set())}
    dataset = read(as_zip(files, tmp_path / "digits.zip"), tmp_path)
    assert dataset.notes == ("All images are grey: one value in all three channels.",)
    assert ("resized from 28×28" in dataset.source) == (side == 28)


def test_a_source_that_changes_while_it_is_read_is_not_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cifar_ablations.study.data.decoding import Decoder

    folder = as_folder(small_set(), tmp_path / "images")
    decode = Decoder.decode

    def slow(self: Decoder, data: bytes) -> bytes:
        shutil.copy(folder / "train/dog/0.png", folder / "train/cat/0.png")
        return decode(self, data)

    monkeypatch.setattr(Decoder, "decode", slow)
    assert "images was changed while it was read" in _refusal(folder, tmp_path)
    assert not list((tmp_path / "cache").glob("*"))
