"""An extension from the command to the page: what its code is decides what is trained again, and what counts."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cifar_ablations as ca
from cifar_ablations.ablations import catalog, discovery, extensions, metrics
from cifar_ablations.ablations.recipe import Recipe
from cifar_ablations.reports.reading import load
from cifar_ablations.study.commands import app
from cifar_ablations.study.data.dataset import Dataset
from cifar_ablations.study.execution.events import Failed
from cifar_ablations.study.execution.workers import local_pool
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.training.fleet import Member
from tests.fresh_store import put_fresh_store
from tests.own_extension import TECHNIQUE, named, put_extension

pytestmark = pytest.mark.slow

SETTINGS = ("model.width=0.0625", "budget.epochs=1", "budget.train_images=80", "budget.validation_images=40")
WORDS = ["--seeds", "2", "--profile", "smoke", "--workers", "1", "--set", "budget.test_images=60"]
for setting in SETTINGS:
    WORDS += ["--set", setting]


@pytest.fixture
def lab(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ABLATE_HOME", str(put_fresh_store(tmp_path / "out")))
    monkeypatch.setenv("ABLATE_DATA", str(tiny_folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    yield put_extension(tmp_path / f"lab_{abs(hash(tmp_path))}")
    extensions.name()


def _typed(*words: str) -> str:
    done = CliRunner().invoke(app.app, [*words])
    assert done.exit_code == 0, done.output
    return done.output


def _edit(lab: Path, before: str, after: str) -> None:
    path = lab / "techniques" / "fade.py"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


def _as_in_a_new_process(lab: Path) -> None:
    for name in [name for name in sys.modules if name.startswith(f"{extensions.ROOM}.{lab.name}")]:
        del sys.modules[name]
    shutil.rmtree(lab / "techniques" / "__pycache__", ignore_errors=True)
    for kept in (extensions._found, extensions._of_kind, metrics._known, catalog._plan_names, discovery._techniques):
        kept.cache_clear()


def test_changed_code_is_trained_again_and_the_old_runs_do_not_count(lab: Path) -> None:
    run = ["run", "fading", "--extensions", lab.name, *WORDS]
    assert "0 already done" in _typed(*run)
    first = ca.load(plan="fading")
    assert set(first.runs["extension"]) == {load.NOT_SAID, extensions.known()[0].code}
    assert first.verdicts["metric"].to_list() == ["test/accuracy", "surprise"]
    assert f"--extensions {lab.name}" in load.invocations(Home().tracking_uri)[0].plan.command
    assert "4 already done" in _typed(*run)

    _edit(lab, "(1 - self.share)", "(1 - self.share ** 2)")
    refused = CliRunner().invoke(app.app, run)
    assert refused.exit_code == 2
    assert "has changed since it was read" in refused.output
    _as_in_a_new_process(lab)
    said = _typed(*run)
    assert "2 already done" in said, "the arm without it stays as it is"
    assert "Left out: 2 runs by an earlier version of the extension" in said
    second = ca.load(plan="fading")
    old, new = (one.runs.set_index(["arm", "seed"]) for one in (first, second))
    assert old.loc["clear", "run_id"].equals(new.loc["clear", "run_id"])
    assert not set(old.loc["faded", "run_id"]) & set(new.loc["faded", "run_id"])
    (page,) = Home().reports.glob("fading*.html")
    assert "2 runs by an earlier version of the extension" in page.read_text(encoding="utf-8")

    _edit(lab, "Nobody 2020", "Somebody 2021")
    (lab / "plans" / "fading.py").write_text((lab / "plans" / "fading.py").read_text() + "# a remark\n")
    extensions.name()
    assert "reports/fading-tiny" in _typed("report"), "what was trained can be read without the extension"
    assert ca.load(plan="fading").verdicts["metric"].to_list() == ["test/accuracy", "surprise"]


@pytest.mark.exhaustive
def test_a_metric_that_came_later_is_measured_by_training_again(lab: Path) -> None:
    surprise = lab / "metrics" / "surprise.py"
    surprise.rename(lab / "surprise.txt")
    words = [*WORDS, "--extensions", lab.name]
    _typed("run", "levels/fade", *words)
    (lab / "surprise.txt").rename(surprise)
    _as_in_a_new_process(lab)
    assert "0 already done" in _typed("run", "fading", *words), "its claims are about the metric"
    assert ca.load(plan="fading").runs["surprise"].notna().all()
    assert "4 already done" in _typed("run", "levels/fade", *words)


def test_a_worker_that_finds_other_code_trains_nothing(lab: Path, recipe: Recipe, tiny_data: Dataset) -> None:
    assert tiny_data.folder is not None
    with named(lab):
        faded = Member(
            Recipe(recipe.model, recipe.budget, (*recipe.techniques, catalog.techniques()["fade"].at("on"))), 0
        )
        known = extensions.known()
        _edit(lab, "(1 - self.share)", "(1 - self.share ** 2)")
        with local_pool(tiny_data.folder, "cpu", 1, known=known) as pool:
            (failed,) = [event for event in pool.train([[faded]]) if isinstance(event, Failed)]
    assert failed.why.startswith(f"the folder {lab} has changed since it was read")


@pytest.mark.exhaustive
def test_a_search_samples_what_an_extension_has(lab: Path) -> None:
    _typed("tune", "fading", "--extensions", lab.name, *WORDS[2:], "--trials", "2")
    ca.use_extension(lab)
    found = ca.tune(
        "fading", trials=2, profile="smoke", settings=[*SETTINGS, "budget.test_images=60"], workers=1, quiet=True
    )
    assert set(found.changes) == {"fade.share"}


def test_a_folder_that_cannot_be_used_leaves_all_as_it_was(lab: Path) -> None:
    broken = put_extension(lab.parent / "broken", {"techniques/fade.py": TECHNIQUE.replace('"off"', '"of"')})
    with pytest.raises(ca.AblateError, match="needs 'off'"):
        ca.use_extension(broken)
    assert extensions.known() == ()
    ca.use_extension(lab)
    assert ca.notebook_recipe().set("fade=on").digest() != ca.notebook_recipe().digest()


def test_they_are_listed_with_where_they_come_from(lab: Path) -> None:
    said = _typed("list", "--extensions", str(lab))
    for line in (
        "fade: fading.",
        "fading: Does fading help?",
        "fading: How much fading is best?",
        "patches.",
        "surprise: ",
    ):
        (found,) = [one for one in said.splitlines() if one.startswith(f"  {line}")]
        assert found.endswith(f"From the folder {lab}.")
    assert "From" not in next(line for line in said.splitlines() if line.startswith("  dropout:"))
