"""What is wrong with a tree of images is named, all of it in one go; folders and archives are judged alike."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_ablations.study.data.dataset import load
from cifar_ablations.study.data.images import DataError
from tests.image_sets import as_folder, as_tar, as_zip, encoded, picture, read, small_set, trained

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


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_validation_folder_beside_the_two_is_said_not_to_be_used(make: Maker, name: str, tmp_path: Path) -> None:
    plain = read(make(small_set(), tmp_path / "plain"), tmp_path)
    with_more = make(small_set() | {f"{name}/cat/0.png": encoded(picture(50))}, tmp_path / "more")
    lines: list[str] = []
    found = load(with_more, tmp_path / "cache", say=lines.append)
    note = f"{name}/ is not used: validation images are set aside from train/."
    assert found.notes == (note,)
    assert note in lines[-1]
    assert found.source.endswith(note)
    assert found.digest == plain.digest


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
