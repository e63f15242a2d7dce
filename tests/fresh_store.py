"""An MLflow store without runs, made once and copied.

MLflow creates the tables of a fresh SQLite store migration by migration, which takes a second or more each time.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
import warnings
from pathlib import Path


def put_fresh_store(folder: Path) -> Path:
    """The folder, with a store in it that has its tables and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mlflow.db").write_bytes(_migrated())
    return folder


@functools.cache
def _migrated() -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mlflow's own, on import
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    folder = Path(tempfile.mkdtemp(prefix="fresh-store-"))
    try:
        store = SqlAlchemyStore(f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri())
        store.engine.dispose()
        return (folder / "mlflow.db").read_bytes()
    finally:
        shutil.rmtree(folder)
