"""`ablate doctor`: on an empty folder, with a broken store, where nothing can be written; it changes nothing."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from typer.testing import CliRunner

from cifar_ablations.ablations import schema
from cifar_ablations.study.commands import app, doctor
from cifar_ablations.study.commands.doctor import Examined, Odd
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.training.kernels import build
from tests.fresh_store import put_fresh_store
from tests.reports.conftest import Writer, planted_runs, small_plan


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    monkeypatch.setenv("ABLATE_DATA", "synthetic")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(doctor, "SPEED_SECONDS", 0.0)
    monkeypatch.setattr(doctor, "_load", lambda: 0.1)
    return Home()


def _doctor(*words: str):
    return CliRunner().invoke(app.app, ["doctor", *words], catch_exceptions=False)


def _part(look, *arguments) -> Examined:
    found = Examined()
    with doctor._by_itself(found, "this"):
        look(found, *arguments)
    return found


def test_on_an_empty_folder_it_looks_at_everything_and_writes_nothing(home: Home) -> None:
    result = _doctor()
    assert result.exit_code == 0, result.output
    names = [line[: doctor.WIDTH].strip() for line in result.stdout.splitlines()]
    parts = ["versions", "machine", "device", "kernels", "folder", "store", "data", "speed"]
    assert [name for name in names if name in parts] == parts
    assert f"mlflow.db, not made yet\ndata{' ' * 8}nothing kept yet; ABLATE_DATA=synthetic" in result.stdout
    assert not home.folder.exists()


def test_a_document_has_the_same_in_numbers(home: Home) -> None:
    document = json.loads(_doctor("--json").stdout)
    assert document["exit_code"] == 0
    assert document["speed"]["images_per_second"] > 0
    assert document["machine"]["cores"] >= 1
    assert document["machine"]["memory_bytes"] == psutil.virtual_memory().total
    assert document["folder"]["path"] == str(home.folder)
    assert document["versions"]["packages"]["torch"]
    assert document["store"] == {
        "address": home.tracking_uri,
        "readable": None,
        "bytes": None,
        "runs": {},
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"this is no database, however long it may be" * 40, "The file is damaged, or is none of MLflow's"),
        (b"", "mlflow.db is empty, and no store: delete it"),
    ],
)
def test_a_broken_store_is_to_be_mended_and_hides_nothing_else(home: Home, content: bytes, said: str) -> None:
    home.folder.mkdir()
    (home.folder / "mlflow.db").write_bytes(content)
    result = _doctor("--json")
    document = json.loads(result.stdout)
    assert result.exit_code == document["exit_code"] == 1
    (broken,) = (one for one in document["odd"] if one["must"])
    assert said in broken["sentence"]
    assert document["store"]["readable"] is False
    assert document["store"]["error"] == broken["sentence"]
    assert document["speed"]["images_per_second"] > 0
    assert (home.folder / "mlflow.db").read_bytes() == content


def test_runs_are_counted_by_what_became_of_them(home: Home) -> None:
    writer, plan = Writer(home.folder), replace(small_plan(), seeds=(0,))
    experiment = writer.experiment(plan.name)
    parent = writer.invoke(experiment, plan)
    rows = planted_runs(plan).to_dict("records")
    for row, outcome in zip(rows, (schema.FINISHED, schema.FINISHED, schema.FAILED, ""), strict=False):
        writer.train(experiment, parent, plan, row | {"outcome": outcome})
    found = _part(doctor._store)
    assert found.parts["store"]["runs"] == {"finished": 2, "failed": 1, "running": 1}
    assert found.parts["store"]["bytes"] >= (home.folder / "mlflow.db").stat().st_size
    (odd,) = found.odd
    assert odd.sentence.startswith("1 trainings are marked as running, and no command holds the folder")
    with home.locked("training", print):
        assert _part(doctor._store).odd == []


def test_no_password_is_shown(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@127.0.0.1:9/none")
    found = _part(doctor._store)
    told = json.dumps(found.parts) + " ".join(one.sentence for one in found.odd) + str(found.lines)
    assert found.code == 1
    assert "me:***@127.0.0.1" in told
    assert "secret" not in told


def test_a_folder_that_cannot_be_made_is_to_be_mended(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "file" / "out"))
    found = _part(doctor._folder)
    assert found.code == 1
    assert "cannot be written to" in found.odd[0].sentence
    assert "file is a file" in found.odd[0].sentence


def test_little_room_is_odd_and_hardly_any_must_be_mended(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, odd, code in ((10e9, 0, 0), (1e9, 1, 0), (1e8, 1, 1)):
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=int(free)))
        found = _part(doctor._folder)
        assert (len(found.odd), found.code) == (odd, code)


def test_a_busy_machine_and_little_memory_are_odd(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "cpu_count", lambda: 4)
    assert not _part(doctor._machine, 0.5).odd
    (busy,) = _part(doctor._machine, 3.2).odd
    assert busy.sentence.startswith("Other programs are at work (load 3.2 on 4 cores)")
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: SimpleNamespace(available=10**9, total=4 * 10**9))
    (memory,) = _part(doctor._machine, None).odd
    assert memory.sentence.startswith("1.0 GB of memory are free, and ")
    assert not memory.must


def test_data_that_are_not_there_are_to_be_mended(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not _part(doctor._data).odd
    monkeypatch.setenv("ABLATE_DATA", "/no/such/folder")
    assert _part(doctor._data).code == 1
    monkeypatch.delenv("ABLATE_DATA")
    found = _part(doctor._data)
    assert found.code == 0
    assert found.odd[0].sentence.startswith("CIFAR-10 is not here yet: the first run downloads it")


def test_data_that_are_kept_are_listed(home: Home, tiny_data, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tiny_data.folder is not None
    home.data.mkdir(parents=True)
    os.symlink(tiny_data.folder, home.data / "tiny")
    (home.data / "broken").mkdir()
    (home.data / "broken" / "meta.json").write_text("{")
    found = _part(doctor._data)
    (kept,) = found.parts["data"]["kept"]
    assert (kept["name"], kept["digest"], kept["training_images"]) == ("tiny", tiny_data.digest, 200)
    assert [one.sentence for one in found.odd if "broken is not a usable cache entry" in one.sentence]


def test_why_there_are_no_kernels_is_said(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_of_torch", lambda: SimpleNamespace(type="cpu"))
    monkeypatch.setenv("CXX", "no-such-compiler")
    build.library_path.cache_clear()
    build.library.cache_clear()
    try:
        found = _part(doctor._kernels)
    finally:
        build.library_path.cache_clear()
        build.library.cache_clear()
    assert found.parts["kernels"]["built"] is False
    assert found.odd == [Odd("Torch trains, which is slower: CXX=no-such-compiler is no program.")]


@pytest.mark.parametrize("why", ["", "Triton, which compiles the kernels, is not installed"])
def test_on_a_gpu_it_is_triton_that_compiles(home: Home, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_of_torch", lambda: SimpleNamespace(type="cuda"))
    monkeypatch.setattr("cifar_ablations.study.training.gpu.obstacle", lambda device: why)
    found = _part(doctor._kernels)
    assert (found.parts["kernels"]["built"], found.parts["kernels"]["obstacle"]) == (not why, why or None)
    assert [one.sentence for one in found.odd] == ([f"Torch trains, which is slower: {why}."] if why else [])


def test_a_package_that_is_too_old_is_to_be_mended(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not _part(doctor._versions).odd
    asked = ["numpy>=99", "no-such-package-at-all", 'typer>=99; python_version < "3"', 'rich>=99; extra == "dev"']
    monkeypatch.setattr(doctor, "requires", lambda name: asked)
    found = _part(doctor._versions)
    old, missing = (one.sentence for one in found.odd)
    assert found.code == 1
    assert old.startswith("numpy is at ")
    assert old.endswith(', and numpy>=99 is needed: pip install "numpy>=99".')
    assert missing.startswith("no-such-package-at-all is not installed")


def test_a_part_that_breaks_hides_no_other(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(found: Examined) -> None:
        raise RuntimeError("of the system\nand more")

    monkeypatch.setattr(doctor, "_device", broken)
    put_fresh_store(home.folder)
    result = _doctor()
    assert result.exit_code == 0
    assert "Odd: The device could not be looked at (RuntimeError: of the system)." in result.stdout
    assert "no trainings; read in" in result.stdout
    assert result.stdout.splitlines()[-1] == "Nothing keeps `ablate run` from working."
