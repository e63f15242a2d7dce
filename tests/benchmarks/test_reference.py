"""The reference study's files: what the store has, and nothing of drawn or unfinished runs."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import cifar_ablations as ca
from benchmarks import reference
from benchmarks.reference import Study
from cifar_ablations.ablations import profiles, schema
from cifar_ablations.study.data.dataset import Dataset
from tests.conftest import TINY
from tests.fresh_store import put_fresh_store
from tests.reports.conftest import Writer, small_plan

SEEDS = (0, 1, 2)
PLANTED = Study("techniques", "quick")


def _planted(folder: Path, seeds: Sequence[int] = SEEDS, stand_in: bool = False) -> Writer:
    """A store with a plan of two arms, three seeds and one claim, of which these seeds have ended."""
    writer, plan = Writer(folder), small_plan()
    data = replace(plan.data, stand_in=stand_in)
    plan = replace(plan, arms=plan.arms[:2], claims=plan.claims[:1], seeds=SEEDS, references=(), data=data)
    experiment = writer.experiment(plan.name)
    parent = writer.invoke(experiment, plan, started=1_000, commit="2222222", device="cpu", processor="a & b")
    for seed in seeds:
        for k, arm in enumerate(plan.arms):
            accuracy = 0.7 - 0.1 * k + 0.01 * seed
            row = {"arm": arm.name, "seed": seed, "digest": arm.digest, "outcome": schema.FINISHED}
            writer.train(experiment, parent, plan, row | dict.fromkeys(schema.ENDINGS, accuracy), ended=61_000)
    return writer


def _called(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["reference", *words])
    reference.main()


@pytest.mark.slow
def test_files_are_those_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _planted(tmp_path / "out")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    asked = ["techniques:quick", "--stored", str(tmp_path / "out"), "--results", str(tmp_path / "results")]
    _called(monkeypatch, *asked)
    folder = tmp_path / "results" / "techniques-quick"
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert set(files) == {"about.toml", "verdicts.csv", "arms.csv", "runs.csv", "runs.parquet", "page.html"}

    runs = pd.read_csv(folder / "runs.csv")
    assert sorted(runs[schema.TEST_ACCURACY]) == pytest.approx([0.6, 0.61, 0.62, 0.7, 0.71, 0.72])
    metrics = pd.read_parquet(folder / "runs.parquet")
    assert metrics["test_accuracy"].to_list() == runs[schema.TEST_ACCURACY].to_list()
    page = files["page.html"].decode()
    assert "<caption>Runs by arm and seed</caption>" in page
    assert not re.search(r'href="(?!#|data:)', page), "the page stands alone, and leads to no store"
    (row,) = pd.read_csv(folder / "verdicts.csv").to_dict("records")
    assert (row["technique"], row["where"], row["treatment_n"]) == ("dropout", "in the full recipe", 3)
    assert row["difference"] == pytest.approx(0.1)
    assert row["low"] < row["difference"] < row["high"]
    assert (row["direction"], row["outcome"]) == ("helps", "helps")
    arms = pd.read_csv(folder / "arms.csv").set_index("arm")
    assert arms.loc["without dropout", "accuracy"] == pytest.approx(np.mean([0.6, 0.61, 0.62]))
    about = tomllib.loads(files["about.toml"].decode())
    assert (about["plan"], about["profile"], about["seeds"]) == ("techniques", "quick", list(SEEDS))
    assert (about["trainings"], about["minutes"]) == (6, 1.0)
    assert about["machine"]["instructions"] == ["AVX2"]
    assert about["versions"]["commit"] == "2222222"

    _called(monkeypatch, *asked)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == files, "the same store, the same files"


def test_runs_of_several_calls_have_no_duration(tmp_path: Path) -> None:
    results = reference.found(_planted(tmp_path).uri, PLANTED)
    elsewhere = results.runs.assign(parent_run_id=["another", *results.runs["parent_run_id"][1:]])
    assert "minutes" not in reference._about(replace(results, runs=elsewhere))


@pytest.mark.slow
def test_runs_that_are_missing_and_drawn_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ca.AblateError, match="4 of 6 runs"):
        reference.found(_planted(tmp_path / "few", SEEDS[:2]).uri, PLANTED)
    with pytest.raises(ca.AblateError, match="the store has: techniques at quick on drawn images"):
        reference.found(_planted(tmp_path / "drawn", stand_in=True).uri, PLANTED)
    with pytest.raises(ca.AblateError, match="the store has: nothing"):
        reference.found(f"sqlite:///{put_fresh_store(tmp_path / 'none') / 'mlflow.db'}", PLANTED)


def test_what_cannot_be_asked_for_is_said(
    tmp_path: Path, tiny_data: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    monkeypatch.setattr(reference, "load", lambda source, cache: replace(tiny_data, stand_in=True))
    for words, said in (
        (["levels/cutmix:smoke"], "results are of real images"),
        (["cutmix"], "'cutmix' is not of the form PLAN:PROFILE"),
        (["techniques:quick", "--stored", str(tmp_path / "nowhere")], "no runs yet"),
    ):
        with pytest.raises(SystemExit) as ended:
            _called(monkeypatch, *words, "--results", str(tmp_path / "none"))
        assert ended.value.code == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("ended", [0, 2])
def test_a_plan_at_rates_that_were_found_is_carried_out_so(
    ended: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(reference, "real_images", lambda data: None)
    monkeypatch.setattr(reference.ca, "run", lambda plan, **about: called.append([plan, about["data"]]))

    def run(words: list[str], check: bool) -> SimpleNamespace:
        called.append(words[1:])
        return SimpleNamespace(returncode=ended)

    monkeypatch.setattr(reference.subprocess, "run", run)
    monkeypatch.setattr(reference, "found", lambda uri, study: study)
    monkeypatch.setattr(reference, "files", lambda results: {})
    asked = ["techniques:quick", "optimizers:quick", "--data", "images", "--results", str(tmp_path)]
    if ended:
        with pytest.raises(SystemExit):
            _called(monkeypatch, *asked)
        assert "optimizers --profile quick --retune --trials 6 --data images` ended with 2" in capsys.readouterr().err
    else:
        _called(monkeypatch, *asked)
    words = ["-m", "cifar_ablations", "run", "optimizers", "--profile", "quick", "--retune", "--trials", "6"]
    assert called == [["techniques", "images"], [*words, "--data", "images"]]


@pytest.mark.exhaustive
def test_a_study_is_carried_out_once(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATE_HOME", str(put_fresh_store(tmp_path / "out")))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    smoke = profiles.PROFILES["smoke"]
    tiny = replace(smoke, budget=TINY, model=replace(smoke.model, width=0.0625))
    monkeypatch.setitem(profiles.PROFILES, "smoke", tiny)
    asked = ["levels/cutmix:smoke", "--data", str(tiny_folder), "--results", str(tmp_path / "results")]
    _called(monkeypatch, *asked)
    folder = tmp_path / "results" / "levels-cutmix-smoke"
    effects = ca.load(tmp_path / "out").effects
    verdicts = pd.read_csv(folder / "verdicts.csv")
    assert verdicts["difference"].to_list() == pytest.approx(effects["effect"].to_list(), rel=1e-5)
    assert verdicts["outcome"].to_list() == effects["verdict"].to_list()
    runs = (folder / "runs.csv").read_bytes()
    _called(monkeypatch, *asked)
    assert (folder / "runs.csv").read_bytes() == runs, "nothing was trained again"


def test_a_plan_that_claims_nothing_has_an_empty_table_of_verdicts(tmp_path: Path) -> None:
    """Its files could not be written."""
    writer, plan = Writer(tmp_path), small_plan()
    plan = replace(
        plan, arms=plan.arms[:1], claims=(), seeds=(0,), references=(), data=replace(plan.data, stand_in=False)
    )
    experiment = writer.experiment(plan.name)
    parent = writer.invoke(experiment, plan, started=1_000)
    arm = plan.arms[0]
    row = {"arm": arm.name, "seed": 0, "digest": arm.digest, "outcome": schema.FINISHED}
    writer.train(experiment, parent, plan, row | dict.fromkeys(schema.ENDINGS, 0.5), ended=61_000)
    contents = reference.files(reference.found(writer.uri, PLANTED))
    assert contents["verdicts.csv"].decode() == ",".join(reference.VERDICT_COLUMNS) + "\n"
    assert len(contents["runs.csv"].decode().splitlines()) == 2


def test_a_factorial_has_what_each_technique_contributes(tmp_path: Path) -> None:
    writer, plan = Writer(tmp_path), small_plan()
    levels = zip(plan.arms[:2], ("on", "off"), strict=True)
    arms = tuple(replace(arm, levels=arm.levels | {"dropout": level}) for arm, level in levels)
    plan = replace(plan, arms=arms, claims=(), seeds=SEEDS, references=(), factors=("dropout",))
    plan = replace(plan, data=replace(plan.data, stand_in=False))
    experiment = writer.experiment(plan.name)
    parent = writer.invoke(experiment, plan, started=1_000)
    for seed in SEEDS:
        for k, arm in enumerate(plan.arms):
            row = {"arm": arm.name, "seed": seed, "digest": arm.digest, "outcome": schema.FINISHED}
            accuracy = 0.7 - 0.1 * k + 0.01 * seed
            writer.train(experiment, parent, plan, row | dict.fromkeys(schema.ENDINGS, accuracy), ended=61_000)
    for name, content in reference.files(reference.found(writer.uri, PLANTED)).items():
        (tmp_path / name).write_bytes(content)
    found = pd.read_csv(tmp_path / "contributions.csv").set_index(["metric", "factor"]).loc[schema.TEST_ACCURACY]
    assert found.loc["dropout", ["shapley", "main"]].to_list() == pytest.approx([0.1, 0.1])
    assert found.loc["dropout", "main_low"] < 0.1 < found.loc["dropout", "main_high"]
    assert len((tmp_path / "interactions.csv").read_text().splitlines()) == 1, "there is no pair"
