"""What `ablate doctor --store` looks at in a store itself: database, runs with their files, doubles, leftovers."""

from __future__ import annotations

import io
import math
import sqlite3
import struct
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_ablations.ablations import addresses, checksums, record, schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.record import RecordError
from cifar_ablations.ablations.secrets import without_password
from cifar_ablations.ablations.sizes import readable, size
from cifar_ablations.ablations.training_key import TrainingKey, same_training
from cifar_ablations.reports.reading import load, order, stored
from cifar_ablations.reports.reading.stored import Stored
from cifar_ablations.study.commands.store_findings import Checked, Finding, Seen, counted
from cifar_ablations.study.store.home import Home

if TYPE_CHECKING:
    from cifar_ablations.study.store.tracking import Store

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


def check_database(found: Checked, seen: Seen) -> None:
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
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            raise AblateError("Another program is writing to the database; look again once it has ended.") from None
        return str(error)
    return "" if told == ["ok"] else "; ".join(" ".join(text.split()) for text in told)


def check_runs(found: Checked, seen: Seen) -> None:
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


def check_files(found: Checked, seen: Seen) -> None:
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
    line = f"{looked:,} of {counted(runs, 'run')}, {told}{elsewhere}"
    found.count("files", line, files=looked, runs=runs, runs_unseen=unseen, wrong=wrong_files, known_to_lack=known)


def _damaged(home: Home, run: Stored, name: str, path: Path, wrong: str) -> Finding:
    """A file of a run that is not as it was logged; one of another output folder is left to that."""
    ours = path.parent.resolve().is_relative_to(home.folder)
    sentence = f"{wrong}; {_without(run, name)}{'' if ours else f' It lies in another output folder ({path}).'}"
    mend = partial(_set_file_aside, run, name, path) if ours else None
    return Finding("files", sentence, mend=mend, run_id=run.run_id, path=path)


def _asked(run: Stored) -> tuple[str, str]:
    return run.tags.get(schema.PLAN_DIGEST, ""), run.tags.get(schema.DATA_DIGEST, "")


def _named_by(run: Stored, seen: Seen) -> list[str]:
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


def check_doubles(found: Checked, seen: Seen) -> None:
    """Trainings and trials of which two runs have a result."""
    pairs = [*_twice_trained(seen), *_twice_tried(seen)]
    new = [(run, counting) for run, counting in pairs if run.tags.get(schema.DOUBLE) != counting.run_id]
    for run, counting in new:
        sentence = f"run {run.run_id} and run {counting.run_id} are of the same training; the latter counts."
        mend = partial(_note_double, run, counting)
        found.findings.append(Finding("doubles", sentence, mend=mend, run_id=run.run_id))
    known = f"; {len(pairs) - len(new)} more are marked as such" if len(pairs) > len(new) else ""
    found.count("doubles", f"{len(new) or 'none'}{known}", doubles=len(new), marked=len(pairs) - len(new))


def _twice_trained(seen: Seen) -> Iterator[tuple[Stored, Stored]]:
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


def _ended(seen: Seen, kind: str, parents: str, outcomes: Collection[str]) -> list[Stored]:
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


def _twice_tried(seen: Seen) -> Iterator[tuple[Stored, Stored]]:
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


def check_leftovers(found: Checked, seen: Seen) -> None:
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
        said.append(f"{counted(len(left), 'run')} marked as running, whose process is gone")
    if waiting:
        said.append(f"{home.pending.name}, with what was reported of runs and is not written yet")
    if said:
        sentence = f"Left over: {' and '.join(said)}. The next command that trains sees to it."
        found.findings.append(Finding("leftovers", sentence, mend=_close, path=home.pending if waiting else None))
    working = f"; {counted(at_work, 'run')} in training" if at_work else ""
    line = f"{len(left) or 'none'}{working}"
    found.count("leftovers", line, runs=[run.run_id for run in left], in_training=at_work, waiting=waiting)


def _close(store: Store) -> str:
    ended = store.reconcile()
    return f"What was left over is closed: {counted(ended, 'training')} and trials have ended as interrupted."
