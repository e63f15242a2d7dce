"""A small learnable data set, and recipes of a size that trains in a second."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

# Before torch is imported, and for the processes that tests start: on few cores, threads only get in each other's way.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported, which several libraries do

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.budget import Budget, Network
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.data.dataset import Dataset, store
from cifar_ablations.study.data.images import Images
from cifar_ablations.study.execution import workers
from cifar_ablations.study.execution.starting import start_method

# What an example takes is the machine's affair: a limit would fail tests where others work beside them.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

os.environ.pop("MAKELEVEL", None)  # `make test` sets it, and by it commands know what to advise

TINY = Budget(epochs=2, batch_size=32, train_images=80, validation_images=40, test_images=60)


@pytest.fixture(scope="session", autouse=True)
def a_cache_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where tests keep what they compile and time, once for all processes of a session."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if os.environ.get("PYTEST_XDIST_WORKER") else folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """As in a worker process; sums over several threads may differ in their last bit."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def workers_that_start_at_once() -> Iterator[None]:
    """Worker processes forked from one that has imported torch already, also where they would be spawned otherwise."""
    if start_method("cpu") != "spawn":
        yield
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "cifar_ablations.study.data.dataset",
            "cifar_ablations.study.training.engine",
            "cifar_ablations.study.execution.workers",
        ]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workers, "multiprocessing", SimpleNamespace(get_context=lambda method: context))
        yield


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Ten classes, each with a tint of its own under noise: 200 images to train on, 80 to test on."""
    rng = np.random.default_rng(0)
    tints = rng.integers(60, 196, size=(10, 3))

    def split(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count) % 10
        noise = rng.normal(0, 40, size=(count, 32, 32, 3))
        return np.clip(tints[labels][:, None, None, :] + noise, 0, 255).astype(np.uint8), labels.astype(np.int64)

    images = Images(tuple(f"class{i}" for i in range(10)), *split(200), *split(80))
    return store(images, tmp_path_factory.mktemp("data") / "tiny", name="tiny", source="Drawn for the tests.")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, tiny_data: Dataset) -> Path:
    """The images of the tiny data set, as a person may have them."""
    folder = tmp_path_factory.mktemp("images") / "tiny"
    for split, images, labels in (
        ("train", tiny_data.train_images, tiny_data.train_labels),
        ("test", tiny_data.test_images, tiny_data.test_labels),
    ):
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = folder / split / tiny_data.classes[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(place / f"{i:03}.png")
    return folder


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """The notebook's techniques on a very narrow network and a tiny budget."""
    return Recipe(Network(width=0.0625), TINY, catalog.notebook_recipe().techniques)
