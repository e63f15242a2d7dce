"""Shards are disjoint, together all, and keep a seed whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.torture.ground import differences, results
from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.profiles import Profile
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.ablations.record import ProvenanceRecord
from cifar_ablations.reports.inference import verdict
from cifar_ablations.reports.reading import load
from cifar_ablations.study.commands.merge import merge
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.execution.runner import Invocation, run
from cifar_ablations.study.execution.shard import Shard, shard_of
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.tracking import open_store
from tests.fresh_store import put_fresh_store


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=60, unique=True), st.data())
def test_every_seed_is_in_one_shard(seeds: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(seeds)))
    shares = [Shard(number, count).of(seeds) for number in range(1, count + 1)]
    assert sorted(seed for share in shares for seed in share) == sorted(seeds)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_it_is_read_as_it_is_shown() -> None:
    assert shard_of(" 2/4 ") == Shard(2, 4)
    assert str(shard_of("2/4")) == "2/4"


@pytest.mark.parametrize("text", ["", "2", "0/4", "5/4", "1/0", "-1/2", "1/2/3", "a/b", "1.5/2", "٣/4", "1/9999999"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(AblateError, match="a shard must be I/N, the I-th of N shares, such as 2/4, not "):
        shard_of(text)


def test_more_shards_than_seeds_are_refused() -> None:
    with pytest.raises(AblateError, match="the plan has 2 seeds, and a shard needs one; ask for at most 2/2, or"):
        Shard(3, 3).of((0, 1))


@pytest.mark.slow
def test_shards_that_are_merged_are_the_whole_run(tmp_path: Path, recipe: Recipe, tiny_data: Dataset) -> None:
    """In every bit of every metric, and so on the page: two jobs of an array, and one that trains all of it."""
    profile = Profile("tiny", "for tests", recipe.model, recipe.budget, 3, 0.01)
    plan = catalog.make_plan("levels/dropout", recipe, profile, (0, 1, 2))
    cpu = torch.device("cpu")
    whole = Invocation(plan, profile=profile, data=tiny_data, device=cpu, workers=2, command="ablate run")
    shards = [replace(whole, shard=Shard(number, 2)) for number in (1, 2)]
    homes = [Home(put_fresh_store(tmp_path / name)) for name in ("whole", "one", "two", "all")]
    for home, invocation in zip(homes, (whole, *shards), strict=False):
        run(invocation, open_store(home), ProvenanceRecord(commit="unknown", device="cpu"), lambda progress: None)
    assert [len(shard.members()) for shard in shards] == [2 * len(plan.arms), len(plan.arms)]

    said: list[str] = []
    merged = merge(homes[3], [str(home.folder) for home in homes[1:3]], said.append)
    assert merged.trainings == len(whole.members())
    assert differences(results(homes[3].folder), results(homes[0].folder), "training") == []
    judged = [
        verdict.judge(whole.record(), load.runs_of(load.connect(home.tracking_uri), whole.record()))
        for home in (homes[0], homes[3])
    ]
    pd.testing.assert_frame_equal(*judged, check_exact=True)
    again = run(whole, open_store(homes[3]), ProvenanceRecord(commit="unknown", device="cpu"), lambda progress: None)
    assert again.total == 0, "nothing is left to train"
