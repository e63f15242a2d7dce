"""Sets of images as people have them, from a folder to a page: other sizes, numbers of classes, and splits."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.reports.reading import load as stored
from cifar_ablations.study.commands import app
from cifar_ablations.study.data.dataset import load
from cifar_ablations.study.training.engine import Epoch, Outcome, train
from cifar_ablations.study.training.fleet import Member
from tests.fresh_store import put_fresh_store

Counts = int | Callable[[int], int]
"""Images of a class: the same of each, or by its number."""


def _put(folder: Path, classes: int, side: int = 32, mode: str = "RGB", **splits: Counts) -> Path:
    """A folder of images, each class with a tint of its own under noise."""
    rng = np.random.default_rng(0)
    tints = rng.integers(40, 216, (classes, 3))
    for split, count in splits.items():
        for k in range(classes):
            place = folder / split / f"class {k:04}"
            place.mkdir(parents=True)
            for i in range(count(k) if callable(count) else count):
                noisy = tints[k] + rng.normal(0, 30, (side, side, 3))
                image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
                image.convert(mode).save(place / f"{i}.png", compress_level=0)
    return folder


def _uneven(k: int) -> int:
    return 140 if k == 1 else 70


LIKE = {
    "digits": {"classes": 10, "side": 28, "mode": "L", "train": 80, "test": 20},
    "house numbers": {"classes": 10, "train": _uneven, "test": 20},
    "two classes": {"classes": 2, "train": 400, "test": 10},
    "a hundred classes": {"classes": 100, "train": 8, "test": 2},
    "a thousand classes": {"classes": 1_000, "train": 1, "test": 1},
}
"""Sets that the profile smoke can be trained on."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ABLATE_DATA", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    return put_fresh_store(tmp_path / "out")


def _ablate(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app.app, list(words), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize(("classes", "train_images", "mode"), [(2, 40, "RGB"), (10, 8, "L"), (100, 1, "RGB")])
def test_networks_train_on_sets_of_any_number_of_classes(
    classes: int, train_images: int, mode: str, recipe: Recipe, tmp_path: Path
) -> None:
    folder = _put(tmp_path / "set", classes, 28, mode, train=train_images, test=1, val=1)
    data = load(folder, tmp_path / "cache", say=lambda line: None)
    events: list[Epoch | Outcome] = []
    train([Member(recipe, 0)], data, torch.device("cpu"), events.append)
    *epochs, outcome = events
    assert isinstance(outcome, Outcome)
    assert outcome.outcome == schema.FINISHED
    assert outcome.details["confusion"].shape == (classes, classes)
    seen = min(classes, recipe.budget.validation_images)
    for epoch in epochs:
        assert (epoch.metrics[schema.VALIDATION_ACCURACY] * seen) % 1 == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("classes", "images", "said"),
    [
        (1, 20, "holds one class only, class 0000; at least two are needed"),
        (10, 2, r"budget.train_images \(512\) and budget.validation_images \(256\) together exceed the 20 training"),
    ],
)
def test_sets_that_are_too_small_are_refused_in_a_sentence(
    classes: int, images: int, said: str, home: Path, tmp_path: Path
) -> None:
    folder = _put(tmp_path / "small", classes, train=images, test=2)
    output = _ablate("plan", "techniques", "--profile", "smoke", "--data", str(folder), code=2)
    assert re.search(said, " ".join(output.split()))


@pytest.mark.exhaustive
def test_a_folder_with_validation_images_from_its_first_line_to_the_page(home: Path, tmp_path: Path) -> None:
    folder = _put(tmp_path / "mine", 3, train=20, test=5, valid=4)
    tiny = ("model.width=0.0625", "budget.epochs=2", "budget.train_images=60", "budget.validation_images=9")
    words = ["run", "notebook", "--profile", "smoke", "--seeds", "1", "--data", str(folder), "--workers", "1"]
    for setting in (*tiny, "budget.test_images=15"):
        words += ["--set", setting]
    refused = _ablate(*words, code=2)
    assert "budget.train_images (69) exceeds the 60 training images" in " ".join(refused.split())
    words[words.index("notebook")] = "a-a"
    output = _ablate(*words)
    assert "Data: mine, 60 training, 12 validation and 15 test images, digest " in output
    assert "The validation images are the 12 of valid, and none is held out of train" in output
    (page,) = (home / "reports").glob("a-a-mine-*.html")
    assert "The validation images are the 12 of valid, and none is held out of train" in page.read_text()
    client = stored.connect(f"sqlite:///{home / 'mlflow.db'}")
    (invocation,) = stored.invocations(f"sqlite:///{home / 'mlflow.db'}")
    runs = stored.runs_of(client, invocation.plan)
    assert all((9 * value) % 1 == pytest.approx(0, abs=1e-9) for value in runs[schema.VALIDATION_ACCURACY])


@pytest.mark.exhaustive
@pytest.mark.parametrize("like", LIKE)
def test_the_profile_smoke_ends_with_a_page_on_sets_like_these(like: str, home: Path, tmp_path: Path) -> None:
    folder = _put(tmp_path / like, **LIKE[like])
    words = ["run", "notebook", "--profile", "smoke", "--seeds", "1", "--data", str(folder)]
    if like == "digits":
        (folder / "dataset.toml").write_text("mirror_safe = false")
        assert "set augmentation.flip=0, or augmentation=off" in " ".join(_ablate(*words, code=2).split())
        words += ["--set", "augmentation.flip=0"]
    output = _ablate(*words)
    assert "1 trainings in " in output
    (page,) = (home / "reports").glob("notebook-*.html")
    assert page.stat().st_size < 2**20


@pytest.mark.exhaustive
def test_a_search_chooses_by_the_validation_images_of_the_set(home: Path, tmp_path: Path) -> None:
    folder = _put(tmp_path / "mine", 10, train=60, test=5, val=5)
    words = ("tune", "sweep", "--trials", "2", "--profile", "smoke", "--data", str(folder))
    _ablate(*words)
    for run in stored.search(stored.connect(f"sqlite:///{home / 'mlflow.db'}"), "tags.kind = 'trial'"):
        if run.data.metrics.get(schema.OBJECTIVE) is not None:
            assert (50 * run.data.metrics[schema.OBJECTIVE]) % 1 == pytest.approx(0, abs=1e-6)
