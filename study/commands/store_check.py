"""What `ablate doctor --store` does: goes through all that lies in a store and its output folder, and names what is
damaged, twice there or left over. It writes nothing; `repair` mends what can be mended, and deletes no person's data.
"""

from __future__ import annotations

import io
import math
import re
import sqlite3
import struct
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_ablations.ablations import addresses, checksums, record, schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import PARTIAL
from cifar_ablations.ablations.record import RecordError
from cifar_ablations.ablations.secrets import without_password
from cifar_ablations.ablations.sizes import readable, size
from cifar_ablations.ablations.training_key import TrainingKey, same_training
from cifar_ablations.reports.reading import load, order, stored
from cifar_ablations.reports.reading.stored import Stored
from cifar_ablations.study.store.home import Home

if TYPE_CHECKING:
    from cifar_ablations.study.store.tracking import Store
    from cifar_ablations.study.training.checkpoint import FleetRecord

Say = Callable[[str], None]
Mend = Callable[[Any], str]
"""Takes the store (None where it cannot be opened), mends, and returns a sentence that says what was done."""

WIDTH = 13
"""Of the names beside what was found."""
SHOWN = 10
"""Sentences of a part that a person is shown; a document has all."""
LEFT_SECONDS = {"data": 24 * 3600.0, "checkpoints": 0.0}
"""How long nobody has written to a partial file that somebody left, by the folder in the output folder: data are read,
and pages written, by commands that do not hold it."""
LEFT = 3600.0
"""The same anywhere else."""
MOST_BYTES = 1 << 30
"""Of the arrays of a training; a file that says that it has more is damaged."""
BROKEN_ARRAYS = (
    OSError,
    EOFError,
    KeyError,
    ValueError,
    RuntimeError,  # an encrypted member, and a compression that there is not
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)

OF_RUNS: Mapping[str, type[Any] | None] = {
    schema.KIND_PLAN: record.PlanParentRecord,
    schema.KIND_SEARCH: record.SearchParentRecord,
    schema.KIND_TRAINING: record.RunRecord,
    schema.KIND_TRIAL: record.TrialRecord,
    schema.KIND_ARM: None,
    schema.KIND_FOUNDATIONS: None,
    schema.KIND_FOUNDATION: None,
}
"""What the tags of a run of each kind say."""
OF_FILES: Mapping[str, type[Any]] = {
    schema.PLAN_FILE: record.PlanRecord,
    schema.GALLERY_FILE: record.GalleryRecord,
    schema.SEARCH_FILE: record.SearchRecord,
    schema.OUTCOME_FILE: record.SearchOutcomeRecord,
    schema.DEMONSTRATION_FILE: record.DemonstrationRecord,
}
"""What is in a run's files that are JSON."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be, and what to do about it, in a sentence or two."""

    part: str
    sentence: str
    must: bool = True
    """Whether it must be mended; else it is good to know."""
    mend: Mend | None = None
    """What mends it; None where only a person can."""
    run_id: str = ""
    path: Path | None = None


@dataclass
class Checked:
    """What was found, part by part: for a program in numbers, and a line of each for a person."""

    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: list[tuple[str, str]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    """What was mended, a sentence each."""

    def count(self, part: str, line: str, **facts: Any) -> None:
        """Add what was counted of a part."""
        self.parts.setdefault(part, {}).update(facts)
        self.lines.append((part, line))

    @property
    def code(self) -> int:
        """The exit code: 1 where something must be mended."""
        return int(any(one.must for one in self.findings))


@dataclass
class _Seen:
    """What the checks read once: the store, where it can be read, and our runs in it."""

    home: Home
    held: bool
    """Whether another command may be at work in the output folder."""
    client: Any = None
    """Of the store; None where it cannot be read."""
    all: list[Stored] = field(default_factory=list)
    """Runs that were not deleted, with those that were set aside."""
    records: dict[str, Any] = field(default_factory=dict)
    """By run id, what the tags of those say that can be read."""

    @property
    def runs(self) -> list[Stored]:
        """Those that count."""
        return [run for run in self.all if schema.counts(run.tags)]

    def of_kind(self, kind: str) -> list[Stored]:
        """Those of a kind whose tags can be read."""
        return [run for run in self.runs if run.tags.get(schema.KIND) == kind and run.run_id in self.records]

    def path(self, run: Stored, name: str) -> Path | None:
        """Where a file of a run lies on this machine; None where there is no such file."""
        places = addresses.folders(run.artifacts, self.home.tracking_uri)
        return next((folder / name for folder in places if (folder / name).exists()), None)


def check(home: Home, *, held: bool | None = None) -> Checked:
    """Look at everything, in this order; writes nothing.

    held: whether another command may be at work in the output folder; None: find out.
    """
    found, seen = Checked(), _Seen(home, home.is_held if held is None else held)
    looks: tuple[tuple[str, Callable[[Checked, _Seen], None], bool], ...] = (
        ("database", _database, False),
        ("runs", _runs, True),
        ("files", _files, True),
        ("doubles", _doubles, True),
        ("leftovers", _leftovers, True),
        ("orphans", _orphans, True),
        ("checkpoints", _checkpoints, False),
        ("data", _data, False),
        ("recipes", _recipes, False),
        ("journal", _journal, False),
        ("partial", _partial, False),
    )
    for part, look, needs_store in looks:
        if needs_store and seen.client is None:
            found.count(part, "not looked at: there is no store that can be read")
            continue
        with _by_itself(found, part):
            look(found, seen)
    return found


@contextmanager
def _by_itself(found: Checked, part: str) -> Iterator[None]:
    """Within it, whatever goes wrong is a finding, and the next part is looked at."""
    try:
        yield
    except AblateError as error:
        found.count(part, "see below")
        found.findings.append(Finding(part, str(error)))
    except Exception as error:
        said = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        found.count(part, f"cannot be looked at ({said})")
        found.findings.append(Finding(part, f"The {part} could not be looked at ({said})."))


def repair(home: Home, say: Say) -> Checked:
    """Mend what can be mended, then look again; returns what is left, with what was done.

    Raises AblateError where another command holds the folder.
    """
    with home.locked("repairing the store", say, wait=False):
        found, done = check(home, held=False), []
        store = _opened(home) if found.parts.get("database", {}).get("readable") else None
        for one in found.findings:
            if one.mend is not None:
                try:
                    done.append(one.mend(store))
                except (AblateError, OSError) as error:
                    done.append(f"Not mended ({error}): {one.sentence}")
        left = check(home, held=False)
    left.done = done
    return left


def _opened(home: Home) -> Store:
    from cifar_ablations.study.store.tracking import open_store

    return open_store(home)


def show(found: Checked, say: Say) -> None:
    """Print it for a person."""
    for part, line in found.lines:
        say(f"{part:<{WIDTH}}{line}")
    for sentence in found.done:
        say(f"Done: {sentence}")
    shown: Counter[tuple[str, bool]] = Counter()
    for one in sorted(found.findings, key=lambda one: not one.must):
        shown[one.part, one.must] += 1
        if shown[one.part, one.must] <= SHOWN:
            say(f"{'To mend' if one.must else 'Note'}: {one.sentence}")
    for (part, _), count in shown.items():
        if count > SHOWN:
            say(f"… and {count - SHOWN} more of the {part}; --json has them all.")
    if not found.code:
        say("Nothing must be mended.")
    elif any(one.must and one.mend for one in found.findings):
        say("`ablate doctor --repair` mends what can be mended, and deletes nothing of yours.")


def as_facts(home: Home, found: Checked) -> dict[str, Any]:
    """It for a program."""
    names = ("part", "sentence", "must", "run_id", "path")
    return {
        "folder": home.folder,
        "address": without_password(home.tracking_uri),
        "parts": found.parts,
        "findings": [
            {name: getattr(one, name) or None if name == "run_id" else getattr(one, name) for name in names}
            | {"can_be_mended": one.mend is not None}
            for one in found.findings
        ],
        "done": found.done,
        "exit_code": found.code,
    }


def _database(found: Checked, seen: _Seen) -> None:
    home = seen.home
    file, shown = addresses.sqlite_file(home.tracking_uri), without_password(home.tracking_uri)
    if not home.has_store:
        found.count("database", f"{shown}, not made yet", readable=None, bytes=None)
        return
    found.parts["database"] = {"readable": False, "bytes": size(file) if file else None}
    if file is not None and (wrong := _wrong_in(file)):
        raise AblateError(
            f"The database {home.shown(file)} is damaged ({wrong}). Put a copy in its place, or have SQLite read what "
            f'it still can into a new file: sqlite3 {file.name} ".recover" | sqlite3 mended.db.'
        )
    client = load.connect(home.tracking_uri)  # imports MLflow first, which may take long
    began = time.perf_counter()
    seen.all = stored.every(client, {})
    seen.client = client
    took = time.perf_counter() - began
    whole = f"{readable(size(file))}, whole" if file else "a server's or a database's, which sees to it itself"
    found.count("database", f"{shown}: {whole}; read in {took:.1f} s", readable=True)


def _wrong_in(file: Path) -> str:
    """What SQLite finds wrong in a file; "" where nothing is."""
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as database:
            told = [text for (text,) in database.execute("PRAGMA integrity_check(3)")]
    except sqlite3.Error as error:
        return str(error)
    return "" if told == ["ok"] else "; ".join(" ".join(text.split()) for text in told)


def _runs(found: Checked, seen: _Seen) -> None:
    """Whether the tags of every run can be read, and whether each result has its numbers."""
    counted: Counter[str] = Counter()
    for run in seen.runs:
        kind = run.tags.get(schema.KIND, "")
        counted[kind or "unknown"] += 1
        if kind not in OF_RUNS:
            said = f"run {run.run_id} is of a kind that is not known ({kind or 'it says none'}), and is never read."
            found.findings.append(Finding("runs", said, must=False, run_id=run.run_id))
            continue
        about = OF_RUNS[kind]
        try:
            seen.records[run.run_id] = about and record.from_tags(about, run.tags, "", f"run {run.run_id}")
            if kind == schema.KIND_TRAINING and _lacks_its_numbers(run):
                raise RecordError(f"run {run.run_id}: it has ended and has no {schema.TEST_ACCURACY}")
        except RecordError as error:
            seen.records.pop(run.run_id, None)
            sentence = f"{error}; {_again(run)}"
            mend = partial(_set_run_aside, run, str(error))
            found.findings.append(Finding("runs", sentence, mend=mend, run_id=run.run_id))
    aside = len(seen.all) - len(seen.runs)
    listed = ", ".join(f"{count} of {kind}" for kind, count in sorted(counted.items())) or "none"
    found.count("runs", f"{listed}{f'; {aside} set aside' if aside else ''}", kinds=dict(counted), set_aside=aside)


def _lacks_its_numbers(run: Stored) -> bool:
    return run.tags.get(schema.OUTCOME) == schema.FINISHED and schema.TEST_ACCURACY not in run.metrics


def _again(run: Stored) -> str:
    """What becomes of what a run was, once it counts no longer."""
    if run.tags.get(schema.KIND) in (schema.KIND_PLAN, schema.KIND_SEARCH):
        return f"the same `ablate {_verb(run)}` logs it again, and trains nothing twice."
    return f"the next `ablate {_verb(run)}` that needs it trains it again."


def _verb(run: Stored) -> str:
    return "tune" if run.tags.get(schema.KIND) in (schema.KIND_SEARCH, schema.KIND_TRIAL) else "run"


def _set_run_aside(run: Stored, why: str, store: Store) -> str:
    from cifar_ablations.study.store import mending

    mending.set_run_aside(store, run.run_id, why)
    return f"run {run.run_id} counts no longer, as its tag {schema.SET_ASIDE} says; {_again(run)}"


def _files(found: Checked, seen: _Seen) -> None:
    """Whether every file that a run names is there, whole and as it was logged."""
    looked, unseen, runs, known = 0, 0, 0, 0
    plans: Counter[tuple[str, str]] = Counter()
    for run in seen.of_kind(schema.KIND_PLAN):
        path = seen.path(run, schema.PLAN_FILE)
        plans[_asked(run)] += path is not None and not _wrong_with(run, schema.PLAN_FILE, path)
    for run in seen.runs:
        names = _named_by(run, seen)
        if not names:
            continue
        if not addresses.folders(run.artifacts, seen.home.tracking_uri):
            unseen += 1
            continue
        runs += 1
        for name in names:
            looked += 1
            path = seen.path(run, name)
            if path is not None:
                if wrong := _wrong_with(run, name, path):
                    found.findings.append(_damaged(seen.home, run, name, path, wrong))
                continue
            is_known = f"{schema.SET_ASIDE}.{name}" in run.tags
            known += is_known
            # A plan's file stands for all invocations of the plan; of what else is gone, the run says it once.
            if plans[_asked(run)] if name == schema.PLAN_FILE else is_known:
                continue
            sentence = f"{name} of run {run.run_id} is missing; {_without(run, name)}"
            mend = None if is_known else partial(_note_gone, run, name)
            found.findings.append(Finding("files", sentence, must=not is_known, mend=mend, run_id=run.run_id))
    elsewhere = f"; those of {unseen} more lie where they cannot be seen from here" if unseen else ""
    wrong_files = sum(one.part == "files" and one.must for one in found.findings)
    told = "all there and whole" if not wrong_files else f"{wrong_files} missing or damaged"
    told += f" but {known} that were put aside or are gone, as their runs say" if known else ""
    line = f"{looked:,} of {_counted(runs, 'run')}, {told}{elsewhere}"
    found.count("files", line, files=looked, runs=runs, runs_unseen=unseen, wrong=wrong_files, known_to_lack=known)


def _damaged(home: Home, run: Stored, name: str, path: Path, wrong: str) -> Finding:
    """A file of a run that is not as it was logged; one of another output folder is left to that."""
    ours = path.parent.resolve().is_relative_to(home.folder)
    sentence = f"{wrong}; {_without(run, name)}{'' if ours else f' It lies in another output folder ({path}).'}"
    mend = partial(_set_file_aside, run, name, path) if ours else None
    return Finding("files", sentence, mend=mend, run_id=run.run_id, path=path)


def _asked(run: Stored) -> tuple[str, str]:
    return run.tags.get(schema.PLAN_DIGEST, ""), run.tags.get(schema.DATA_DIGEST, "")


def _named_by(run: Stored, seen: _Seen) -> list[str]:
    """The files that a run must have, by what it says of itself; none where that is damaged."""
    kind, ended = run.tags.get(schema.KIND), run.status in ("FINISHED", "FAILED")
    names: list[str] = []
    if run.run_id not in seen.records:
        return names
    if kind == schema.KIND_PLAN and schema.PLAN_DIGEST in run.tags:
        drawn = seen.path(run, schema.GALLERY_FILE)  # the first versions had none
        names = [schema.PLAN_FILE, *([schema.GALLERY_FILE] if drawn else [])]
    elif kind == schema.KIND_SEARCH and ended:
        names = [schema.SEARCH_FILE, schema.OUTCOME_FILE]
    elif kind == schema.KIND_FOUNDATION and ended:
        names = [schema.DEMONSTRATION_FILE]
    elif kind == schema.KIND_TRAINING and run.tags.get(schema.OUTCOME) in schema.RESULTS:
        names = [schema.DETAILS_FILE]
    known = (tag.removeprefix(checksums.PREFIX) for tag in checksums.among(run.tags))
    return list(dict.fromkeys([*names, *known]))


def _wrong_with(run: Stored, name: str, path: Path) -> str:
    """What is wrong with a file of a run; "" where nothing is."""
    where = f"{name} of run {run.run_id}"
    try:
        content = checksums.check(path.read_bytes(), run.tags, name, where)
        if name in OF_FILES:
            record.from_json(OF_FILES[name], content, where)
    except OSError as error:
        return f"{where} cannot be read ({error.strerror})"
    except RecordError as error:
        return str(error)
    if name == schema.DETAILS_FILE and not _is_whole(content):
        return f"{where} is damaged"
    return ""


def _is_whole(content: bytes) -> bool:
    """Whether every array of an archive of arrays has the checksum that the archive has for it."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return sum(one.file_size for one in archive.infolist()) <= MOST_BYTES and archive.testzip() is None
    except BROKEN_ARRAYS:
        return False


def _without(run: Stored, name: str) -> str:
    """What is lost without a file of a run, and what brings it back."""
    if name in (schema.PLAN_FILE, schema.SEARCH_FILE, schema.OUTCOME_FILE):
        asked = run.tags.get(schema.PLAN if name == schema.PLAN_FILE else schema.SEARCH, "?")
        return f"`ablate {_verb(run)} {asked}`, with the same options, writes it again and trains nothing twice."
    if run.tags.get(schema.KIND) == schema.KIND_FOUNDATION:
        return "`ablate foundations` makes it again."
    if name == schema.DETAILS_FILE:
        return (
            "its numbers stand, and its page lacks what these arrays showed. To have them, delete the run in MLflow's "
            "UI: the next run of the plan trains it again."
        )
    return "its page lacks these pictures, and nothing else does."


def _set_file_aside(run: Stored, name: str, path: Path, store: Store) -> str:
    from cifar_ablations.study.store import mending

    to = mending.put_aside(store.home, path)
    assert to is not None
    mending.note_file(store, run.run_id, name, to)
    return f"{name} of run {run.run_id} is in {store.home.shown(to)} now; {_without(run, name)}"


def _note_gone(run: Stored, name: str, store: Store) -> str:
    from cifar_ablations.study.store import mending

    mending.note_file(store, run.run_id, name, None)
    return f"run {run.run_id} says now that its {name} is gone; {_without(run, name)}"


def _doubles(found: Checked, seen: _Seen) -> None:
    """Trainings and trials of which two runs have a result."""
    pairs = [*_twice_trained(seen), *_twice_tried(seen)]
    new = [(run, counting) for run, counting in pairs if run.tags.get(schema.DOUBLE) != counting.run_id]
    for run, counting in new:
        sentence = f"run {run.run_id} and run {counting.run_id} are of the same training; the latter counts."
        mend = partial(_note_double, run, counting)
        found.findings.append(Finding("doubles", sentence, mend=mend, run_id=run.run_id))
    known = f"; {len(pairs) - len(new)} more are marked as such" if len(pairs) > len(new) else ""
    found.count("doubles", f"{len(new) or 'none'}{known}", doubles=len(new), marked=len(pairs) - len(new))


def _twice_trained(seen: _Seen) -> Iterator[tuple[Stored, Stored]]:
    """Runs of trainings that another run stands for, with that one: the one that pages count, which ended first.

    One that has metrics of an extension that the other lacks was trained for their sake, and is no double.
    """
    ended = _ended(seen, schema.KIND_TRAINING, schema.KIND_PLAN, schema.RESULTS)
    kept: dict[tuple[str, int, str], list[Stored]] = {}
    for run in ended:
        about = seen.records[run.run_id]
        others = kept.setdefault((about.digest, about.seed, about.data_digest), [])
        same = (one for one in others if same_training(_key(one, about), _key(run, about)))
        counting = next((one for one in same if _added(run) <= _added(one)), None)
        if counting is None:
            others.append(run)
        else:
            yield run, counting


def _ended(seen: _Seen, kind: str, parents: str, outcomes: Collection[str]) -> list[Stored]:
    """Runs of a kind with one of these outcomes, in the order in which they ended; parents: the kind of theirs."""
    moments = order.moments([run for run in seen.runs if run.tags.get(schema.KIND) == parents])

    def when(run: Stored) -> tuple[float, str]:
        moment = moments.get(seen.records[run.run_id].parent, order.UNKNOWN)
        return math.inf if run.ended is None else moment.ended(run.ended), run.run_id

    return sorted((run for run in seen.of_kind(kind) if run.tags.get(schema.OUTCOME) in outcomes), key=when)


def _key(run: Stored, about: record.RunRecord) -> TrainingKey:
    environment = None
    with suppress(RecordError):
        environment = record.from_tags(record.EnvironmentRecord, run.tags, schema.ENVIRONMENT, "")
    return TrainingKey(about.digest, about.seed, about.data_digest, environment)


def _added(run: Stored) -> set[str]:
    """The metrics of a run that are none of the suite's own."""
    return set(run.metrics) - set(load.METRIC_COLUMNS)


def _twice_tried(seen: _Seen) -> Iterator[tuple[Stored, Stored]]:
    """Runs of trials that were tried again, with the one that counts: Optuna knows the later."""
    ended = _ended(seen, schema.KIND_TRIAL, schema.KIND_SEARCH, (*schema.RESULTS, schema.PRUNED))
    last: dict[tuple[str, str, str, int], Stored] = {}
    for run in reversed(ended):
        about = seen.records[run.run_id]
        counting = last.setdefault((about.search_digest, about.data_digest, about.study, about.trial), run)
        if counting is not run:
            yield run, counting


def _note_double(run: Stored, counting: Stored, store: Store) -> str:
    from cifar_ablations.study.store import mending

    mending.note_double(store, run.run_id, counting.run_id)
    return f"run {run.run_id} says now that it is a double of run {counting.run_id}, which counts as before."


def _leftovers(found: Checked, seen: _Seen) -> None:
    """Runs that are marked as running though nobody trains them, and what was reported of runs and is not written."""
    from cifar_ablations.study.store.tracking import is_running

    home, file = seen.home, addresses.sqlite_file(seen.home.tracking_uri)
    alone = not seen.held and file is not None and file.parent.resolve() == home.folder
    left, at_work = list[Stored](), 0
    for run in seen.runs:
        if run.status == "RUNNING":
            here = is_running(run.tags.get(schema.COORDINATOR, ""))
            dead = here is False or (here is None and alone)
            left += [run] if dead else []
            at_work += not dead
    waiting = home.pending.exists() and not seen.held
    said = []
    if left:
        said.append(f"{_counted(len(left), 'run')} marked as running, whose process is gone")
    if waiting:
        said.append(f"{home.pending.name}, with what was reported of runs and is not written yet")
    if said:
        sentence = f"Left over: {' and '.join(said)}. The next command that trains sees to it."
        found.findings.append(Finding("leftovers", sentence, mend=_close, path=home.pending if waiting else None))
    working = f"; {_counted(at_work, 'run')} in training" if at_work else ""
    line = f"{len(left) or 'none'}{working}"
    found.count("leftovers", line, runs=[run.run_id for run in left], in_training=at_work, waiting=waiting)


def _close(store: Store) -> str:
    ended = store.reconcile()
    return f"What was left over is closed: {_counted(ended, 'training')} and trials have ended as interrupted."


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _orphans(found: Checked, seen: _Seen) -> None:
    places = orphans(seen.home, seen.client)
    if places is None:
        found.count("orphans", "not looked for: the store is not the output folder's own", folders=None, bytes=None)
        return
    total = sum(size(place) for place in places)
    if places:
        sentence = (
            f"No run of this store has the files in {_counted(len(places), 'folder')} ({readable(total)}) of "
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


def _checkpoints(found: Checked, seen: _Seen) -> None:
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
            f"{_counted(len(idle), 'checkpoint')} ({readable(sum(map(size, idle)))}) of what has ended: nobody needs "
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


def _data(found: Checked, seen: _Seen) -> None:
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
    told = f"{_counted(whole, 'data set')} with the images that their digests name" if whole else "none"
    found.count("data", told, whole=whole)


def _recipes(found: Checked, seen: _Seen) -> None:
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


def _journal(found: Checked, seen: _Seen) -> None:
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


def _partial(found: Checked, seen: _Seen) -> None:
    left = partial_files(seen.home, held=seen.held)
    if left:
        sentence = f"{_counted(len(left), 'file')} that somebody began to write and left ({readable(_sum(left))})."
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
    return f"{_counted(len(paths), 'file')} that somebody began to write and left are removed ({readable(room)})."
