"""What mends a store: damaged files are put aside, and runs say what became of them. Nothing is deleted."""

from __future__ import annotations

import os
import shutil
from itertools import count
from pathlib import Path

from cifar_ablations.ablations import schema
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.store.tracking import Store


def put_aside(home: Home, path: Path) -> Path | None:
    """Move a file or folder of the output folder to `Home.damaged`, under the path that it had; returns where it is.

    None for one of another folder, as where an output folder was copied and its files were not: it is left alone. Hold
    the folder's lock.
    """
    folder = home.folder
    if not path.parent.resolve().is_relative_to(folder):
        return None
    place = home.damaged / path.parent.resolve().relative_to(folder) / path.name
    places = (place.with_name(f"{place.name}{f'.{number}' if number > 1 else ''}") for number in count(1))
    to = next(one for one in places if not os.path.lexists(one))
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, to)
    return to


def note_file(store: Store, run_id: str, name: str, to: Path | None) -> None:
    """Have a run say that one of its files was put aside; to: where, None where it is gone."""
    place = schema.GONE if to is None else to.relative_to(store.home.folder).as_posix()
    store.client.set_tag(run_id, f"{schema.SET_ASIDE}.{name}", place)


def set_run_aside(store: Store, run_id: str, why: str) -> None:
    """Have a run count no longer; in MLflow it stays as it is. What it was a run of is trained again."""
    store.client.set_tag(run_id, schema.SET_ASIDE, why)


def note_double(store: Store, run_id: str, counting: str) -> None:
    """Have a run say that it is a second one of what another run is already."""
    store.client.set_tag(run_id, schema.DOUBLE, counting)
