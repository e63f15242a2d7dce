"""Addresses of SQLite files: any path works, in MLflow too, and nothing is made beside it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from cifar_ablations.ablations import addresses
from tests.fresh_store import put_fresh_store

NAMES = [
    "plain",
    "a b",
    "a?b",
    "a%20b",
    "100%",
    "a#b",
    "a&b=c;d",
    'it\'s "quoted"',
    "a~b",
    "~",
    "a\nb",
    "é",
    "file:",
    "a?b%3Fc#d?uri=true\n",
]


@pytest.mark.parametrize("name", [*NAMES, os.fsdecode(b"not \xff UTF-8?")])
def test_an_address_leads_to_its_file_and_back(name: str, tmp_path: Path) -> None:
    file = tmp_path / name / "x.db"
    file.parent.mkdir()
    address = addresses.sqlite_address(file)
    assert addresses.sqlite_file(address) == file
    engine = create_engine(address)
    with engine.begin() as connection:
        connection.execute(text("create table t (n)"))
    engine.dispose()
    assert sorted(tmp_path.rglob("*")) == [file.parent, file]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", NAMES)
def test_mlflow_keeps_runs_and_files_in_a_folder_of_any_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.chdir(tmp_path)
    folder = put_fresh_store(tmp_path / name)
    address = addresses.sqlite_address(folder / "mlflow.db")
    client = mlflow.MlflowClient(address)
    place = (folder / addresses.ARTIFACTS / "an experiment").as_uri()
    run = client.create_run(client.create_experiment("one", artifact_location=place)).info
    client.log_text(run.run_id, "kept", "a.txt")
    (kept,) = addresses.folders(run.artifact_uri, address)
    assert (kept / "a.txt").read_text() == "kept"
    assert list(tmp_path.iterdir()) == [folder], "nothing lies beside it"
    with sqlite3.connect(folder / "mlflow.db") as database:
        assert database.execute("select count(*) from runs").fetchone() == (1,)


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("sqlite:///relative.db", "relative.db"),
        ("sqlite:////a/b%20c.db?timeout=5", "/a/b%20c.db"),
        ("sqlite+pysqlite:////a/b.db", "/a/b.db"),
        ("sqlite:///file:/a/b%3Fc.db?mode=ro&uri=true", "/a/b?c.db"),
        ("sqlite:///file:///a/b.db?uri=true", "/a/b.db"),
        ("sqlite:///:memory:", None),
        ("sqlite://", None),
        ("http://host/a.db", None),
        ("postgresql://u:p@host/a", None),
        ("./mlruns", None),
    ],
)
def test_addresses_that_others_give(address: str, file: str | None) -> None:
    assert addresses.sqlite_file(address) == (None if file is None else Path(file))


def test_files_are_looked_for_beside_the_store_and_then_where_they_were_logged(tmp_path: Path) -> None:
    logged = "file:///old/out/artifacts/an%20experiment/run/artifacts"
    before = Path("/old/out/artifacts/an experiment/run/artifacts")
    here = addresses.sqlite_address(tmp_path / "mlflow.db")
    beside = tmp_path.resolve() / "artifacts/an experiment/run/artifacts"
    assert addresses.folders(logged, here) == [beside, before]
    assert addresses.folders(logged, "sqlite:////old/out/mlflow.db") == [before]
    assert addresses.folders(logged, "http://server") == [before]
    assert addresses.folders("file:///elsewhere/run", here) == [Path("/elsewhere/run")]
    assert addresses.folders("mlflow-artifacts:/1/run/artifacts", here) == []
    assert addresses.folders("", here) == []
