"""`--retune` as a person meets it: a search with equal trials for every arm, then both verdicts on one page."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest
from mlflow.entities import Run
from typer.testing import CliRunner

from cifar_ablations.ablations import catalog, schema
from cifar_ablations.ablations.designs import AT_BEST, BEST_RATES, EACH_AT_BEST
from cifar_ablations.ablations.record import SearchOutcomeRecord
from cifar_ablations.reports.reading import load
from cifar_ablations.study.commands import app
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.search.invocation import FIRST_TUNING_SEED
from cifar_ablations.study.search.search import _Coordinator
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.search_log import Ended, SearchLog
from tests.fresh_store import put_fresh_store

FEW = [
    "--profile=smoke",
    "--workers=1",
    *(f"--set={name}=off" for name in ("augmentation", "initialisation", "schedule")),
    *(
        f"--set={setting}"
        for setting in (
            "model.width=0.0625",
            "budget.epochs=4",
            "budget.batch_size=8",
            "optimizer.rate=0.0003",
            "budget.train_images=80",
            "budget.validation_images=40",
            "budget.test_images=60",
        )
    ),
]
"""Adam at a small rate, dropout and weight decay on few images: eight arms, some of which another rate suits better."""
RUN = ["run", "techniques", "--retune", "--trials=3", *FEW]


@pytest.fixture
def home(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An output folder with MLflow's tables, and the tiny data set named by the environment."""
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    monkeypatch.setenv("ABLATE_DATA", str(tiny_folder))
    for name in ("MLFLOW_TRACKING_URI", "MAKELEVEL", "ABLATE_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    put_fresh_store(tmp_path / "out")
    return Home()


def _ablate(*words: str):
    return CliRunner().invoke(app.app, list(words), catch_exceptions=False)


def _said(*words: str) -> str:
    result = _ablate(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def _runs(home: Home, kind: str) -> list[Run]:
    client = mlflow.MlflowClient(home.tracking_uri)
    return list(
        client.search_runs(
            [e.experiment_id for e in client.search_experiments()], f"tags.kind = '{kind}'", max_results=1000
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["run", "ladder", "--retune"],
            "--retune finds rates for the arms of the plans techniques and optimizers, not for ladder's",
        ),
        (["run", "techniques", "--trials", "3"], "--trials is about the search of --retune"),
        (["plan", "techniques", "--retune", "--minutes", "5"], "--minutes cannot tell how long the search"),
        (["run", "techniques", "--retune", "--trials", "0", *FEW], "--trials must be at least 1, not 0"),
        (["run", "techniques", "--retune", "--seeds", "none", *FEW], "--seeds must be a whole number"),
        (["plan", "techniques", "--retune", "--lock", "x.json", *FEW], "--lock fixes the arms, and their"),
        (["adopt", "arms"], "the search 'arms' finds no recipe"),
    ],
)
def test_what_cannot_be_retuned_is_said_before_anything_is_trained(home: Home, words: list[str], said: str) -> None:
    result = _ablate(*words)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert said in result.stderr
    assert not _runs(home, schema.KIND_TRIAL)


@pytest.mark.exhaustive
def test_a_plan_says_what_the_search_would_cost(home: Home) -> None:
    said = _said("plan", *RUN[1:])
    assert said.count("3 trials; optimizer.rate") == 8
    assert "24 trainings, at most" in said
    assert "up to 8 arms more, each at its best rate: up to 16 trainings more" in said
    assert "16 trainings, 0 already done" in said
    assert not _runs(home, schema.KIND_TRIAL)


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether searches had their trainings evaluated on test images."""
    asked: list[bool] = []
    make = _Coordinator.__init__

    def watched(self, *arguments) -> None:
        make(self, *arguments)
        train = self._trainer.train

        def seen(*of, evaluate_test: bool = True):
            asked.append(evaluate_test)
            return train(*of, evaluate_test=evaluate_test)

        self._trainer.train = seen

    monkeypatch.setattr(_Coordinator, "__init__", watched)
    return asked


@pytest.mark.exhaustive
def test_from_the_search_to_both_verdicts_and_a_second_call_does_nothing(home: Home, evaluated: list[bool]) -> None:
    _said("run", "techniques", *FEW)
    usual = {run.info.run_id for run in _runs(home, schema.KIND_TRAINING)}
    assert len(usual) == 16

    said = _said(*RUN)
    assert "Next: ablate adopt" not in said, "the command goes on with what was found"
    assert evaluated
    assert not any(evaluated)
    trials = _runs(home, schema.KIND_TRIAL)
    per_arm = Counter(run.data.tags[schema.STUDY] for run in trials)
    assert len(per_arm) == 8
    assert len(set(per_arm.values())) == 1, "each arm gets the same trials"
    assert {run.data.params["seeds"] for run in trials} == {str(FIRST_TUNING_SEED)}
    assert not any(schema.TEST_ACCURACY in run.data.metrics for run in trials)

    # What the page's plan compares, and what was trained for it.
    (retuned,) = (i for i in load.invocations(home.tracking_uri) if _is_retuned(i))
    plan = retuned.plan
    added = [arm for arm in plan.arms if arm.name.endswith(AT_BEST)]
    assert 0 < len(added) <= 8
    assert len(plan.arms) == 8 + len(added)
    assert plan.command.endswith(
        "--trials 3" + "".join(f" --set {w.removeprefix('--set=')}" for w in RUN if "--set" in w)
    )
    trained = {run.info.run_id for run in _runs(home, schema.KIND_TRAINING)}
    assert usual < trained
    assert len(trained - usual) == 2 * len(added), "usual arms are not trained again"
    assert f"{2 * len(added)} trainings in" in said

    # On the page, in the terminal and in the table of verdicts.
    (page,) = (path for path in home.reports.glob("techniques-*.html") if BEST_RATES in path.read_text())
    places = {
        f"{place}{how}" for place in ("in the full recipe", "on its own", "overall") for how in ("", EACH_AT_BEST)
    }
    with page.with_name(f"{page.stem}-verdicts.csv").open(newline="", encoding="utf-8-sig") as table:
        families = {row["family"] for row in csv.DictReader(table)}
    found = {re.sub("^(test accuracy|the generalisation gap) ", "", family) for family in families}
    assert found <= places
    assert any(place.endswith(EACH_AT_BEST) for place in found)
    assert {"in the full recipe", "on its own", "overall"} <= found
    assert re.search(r"^In the full recipe *$", said, re.MULTILINE)
    for place in found:
        assert place in page.read_text()
    assert EACH_AT_BEST.strip(", ") in " ".join(said.split())

    again = _said(*RUN)
    assert "The best rate of each arm is known, from 3 trials each." in again
    assert "trials done" not in again
    assert "trainings in" not in again
    assert len(_runs(home, schema.KIND_TRIAL)) == len(trials)
    assert {run.info.run_id for run in _runs(home, schema.KIND_TRAINING)} == trained
    planned = _said("plan", *RUN[1:])
    assert f"{2 * len(plan.arms)} trainings, {2 * len(plan.arms)} already done" in planned
    assert f"Plan {plan.digest}" in planned

    refused = _ablate(*RUN, f"--first-seed={FIRST_TUNING_SEED}")
    assert refused.exit_code == 2
    assert f"each arm's best rate was chosen with seed {FIRST_TUNING_SEED}" in refused.stderr


def _is_retuned(invocation: load.Invocation) -> bool:
    return any(change.startswith(BEST_RATES) for change in invocation.overrides)


def test_an_arm_without_a_good_trial_has_no_best_rate(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_dropout(self: SearchLog, search: str, data: Dataset, digest: str = "") -> Ended:
        (study, *_) = next(catalog.search_module("arms").search(catalog.notebook_recipe(), 1))
        found = SearchOutcomeRecord(digest, (), None, {study.name: {"optimizer.rate": 0.001}})
        return Ended(SimpleNamespace(trials=99, seeds=(1,), digest=digest), found, "", "")  # type: ignore[arg-type]

    monkeypatch.setattr(SearchLog, "newest_ended", without_dropout)
    result = _ablate(*RUN)
    assert result.exit_code == 2
    assert "every trial of 'without dropout' diverged or failed, so no best rate of it is known" in result.stderr
