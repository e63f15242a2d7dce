"""The cost of a technique: against a clock that is known, and a whole call."""

from __future__ import annotations

import itertools
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmarks import step_cost
from cifar_ablations.ablations import catalog, profiles
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.data.dataset import Dataset
from tests.conftest import TINY

CPU = torch.device("cpu")


@pytest.mark.exhaustive
def test_a_row_is_of_the_clock(tiny_data: Dataset, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn of the level takes twice the seconds of one of the bare recipe, the first turn, which warms up, apart."""
    readings = itertools.accumulate([0, 99, 0, 77, *[0, 2, 0, 1] * 4])
    monkeypatch.setattr(step_cost.time, "process_time", lambda: next(readings))
    small = next(step_cost.contenders(recipe, ["batch_size"], CPU, 10, "torch"))
    found = step_cost.row(small, recipe, tiny_data, CPU, 4)
    steps = TINY.epochs * 10  # 80 images in batches of 8; else of 32
    assert (found["technique"], found["level"], found["steps"], found["n"]) == ("batch_size", "÷4", steps, 4)
    assert found["seconds"] == pytest.approx(2 / step_cost.CHUNK * steps)
    assert found["bare_seconds"] == pytest.approx(1 / step_cost.CHUNK * TINY.epochs * 3)
    assert found["ratio"] == found["ratio_low"] == found["ratio_high"] == pytest.approx(2 * 10 / 3)


def test_every_level_of_every_technique_has_its_turn(recipe: Recipe) -> None:
    found = list(step_cost.contenders(recipe, catalog.techniques(), CPU, 10, "torch"))
    levels = {(name, level) for name, cls in catalog.techniques().items() for level in cls.levels if level != "off"}
    assert {(one.technique, one.level) for one in found} == levels
    assert len(found) == len(levels)
    assert {one.backend for one in found} == {"torch"}


@pytest.mark.exhaustive
def test_a_call_writes_its_files(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    smoke = profiles.PROFILES["smoke"]
    tiny = replace(smoke, budget=TINY, model=replace(smoke.model, width=0.0625))
    monkeypatch.setitem(profiles.PROFILES, "smoke", tiny)
    words = ["--profile", "smoke", "--backend", "torch", "--data", str(tiny_folder), "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["step_cost", *words, "--repeats", "2", "--techniques", "dropout"])
    step_cost.main()
    folder = tmp_path / "cost-smoke-cpu"
    rows = pd.read_csv(folder / "cost.csv")
    assert rows["level"].to_list() == ["on", "0.1", "0.3", "0.7"]
    assert (rows["ratio_low"] <= rows["ratio"]).all()
    assert (rows[["seconds", "bare_seconds"]] > 0).all(axis=None)
    about = tomllib.loads((folder / "about.toml").read_text(encoding="utf-8"))
    assert (about["kind"], about["repeats"], about["machine"]["backend"]) == ("cost", 2, ["torch"])

    for wrong, said in ((["--repeats", "1"], "must be at least 2"), (["--techniques", "dropuot"], "did you mean")):
        monkeypatch.setattr(sys, "argv", ["step_cost", *words, *wrong])
        with pytest.raises(SystemExit) as ended:
            step_cost.main()
        assert ended.value.code == 2
        assert said in capsys.readouterr().err
