"""Data sets: whatever holds the images, the tensors are the same; whatever is wrong with them, one sentence says so."""

import io
import json
import os
import pickle
import shutil
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cifar_ablations.study.data import dataset as data
from cifar_ablations.study.data import decoding, image_archive, image_tree, official_files, synthetic
from cifar_ablations.study.data.dataset import DataError, load, open_cached
from tests.official_like import NOWHERE, put_official, serving

CLASSES = ("cat", "dog", "ship")


def pixels(seed, side=32):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def encode(array, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def small_set(train=2, test=1, kind="PNG"):
    """Encoded images by path, as a folder would hold them."""
    counts = {"train": train, "test": test}
    paths = [f"{split}/{name}/{i}.{kind.lower()}" for split in counts for name in CLASSES for i in range(counts[split])]
    return {path: encode(pixels(seed), kind) for seed, path in enumerate(paths)}


def as_folder(files, folder, top=""):
    for path, content in files.items():
        target = folder / top / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder


def as_tar(files, path, mode="w:xz", top=""):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(top + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def as_zip(files, path, top=""):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(top + name, content)
    return path


def read(source, tmp_path):
    return load(source, tmp_path / "cache", say=lambda line: None)


def refusal(source, tmp_path):
    """The one sentence with which a source is refused."""
    with pytest.raises(DataError) as caught:
        read(source, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("*"))
    return str(caught.value)


def assert_same_content(a, b):
    assert a.digest == b.digest
    assert a.classes == b.classes
    for name in data.ARRAYS:
        assert torch.equal(getattr(a, name), getattr(b, name))


# What is read


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("top", ["", "./", "pictures/"])
def test_folders_and_archives_agree_with_pillow(tmp_path, kind, top):
    files = small_set(kind=kind)
    sources = [
        as_folder(files, tmp_path / "folder", top),
        as_tar(files, tmp_path / "a.tar", "w", top),
        as_tar(files, tmp_path / "a.tar.gz", "w:gz", top),
        as_tar(files, tmp_path / "a.tar.bz2", "w:bz2", top),
        as_tar(files, tmp_path / "a.tar.xz", "w:xz", top),
        as_zip(files, tmp_path / "a.zip", top),
    ]
    datasets = [read(source, tmp_path) for source in sources]
    for dataset in datasets:
        assert_same_content(dataset, datasets[0])
        assert dataset.classes == CLASSES
        assert not dataset.stand_in
    assert [d.name for d in datasets] == ["folder", "a", "a", "a", "a", "a"]
    order = [f"train/{name}/{i}.{kind.lower()}" for i in range(2) for name in CLASSES]
    for image, path in zip(datasets[0].train_images, order, strict=True):
        expected = np.asarray(Image.open(io.BytesIO(files[path])))
        assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)
    assert datasets[0].train_labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert datasets[0].test_labels.tolist() == [0, 1, 2]


def test_tensors_have_the_promised_layout(tmp_path):
    dataset = read(as_zip(small_set(), tmp_path / "a.zip"), tmp_path)
    assert dataset.train_images.shape == (6, 3, 32, 32)
    assert dataset.train_images.dtype == torch.uint8
    assert dataset.train_images.is_contiguous(memory_format=torch.channels_last)
    assert dataset.train_labels.dtype == torch.int64
    moved = dataset.to("cpu")
    assert_same_content(moved, dataset)
    assert dataset.to("meta").train_images.is_contiguous(memory_format=torch.channels_last)


@given(counts=st.lists(st.integers(1, 6), min_size=2, max_size=5), data=st.data())
def test_any_prefix_is_as_balanced_as_the_counts_allow(counts, data):
    black = bytes(32 * 32 * 3)
    classes = {f"c{k}": {f"{i}.png": black for i in range(count)} for k, count in enumerate(counts)}
    _, labels = image_tree.interleaved(classes)
    assert np.bincount(labels).tolist() == counts
    length = data.draw(st.integers(1, len(labels)))
    seen = np.bincount(labels[:length], minlength=len(counts))
    unfinished = seen[seen < counts]
    assert unfinished.size == 0 or seen.max() - unfinished.min() <= 1


def test_other_pixel_formats_become_rgb(tmp_path):
    files = small_set()
    grey = Image.fromarray(pixels(1)[..., 0])
    palette = Image.fromarray(pixels(2)).quantize(16)
    transparent = palette.copy()
    transparent.info["transparency"] = bytes(range(16))
    sources = {"train/cat/0.png": grey, "train/dog/0.png": palette, "train/ship/0.png": transparent}
    for path, image in sources.items():
        file = io.BytesIO()
        image.save(file, "PNG")
        files[path] = file.getvalue()
    dataset = read(as_zip(files, tmp_path / "a.zip"), tmp_path)
    images = dataset.train_images.permute(0, 2, 3, 1).numpy()
    assert np.array_equal(images[0], np.asarray(grey.convert("RGB")))
    assert np.array_equal(images[1], np.asarray(palette.convert("RGB")))
    seen = transparent.convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    assert np.array_equal(images[2], np.asarray(expected))


def test_what_desktops_leave_behind_and_what_stands_elsewhere_is_passed_over(tmp_path):
    junk = ["._train", "train/.DS_Store", "train/cat/._0.png", "__MACOSX/train/cat/._0.png", "test/dog/Thumbs.db"]
    files = small_set() | dict.fromkeys([*junk, "README.md", "extra/cat/0.png"], b"not an image")
    sources = [
        as_folder(files, tmp_path / "f"),
        as_zip(files, tmp_path / "a.zip"),
        as_tar(files, tmp_path / "a.tar", "w"),
    ]
    plain = read(as_zip(small_set(), tmp_path / "plain.zip"), tmp_path)
    for source in sources:
        assert_same_content(read(source, tmp_path), plain)


def test_one_pixel_changes_the_digest(tmp_path):
    files = small_set()
    before = read(as_zip(files, tmp_path / "a.zip"), tmp_path)
    changed = pixels(0)
    changed[31, 31, 2] ^= 1
    after = read(as_zip(files | {"train/cat/0.png": encode(changed)}, tmp_path / "b.zip"), tmp_path)
    renamed = {path.replace("cat", "cow"): content for path, content in files.items()}
    assert len({before.digest, after.digest, read(as_zip(renamed, tmp_path / "c.zip"), tmp_path).digest}) == 3
    assert len(before.digest) == 16


def test_mean_and_std_are_those_of_the_training_images(tmp_path):
    dataset = read(as_zip(small_set(train=7), tmp_path / "a.zip"), tmp_path)
    scaled = dataset.train_images.numpy().astype(np.float64) / 255
    assert dataset.mean == tuple(scaled.mean(axis=(0, 2, 3)).round(4))
    assert dataset.std == tuple(scaled.std(axis=(0, 2, 3)).round(4))


# What is refused


def test_a_missing_path_is_named(tmp_path):
    assert "nowhere.tar does not exist" in refusal(tmp_path / "nowhere.tar", tmp_path)


def test_the_home_folder_of_nobody_is_named(tmp_path):
    assert "begins with the home folder of a user that there is not" in refusal("~nosuchuser/images", tmp_path)


def test_a_file_that_is_no_archive_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("hello " * 1000)
    assert "notes.txt is not a readable tar or zip archive" in refusal(tmp_path / "notes.txt", tmp_path)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.8])
def test_an_archive_cut_short_is_refused(tmp_path, mode, share):
    path = as_tar(small_set(train=4), tmp_path / "cut.tar", mode)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "cut.tar is not a readable tar or zip archive, or is cut short" in refusal(path, tmp_path)


def test_an_archive_cut_between_two_members_is_refused(tmp_path):
    path = as_tar(small_set(), tmp_path / "cut.tar", "w")
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset])
    assert "cut short (no end-of-archive mark)" in refusal(path, tmp_path)


def test_a_damaged_zip_is_refused(tmp_path):
    path = as_zip(small_set(), tmp_path / "bad.zip")
    content = bytearray(path.read_bytes())
    content[200] ^= 255
    path.write_bytes(content)
    assert "bad.zip is not a readable tar or zip archive" in refusal(path, tmp_path)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("make", [as_zip, as_folder])
def test_a_missing_split_is_named(tmp_path, make, split):
    files = {path: content for path, content in small_set().items() if not path.startswith(split)}
    assert f"half holds no {split}/<class>/… images" in refusal(make(files, tmp_path / "half"), tmp_path)


def test_a_folder_without_images_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty holds neither train/<class>" in refusal(tmp_path / "empty", tmp_path)


def test_two_copies_are_refused(tmp_path):
    both = as_folder(small_set(), as_folder(small_set(), tmp_path / "both", "a"), "b")
    assert "both holds several image folders (a, b)" in refusal(both, tmp_path)
    files = {top + path: content for top in ("a/", "b/") for path, content in small_set().items()}
    assert "holds train and test in several places" in refusal(as_zip(files, tmp_path / "both.zip"), tmp_path)


@pytest.mark.parametrize(("has", "lacks"), [("train", "test"), ("test", "train")])
def test_a_class_in_one_split_alone_is_named(tmp_path, has, lacks):
    files = small_set() | {f"{has}/fish/0.png": encode(pixels(0))}
    assert f"has {has}/fish but no {lacks}/fish" in refusal(as_zip(files, tmp_path / "a.zip"), tmp_path)


def test_an_empty_class_is_named(tmp_path):
    folder = as_folder(small_set(), tmp_path / "images")
    for split in ("train", "test"):
        (folder / split / "fish").mkdir()
    assert "train/fish, test/fish in images hold no image" in refusal(folder, tmp_path)
    archive = tmp_path / "images.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, "images")
    assert "train/fish, test/fish in images.tar hold no image" in refusal(archive, tmp_path)


def test_one_class_is_too_few(tmp_path):
    files = {path: content for path, content in small_set().items() if "cat" in path}
    assert "holds one class only, cat" in refusal(as_zip(files, tmp_path / "a.zip"), tmp_path)


def test_an_image_of_another_size_is_named_with_its_size(tmp_path):
    files = small_set() | {"test/dog/big.png": encode(pixels(0, side=48))}
    said = refusal(as_zip(files, tmp_path / "a.zip"), tmp_path)
    assert "test/dog/big.png in a.zip is 48×48 pixels and the first image 32×32" in said


def test_images_of_one_other_size_are_resized_and_it_is_said(tmp_path):
    files = {path: encode(pixels(seed, side=48)) for seed, path in enumerate(small_set())}
    dataset = read(as_zip(files, tmp_path / "a.zip"), tmp_path)
    assert dataset.source == "Images in a.zip, resized from 48×48 to 32×32."
    expected = Image.fromarray(pixels(0, side=48)).resize((32, 32), Image.Resampling.BILINEAR)
    assert np.array_equal(dataset.train_images[0].permute(1, 2, 0), np.asarray(expected))


@pytest.mark.parametrize("make", [as_folder, as_zip, as_tar])
def test_a_data_set_may_declare_that_mirroring_changes_labels(tmp_path, make):
    assert read(make(small_set(), tmp_path / "plain.any"), tmp_path).mirror_safe
    declared = {"dataset.toml": b"mirror_safe = false"} | small_set()
    assert not read(make(declared, tmp_path / "declared.any"), tmp_path).mirror_safe


@pytest.mark.parametrize("content", [b"mirror_safe = ", b"mirror_safe = 1", b"flip = false", b"\xff"])
def test_a_mistaken_declaration_is_named(tmp_path, content):
    said = refusal(as_folder({"dataset.toml": content} | small_set(), tmp_path / "images"), tmp_path)
    assert "dataset.toml in images" in said


@pytest.mark.parametrize("content", [b"", b"hello", encode(pixels(0))[:1500], encode(pixels(0), "JPEG")[:400]])
def test_an_unreadable_image_is_named(tmp_path, content):
    files = small_set() | {"test/dog/bad.png": content}
    said = refusal(as_folder(files, tmp_path / "images"), tmp_path)
    assert "test/dog/bad.png in images cannot be read as an image" in said


def test_deep_pixels_are_refused(tmp_path):
    file = io.BytesIO()
    Image.fromarray(np.zeros((32, 32), np.uint16)).save(file, "PNG")
    files = small_set() | {"test/dog/deep.png": file.getvalue()}
    assert "test/dog/deep.png in a.zip has pixels of more than 8 bits" in refusal(
        as_zip(files, tmp_path / "a.zip"), tmp_path
    )


@pytest.mark.parametrize("path", ["train/notes.txt", "train/cat/more/0.png", "train/../0.png", "train/../../cat/0.png"])
def test_a_file_out_of_place_is_named_and_written_nowhere(tmp_path, path):
    files = small_set() | {path: encode(pixels(0))}
    before = set(tmp_path.rglob("*"))
    assert "does not stand where an image should" in refusal(as_tar(files, tmp_path / "a.tar", "w"), tmp_path)
    assert set(tmp_path.rglob("*")) - before <= {tmp_path / "a.tar", tmp_path / "cache"}


def test_a_link_in_an_archive_is_named(tmp_path):
    path = as_tar(small_set(), tmp_path / "a.tar", "w")
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("train/cat/9.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    assert "train/cat/9.png in a.tar is a link or a device" in refusal(path, tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(DataError, match=r"cache cannot be written"):
        read(as_zip(small_set(), tmp_path / "a.zip"), tmp_path)


# The cache


@pytest.fixture
def no_decoding(monkeypatch):
    """From the call on, decoding an image is an error."""

    def fail(*args):
        raise AssertionError("decoded again")

    return lambda: monkeypatch.setattr(decoding.Decoder, "decode", fail)


@pytest.mark.parametrize("make", [as_zip, as_folder])
def test_a_second_load_decodes_nothing(tmp_path, no_decoding, make):
    source = make(small_set(), tmp_path / "images")
    first = read(source, tmp_path)
    no_decoding()
    assert_same_content(read(source, tmp_path), first)
    assert_same_content(open_cached(first.folder), first)


def test_a_changed_source_is_read_again(tmp_path):
    folder = as_folder(small_set(), tmp_path / "images")
    first = read(folder, tmp_path)
    image = folder / "train/cat/0.png"
    image.write_bytes(encode(pixels(99)))
    assert read(folder, tmp_path).digest != first.digest


@pytest.fixture
def no_network(monkeypatch):
    """The address of the official files refuses connections; the stand-in is small, since nobody looks at it."""
    from torchvision.datasets import CIFAR10, CIFAR100

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for reader in (CIFAR10, CIFAR100):
        monkeypatch.setattr(reader, "url", NOWHERE)
    monkeypatch.setattr(synthetic, "SIZES", {"train": 200, "test": 100})


def test_other_data_than_cifar_10_are_never_taken_unasked(tmp_path, no_network, monkeypatch):
    digits = as_folder({"dataset.toml": b"mirror_safe = false"} | small_set(), tmp_path / "my_digits")
    assert read(digits, tmp_path).name == "my-digits"
    put_official("cifar100", tmp_path / "official", monkeypatch)
    assert read(tmp_path / "official", tmp_path).name == "cifar100"
    assert read(None, tmp_path).stand_in
    put_official("cifar10", tmp_path / "official", monkeypatch)
    cifar = read(tmp_path / "official", tmp_path)
    read(digits, tmp_path)
    assert read(None, tmp_path).folder == cifar.folder
    assert read("", tmp_path).folder == cifar.folder


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "synthetic"])
def test_images_in_a_folder_of_a_known_name_are_not_taken_for_what_it_names(tmp_path, no_network, name, monkeypatch):
    assert read(as_folder(small_set(), tmp_path / name), tmp_path).name == f"{name}-images"
    if name != "synthetic":
        with pytest.raises(DataError, match="could not be downloaded"):
            read(name, tmp_path)


def test_nothing_half_written_is_taken_for_data(tmp_path, no_network, monkeypatch):
    source = put_official("cifar10", tmp_path / "official", monkeypatch)
    whole = read(source, tmp_path)
    left = tmp_path / "cache" / f"{data.PARTIAL}left"
    shutil.move(whole.folder, left)
    assert read(None, tmp_path).stand_in
    os.utime(left, (0, 0))
    assert_same_content(read(source, tmp_path), whole)
    assert not left.exists()


@pytest.mark.parametrize("file", ["meta.json", "train_images.npy", "test_labels.npy"])
@pytest.mark.parametrize("damage", ["remove", "cut", "empty", "header"])
def test_a_damaged_entry_is_made_anew(tmp_path, file, damage):
    source = as_zip(small_set(), tmp_path / "a.zip")
    first = read(source, tmp_path)
    digest, victim = first.digest, first.folder / file
    content = victim.read_bytes()
    victim.unlink()
    if damage != "remove":
        ruined = {"cut": content[: -len(content) // 3], "empty": b"", "header": content.replace(b"}", b"(", 1)}
        victim.write_bytes(ruined[damage])
    with pytest.raises(DataError, match="is not a usable cache entry"):
        open_cached(first.folder)
    assert read(source, tmp_path).digest == digest


def test_writers_at_the_same_time_all_end_well(tmp_path):
    images = image_archive.read_archive(as_zip(small_set(), tmp_path / "a.zip"))
    entry = tmp_path / "cache/entry"
    with ThreadPoolExecutor(4) as pool:
        datasets = list(pool.map(lambda _: data.store(images, entry, name="a", source="s"), range(8)))
    for dataset in datasets:
        assert_same_content(dataset, datasets[0])
    assert [path.name for path in entry.parent.iterdir()] == ["entry"]


def test_changing_a_tensor_does_not_reach_the_disk(tmp_path):
    dataset = read(as_zip(small_set(), tmp_path / "a.zip"), tmp_path)
    dataset.train_images.zero_()
    assert open_cached(dataset.folder).train_images.any()


# The official files and the stand-in


@pytest.fixture
def official(tmp_path):
    """A folder like the official one, with other images."""
    root = tmp_path / "root" / official_files.FOLDERS["cifar10"]
    root.mkdir(parents=True)
    flat = np.stack([pixels(i).transpose(2, 0, 1).reshape(-1) for i in range(6)])
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for i, name in enumerate(names):
        (root / name).write_bytes(pickle.dumps({"data": flat[i : i + 1], "labels": [i % 2]}))
    (root / "batches.meta").write_bytes(pickle.dumps({"label_names": ["cat", "dog"]}))
    return root


def test_official_files_with_another_md5_are_refused(tmp_path, official):
    said = refusal(official, tmp_path)
    assert "cifar-10-batches-py/data_batch_1 is missing or not the official file (its MD5 sum differs)" in said
    archive = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(official, official_files.FOLDERS["cifar10"])
    assert "data_batch_1 is missing or not the official file" in refusal(archive, tmp_path)


def test_a_damaged_official_archive_is_refused(tmp_path, official):
    archive = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(official, official_files.FOLDERS["cifar10"])
    archive.write_bytes(archive.read_bytes()[:-3000])
    assert "cifar-10-python.tar.gz cannot be unpacked" in refusal(archive, tmp_path)


def test_official_files_are_read_in_their_order(tmp_path, official, monkeypatch):
    from torchvision.datasets import cifar, utils

    for module in (cifar, utils):
        monkeypatch.setattr(module, "check_integrity", lambda *args: True)
    archive = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(official, official_files.FOLDERS["cifar10"])
    for source in (official, official.parent, archive):
        dataset = read(source, tmp_path)
        assert dataset.name == "cifar10"
        assert dataset.classes == ("cat", "dog")
        assert dataset.train_labels.tolist() == [0, 1, 0, 1, 0]
        assert dataset.test_labels.tolist() == [1]
        everything = torch.cat([dataset.train_images, dataset.test_images]).permute(0, 2, 3, 1)
        assert np.array_equal(everything.numpy(), np.stack([pixels(i) for i in range(6)]))
    monkeypatch.setattr(official_files, "read", None)
    assert read(archive, tmp_path).folder == dataset.folder


def test_cifar_100_is_read_with_its_fine_labels(tmp_path, no_network, monkeypatch):
    from torchvision.datasets import cifar, utils

    root = tmp_path / "root" / official_files.FOLDERS["cifar100"]
    root.mkdir(parents=True)
    flat = np.stack([pixels(i).transpose(2, 0, 1).reshape(-1) for i in range(3)])
    for name, rows, labels in (("train", flat[:2], [2, 1]), ("test", flat[2:], [0])):
        content = {"data": rows, "fine_labels": labels, "coarse_labels": [0] * len(labels)}
        (root / name).write_bytes(pickle.dumps(content))
    (root / "meta").write_bytes(pickle.dumps({"fine_label_names": ["apple", "bear", "cloud"]}))
    for module in (cifar, utils):
        monkeypatch.setattr(module, "check_integrity", lambda *args: True)
    dataset = read(root, tmp_path)
    assert (dataset.name, dataset.classes) == ("cifar100", ("apple", "bear", "cloud"))
    assert dataset.source == "The official CIFAR-100 files in cifar-100-python."
    assert dataset.train_labels.tolist() == [2, 1]
    assert read("cifar100", tmp_path).folder == dataset.folder, "by name, from the cache"
    with pytest.raises(DataError, match=r"could not be downloaded .* ablate data cifar10 --from PATH"):
        read("cifar10", tmp_path)


def heard(source, tmp_path):
    """A data set, and what was said while it was loaded."""
    said = []
    return load(source, tmp_path / "cache", say=said.append), said


def test_without_data_and_network_it_is_a_rehearsal_and_the_next_call_tries_again(tmp_path, no_network, monkeypatch):
    first, said = heard(None, tmp_path)
    assert said[1] == "CIFAR-10 could not be downloaded from 127.0.0.1:1 (Connection refused)."
    line, *more = said[-1].splitlines()
    assert line == (
        f"Data: rehearsal on drawn images, 200 training and 100 test images, digest {first.digest}. "
        "For CIFAR-10: ablate data cifar10 --from PATH (without --from, it is downloaded)"
    )
    assert more == ["  What is found on them is not about photographs. For other images: --data PATH."]
    assert (first.name, first.stand_in, len(first.train_images)) == ("synthetic", True, 200)

    monkeypatch.setattr(synthetic, "draw", None)
    again, said = heard(None, tmp_path)
    assert_same_content(again, first)
    assert [words.partition(" ")[0] for words in said] == ["Downloading", "CIFAR-10", "Data:"]

    content = put_official("cifar10", tmp_path / "official", monkeypatch).read_bytes()
    with serving(content) as host:
        monkeypatch.setattr("torchvision.datasets.CIFAR10.url", host.address)
        downloaded, said = heard(None, tmp_path)
    assert (downloaded.name, downloaded.source) == ("cifar10", "The official CIFAR-10 files, downloaded.")
    assert said[-1] == f"Data: CIFAR-10, 10 training and 2 test images, digest {downloaded.digest}"
    assert not list((tmp_path / "cache").glob("*.part"))
    assert_same_content(downloaded, read(tmp_path / "official", tmp_path))
    assert heard(None, tmp_path)[1] == said[-1:], "what is here is not asked for again"


def test_drawn_images_can_be_asked_for_by_name(tmp_path, no_network):
    dataset, said = heard("synthetic", tmp_path)
    assert dataset.stand_in
    assert said[1:] == [
        f"Data: rehearsal on drawn images, 200 training and 100 test images, digest {dataset.digest}"
    ], "no download, and no advice to somebody who asked for it"
    assert data.closing(dataset, "synthetic") == "A rehearsal on drawn images: what is found is not about photographs."
    assert data.closing(dataset, None).endswith(
        "For CIFAR-10: ablate data cifar10 --from PATH (without --from, it is downloaded)"
    )


def test_other_images_are_named_as_they_are(tmp_path):
    dataset, said = heard(as_zip(small_set(), tmp_path / "Cats & dogs.zip"), tmp_path)
    assert said[-1] == f"Data: cats-dogs, 6 training and 3 test images, digest {dataset.digest}"
    assert data.closing(dataset) is None


def test_two_downloads_at_once_are_one(tmp_path, no_network, monkeypatch):
    content = put_official("cifar10", tmp_path / "official", monkeypatch).read_bytes()
    with serving(content) as host:
        monkeypatch.setattr("torchvision.datasets.CIFAR10.url", host.address)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: read(None, tmp_path), range(4)))
    assert len({dataset.folder for dataset in found}) == 1
    assert host.asked == [None]


def test_the_matlab_version_is_named(tmp_path):
    folder = tmp_path / "cifar-10-batches-mat"
    folder.mkdir()
    (folder / "data_batch_1.mat").write_bytes(bytes(3073))
    said = "is the Matlab version of CIFAR-10; give the Python version, cifar-10-python.tar.gz"
    assert said in refusal(folder, tmp_path)
    with tarfile.open(tmp_path / "cifar-10-matlab.tar.gz", "w:gz") as tar:
        tar.add(folder, folder.name)
    assert said in refusal(tmp_path / "cifar-10-matlab.tar.gz", tmp_path)


@pytest.mark.parametrize(
    ("called", "path", "typed"),
    [
        (".venv/bin/ablate", "", ".venv/bin/ablate"),
        ("bin/ablate", "bin", "ablate"),
        ("elsewhere/pytest", "", "ablate"),
    ],
)
def test_the_advice_calls_the_program_as_the_person_did(tmp_path, no_network, monkeypatch, called, path, typed):
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "bin/ablate"
    program.parent.mkdir()
    program.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / path) if path else "")
    monkeypatch.setattr("sys.argv", [called, "run"])
    assert f"For CIFAR-10: {typed} data cifar10 --from PATH" in data.closing(read("synthetic", tmp_path))


def test_an_entry_of_an_earlier_version_is_opened(tmp_path):
    dataset = read(as_zip(small_set(), tmp_path / "a.zip"), tmp_path)
    meta = json.loads((dataset.folder / "meta.json").read_text())
    assert meta.pop("notes") == []
    (dataset.folder / "meta.json").write_text(json.dumps(meta))
    assert_same_content(open_cached(dataset.folder), dataset)
    assert open_cached(dataset.folder).notes == ()


@pytest.mark.parametrize("module", [data, image_archive, official_files, synthetic])
def test_torchvision_is_imported_only_where_it_is_needed(module):
    with open(module.__file__) as file:
        imports = [line for line in file if line.startswith(("import ", "from "))]
    assert not [line for line in imports if "torchvision" in line]
