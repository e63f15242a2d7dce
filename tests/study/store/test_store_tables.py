"""The tables of a fresh store appear whole or not at all, whatever stops MLflow while it makes them."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import mlflow
import pytest
from sqlalchemy import Engine, create_engine, event

from cifar_ablations.ablations.addresses import sqlite_file
from cifar_ablations.study.store import store_tables
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.store_tables import make_tables, wait_for_others
from cifar_ablations.study.store.tracking import open_store
from tests.fresh_store import put_fresh_store


@contextmanager
def _stopped_at_statement(number: int) -> Iterator[None]:
    """Within it, Ctrl-C comes at that statement of SQL from now on."""
    count = 0

    def counted(*_: object) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise KeyboardInterrupt

    event.listen(Engine, "before_cursor_execute", counted)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", counted)


@pytest.mark.parametrize("statement", [5, 400])
def test_ctrl_c_while_tables_are_made_leaves_no_half_of_them(statement: int, tmp_path: Path) -> None:
    home = Home(tmp_path / "out")
    home.check_writable()
    with pytest.raises(KeyboardInterrupt), _stopped_at_statement(statement):
        open_store(home)
    assert list(home.folder.iterdir()) == []


STOPPED_EARLY = "UPDATE alembic_version SET version_num = '451aebb31d03'"
HALF_MADE = (
    "DELETE FROM alembic_version",
    STOPPED_EARLY,
    f"DELETE FROM experiments; {STOPPED_EARLY}; CREATE TABLE _alembic_tmp_runs (x TEXT)",
)


@pytest.mark.parametrize("statements", HALF_MADE)
def test_half_of_them_from_an_earlier_version_are_made_anew(
    statements: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_tables, "SqlAlchemyStore", CopiedStore)  # MLflow's own takes seconds
    home = Home(put_fresh_store(tmp_path / "out"))
    with closing(sqlite3.connect(home.folder / "mlflow.db")) as database:
        database.executescript(statements)
    (home.folder / "mlflow.db-journal").write_bytes(b"of the file that goes")
    store = open_store(home)
    assert [one.name for one in store.client.search_experiments()] == ["Default"]
    assert [file.name for file in home.folder.iterdir()] == ["mlflow.db"]


class CopiedStore:
    """A store whose tables MLflow has made before."""

    def __init__(self, address: str, artifacts: str):
        file = sqlite_file(address)
        assert file is not None
        put_fresh_store(file.parent)
        (file.parent / "mlflow.db").rename(file)
        self.engine = create_engine(address)


@pytest.mark.exhaustive
def test_ours_are_those_that_mlflow_makes(tmp_path: Path) -> None:
    assert make_tables(f"sqlite:///{tmp_path / 'other.db'}", tmp_path / "artifacts")
    put_fresh_store(tmp_path)
    assert _names(tmp_path / "other.db") == _names(tmp_path / "mlflow.db")


def _names(file: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(file)) as database:
        return sorted(database.execute("SELECT type, name FROM sqlite_master"))


def test_a_store_with_anything_in_it_is_left_as_it_is(tmp_path: Path) -> None:
    uri = Home(put_fresh_store(tmp_path)).tracking_uri
    assert not make_tables(uri, tmp_path)
    mlflow.MlflowClient(tracking_uri=uri).create_experiment("mine")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.executescript(STOPPED_EARLY)
    before = (tmp_path / "mlflow.db").read_bytes()
    assert not make_tables(uri, tmp_path)
    assert (tmp_path / "mlflow.db").read_bytes() == before


@pytest.mark.parametrize("content", [b"no database", None])
def test_what_is_no_store_is_left_as_it_is(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    if content is None:
        with closing(sqlite3.connect(file)) as database:
            database.executescript("CREATE TABLE mine (x TEXT)")
    else:
        file.write_bytes(content)
    before = file.read_bytes()
    assert not make_tables(f"sqlite:///{file}", tmp_path)
    assert file.read_bytes() == before


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "postgresql://somewhere/mlflow", "sqlite://"])
def test_other_kinds_of_store_make_their_own(address: str, tmp_path: Path) -> None:
    assert not make_tables(address, tmp_path)


def test_a_file_that_another_program_writes_to_is_waited_for_and_said_once(tmp_path: Path) -> None:
    address = f"sqlite:///{put_fresh_store(tmp_path) / 'mlflow.db'}"
    said: list[str] = []
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        ending = threading.Timer(0.7, other.execute, ["ROLLBACK"])
        ending.start()
        wait_for_others(address, said.append)
        ending.join()
    (sentence,) = said
    assert sentence.startswith("Another program is writing to ")
    wait_for_others(address, said.append)
    wait_for_others("http://127.0.0.1:9", said.append)
    wait_for_others(f"sqlite:///{tmp_path / 'none.db'}", said.append)
    assert said == [sentence]


def test_a_store_is_opened_once_no_other_program_holds_its_file(tmp_path: Path) -> None:
    home = Home(put_fresh_store(tmp_path))
    said: list[str] = []
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        ending = threading.Timer(0.7, other.execute, ["ROLLBACK"])
        ending.start()
        assert open_store(home, said.append).client.search_experiments()
        ending.join()
    (sentence,) = said
    assert sentence.startswith("Another program is writing to ")
