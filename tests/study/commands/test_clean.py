"""`ablate clean`: what takes room is shown, what is named is freed, and no result is touched."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cifar_ablations.ablations import schema
from cifar_ablations.reports.reading import load
from cifar_ablations.study.commands import app, clean, store_check
from cifar_ablations.study.data import dataset
from cifar_ablations.study.data.images import Images
from cifar_ablations.study.store.home import Home
from tests.reports.conftest import Writer, planted_runs
from tests.study.commands.test_store_check import HOURS_AGO, PLAN, _checkpoint

pytestmark = pytest.mark.slow

ALWAYS = {"checkpoints", "caches", "reports", "exports", "logs", "torn", "partial"}
BY_NAME = {"unfinished", "deleted", "orphans", "damaged"}


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Writer:
    """A store with something of every kind in its folder."""
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    writer = Writer(tmp_path / "out")
    home, experiment = writer.store.home, writer.experiment(PLAN.name)
    parent = writer.invoke(experiment, PLAN)
    rows = planted_runs(PLAN).to_dict("records")[:3]
    runs = [writer.train(experiment, parent, PLAN, row) for row in rows]
    writer.client.delete_run(runs[2])
    (folder,) = [path for path in home.artifacts.rglob(runs[0]) if path.is_dir()]
    shutil.copytree(folder, folder.with_name("f" * 32))
    _checkpoint(home.checkpoints / "ended.npz", (rows[0]["digest"], int(rows[0]["seed"])))
    _checkpoint(home.checkpoints / "needed.npz", (rows[2]["digest"], int(rows[2]["seed"])))
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    pictures = Images(("a", "b"), images, np.arange(20) % 2, images[:4], np.arange(4) % 2)
    dataset.store(pictures, home.data / "cifar10-download", name="cifar10", source="The official files.")
    others = (
        home.data / "cifar-100-python.tar.gz.part",
        home.reports / "page.html",
        home.exports / "table.tex",
        home.damaged / "recipes" / "mine.toml",
        home.folder / "errors" / "fault.log",
        home.folder / "mlflow-server.log",
        home.folder / "optuna.journal.torn",
        home.folder / ".partial-1",
        home.recipes / "mine.toml.before",
        home.folder / "minutes.json",
    )
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 1_000)
    os.utime(home.folder / ".partial-1", (HOURS_AGO, HOURS_AGO))
    home.journal.write_bytes(b'{"op_code": 0}\n')
    return writer


def _clean(*words: str):
    return CliRunner().invoke(app.app, ["clean", *words], catch_exceptions=False)


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _bytes(folder: Path) -> int:
    return sum(map(len, _content(folder).values()))


def test_what_takes_room_is_shown_and_nothing_is_written(writer: Writer) -> None:
    home = writer.store.home
    before = _content(home.folder)
    result = _clean()
    assert result.exit_code == 0, result.output
    document = json.loads(_clean("--json").stdout)
    assert _content(home.folder) == before
    kinds = {kind["name"]: kind for kind in document["kinds"]}
    assert set(kinds) == ALWAYS | BY_NAME
    assert all(kind["bytes"] > 0 for kind in kinds.values())
    assert {name for name, kind in kinds.items() if kind["freed_by_all"]} == ALWAYS
    assert document["bytes"] == _bytes(home.folder)
    assert document["kept_bytes"] == document["bytes"] - sum(kind["bytes"] for kind in kinds.values())
    assert document["freed"] == {}
    for name in kinds:
        assert f"  {name:<12}" in result.stdout
    assert "CIFAR-10 is downloaded again by the next run that needs it, or brought by" in result.stdout


def test_what_is_named_is_freed_and_nothing_else(writer: Writer) -> None:
    home = writer.store.home
    before = _bytes(home.folder)
    result = _clean("exports", "logs", "--json")
    document = json.loads(result.stdout)
    assert document["freed"] == {"exports": 1_000, "logs": 2_000}
    assert _bytes(home.folder) == document["bytes"] == before - 3_000
    assert not home.exports.exists()
    said = _clean("exports", "torn").stdout
    assert said.startswith("1.0 kB are free again: torn 1.0 kB.\n")


def test_all_frees_what_can_be_made_again_and_every_result_stays(writer: Writer) -> None:
    home, before = writer.store.home, load.runs_of(writer.client, PLAN)
    kept = {name: text for name, text in _content(home.folder).items() if "artifacts" in name or "recipes" in name}
    result = _clean("--all")
    assert result.exit_code == 0, result.output
    assert "CIFAR-10 is downloaded again" in result.stdout
    left = json.loads(_clean("--json").stdout)
    assert {kind["name"] for kind in left["kinds"] if kind["bytes"]} == BY_NAME
    pd.testing.assert_frame_equal(load.runs_of(writer.client, PLAN), before)
    after = _content(home.folder)
    assert kept.items() <= after.items()
    assert {"optuna.journal", "minutes.json", "checkpoints/needed.npz"} <= after.keys()
    assert not home.data.exists()
    assert store_check.check(home).code == 0


def test_files_of_deleted_runs_and_orphans_go_when_they_are_named(writer: Writer) -> None:
    home, before = writer.store.home, load.runs_of(writer.client, PLAN)
    assert _clean("deleted", "orphans", "unfinished", "damaged").exit_code == 0
    names = {path.parent.parent.name for path in home.artifacts.rglob(schema.DETAILS_FILE)}
    assert names == set(before["run_id"])
    assert not home.damaged.exists()
    found = store_check.check(home)
    assert [one.part for one in found.findings if one.must] == ["partial"]
    assert (found.parts["files"]["files"], found.parts["orphans"]["folders"]) == (4, 0)
    pd.testing.assert_frame_equal(load.runs_of(writer.client, PLAN), before)


def test_while_another_command_is_at_work_nothing_is_freed(writer: Writer) -> None:
    home = writer.store.home
    with home.locked("running plan techniques", print):
        assert _clean().exit_code == 0
        before = _content(home.folder)
        result = _clean("--all")
        assert _content(home.folder) == before
    assert result.exit_code == 2
    assert "running plan techniques" in result.stderr
    assert "nothing was changed" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cachs"], "no kind 'cachs' of files that can be freed; did you mean caches?"),
        (["results"], "no kind 'results'"),
        (["--all", "caches"], "--all and the name of a kind both say what to free"),
    ],
)
def test_a_mistake_is_a_sentence_and_frees_nothing(writer: Writer, words: list[str], said: str) -> None:
    before = _content(writer.store.home.folder)
    result = _clean(*words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert _content(writer.store.home.folder) == before


def test_an_empty_place_has_nothing_to_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for words in ([], ["--all"], ["caches"]):
        assert _clean(*words).exit_code == 0
    assert list(tmp_path.iterdir()) == []


def test_links_lead_to_nothing_that_is_freed(writer: Writer, tmp_path: Path) -> None:
    home, elsewhere = writer.store.home, tmp_path / "elsewhere"
    shutil.rmtree(home.reports)
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("a person's")
    home.reports.symlink_to(elsewhere)
    (home.data / "linked").symlink_to(elsewhere)
    assert _clean("--all").exit_code == 0
    assert (elsewhere / "mine").read_text() == "a person's"


def test_without_a_store_no_file_of_a_run_is_one_of_none(writer: Writer) -> None:
    writer.client._tracking_client.store.engine.dispose()
    home: Home = writer.store.home
    (home.folder / "mlflow.db").unlink()
    kinds = {kind.name: kind for kind in clean.clean(home, (), False, print).kinds}
    assert kinds["orphans"].paths == kinds["deleted"].paths == kinds["checkpoints"].paths == []
    assert len(kinds["unfinished"].paths) == 2
