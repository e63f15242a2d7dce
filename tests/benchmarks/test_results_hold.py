"""What `results/` says is what trainings come to: a few of them, trained again."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import cifar_ablations as ca
from benchmarks.reference import ABOUT, RESULTS, as_csv
from cifar_ablations.ablations import adopted, catalog, schema
from cifar_ablations.ablations.profiles import profile
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.data.dataset import Dataset, load

SEED = 0
SAMPLE = (
    ("techniques-quick", "bare recipe"),
    ("techniques-quick", "without dropout"),
    ("modern-quick", "with Muon"),
    ("tuned-quick", "tuned recipe"),
)
"""Folders of results, and an arm of each."""
SAME = [name for name in schema.ENDINGS if name != schema.SECONDS]
FURTHEST = 3
"""Standard deviations between two seeds of an arm: further apart no rounding may take a run."""


@pytest.fixture
def images(tmp_path: Path) -> Dataset:
    source = os.environ.get("ABLATE_DATA", "")
    if not Path(source).exists() or not source:
        pytest.skip("real images are trained on: ABLATE_DATA names none")
    found, about = load(source, tmp_path / "data"), _about(SAMPLE[0][0])
    if found.digest != about["data"]["digest"]:
        pytest.skip(f"other images than those of results/, {about['data']['name']}")
    return found


def _about(folder: str) -> dict[str, Any]:
    return tomllib.loads((RESULTS / folder / ABOUT).read_text(encoding="utf-8"))


def _recipe(folder: str, arm: str) -> Recipe:
    about = _about(folder)
    size, baseline = profile(about["profile"]), catalog.notebook_recipe()
    if about["plan"] == "tuned":
        baseline = adopted.read(RESULTS / "gain-full" / "recipe.toml").applied(baseline)
    plan = catalog.make_plan(about["plan"], size.apply(baseline), size, (SEED,))
    return next(one.recipe for one in plan.arms if one.name == arm)


@pytest.mark.slow
def test_a_sample_trained_again_is_what_is_written(
    images: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    arms = {f"{folder}: {arm}": _recipe(folder, arm) for folder, arm in SAMPLE}
    result = ca.compare(
        arms, seeds=[SEED], profile=None, data=os.environ["ABLATE_DATA"], folder=tmp_path / "out", quiet=True
    )
    again = result._findings.runs.set_index("arm")
    for folder, arm in SAMPLE:
        about = _about(folder)
        assert about["data"]["digest"] == images.digest
        runs = pd.read_csv(RESULTS / folder / "runs.csv", dtype=str)
        of_arm = runs[runs["arm"] == arm]
        mine = again.loc[[f"{folder}: {arm}"]]
        alike = (
            about["machine"]["instructions"] == mine["instructions"].to_list()
            and about["machine"]["backend"] == mine["backend"].to_list()
            and about["versions"]["torch"] == torch.__version__.partition("+")[0]
        )
        (written,) = of_arm[of_arm["seed"] == str(SEED)].to_dict("records")
        if alike:
            assert as_csv(mine[SAME]).decode() == as_csv(pd.DataFrame([written])[SAME]).decode(), (folder, arm)
        else:
            accuracies = of_arm[schema.TEST_ACCURACY].astype(float)
            apart = abs(float(written[schema.TEST_ACCURACY]) - float(mine[schema.TEST_ACCURACY].iloc[0]))
            assert apart < FURTHEST * np.sqrt(2) * accuracies.std(), (folder, arm)
