"""`ablate doctor --store` and `--repair`: real stores with real damage, found, named, mended, and nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.record import SearchOutcomeRecord
from cifar_ablations.reports.pages import plan_page
from cifar_ablations.reports.reading import load, searches
from cifar_ablations.study.commands import app, store_check
from cifar_ablations.study.commands.store_findings import Checked
from cifar_ablations.study.data import dataset
from cifar_ablations.study.data.images import Images
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.training import checkpoint
from tests.reports.conftest import ENVIRONMENT, Writer, planted_runs, small_plan

pytestmark = pytest.mark.slow

PLAN = replace(small_plan(), seeds=(0, 1))
DATA = PLAN.data.digest
OLD = Path(__file__).parents[2] / "fixtures" / "store-0.1.0.tar.xz"
LONG_AGO = 1_000_000_000
HOURS_AGO = time.time() - 2 * 3_600


@dataclass
class Kept:
    """A store with one plan and its trainings, which tests damage."""

    writer: Writer
    parent: str
    runs: list[str]

    @property
    def home(self) -> Home:
        return self.writer.store.home

    def file(self, run: str, name: str) -> Path:
        (path,) = [found for found in self.home.artifacts.rglob(name) if run in found.parts]
        return path

    def tag(self, run: str, name: str) -> str | None:
        return self.writer.client.get_run(run).data.tags.get(name)

    def frame(self) -> pd.DataFrame:
        return load.runs_of(self.writer.client, PLAN)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    writer = Writer(tmp_path / "out")
    experiment = writer.experiment(PLAN.name)
    parent = writer.invoke(experiment, PLAN)
    rows = planted_runs(PLAN).to_dict("records")[:4]
    return Kept(writer, parent, [writer.train(experiment, parent, PLAN, row) for row in rows])


def _doctor(*words: str):
    return CliRunner().invoke(app.app, ["doctor", *words], catch_exceptions=False)


def _must(found: Checked) -> list[str]:
    return [one.sentence for one in found.findings if one.must]


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_whole_store_has_nothing_to_mend_and_nothing_is_written(kept: Kept) -> None:
    before = _content(kept.home.folder)
    result = _doctor("--store")
    assert result.exit_code == 0, result.output
    assert "files        6 of 5 runs, all there and whole" in result.stdout
    assert result.stdout.endswith("Nothing must be mended.\n")
    assert _content(kept.home.folder) == before


def test_there_need_be_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for words in (["--store"], ["--repair"]):
        result = _doctor(*words)
        assert result.exit_code == 0, result.output
        assert "mlflow.db, not made yet" in result.stdout
    assert not (tmp_path / "out" / "mlflow.db").exists()


def test_a_store_of_0_1_0_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path, filter="data")
    found = store_check.check(Home(tmp_path / "out"))
    assert found.findings == []
    assert found.parts["files"]["files"] == 44
    assert found.parts["data"] == {"whole": 1}


def _a_letter(text: bytes) -> bytes:
    return text.replace(b"techniques", b"techniqueS", 1)


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "a letter": (schema.PLAN_FILE, _a_letter, "plan.json of run {} was changed or damaged since it was logged"),
    "cut short": (schema.PLAN_FILE, lambda text: text[:200], "plan.json of run {} was changed or damaged"),
    "empty": (schema.PLAN_FILE, lambda text: b"", "plan.json of run {} was changed or damaged"),
    "pictures": (schema.GALLERY_FILE, lambda text: text[:-9], "gallery.json of run {} was changed or damaged"),
    "no arrays": (schema.DETAILS_FILE, lambda text: b"", "details.npz of run {} is damaged"),
    "arrays cut": (schema.DETAILS_FILE, lambda text: text[:-30], "details.npz of run {} is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_put_aside_and_costs_no_number(kept: Kept, damage: str) -> None:
    name, change, said = DAMAGES[damage]
    run = kept.runs[0] if name == schema.DETAILS_FILE else kept.parent
    path, before = kept.file(run, name), kept.frame()
    content = change(path.read_bytes())
    path.write_bytes(content)
    result = _doctor("--store", "--json")
    (finding,) = json.loads(result.stdout)["findings"]
    assert result.exit_code == 1
    assert (finding["part"], finding["run_id"], finding["path"]) == ("files", run, str(path))
    assert finding["sentence"].startswith(said.format(run))
    assert path.read_bytes() == content, "looking writes nothing"
    mended = _doctor("--repair")
    assert mended.exit_code == 0, mended.output
    assert f"Done: {name} of run {run} is in " in mended.stdout
    aside = kept.home.damaged / path.relative_to(kept.home.folder)
    assert aside.read_bytes() == content
    assert kept.tag(run, f"{schema.SET_ASIDE}.{name}") == aside.relative_to(kept.home.folder).as_posix()
    again = json.loads(_doctor("--repair", "--json").stdout)
    assert (again["exit_code"], again["done"]) == (0, [])
    pd.testing.assert_frame_equal(kept.frame(), before)


def test_a_byte_within_the_arrays_is_found(kept: Kept) -> None:
    path = kept.file(kept.runs[0], schema.DETAILS_FILE)
    np.savez_compressed(path, correct=np.arange(1_000))
    content = bytearray(path.read_bytes())
    content[120] ^= 1
    path.write_bytes(content)
    (sentence,) = _must(store_check.check(kept.home))
    assert sentence.startswith(f"details.npz of run {kept.runs[0]} is damaged; its numbers stand")


def test_a_database_that_another_program_holds_is_not_called_damaged(kept: Kept) -> None:
    with closing(sqlite3.connect(kept.home.folder / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        (sentence,) = _must(store_check.check(kept.home))
    assert sentence == "Another program is writing to the database; look again once it has ended."


@pytest.mark.exhaustive
def test_a_changed_plan_harms_itself_alone_and_is_logged_again(kept: Kept, tmp_path: Path) -> None:
    other = replace(PLAN, name="notebook", digest="0123012301230123")
    kept.writer.invoke(kept.writer.experiment("second"), other, started=2_000)
    path = kept.file(kept.parent, schema.PLAN_FILE)
    path.write_bytes(path.read_bytes().replace(b"What is each technique worth", b"What is each technique Worth"))
    unreadable: list[str] = []
    assert [one.name for one in load.invocations(kept.writer.uri, unreadable)] == ["notebook"]
    assert unreadable == [f"plan.json of run {kept.parent} was changed or damaged since it was logged"]
    (page,) = plan_page.write_reports(kept.writer.uri, tmp_path / "pages")
    assert page.name.startswith("notebook-")
    assert not kept.writer.store.invoked(PLAN.digest, PLAN.data), "so that the next run logs it"  # type: ignore[arg-type]
    store_check.repair(kept.home, print)
    kept.writer.invoke(kept.writer.experiment(PLAN.name), PLAN, started=3_000)
    assert [one.name for one in load.invocations(kept.writer.uri)] == ["techniques", "notebook", "techniques"]
    assert store_check.check(kept.home).findings == []


def test_a_changed_search_harms_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.reports.pages.test_search_page import SearchWriter, asked_for

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    writer = SearchWriter(tmp_path)
    parents = [
        writer.search(asked_for(name, name, data=PLAN.data), started, SearchOutcomeRecord(name, (), None))
        for started, name in enumerate(("whole", "damaged"), start=1_000)
    ]
    (path,) = [one for one in tmp_path.rglob(schema.OUTCOME_FILE) if parents[1].run_id in one.parts]
    path.write_bytes(path.read_bytes() + b" ")
    unreadable: list[str] = []
    assert [one.name for one in searches.searches(writer.uri, unreadable)] == ["whole"]
    assert unreadable == [f"outcome.json of run {parents[1].run_id} was changed or damaged since it was logged"]
    assert writer.log.outcome("damaged") is None
    assert writer.log.outcome("whole") is not None
    (sentence,) = _must(store_check.check(writer.store.home))
    assert sentence.endswith("`ablate tune damaged`, with the same options, writes it again and trains nothing twice.")


def test_what_is_missing_is_named_once_and_noted_on_its_run(kept: Kept) -> None:
    kept.file(kept.runs[1], schema.DETAILS_FILE).unlink()
    kept.file(kept.parent, schema.PLAN_FILE).unlink()
    first, second = sorted(_must(store_check.check(kept.home)))
    assert first.startswith(f"details.npz of run {kept.runs[1]} is missing; its numbers stand")
    assert second.startswith(f"plan.json of run {kept.parent} is missing; `ablate run techniques`, with the same opt")
    left = store_check.repair(kept.home, print)
    assert left.code == 0
    assert [one.sentence for one in left.findings] == [second], "until the plan is logged again"
    assert kept.tag(kept.parent, f"{schema.SET_ASIDE}.{schema.PLAN_FILE}") == schema.GONE


@pytest.mark.parametrize(
    ("tag", "value", "said"),
    [
        (schema.SEED, "zero", "the tag seed input should be a valid integer"),
        (schema.DIGEST, None, "the tag digest is missing"),
        (schema.OUTCOME, "splendid", "the tag outcome is 'splendid'"),
    ],
)
def test_a_result_that_cannot_be_read_is_set_aside_and_trained_again(
    kept: Kept, tag: str, value: str | None, said: str
) -> None:
    edited, before = kept.runs[0], kept.frame()
    kept.writer.client.delete_tag(edited, tag)
    if value is not None:
        kept.writer.client.set_tag(edited, tag, value)
    (sentence,) = _must(store_check.check(kept.home))
    assert sentence.startswith(f"run {edited}: {said}")
    assert sentence.endswith("the next `ablate run` that needs it trains it again.")
    left = store_check.repair(kept.home, print)
    assert (left.findings, len(left.done), left.parts["runs"]["set_aside"]) == ([], 1, 1)
    heard: list[str] = []
    pd.testing.assert_frame_equal(
        load.runs_of(kept.writer.client, PLAN, unreadable=heard), before.iloc[1:].reset_index(drop=True)
    )
    assert heard == [], "what counts no longer is not told on every page"
    assert len(kept.writer.store.results(PLAN.data, ENVIRONMENT)) == 3  # type: ignore[arg-type]


def test_a_result_without_its_number_is_set_aside(kept: Kept) -> None:
    engine = kept.writer.client._tracking_client.store.engine
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "DELETE FROM latest_metrics WHERE run_uuid = ? AND key = ?", (kept.runs[2], schema.TEST_ACCURACY)
        )
    (sentence,) = _must(store_check.check(kept.home))
    assert sentence.startswith(f"run {kept.runs[2]}: it has ended and has no test/accuracy; the next `ablate run`")
    assert store_check.repair(kept.home, print).code == 0


def test_a_double_is_marked_and_the_one_that_counted_counts(kept: Kept) -> None:
    row, before = planted_runs(PLAN).to_dict("records")[0], kept.frame()
    experiment = kept.writer.experiment(PLAN.name)
    double = kept.writer.train(experiment, kept.parent, PLAN, row, ended=9_000)
    pd.testing.assert_frame_equal(kept.frame(), before)
    (sentence,) = _must(store_check.check(kept.home))
    assert sentence == f"run {double} and run {kept.runs[0]} are of the same training; the latter counts."
    assert store_check.repair(kept.home, print).findings == []
    assert kept.tag(double, schema.DOUBLE) == kept.runs[0]
    pd.testing.assert_frame_equal(kept.frame(), before)
    kept.writer.client.delete_run(kept.runs[0])
    assert double in set(kept.frame()["run_id"]), "the mark takes nothing from it"
    assert store_check.check(kept.home).findings == []


def test_one_that_was_trained_again_for_the_sake_of_a_metric_is_no_double(kept: Kept) -> None:
    row = planted_runs(PLAN).to_dict("records")[0]
    again = kept.writer.train(kept.writer.experiment(PLAN.name), kept.parent, PLAN, row, ended=9_000)
    kept.writer.client.log_metric(again, "of an extension", 0.5)
    assert store_check.check(kept.home).findings == []


def test_what_was_left_in_training_is_closed_and_what_was_reported_is_written(kept: Kept) -> None:
    from cifar_ablations.study.training.engine import Epoch

    row, before = planted_runs(PLAN).to_dict("records")[5], kept.frame()
    left = kept.writer.train(kept.writer.experiment(PLAN.name), kept.parent, PLAN, row | {"outcome": ""})
    kept.writer.store.epoch(left, Epoch(None, 7, {schema.VALIDATION_ACCURACY: 0.5}))  # type: ignore[arg-type]
    with kept.home.locked("training", print):
        assert _must(store_check.check(kept.home)) == [], "this process trains it"
    kept.writer.client.set_tag(left, schema.COORDINATOR, f"{os.uname().nodename}/none/1/0.00")
    (sentence,) = _must(store_check.check(kept.home))
    assert sentence.startswith("Left over: 1 run marked as running, whose process is gone and pending-own.jsonl")
    with kept.home.locked("training", print):
        (sentence,) = _must(store_check.check(kept.home))
        assert "pending-own" not in sentence, "somebody else's"
    assert store_check.repair(kept.home, print).code == 0
    assert kept.tag(left, schema.OUTCOME) == schema.INTERRUPTED
    assert kept.writer.client.get_run(left).data.metrics[schema.VALIDATION_ACCURACY] == 0.5
    assert not kept.home.pending.exists()
    pd.testing.assert_frame_equal(kept.frame(), before)


def test_a_result_whose_end_alone_was_not_written_stays_one(kept: Kept) -> None:
    run, before = kept.runs[0], kept.frame()
    kept.writer.client.update_run(run, status="RUNNING")
    kept.writer.client.set_tag(run, schema.COORDINATOR, f"{os.uname().nodename}/none/1/0.00")
    assert store_check.check(kept.home).parts["leftovers"]["runs"] == [run]
    assert store_check.repair(kept.home, print).code == 0
    assert kept.tag(run, schema.OUTCOME) == schema.FINISHED
    assert kept.writer.client.get_run(run).info.status == "FINISHED"
    after = kept.frame()
    pd.testing.assert_frame_equal(after.drop(columns=["ended", "dated"]), before.drop(columns=["ended", "dated"]))


def test_files_of_no_run_are_named_and_those_of_deleted_runs_are_not(kept: Kept) -> None:
    place = kept.file(kept.runs[0], schema.DETAILS_FILE).parents[2]
    shutil.copytree(place / kept.runs[0], place / ("0" * 32))
    (place / "a person's").mkdir()
    kept.writer.client.delete_run(kept.runs[1])
    found = store_check.check(kept.home)
    assert found.code == 0
    (note,) = found.findings
    assert note.sentence.startswith("No run of this store has the files in 1 folder (")
    assert found.parts["orphans"]["folders"] == 1
    assert store_check.repair(kept.home, print).done == []
    assert (place / ("0" * 32) / "artifacts" / schema.DETAILS_FILE).exists()


def _checkpoint(path: Path, *members: tuple[str, int]) -> None:
    header = checkpoint.FleetRecord(
        3, DATA, "2.8.0", "cpu", tuple(checkpoint.MemberRecord(one, 1.0, [], []) for one in members)
    )
    checkpoint.save(path, header, {"weights": np.arange(100.0 * len(members)).reshape(len(members), 100)})


def test_checkpoints_are_read_whole(kept: Kept) -> None:
    row = planted_runs(PLAN).iloc[0]
    ended, folder = (row["digest"], int(row["seed"])), kept.home.checkpoints
    _checkpoint(folder / "ended.npz", ended)
    _checkpoint(folder / "needed.npz", ended, (row["digest"], 77))
    _checkpoint(folder / "search-feed" / "trials.npz", ("a", 1))
    _checkpoint(folder / "broken.npz", ("a", 2))
    content = bytearray((folder / "broken.npz").read_bytes())
    content[-300] ^= 1
    (folder / "broken.npz").write_bytes(content)
    found = store_check.check(kept.home)
    assert found.parts["checkpoints"] == {"checkpoints": 4, "damaged": 1, "not_needed": 1}
    assert [one.path for one in found.findings] == [folder / "broken.npz", folder]
    left = store_check.repair(kept.home, print)
    assert left.code == 0
    assert (kept.home.damaged / "checkpoints" / "broken.npz").read_bytes() == content
    assert {path.name for path in folder.rglob("*.npz")} == {"ended.npz", "needed.npz", "trials.npz"}


def test_cached_images_are_compared_with_their_digest(kept: Kept) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8), np.arange(20) % 2
    for name in ("whole", "zeroed", "cut"):
        pictures = Images(("a", "b"), images, labels, images[:4], labels[:4])
        dataset.store(pictures, kept.home.data / name, name=name, source="drawn")
    np.save(kept.home.data / "zeroed" / "test_images.npy", np.zeros_like(images[:4]))
    (kept.home.data / "cut" / "train_labels.npy").write_bytes(b"")
    found = store_check.check(kept.home)
    assert found.parts["data"] == {"whole": 1}
    assert sum("is not a usable cache entry" in sentence for sentence in _must(found)) == 2
    assert store_check.repair(kept.home, print).code == 0
    assert sorted(path.name for path in (kept.home.damaged / "data").iterdir()) == ["cut", "zeroed"]


def test_recipes_journal_and_partial_files(kept: Kept) -> None:
    kept.home.recipes.mkdir()
    (kept.home.recipes / "mine.toml").write_text("[techniques\n")
    kept.home.journal.write_bytes(b'{"op_code": 0}\n{"op_co')
    partial = [
        kept.home.folder / ".partial-store" / "store.db",
        kept.home.checkpoints / ".partial-1",
        kept.home.reports / ".partial-2",
        kept.home.reports / ".partial-young",
        kept.home.data / ".partial-3" / "train_images.npy",
    ]
    for path in partial:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    for path in (partial[0], partial[0].parent, partial[2]):  # whoever holds the folder removes what is a day old
        os.utime(path, (HOURS_AGO, HOURS_AGO))
    for path in (partial[4], partial[4].parent):
        os.utime(path, (LONG_AGO, LONG_AGO))
    found = store_check.check(kept.home)
    parts = [one.part for one in found.findings]
    assert parts == ["recipes", "journal", "partial"]
    assert found.parts["partial"]["files"] == 4
    with kept.home.locked("training", print):
        assert store_check.check(kept.home).parts["partial"]["files"] == 3, "that checkpoint may be being written"
    left = store_check.repair(kept.home, print)
    assert (left.findings, len(left.done)) == ([], 3)
    assert kept.home.journal.read_bytes() == b'{"op_code": 0}\n'
    assert (kept.home.damaged / "recipes" / "mine.toml").read_text() == "[techniques\n"
    assert [path for path in partial if path.exists()] == [kept.home.reports / ".partial-young"]


def test_a_damaged_database_is_named_and_hides_nothing_else(kept: Kept) -> None:
    kept.writer.client._tracking_client.store.engine.dispose()
    file = kept.home.folder / "mlflow.db"
    content = bytearray(file.read_bytes())
    content[8_192:40_960] = bytes(32_768)
    file.write_bytes(content)
    kept.home.journal.write_bytes(b"{")
    found = store_check.check(kept.home)
    assert [one.part for one in found.findings] == ["database", "journal"]
    assert "mlflow.db is damaged (" in found.findings[0].sentence
    assert "put a copy in its place" in found.findings[0].sentence.lower()
    left = store_check.repair(kept.home, print)
    assert (left.code, [one.part for one in left.findings]) == (1, ["database"])
    assert file.read_bytes() == content


def test_repair_waits_for_nobody(kept: Kept) -> None:
    kept.home.journal.write_bytes(b"{")
    with kept.home.locked("running plan techniques", print):
        result = _doctor("--repair")
    assert result.exit_code == 2
    assert "running plan techniques" in result.stderr
    assert "is at work in" in result.stderr
    assert kept.home.journal.read_bytes() == b"{"


@pytest.mark.exhaustive
def test_files_that_lie_where_nobody_here_sees_them_are_counted(kept: Kept) -> None:
    engine = kept.writer.client._tracking_client.store.engine
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE runs SET artifact_uri = 'mlflow-artifacts:/1/x' WHERE run_uuid = ?", (kept.parent,)
        )
    found = store_check.check(kept.home)
    assert (found.code, found.parts["files"]["runs_unseen"]) == (0, 1)
    assert "those of 1 more lie where they cannot be seen from here" in dict(found.lines)["files"]


def test_a_store_elsewhere_is_looked_at_too(kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", kept.home.tracking_uri)
    home = Home(tmp_path / "another")
    found = store_check.check(home)
    assert (found.code, found.parts["runs"]["kinds"]) == (0, {"plan": 1, "training": 4})
    assert found.parts["orphans"] == {"folders": None, "bytes": None}


def _copied(kept: Kept, run: str, number: int) -> None:
    """Have the store hold so many more runs like one, each of a seed of its own, with its file."""
    folder = kept.file(run, schema.DETAILS_FILE).parents[1]
    with kept.writer.client._tracking_client.store.engine.begin() as connection:
        for table in ("runs", "tags", "params", "latest_metrics", "metrics"):
            asked = connection.exec_driver_sql(f"SELECT * FROM {table} WHERE run_uuid = ?", (run,))
            names, rows = list(asked.keys()), [list(row) for row in asked]
            marks = ", ".join("?" * len(names))
            copies = []
            for row in rows:
                for i in range(number):
                    values = dict(zip(names, row, strict=True)) | {"run_uuid": f"{i:032x}"}
                    if table == "runs":
                        values["artifact_uri"] = values["artifact_uri"].replace(run, f"{i:032x}")
                    if values.get("key") == schema.SEED and table == "tags":
                        values["value"] = str(1_000 + i)
                    copies.append(tuple(values.values()))
            connection.exec_driver_sql(f"INSERT INTO {table} VALUES ({marks})", copies)
    for i in range(number):
        shutil.copytree(folder, folder.with_name(f"{i:032x}"))


@pytest.mark.exhaustive
def test_a_thousand_runs_take_seconds(kept: Kept) -> None:
    _copied(kept, kept.runs[0], 1_000)
    began = time.process_time()
    found = store_check.check(kept.home)
    assert (found.code, found.parts["files"]["files"]) == (0, 1_006)
    took = time.process_time() - began
    assert took < 5, "of a processor, however busy the machine is"
