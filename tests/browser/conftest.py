"""A real browser without a network, and a small store with pages made by the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]

TINY = [
    f"--set={setting}"
    for setting in (
        "model.width=0.0625",
        "budget.epochs=2",
        "budget.train_images=80",
        "budget.validation_images=40",
        "budget.test_images=60",
    )
]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """An output folder in which plans and a search have run."""
    home = tmp_path_factory.mktemp("browser") / "out"
    for words in (
        ["run", "techniques", "--seeds", "3"],
        ["run", "half-factorial", "--seeds", "2"],
        ["tune", "regularization", "--trials", "3", "--sampler", "random"],
        ["foundations"],
        ["report"],
        ["report", "--compare", "techniques", "half-factorial"],
        ["report"],
    ):
        extra = [*TINY, f"--data={tiny_folder}"] if words[0] in ("run", "tune") else []
        ablate(home, *words, *extra)
    return home


def ablate(home: Path, *words: str) -> None:
    """A command, as a person types it."""
    environment = {k: v for k, v in os.environ.items() if k not in ("ABLATE_DATA", "MLFLOW_TRACKING_URI")}
    command = [str(Path(sys.executable).with_name("ablate")), *words]
    subprocess.run(command, check=True, env=environment | {"ABLATE_HOME": str(home)}, timeout=600)


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """Chromium, headless."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()
