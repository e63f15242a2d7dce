"""What `ablate doctor --store` looks at in the output folder beside the store: artifacts that no run has, checkpoints,
data, adopted recipes, the searches' journal and files that were left half-written.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_ablations.ablations import addresses, schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import PARTIAL
from cifar_ablations.ablations.sizes import readable, size
from cifar_ablations.reports.reading import order, stored
from cifar_ablations.reports.reading.stored import Stored
from cifar_ablations.study.commands.store_findings import Checked, Finding, Seen, counted
from cifar_ablations.study.store.home import Home

if TYPE_CHECKING:
    from cifar_ablations.study.store.tracking import Store
    from cifar_ablations.study.training.checkpoint import FleetRecord

LEFT_SECONDS = {"data": 24 * 3600.0, "checkpoints": 0.0}
"""How long nobody has written to a partial file that somebody left, by the folder in the output folder: data are read,
and pages written, by commands that do not hold it."""
LEFT = 3600.0
"""The same anywhere else."""


def check_orphans(found: Checked, seen: Seen) -> None:
    places = orphans(seen.home, seen.client)
    if places is None:
        found.count("orphans", "not looked for: the store is not the output folder's own", folders=None, bytes=None)
        return
    total = sum(size(place) for place in places)
    if places:
        sentence = (
            f"No run of this store has the files in {counted(len(places), 'folder')} ({readable(total)}) of "
            f"{seen.home.shown(seen.home.artifacts)}. Where no other store keeps its files there, "
            "`ablate clean orphans` frees the room."
        )
        found.findings.append(Finding("orphans", sentence, must=False, path=seen.home.artifacts))
    found.count("orphans", f"{len(places) or 'none'}", folders=len(places), bytes=total)


def orphans(home: Home, client: Any) -> list[Path] | None:
    """Folders with the files of runs that the output folder's own store does not have, not even as deleted ones.

    None where the store is another one: others may have files there too. client: None where it cannot be read.
    """
    file = addresses.sqlite_file(home.tracking_uri)
    engine = stored.database(client) if client is not None else None
    if engine is None or file is None or file.parent.resolve() != home.folder:
        return None
    known = stored.run_ids(engine)
    places = home.artifacts.glob("*/*/")
    return sorted(place for place in places if re.fullmatch("[0-9a-f]{32}", place.name) and place.name not in known)


@dataclass(frozen=True)
class Saved:
    """A checkpoint: its header, None where the file cannot be read, and whether anybody needs it."""

    path: Path
    header: FleetRecord | None
    needed: bool


def checkpoints(home: Home, client: Any) -> list[Saved]:
    """All checkpoints. Needed are those of trainings and searches that have not ended.

    client: of the store, by which that is known; None where it cannot be read.
    """
    from cifar_ablations.study.training import checkpoint

    files = sorted(home.checkpoints.rglob(f"*{checkpoint.SUFFIX}"))
    files = [file for file in files if not file.name.startswith(PARTIAL)]
    if not files:
        return []
    trained, searches = set[tuple[str, str, str]](), dict[str, Stored]()
    for run in stored.find(client, {}) if client is not None else []:
        tags = run.tags
        if tags.get(schema.KIND) == schema.KIND_TRAINING and tags.get(schema.OUTCOME) in schema.RESULTS:
            trained.add((tags.get(schema.DATA_DIGEST, ""), tags.get(schema.DIGEST, ""), tags.get(schema.SEED, "")))
        elif tags.get(schema.KIND) == schema.KIND_SEARCH:
            digest = f"search-{tags.get(schema.SEARCH_DIGEST, '')}"
            searches[digest] = max(run, searches.get(digest, run), key=lambda r: (order.number(r.tags), r.started))
    found = []
    for file in files:
        header = checkpoint.whole(file)
        if file.parent == home.checkpoints:
            needed = header is not None and any(
                (header.data, one.identity[0], str(one.identity[1])) not in trained for one in header.members
            )
        else:
            last = searches.get(file.parent.name)
            needed = header is not None and (last is None or last.status not in ("FINISHED", "FAILED"))
        found.append(Saved(file, header, needed))
    return found


def check_checkpoints(found: Checked, seen: Seen) -> None:
    home = seen.home
    saved = checkpoints(home, seen.client)
    broken = [one.path for one in saved if one.header is None]
    idle = [one.path for one in saved if one.header is not None and not one.needed]
    if not seen.held:
        for path in broken:
            sentence = f"{home.shown(path)} cannot be read; what it held goes on from its beginning."
            found.findings.append(Finding("checkpoints", sentence, mend=partial(_aside, home, path), path=path))
    if idle:
        sentence = (
            f"{counted(len(idle), 'checkpoint')} ({readable(sum(map(size, idle)))}) of what has ended: nobody needs "
            "them, and `ablate clean checkpoints` frees the room."
        )
        found.findings.append(Finding("checkpoints", sentence, must=False, path=home.checkpoints))
    line = f"{len(saved) or 'none'}{f', {len(broken)} damaged' if broken else ''}"
    found.count("checkpoints", line, checkpoints=len(saved), damaged=len(broken), not_needed=len(idle))


def _aside(home: Home, path: Path, store: Store | None) -> str:
    from cifar_ablations.study.store import mending

    to = mending.put_aside(home, path)
    shown = home.shown(path)
    return f"{shown} is in {home.shown(to)} now." if to else f"{shown} is a link to another folder, and is left there."


def check_data(found: Checked, seen: Seen) -> None:
    from cifar_ablations.study.data import dataset

    home, whole = seen.home, 0
    for meta in sorted(home.data.glob(f"*/{dataset.META_FILE}")):
        entry = meta.parent
        if entry.name.startswith(PARTIAL):
            continue
        try:
            dataset.checked(dataset.open_cached(entry))
            whole += 1
        except AblateError as error:
            mend = partial(_aside, home, entry)
            found.findings.append(Finding("data", f"{home.shown(home.data)}: {error}", mend=mend, path=entry))
    told = f"{counted(whole, 'data set')} with the images that their digests name" if whole else "none"
    found.count("data", told, whole=whole)


def check_recipes(found: Checked, seen: Seen) -> None:
    from cifar_ablations.ablations import adopted

    home, whole = seen.home, 0
    for file in sorted(home.recipes.glob(f"*{adopted.SUFFIX}")):
        try:
            adopted.read(file)
            whole += 1
        except AblateError as error:
            sentence = f"{error}. Correct it; `ablate adopt` writes a search's again."
            found.findings.append(Finding("recipes", sentence, mend=partial(_aside, home, file), path=file))
    found.count("recipes", f"{whole or 'none'}", recipes=whole)


def check_journal(found: Checked, seen: Seen) -> None:
    from cifar_ablations.study.search import journal

    file = seen.home.journal
    if not seen.held and (torn := journal.torn(file)):
        sentence = f"{torn}. The next `ablate tune` keeps the former, and puts the rest beside."
        found.findings.append(Finding("journal", sentence, mend=lambda store: journal.mend(file), path=file))
    found.count("journal", readable(size(file)) if file.exists() else "none", bytes=size(file))


def partial_files(home: Home, *, held: bool) -> list[Path]:
    """Files and folders that somebody began to write and left, as when a process was killed.

    held: whether another command may be at work in the output folder.
    """
    return [path for path in _begun(home) if _age(path) > _left_after(home, path, held)]


def _begun(home: Home) -> list[Path]:
    folders = (place for place in home.folder.glob("*") if place.is_dir() and place != home.damaged)
    found = [*home.folder.glob(f"{PARTIAL}*"), *(path for place in folders for path in place.rglob(f"{PARTIAL}*"))]
    return sorted({path for path in found if not any(above in found for above in path.parents)})


def _left_after(home: Home, path: Path, held: bool) -> float:
    place = path.relative_to(home.folder).parts[0]
    return LEFT if held and place == "checkpoints" else LEFT_SECONDS.get(place, LEFT)


def _age(path: Path) -> float:
    """Seconds since something was last written to a file, or to any within a folder."""
    times = []
    for one in (path, *path.rglob("*")):
        with suppress(OSError):
            times.append(one.lstat().st_mtime)
    return time.time() - max(times, default=time.time())


def check_partial(found: Checked, seen: Seen) -> None:
    left = partial_files(seen.home, held=seen.held)
    if left:
        sentence = f"{counted(len(left), 'file')} that somebody began to write and left ({readable(_sum(left))})."
        mend = partial(_remove, left)
        found.findings.append(Finding("partial", sentence, mend=mend, path=left[0]))
    found.count("partial", f"{len(left) or 'none'}", files=len(left), bytes=_sum(left))


def _sum(paths: Iterable[Path]) -> int:
    return sum(map(size, paths))


def _remove(paths: list[Path], store: Store | None) -> str:
    from cifar_ablations.ablations.sizes import remove

    room = _sum(paths)
    for path in paths:
        remove(path)
    return f"{counted(len(paths), 'file')} that somebody began to write and left are removed ({readable(room)})."
