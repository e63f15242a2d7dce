"""From a search that has ended to its recipe on disk: which seeds have chosen it is not forgotten on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cifar_ablations.ablations import adopted
from cifar_ablations.ablations.record import AdoptionRecord, ProvenanceRecord, RecipeRecord, SearchOutcomeRecord
from cifar_ablations.study.commands import arguments, tune
from cifar_ablations.study.commands.arguments import SearchRequest, search_invocation
from cifar_ablations.study.commands.tune import adopt
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.search.invocation import SearchInvocation
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.search_log import SearchLog
from cifar_ablations.study.store.tracking import open_store
from tests.fresh_store import put_fresh_store

SMALL = (
    "budget.train_images=80",
    "budget.validation_images=40",
    "budget.test_images=60",
    "budget.precision=fp32",
)
MINE = adopted.Adopted(
    "mine", RecipeRecord({"dropout": {"p": 0.25}}, {}, AdoptionRecord(search="joint", seeds=(100_001, 100_000)))
)


@pytest.fixture
def home(tmp_path: Path, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch) -> Home:
    for module in (arguments, tune):
        monkeypatch.setattr(module, "load", lambda *args, **more: tiny_data)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Home(put_fresh_store(tmp_path / "home"))


def _written(folder: Path) -> Path:
    """The recipe's file in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mine.toml"
    path.write_bytes(MINE.as_toml().encode())
    return path


def _invocation(home: Home, baseline: str | None) -> SearchInvocation:
    request = SearchRequest(
        "regularization", profile="smoke", device="cpu", workers=1, baseline=baseline, settings=SMALL
    )
    return search_invocation(home, request, print)


def _adopted(home: Home, invocation: SearchInvocation, *, says_seeds: bool = True) -> adopted.Adopted:
    """What is adopted of the search, had it kept its baseline."""
    log, asked = SearchLog(open_store(home)), invocation.record()
    asked = asked if says_seeds else replace(asked, baseline_seeds=None)
    parent = log.open(log.experiment(asked.name, invocation.data), asked, ProvenanceRecord(commit="c0ffee"))
    log.close(parent, SearchOutcomeRecord(asked.digest, (), None), failures=False)
    adopt(home, "regularization", "again", None, print)
    return adopted.read(home.recipes / "again.toml")


def test_a_baseline_outside_the_output_folder_keeps_its_seeds(home: Home, tmp_path: Path) -> None:
    invocation = _invocation(home, str(_written(tmp_path / "elsewhere")))
    found = _adopted(home, invocation)
    assert found.seeds == (100_001, 100_000)
    assert found.record.techniques == MINE.record.techniques
    assert found.record.provenance.commit == "c0ffee"
    assert f"--baseline {tmp_path / 'elsewhere' / 'mine.toml'} --set" in found.record.provenance.command


def test_the_notebooks_recipe_was_chosen_by_no_seeds(home: Home) -> None:
    assert _adopted(home, _invocation(home, None)).seeds == (100_000,)


def test_a_record_that_does_not_say_has_the_seeds_of_the_recipe_of_that_name(home: Home) -> None:
    _written(home.recipes)
    invocation = _invocation(home, "mine")
    (home.recipes / "mine.toml").write_bytes(MINE.as_toml().replace("100001", "100009").encode())
    assert _adopted(home, invocation, says_seeds=False).seeds == (100_009, 100_000)


def test_seeds_of_the_baseline_are_not_part_of_the_digest(home: Home) -> None:
    invocation = _invocation(home, None)
    assert replace(invocation, baseline_seeds=(5,)).record().digest == invocation.record().digest


def test_the_command_asks_for_the_same(home: Home) -> None:
    settings = ("dropout=off", "mixup=on")
    request = SearchRequest("joint", None, "random", "wilcoxon", 3, 4, True, baseline="mine", settings=settings)
    assert request.command("quick", 12) == (
        "ablate tune joint --profile quick --trials 12 --sampler random --pruner wilcoxon --seed 3 --seeds-per-trial 4 "
        "--pareto --baseline mine --set dropout=off --set mixup=on"
    )
