"""Where a store and the files of its runs lie: addresses of SQLite files from a path and back, and of moved folders."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import parse_qs, quote_from_bytes, unquote, unquote_to_bytes, urlparse
from urllib.request import url2pathname

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.naming import shown

STORE = "mlflow.db"
"""In an output folder, its store, where no other address is named."""
ARTIFACTS = "artifacts"
"""In an output folder, beside the store, the folder with the files of runs."""


def sqlite_address(file: Path) -> str:
    """The address of a SQLite file as MLflow, Optuna and SQLAlchemy take it.

    They take a path as it is, up to the first "?". A path that has one is written as SQLite's own kind of address, and
    the driver is named, or MLflow would make folders after it.
    """
    if "?" not in str(file):
        return f"sqlite:///{file}"
    return f"sqlite+pysqlite:///file:{quote_from_bytes(os.fsencode(file))}?uri=true"


def sqlite_file(address: str) -> Path | None:
    """The file of a SQLite address; None for another kind of address, and for a store in memory."""
    place, _, options = address.partition("?")
    scheme, _, file = place.partition(":///")
    if not scheme.startswith("sqlite") or file in ("", ":memory:"):
        return None
    if "uri" in parse_qs(options):
        file = os.fsdecode(unquote_to_bytes(urlparse(file).path))
    return Path(file)


def store_address(place: str) -> str:
    """The address of an output folder's own store, or the address itself.

    Raises AblateError for a folder of a user that there is not, and for links that lead in a circle.
    """
    if "://" in place:
        return place
    try:
        return sqlite_address((Path(place).expanduser() / STORE).resolve())
    except (OSError, RuntimeError) as error:
        raise AblateError(f"{shown(place)} cannot be an output folder: {error}") from None


def folder(address: str) -> Path:
    """The folder of an address that begins with file://."""
    return Path(url2pathname(urlparse(address).path))  # of file:///C:/…, on Windows, C:\…


def moved(address: str, artifacts: Path) -> Path | None:
    """Where files that were logged at an address would lie had they moved with their output folder.

    artifacts: its folder of files now. None where they were logged elsewhere than in such a folder.
    """
    _, found, below = address.rpartition(f"/{ARTIFACTS}/")
    return artifacts / unquote(below) if found and address.startswith("file://") else None


def folders(address: str, store: str) -> list[Path]:
    """Where the files may lie that a run logged to a folder of this machine, the likeliest place first.

    address: of the run's files; store: of its store. A folder beside a SQLite file comes first: the output folder may
    have been moved, or be a copy of one that is still there. Empty for files that are no folder's of this machine.
    """
    if not address.startswith("file://"):
        return []
    logged, file = folder(address), sqlite_file(store)
    beside = moved(address, Path(os.path.abspath(file)).parent / ARTIFACTS) if file is not None else None
    return list(dict.fromkeys([beside or logged, logged]))
