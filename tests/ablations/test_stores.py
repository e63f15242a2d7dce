"""A store that cannot be opened is one sentence, with the cause, what to do, and no password."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    REQUEST_LIMIT_EXCEEDED,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
    UNAUTHENTICATED,
)

from cifar_ablations.ablations import stores
from cifar_ablations.ablations.stores import StoreError
from cifar_ablations.reports.reading import load
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.tracking import open_store
from tests.fresh_store import put_fresh_store


@pytest.fixture(autouse=True)
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "*")


def _sentence(address: str) -> str:
    """What reading and writing say of a store, which is the same."""
    with pytest.raises(StoreError) as reading:
        load.connect(address)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(StoreError) as writing:
            open_store(Home(Path("out")))
    assert str(reading.value) == str(writing.value)
    assert str(reading.value).count("\n") == 0
    return str(reading.value)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("./mlruns", "`mlflow migrate-filestore` copies"),
        ("foo://x", "unsupported URI 'foo://x' for model registry data storage). An address begins with sqlite:///"),
        ("postgresql:/x", ". An address begins with"),
        ("mysql+nosuchdriver://anna:geheim@h/d", "install it with pip"),
        ("sqlite://", "it is in memory"),
        ("http://anna:geheim@127.0.0.1:9", "Connection refused). Does the server run"),
    ],
)
def test_an_address_that_cannot_be_one_is_a_sentence(address: str, said: str) -> None:
    sentence = _sentence(address)
    assert sentence.startswith("The MLflow store ")
    assert said in sentence
    assert sentence.endswith("Set MLFLOW_TRACKING_URI or ABLATE_HOME to name another.")
    assert "geheim" not in sentence


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:60_000])


def _of_later(file: Path) -> None:
    with sqlite3.connect(file) as database:
        database.execute("UPDATE alembic_version SET version_num = 'deadbeef'")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_cut, "The file is damaged"),
        (lambda file: file.write_text("no database at all"), "The file is damaged, or is none of MLflow's"),
        (_of_later, "found version deadbeef"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_sentence(spoil, said: str, tmp_path: Path) -> None:
    put_fresh_store(tmp_path)
    spoil(tmp_path / "mlflow.db")
    before = (tmp_path / "mlflow.db").read_bytes()
    assert said in _sentence(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert (tmp_path / "mlflow.db").read_bytes() == before


def test_tables_of_others_get_none_of_mlflows_beside_them(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mine.db") as database:
        database.execute("CREATE TABLE mine (a)")
    assert "other tables, and none of MLflow's" in _sentence(f"sqlite:///{tmp_path / 'mine.db'}")
    with sqlite3.connect(tmp_path / "mine.db") as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]


@pytest.mark.exhaustive
def test_a_store_that_another_program_writes_to_is_a_sentence(tmp_path: Path) -> None:
    put_fresh_store(tmp_path)
    with sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match=r"database is locked\). Another program is writing to it"):
            load.connect(f"sqlite:///{tmp_path / 'mlflow.db'}?timeout=0.2")


@pytest.fixture
def silent_server() -> Iterator[str]:
    """One that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        for connection in held:
            connection.close()


def test_a_server_that_never_answers_is_given_up_within_seconds(
    silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(stores.PATIENCE, "MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"Read timed out.*Does the server run"):
        load.connect(silent_server)
    assert time.monotonic() - began < 15
    assert float(stores.PATIENCE["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) <= 1


def test_other_errors_are_none_of_the_stores() -> None:
    assert stores.failing(ValueError("x")) is None
    assert stores.failing(OSError("x")) is None
    assert stores.failing(BrokenPipeError("x")) is None
    assert stores.failing(MlflowException("no such thing", INVALID_PARAMETER_VALUE)) is None
    malformed = "(sqlite3.DatabaseError) database disk image is malformed\n[SQL: SELECT 1]"
    sentence = stores.failing(MlflowException(malformed, INVALID_PARAMETER_VALUE))
    assert sentence is not None
    assert sentence.startswith("The MLflow store failed (database disk image is malformed). The file is damaged,")


@pytest.mark.parametrize(
    "error",
    [
        MlflowException("it broke", INTERNAL_ERROR),
        MlflowException("it broke", TEMPORARILY_UNAVAILABLE),
        ConnectionResetError("it broke"),
        requests.exceptions.ConnectionError("it broke"),
    ],
)
def test_what_breaks_at_the_store_is_a_sentence(error: Exception) -> None:
    sentence = stores.failing(error)
    assert sentence is not None
    assert sentence.startswith("The MLflow store failed (it broke).")


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (MlflowException("database is locked", TEMPORARILY_UNAVAILABLE), True),
        (MlflowException("no such table: runs", TEMPORARILY_UNAVAILABLE), False),
        (MlflowException("API request to http://x failed with exception"), True),
        (MlflowException("who are you?", UNAUTHENTICATED), True),
        (MlflowException("too many requests", REQUEST_LIMIT_EXCEEDED), True),
        (MlflowException("run is deleted", INVALID_PARAMETER_VALUE), False),
        (MlflowException("no such run", RESOURCE_DOES_NOT_EXIST), False),
        (requests.ConnectionError("refused"), True),
        (ValueError("a fault"), False),
    ],
)
def test_what_may_pass_is_told_from_what_does_not(error: Exception, passes: bool) -> None:
    assert stores.may_pass(error, served=True) == passes


def test_requests_are_sent_once_and_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    retries, timeout = stores.PATIENCE
    monkeypatch.setenv(retries, "5")
    monkeypatch.delenv(timeout, raising=False)
    with stores.asked_once():
        assert (os.environ[retries], os.environ[timeout]) == ("0", stores.ONE_REQUEST)
    assert (os.environ[retries], timeout in os.environ) == ("5", False)


def test_a_store_that_fails_later_is_a_sentence_too(tmp_path: Path) -> None:
    put_fresh_store(tmp_path)
    client = load.connect(f"sqlite:///{tmp_path / 'mlflow.db'}?timeout=0.2")
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("DROP TABLE experiments")
    with pytest.raises(Exception) as gone:  # noqa: PT011
        client.search_experiments()
    sentence = stores.failing(gone.value)
    assert sentence is not None
    assert sentence.startswith("The MLflow store failed (no such table")
