"""What `ablate clean` does: shows what takes room in the output folder, by kind, and frees what is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cifar_ablations.ablations import addresses
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import PARTIAL
from cifar_ablations.ablations.naming import did_you_mean
from cifar_ablations.ablations.sizes import readable, remove, size
from cifar_ablations.reports.reading import load, stored
from cifar_ablations.study.commands import fault, folder_check
from cifar_ablations.study.store.home import Home

Say = Callable[[str], None]

KEPT = "results"
"""What is never freed: all in the folder that is of none of the other kinds."""
WIDTH = 12, 9
"""Of a kind's name, and of its size."""
SERVER_LOG = "mlflow-server.log"


@dataclass
class Kind:
    """One kind of what takes room."""

    name: str
    again: str
    """What it is, and what it costs to free it, in a few words."""
    costs: bool = False
    """Whether something is lost that a person may miss: then `--all` leaves it, and its name alone frees it."""
    paths: list[Path] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """What it takes."""
        return sum(map(size, self.paths))


@dataclass
class Room:
    """What takes room in an output folder, and what was freed of it."""

    folder: Path
    bytes: int
    kinds: list[Kind]
    freed: dict[str, int] = field(default_factory=dict)
    """Bytes, by kind."""
    said: list[str] = field(default_factory=list)
    """What a person must know about what was freed, a sentence each."""


def clean(home: Home, names: Sequence[str], all_of_them: bool, say: Say) -> Room:
    """What takes room, once the kinds that are named, or all that cost nothing, are freed; of none, writes nothing.

    Raises AblateError for a kind that there is not, and where another command holds the folder.
    """
    known = [kind.name for kind in _kinds()]
    for name in names:
        if name not in known:
            raise AblateError(f"no kind {name!r} of files that can be freed{did_you_mean(name, known)}")
    if not names and not all_of_them:
        return _look(home, held=home.is_held)
    if not home.folder.is_dir():
        return Room(home.folder, 0, _kinds())
    with home.locked("freeing room", say, wait=False):
        room = _look(home, held=False)
        for kind in room.kinds:
            if kind.paths and (kind.name in names or (all_of_them and not kind.costs)):
                room.freed[kind.name] = kind.bytes
                room.said += _lost(kind)
                for path in kind.paths:
                    remove(path)
                kind.paths = []
        for folder in (home.checkpoints, home.data, home.damaged):
            for empty in sorted([*folder.rglob("*/"), folder], reverse=True):
                with suppress(OSError):  # there is something in it
                    empty.rmdir()
    room.bytes = size(home.folder)
    return room


def show(room: Room, home: Home, say: Say) -> None:
    """Print it for a person."""
    for sentence in room.said:
        say(sentence)
    if room.freed:
        each = ", ".join(f"{name} {readable(count)}" for name, count in room.freed.items())
        say(f"{readable(sum(room.freed.values()))} are free again: {each}.")
    say(f"{readable(room.bytes)} in {home.shown(room.folder)}")
    kept = room.bytes - sum(kind.bytes for kind in room.kinds)
    rows = [(KEPT, kept, "the store, and the files of runs, searches and recipes; never freed")]
    rows += [(kind.name, kind.bytes, _row(kind)) for kind in room.kinds if kind.paths]
    for name, count, about in rows:
        say(f"  {name:<{WIDTH[0]}}{readable(count):>{WIDTH[1]}}  {about}")
    if any(kind.paths for kind in room.kinds):
        free = [kind.name for kind in room.kinds if kind.paths and not kind.costs]
        every = f"; --all what costs nothing but time to make it again ({', '.join(free)})" if free else ""
        say(f"`ablate clean KIND…` frees the kinds that it names{every}. No result is ever touched.")


def as_facts(room: Room) -> dict[str, Any]:
    """It for a program."""
    return {
        "folder": room.folder,
        "bytes": room.bytes,
        "kept_bytes": room.bytes - sum(kind.bytes for kind in room.kinds),
        "kinds": [
            {
                "name": kind.name,
                "bytes": kind.bytes,
                "about": kind.again,
                "freed_by_all": not kind.costs,
                "paths": kind.paths,
            }
            for kind in room.kinds
        ],
        "freed": room.freed,
        "notes": room.said,
    }


def _kinds() -> list[Kind]:
    return [
        Kind("checkpoints", "of what has ended, or that cannot be read; nobody needs them"),
        Kind("unfinished", "checkpoints that trainings would go on from; without, they begin anew", costs=True),
        Kind("caches", "decoded images; read, drawn or downloaded again when they are needed"),
        Kind("reports", "pages and tables; `ablate report`, or the command that made one, writes it again"),
        Kind("exports", "tables and figures; `ablate export` writes them again"),
        Kind("deleted", "files of runs that were deleted in MLflow; restored, those would lack them", costs=True),
        Kind("orphans", "files of no run of this store; another store may keep its runs' files there", costs=True),
        Kind("damaged", "what `ablate doctor --repair` put aside; the only copy", costs=True),
        Kind("logs", "of faults, and of MLflow's server"),
        Kind("torn", "what was cut off a journal, and cannot be read"),
        Kind("partial", "files that somebody began to write and left"),
    ]


def _look(home: Home, *, held: bool) -> Room:
    """held: whether another command may be at work in the folder."""
    kinds = {kind.name: kind for kind in _kinds()}
    left = folder_check.partial_files(home, held=held)
    client = _client(home)
    for saved in folder_check.checkpoints(home, client):
        kinds["unfinished" if saved.needed else "checkpoints"].paths.append(saved.path)
    kinds["caches"].paths = [
        place
        for place in sorted(home.data.glob("*"))
        if not place.name.startswith(PARTIAL) and (place.is_dir() or place.suffix == ".part")
    ]
    for name, folder in (("reports", home.reports), ("exports", home.exports), ("damaged", home.damaged)):
        kinds[name].paths = [folder] if folder.is_dir() and not folder.is_symlink() else []
    kinds["deleted"].paths = _of_deleted(home, client)
    kinds["orphans"].paths = folder_check.orphans(home, client) or []
    logs = [home.folder / fault.FOLDER, home.folder / SERVER_LOG]
    kinds["logs"].paths = [path for path in logs if path.exists()]
    from cifar_ablations.study.search.journal import TORN

    torn = home.journal.with_name(home.journal.name + TORN)
    kinds["torn"].paths = [torn] if torn.exists() else []
    # One within what another kind frees anyway is counted once.
    within = {path for kind in kinds.values() for path in kind.paths}
    kinds["partial"].paths = [path for path in left if not within & set(path.parents)]
    return Room(home.folder, size(home.folder), list(kinds.values()))


def _client(home: Home) -> Any:
    """The store; None where there is none. Raises AblateError where it cannot be read: nobody knows what is needed."""
    return load.connect(home.tracking_uri) if home.has_store else None


def _of_deleted(home: Home, client: Any) -> list[Path]:
    """The folders, in the output folder, of the runs of ours that were deleted."""
    if client is None:
        return []
    found = set()
    for run in stored.every(client, {}, deleted=True):
        for artifacts in addresses.folders(run.artifacts, home.tracking_uri):
            folder = artifacts.parent
            if folder.name == run.run_id and folder.resolve().is_relative_to(home.artifacts) and folder.is_dir():
                found.add(folder)
    return sorted(found)


def _row(kind: Kind) -> str:
    if kind.name == "caches":
        return "; ".join([kind.again, *_lost(kind)])
    return kind.again


def _lost(kind: Kind) -> list[str]:
    """What is to be known about freeing a kind, beyond what it is."""
    from cifar_ablations.study.data import dataset, official_files

    if kind.name != "caches":
        return []
    names = set()
    for path in kind.paths:
        with suppress(AblateError):
            names.add(dataset.open_cached(path).name)
    return [
        f"{official_files.TITLES[name]} is downloaded again by the next run that needs it, or brought by "
        f"`ablate data {name} --from PATH`"
        for name in sorted(names & set(official_files.TITLES))
    ]
