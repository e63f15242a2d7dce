"""A store that version 0.1.0 wrote stays readable, with the same figures, and is not trained again.

`fixtures/make_old_store.py` says how it was made. What is done with it here is done by commands, as a person does it,
so that these tests hold whatever becomes of the code behind them.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import mlflow
import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from PIL import Image
from typer.testing import CliRunner

from cifar_ablations.ablations import adopted, catalog, profiles, schema
from cifar_ablations.reports.pages.foundations_page import write_foundations_report
from cifar_ablations.study.commands import app
from cifar_ablations.study.data.dataset import open_cached

pytestmark = pytest.mark.slow

ARCHIVE = Path(__file__).parent / "fixtures" / "store-0.1.0.tar.xz"

REWORDED = {"sentence", "ended"}
"""Columns that are said otherwise: words may get better, and a time was seven digits of its milliseconds."""

JUDGED = {"verdict", "exploratory", "late"}
"""What a later version may judge otherwise from the same figures: a claim that was fixed by another name, and one whose
page would say something false too often. CHANGELOG says when that was."""

GONE = {
    "arms": {"converged_accuracy"},
    "verdicts": {"negligible", "sd", "level", "p_holm", "sign_flip_p", "tost_p_holm"},
}
"""Columns that are no more, by table. The accuracy of converged runs is now the arm's accuracy; corrections are of the
page, not of a family."""

RENAMED = {"mechanisms": {"having": "treatment", "lacking": "control"}}
"""Columns that are called otherwise, by table."""

RECKONED = {
    "arms": {"rank"},
    "verdicts": {"detectable", "seeds_needed", "low", "high", "images_low", "images_high", "p", "tost_p"},
    "mechanisms": {"low", "high"},
    "surroundings": {"low", "high"},
}
"""Columns whose figures come from another method; no spread counts as smaller than the test images alone explain."""

TIMES = {schema.SECONDS, schema.IMAGES_PER_SECOND}
SHARES = {
    schema.TEST_ACCURACY,
    schema.TRAIN_ACCURACY,
    schema.VALIDATION_ACCURACY,
    schema.GENERALISATION_GAP,
    schema.CALIBRATION_ERROR,
    schema.INITIAL + schema.DEAD_UNITS,
    schema.FINAL + schema.DEAD_UNITS,
}

PLACE = ["--device", "cpu", "--workers", "2"]


@dataclass(frozen=True)
class OldStore:
    """A copy of the old output folder, the tables that 0.1.0 wrote of it, and what it said of its runs."""

    home: Path
    expected: Path
    facts: dict[str, Any]

    def ablate(self, name: str, *more: str) -> str:
        """What today's command says when it is given the words of an old one."""
        return _ablate(*self.facts["commands"][name], *PLACE, *more)

    def client(self) -> mlflow.MlflowClient:
        """Of MLflow, on the copy."""
        return mlflow.MlflowClient(f"sqlite:///{self.home / 'mlflow.db'}")

    def results(self) -> list[Any]:
        """The trainings that have ended."""
        return [run for run in self.runs("training") if run.data.tags.get(schema.OUTCOME) in schema.RESULTS]

    def runs(self, kind: str) -> list[Any]:
        """The runs of a kind that are in the copy now."""
        client = self.client()
        experiments = [e.experiment_id for e in client.search_experiments()]
        return list(client.search_runs(experiments, f"tags.kind = '{kind}'", max_results=1000))


def _ablate(*words: str) -> str:
    result = CliRunner().invoke(app.app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("0.1.0")
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(folder, filter="data")
    return folder


def _copy(unpacked: Path, folder: Path, patch: pytest.MonkeyPatch) -> OldStore:
    """A copy of the old store that commands find."""
    home = folder / "out"
    shutil.copytree(unpacked / "out", home)
    _move_addresses(home)
    patch.setenv("ABLATE_HOME", str(home))
    patch.setenv("ABLATE_DATA", str(unpacked / "shapes.tar"))
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return OldStore(home, unpacked / "expected", json.loads((unpacked / "facts.json").read_text()))


@pytest.fixture(scope="module")
def old(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OldStore]:
    """The old store, for tests that leave its runs as they are."""
    with pytest.MonkeyPatch.context() as patch:
        yield _copy(unpacked, tmp_path_factory.mktemp("read"), patch)


def _move_addresses(home: Path) -> None:
    """Have the artifacts of a store looked for in the folder that it lies in now.

    MLflow keeps their addresses whole, from the root of the machine's folders on. An output folder that stays where it
    is needs nothing of the kind.
    """
    with sqlite3.connect(home / "mlflow.db") as database:
        (old,) = database.execute("select artifact_uri from runs limit 1").fetchone()
        before = old.partition("/artifacts/")[0]
        for table, column in (("runs", "artifact_uri"), ("experiments", "artifact_location")):
            database.execute(f"update {table} set {column} = replace({column}, ?, ?)", (before, home.as_uri()))
    database.close()


def _have_this_torch(checkpoints: Path) -> None:
    """Have checkpoints say that this build of torch wrote them.

    A training goes on only with the build that it began with, since it is to go on bitwise. Here the question is
    whether the files can be read, which no build changes.
    """
    for path in checkpoints.glob("*.npz"):
        with np.load(path) as file:
            arrays = dict(file)
        meta = json.loads(arrays.pop("meta").tobytes()) | {"torch": torch.__version__}
        np.savez(path, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)


def _assert_same_tables(old: OldStore, begins: str) -> None:
    """The tables whose names begin so have the same figures to the last digit, as text: nothing is read as a number
    that could be rounded. New columns are no matter. A run that diverged, and what is made of it, has none any more.
    """
    tables = sorted(path for path in old.expected.iterdir() if path.name.startswith(begins))
    assert tables
    for before in tables:
        after = old.home / "reports" / before.name
        kind = before.stem.rpartition("-")[2]
        if before.suffix == ".md" or before.suffix == ".tex":
            assert after.is_file()
            continue
        expected, found = (pd.read_csv(path, dtype=str, keep_default_na=False) for path in (before, after))
        expected = expected.rename(columns=RENAMED.get(kind, {}))
        assert set(expected) - set(found) == GONE.get(kind, set()), before.name
        kept = [c for c in expected if c in found and c not in REWORDED | JUDGED | RECKONED.get(kind, set())]
        whole = _converged(kind, expected)
        assert whole.any() or kind == "surroundings" or not len(expected), before.name
        pd.testing.assert_frame_equal(found.loc[whole, kept], expected.loc[whole, kept], obj=before.name)


def _converged(kind: str, table: pd.DataFrame) -> pd.Series:
    """The rows of a table that no diverged run has a part in."""
    match kind:
        case "arms":
            return table["diverged"] == "0"
        case "runs":
            return table["outcome"] != schema.DIVERGED
        case "verdicts":
            return (table["treatment_diverged"] == "0") & (table["control_diverged"] == "0")
    return pd.Series(True, index=table.index)


def test_every_table_is_compared(old: OldStore) -> None:
    names = {path.name.rpartition("-shapes-smoke")[0] for path in old.expected.iterdir()}
    assert names == {"techniques", "levels-learning_rate", "levels-early_stopping", "search-regularization"}


@pytest.mark.parametrize(
    ("name", "said", "page"),
    [
        ("techniques", "14 arms × 2 seeds = 28 trainings, 28 already done", "techniques-"),
        ("diverging", "8 arms × 1 seeds = 8 trainings, 8 already done", "levels-learning_rate-"),
        ("search", "Nothing left to try: every trial is already done.", "search-regularization-"),
    ],
    ids=["plan", "plan with runs that diverged", "search"],
)
def test_what_is_done_is_not_done_again_and_has_the_same_figures(
    unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str, page: str
) -> None:
    old = _copy(unpacked, tmp_path, monkeypatch)
    _ablate("report")
    _assert_same_tables(old, page)
    kinds = (schema.KIND_PLAN, schema.KIND_TRAINING, schema.KIND_SEARCH, schema.KIND_TRIAL)
    plans, *before = [len(old.runs(kind)) for kind in kinds]
    studies = _studies(old.home)
    assert said in old.ablate(name)
    assert _studies(old.home) == studies, "a study goes on under the name that it has"
    # A search whose digest had changed would have been logged anew, as a plan is: its rule is another one today.
    assert [len(old.runs(kind)) for kind in kinds] == [plans + (name != "search"), *before]


def _studies(home: Path) -> list[str]:
    """The names of the studies in an output folder's journal."""
    return optuna.get_all_study_names(JournalStorage(JournalFileBackend(str(home / "optuna.journal"))))


def test_runs_have_the_same_metrics(old: OldStore) -> None:
    """All digits of every metric: tables have eight."""
    for kind, known in (("training", "trainings"), ("trial", "trials"), ("plan", "plans"), ("search", "searches")):
        runs = {run.info.run_id: run for run in old.runs(kind)}
        assert len(runs) == len(old.facts[known])
        for fact in old.facts[known]:
            run = runs[fact["run_id"]]
            assert run.info.status == fact["status"]
            assert fact["tags"].items() <= run.data.tags.items()
            assert run.data.metrics == pytest.approx(fact["metrics"], rel=0, abs=0, nan_ok=True)


def test_a_search_is_adopted_as_it_was(old: OldStore) -> None:
    _ablate("adopt", "regularization", "--as", "again")
    before, after = ((old.home / "recipes" / f"{name}.toml").read_text().splitlines() for name in ("found", "again"))
    assert after.pop().startswith("# as written: "), "by which an edited file is known"
    changed = [line for line, now in zip(before, after, strict=True) if line != now]
    assert [line.split(" = ")[0] for line in changed[1:]] == ["adopted"], changed
    assert changed[0].startswith("# found: ")


@pytest.mark.exhaustive
def test_an_adopted_recipe_is_the_trial_that_it_was(old: OldStore) -> None:
    settings = [word for word in old.facts["commands"]["search"] if word.startswith("--set=")]
    said = _ablate("plan", "tuned", "--baseline", "found", "--profile", "smoke", *settings, *PLACE)
    assert "tuned recipe" in said
    recipe = profiles.profile("smoke").apply(catalog.notebook_recipe())
    for setting in settings:
        recipe = recipe.set(setting.removeprefix("--set="))
    found = adopted.read(old.home / "recipes" / "found.toml")
    (trial,) = (t for t in old.facts["trials"] if t["tags"]["trial"] == str(found.record.provenance.trial))
    assert found.applied(recipe).digest() == trial["tags"][schema.DIGEST]


def test_decoded_images_are_opened(old: OldStore) -> None:
    entries = [open_cached(path) for path in (old.home / "data").iterdir()]
    assert {entry.digest for entry in entries} == {old.facts["trainings"][0]["tags"]["data_digest"]}


@pytest.mark.exhaustive
def test_an_interrupted_plan_goes_on_from_its_checkpoints(
    unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epochs behind are told as they were, bitwise. Those ahead are trained on this machine, whose sums may differ
    from the other one's in their last bits, and are compared with what 0.1.0 came to there without an interruption.
    """
    old = _copy(unpacked, tmp_path, monkeypatch)
    _ablate("report", "levels/early_stopping")
    _assert_same_tables(old, "levels-early_stopping-")
    _have_this_torch(old.home / "checkpoints")
    behind = {(saved["digest"], str(saved["seed"])): saved["epochs"] for saved in old.facts["epochs_behind"]}
    said = old.ablate("interrupted", "--backend", "torch")  # 0.1.0 had no other, and none takes up another's
    assert "4 trainings, 0 already done, 4 go on from a checkpoint" in said
    runs = {(run.data.tags[schema.DIGEST], run.data.tags[schema.SEED]): run for run in old.results()}
    expected = {(f["tags"][schema.DIGEST], f["tags"][schema.SEED]): f for f in old.facts["uninterrupted"]}
    assert set(expected) == set(behind)
    client = old.client()
    for training, fact in expected.items():
        metrics, past = fact["metrics"], behind[training]
        assert runs[training].data.tags[schema.OUTCOME] == fact["tags"][schema.OUTCOME]
        assert 0 < len(past) < metrics[schema.EPOCHS]
        for name in schema.CURVES:
            history = client.get_metric_history(runs[training].info.run_id, name)
            assert [point.step for point in history] == list(range(1, int(metrics[schema.EPOCHS]) + 1))
            assert [point.value for point in history[: len(past)]] == [epoch[name] for epoch in past], name
        recorded = runs[training].data.metrics
        assert set(recorded) >= set(metrics)
        for name in set(metrics) - TIMES:
            # An image on the border between two classes may fall to the other side.
            close = pytest.approx(metrics[name], abs=0.05) if name in SHARES else pytest.approx(metrics[name], rel=1e-3)
            assert recorded[name] == close, name
    assert not list((old.home / "checkpoints").iterdir())
    before, after = (run for run in old.runs("plan") if run.data.tags[schema.PLAN] == "levels/early_stopping")
    assert _seen(before) == _seen(after)


def _seen(parent: Any) -> list[tuple[Any, ...]]:
    """The training images that a plan's gallery holds, pixel by pixel: compressed, they may differ."""
    images = json.loads((Path(unquote(urlparse(parent.info.artifact_uri).path)) / schema.GALLERY_FILE).read_text())[
        "images"
    ]
    # Arms are called otherwise now.
    about = [(image["pipeline"], len(image["arms"]), image["label"], image["epoch"]) for image in images]
    pixels = [Image.open(io.BytesIO(base64.b64decode(image["png"]))).tobytes() for image in images]
    assert len(set(pixels)) > 5, "augmentation has shown them in many ways"
    return list(zip(about, pixels, strict=True))


def test_demonstrations_get_their_page(old: OldStore) -> None:
    (page,) = write_foundations_report(f"sqlite:///{old.home / 'mlflow.db'}", old.home / "reports")
    assert "11 of 11 statements hold." in page.read_text()
