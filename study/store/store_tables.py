"""The tables of a store that is a new SQLite file: made aside, and moved into place whole.

MLflow makes them migration by migration in the file itself. What is stopped in between, by Ctrl-C or a power cut, would
leave a file that MLflow can never open again.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import mlflow
from alembic.script import ScriptDirectory
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from cifar_ablations.ablations import addresses
from cifar_ablations.ablations.files import PARTIAL, sync_folder

BESIDE = ("-journal", "-wal", "-shm")
"""End the names of the files that SQLite keeps beside one that is being written, and would apply to its successor."""

OF_NO_RUN = {"alembic_version", "experiments", "workspaces"}
"""Tables that MLflow itself fills, the second with its one default experiment."""


def make_tables(address: str, artifacts: Path) -> bool:
    """Give the SQLite file of an address MLflow's tables, where it has none, or half of them and no run.

    artifacts: the folder for files of runs in MLflow's default experiment. Returns whether they were made. To be called
    whoever holds the store's lock. Another kind of store is left as it is, and so is a file with anything in it.
    """
    file = addresses.sqlite_file(address)
    if file is None or not _is_unused(file):
        return False
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=file.parent) as folder:
        made = Path(folder) / "store.db"
        store = SqlAlchemyStore(addresses.sqlite_address(made), artifacts.as_uri())  # type: ignore[no-untyped-call]
        store.engine.dispose()
        with made.open("rb+") as written:
            os.fsync(written.fileno())
        for ending in BESIDE:
            file.with_name(file.name + ending).unlink(missing_ok=True)
        os.replace(made, file)
    sync_folder(file.parent)
    return True


def wait_for_others(address: str, say: Callable[[str], None]) -> None:
    """Wait while another program is writing to the SQLite file of an address, and say so. Another kind of store, and a
    file that is none, are left to whoever opens it."""
    file = addresses.sqlite_file(address)
    said = False
    while file is not None and file.is_file() and _is_locked(file):
        if not said:
            say(f"Another program is writing to {os.path.relpath(file)}; waiting for it (Ctrl-C to stop waiting).")
        said = True
        time.sleep(0.5)


def _is_locked(file: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True, timeout=0)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.rollback()
    except sqlite3.Error as error:
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return False


def _is_unused(file: Path) -> bool:
    """Whether a file is not there, or is a database without any content but tables that MLflow did not finish."""
    if not file.exists() or file.stat().st_size == 0:
        return not file.is_dir()
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "experiments" not in tables:  # MLflow's first; without it they are somebody else's
            return False
        filled = {name for name in tables if database.execute(f'SELECT EXISTS (SELECT 1 FROM "{name}")').fetchone()[0]}
        if not filled <= OF_NO_RUN:
            return False
        if "experiments" in filled and database.execute("SELECT COUNT(*) FROM experiments").fetchone()[0] > 1:
            return False
        if "alembic_version" not in filled:
            return True
        (version,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
        scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
        earlier = {script.revision for script in scripts.walk_revisions()} - {scripts.get_current_head()}
        return version in earlier  # one that is not known is a later MLflow's
    return False
