"""What trainings take of a disk is estimated from above, and a disk that is too full is said before the first."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.execution import disk
from cifar_ablations.study.execution.disk import check_room, estimated_bytes, free_bytes
from cifar_ablations.study.execution.invocation import Surroundings
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.training.fleet import Member


def _surroundings(data: Dataset, workers: int = 2) -> Surroundings:
    return Surroundings(profile=None, data=data, device=torch.device("cpu"), workers=workers)  # type: ignore[arg-type]


def test_rows_grow_with_epochs_and_checkpoints_with_the_network(recipe: Recipe, tiny_data: Dataset) -> None:
    here = _surroundings(tiny_data)

    def bytes_of(*members: Member) -> int:
        return estimated_bytes(here, members)

    one, longer = Member(recipe, 0), Member(recipe.set("budget.epochs=1000"), 0)
    epochs = 1000 - recipe.budget.epochs
    assert bytes_of(longer) - bytes_of(one) == epochs * disk.BYTES_OF_A_VALUE * disk.VALUES_OF_AN_EPOCH
    wide = Member(recipe.set("model.width=1"), 0)
    parameters = 1_490_826
    assert estimated_bytes(here, [wide, wide], weights=True) - bytes_of(wide, wide) == 2 * 4 * parameters
    assert bytes_of(wide) > 4 * parameters * disk.MATRICES * disk.OLD_AND_NEW
    assert bytes_of(wide, one) - bytes_of(wide) > 4 * parameters * disk.MATRICES, "they are in flight together"


def test_at_most_as_many_checkpoints_as_are_in_flight(recipe: Recipe, tiny_data: Dataset) -> None:
    members = [Member(recipe, seed) for seed in range(100)]
    growth = [estimated_bytes(_surroundings(tiny_data), members[:n]) for n in (20, 40, 60)]
    assert growth[1] - growth[0] == growth[2] - growth[1], "rows alone, beyond two fleets"


def test_a_disk_that_is_too_full_is_said(tiny_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "not" / "there" / "yet")
    assert free_bytes(home) > 0
    check_room(home, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=150_000_000))
    check_room(home, 40_000_000)
    check_room(home, estimated_bytes(_surroundings(tiny_data), []))
    with pytest.raises(AblateError, match=r"need about 60.0 MB in .*, and 150 MB are free .* ABLATE_HOME=FOLDER"):
        check_room(home, 60_000_000)
