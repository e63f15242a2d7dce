"""The suite from Python: the same as from the command, in ten lines, wherever Python runs."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

import cifar_ablations as ca
from cifar_ablations.study.commands import app
from tests.conftest import TINY
from tests.fresh_store import put_fresh_store

pytestmark = pytest.mark.slow

WIDTH = 0.0625


def tiny_recipe() -> ca.Recipe:
    recipe = ca.notebook_recipe()
    return replace(recipe, model=replace(recipe.model, width=WIDTH), budget=TINY)


@pytest.fixture
def home(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    monkeypatch.setenv("ABLATE_DATA", str(tiny_folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    put_fresh_store(tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def compared(home: Path) -> ca.Result:
    recipe = tiny_recipe()
    arms = {"baseline": recipe, "no dropout": recipe.without("dropout"), "no decay": recipe.without("weight_decay")}
    return ca.compare(arms, seeds=2, profile=None, quiet=True)


@pytest.mark.exhaustive
def test_a_comparison_has_all_that_its_page_has(compared: ca.Result, home: Path, tmp_path: Path) -> None:
    assert compared.effects["treatment"].to_list() == ["no dropout", "no decay"]
    assert set(compared.effects["control"]) == {"baseline"}
    runs = compared.runs.pivot(index="seed", columns="arm", values="test_accuracy")
    difference = (runs["no dropout"] - runs["baseline"]).mean()
    assert compared.effects["effect"].iloc[0] == pytest.approx(difference)
    assert set(compared.curves["epoch"]) == {1, 2}
    assert len(compared.verdicts) == 2
    assert compared.arms["arm"].to_list() == ["baseline", "no dropout", "no decay"]
    for axes in (compared.plot.forest(), compared.plot.curves(), compared.plot.seeds()):
        assert axes.figure is not None
    page = (home / "reports" / "comparison-tiny-custom.html").read_text(encoding="utf-8")
    assert "No dropout" in page
    whole, first = compared.to_html(), compared._repr_html_()
    assert "What does each change against baseline?" in whole
    assert 'href="comparison' not in whole, "it stands alone"
    assert len(first) < len(whole)
    assert first.startswith("<iframe")
    alone = compared.save(tmp_path / "mailed" / "page.html")
    assert alone.read_text() == compared.to_html()
    assert [file.name for file in alone.parent.iterdir()] == ["page.html"]
    saved = compared.save(tmp_path / "elsewhere")
    assert {file.suffix for file in saved.parent.iterdir()} >= {".html", ".csv", ".parquet", ".tex"}
    assert "6 of 6 runs done" in repr(compared)


@pytest.mark.exhaustive
def test_what_is_done_is_not_done_again_and_is_read_from_the_store(compared: ca.Result, home: Path) -> None:
    recipe = tiny_recipe()
    arms = {"baseline": recipe, "no dropout": recipe.without("dropout")}
    again = ca.compare(arms, seeds=2, profile=None, quiet=True, name="second")
    both = ["baseline", "no dropout"]
    first = compared.runs[compared.runs["arm"].isin(both)]
    assert again.runs["run_id"].to_list() == first["run_id"].to_list()
    joined = compared.compare(again)
    assert joined["statement"].to_list() == ["No dropout raises test accuracy against baseline"]
    assert joined[["runs", "difference"]].to_numpy().tolist() == [["same", 0.0]]
    pd.testing.assert_frame_equal(ca.load(home, "comparison").runs, compared.runs)
    with pytest.raises(ca.AblateError, match=r"several plans are in this store; name one of them: comparison, second"):
        ca.load(home)
    with pytest.raises(ca.AblateError, match=r"no runs of a plan 'comparisn'.*comparison"):
        ca.load(home, "comparisn")


def test_a_plan_is_as_the_command_trains_it(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [f"model.width={WIDTH}", "budget.epochs=1", "budget.train_images=80", "budget.validation_images=40"]
    settings += ["budget.test_images=60"]
    result = ca.run("levels/dropout", seeds=1, profile="smoke", settings=settings, quiet=True)
    put_fresh_store(tmp_path / "other")
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "other"))
    words = ["run", "levels/dropout", "--seeds", "1", "--profile", "smoke", *(f"--set={one}" for one in settings)]
    assert CliRunner().invoke(app.app, words).exit_code == 0
    typed = ca.load(plan="levels/dropout")
    measured = ["arm", "seed", "test_accuracy", "test_loss", "train_accuracy", "weight_norm"]
    kept = [name for name in measured if name in result.runs]
    pd.testing.assert_frame_equal(result.runs[kept], typed.runs[kept])


@pytest.mark.exhaustive
def test_a_search_returns_its_best_recipe(home: Path) -> None:
    settings = [f"model.width={WIDTH}", "budget.epochs=2", "budget.train_images=80", "budget.validation_images=40"]
    found = ca.tune("regularization", trials=2, profile="smoke", settings=settings, quiet=True)
    assert found.recipe is not None
    assert {knob: found.recipe.knobs()[knob] for knob in found.changes} == dict(found.changes)
    assert len(found.trials) == 2
    assert "<html" in found.to_html()


SCRIPT = """
import cifar_ablations as ca
recipe = ca.notebook_recipe()
for setting in ("model.width=0.0625", "budget.epochs=2", "budget.train_images=80", "budget.validation_images=40"):
    recipe = recipe.set(setting)
result = ca.compare({"baseline": recipe, "no dropout": recipe.without("dropout")}, seeds=1, profile=None)
print(len(result.runs), "runs")
"""


def test_a_script_needs_no_guard(home: Path, tmp_path: Path) -> None:
    """Workers do not run the script again, which would train in each of them."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.count("2 runs") == 1, done.stderr
    assert done.returncode == 0


@pytest.mark.exhaustive
def test_in_a_thread(home: Path) -> None:
    recipe, found = tiny_recipe(), list[ca.Result]()
    arms = {"baseline": recipe, "no dropout": recipe.without("dropout")}
    thread = threading.Thread(target=lambda: found.append(ca.compare(arms, seeds=1, profile=None, quiet=True)))
    thread.start()
    thread.join(60)
    assert len(found[0].runs) == 2


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"arms": {}}, "a comparison needs at least two arms, not 0"),
        ({"arms": {"one": ca.notebook_recipe()}}, "a comparison needs at least two arms, not 1"),
        ({"seeds": 0}, "the number of seeds must be at least 1, not 0"),
        ({"seeds": [1, 1]}, r"seeds must be .* not \[1, 1\]"),
        ({"seeds": 10**12}, "the number of seeds must be at most 10000, not 1000000000000"),
        ({"seeds": [-1]}, r"seeds must be .* not \[-1\]"),
        ({"profile": "quik"}, "no profile 'quik'.*quick"),
        ({"metrics": ["test/acuracy"]}, "no metric 'test/acuracy'.*test/accuracy"),
        ({"arms": {"a": tiny_recipe(), "b": tiny_recipe()}}, "arm 'a' has a network or a budget of its own"),
        ({"arms": {"": ca.notebook_recipe(), "b": ca.notebook_recipe()}}, "an arm's name has 1 to 80 signs"),
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"data": "/nowhere/at/all"}, "nowhere"),
        ({"margin": -1.0}, "margin must be positive"),
    ],
)
def test_what_cannot_be_is_said(home: Path, asked: dict[str, object], said: str) -> None:
    recipe = ca.notebook_recipe()
    given: dict[str, object] = {"arms": {"baseline": recipe, "no dropout": recipe.without("dropout")}}
    with pytest.raises(ca.AblateError, match=said):
        ca.compare(**(given | asked), quiet=True)  # type: ignore[arg-type]


def test_a_technique_that_is_mistyped_is_named() -> None:
    with pytest.raises(ca.AblateError, match=r"dropuot.*dropout"):
        ca.notebook_recipe().without("dropuot")


def test_the_package_says_what_it_has() -> None:
    assert set(ca.__all__) <= set(dir(ca))
    assert all(getattr(ca, name) is not None for name in ca.__all__)
    with pytest.raises(AttributeError, match="no attribute 'comapre'"):
        ca.comapre  # type: ignore[attr-defined]  # noqa: B018
