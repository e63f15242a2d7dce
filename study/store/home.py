"""The output folder: where everything that is written goes, and who may write to it at a time."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import filelock

from cifar_ablations.ablations import addresses
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import remove_left
from cifar_ablations.ablations.record import LockRecord, RecordError, from_json, to_json

LOCK = "ablate.lock"
"""In the output folder: the file that whoever works there holds."""


class Home:
    """The folder named by `ABLATE_HOME`, else `out` in the current folder; created when first used.

    Raises AblateError for a path that cannot be one.
    """

    def __init__(self, folder: Path | None = None):
        typed = os.environ.get("ABLATE_HOME") or "out"
        asked = folder or Path(typed)
        try:
            # "./~" is a folder of that name.
            self.folder = (asked.expanduser() if folder is None and typed.startswith("~") else asked).resolve()
            str(self.folder).encode()  # MLflow keeps addresses of files as text
        except (OSError, RuntimeError, UnicodeError) as error:  # no such user; links in a circle; a folder that is gone
            why = "its path is not UTF-8" if isinstance(error, UnicodeError) else str(error).rstrip(".")
            raise AblateError(f"ABLATE_HOME={str(asked)!a} cannot be used: {why}. Name another folder.") from None

    @property
    def data(self) -> Path:
        """Decoded data sets."""
        return self.folder / "data"

    @property
    def reports(self) -> Path:
        """Generated pages and tables."""
        return self.folder / "reports"

    @property
    def exports(self) -> Path:
        """Tables and figures for papers."""
        return self.folder / "exports"

    @property
    def recipes(self) -> Path:
        """Recipes that searches found and a person adopted."""
        return self.folder / "recipes"

    @property
    def journal(self) -> Path:
        """Optuna's studies, where no database is named."""
        return self.folder / "optuna.journal"

    @property
    def checkpoints(self) -> Path:
        """Fleets in training, as they stood at the end of an epoch."""
        return self.folder / "checkpoints"

    @property
    def commands(self) -> Path:
        """What commands of other programs that are running write to."""
        return self.folder / "commands"

    @property
    def damaged(self) -> Path:
        """Files that could not be read any more, and were put aside."""
        return self.folder / "damaged"

    @property
    def pending(self) -> Path:
        """What has been reported and is about to be written to the MLflow store at `tracking_uri`.

        The folder's own store has the same file wherever the folder is moved.
        """
        address = self.tracking_uri
        store = "own" if address == self._own else hashlib.sha256(address.encode()).hexdigest()[:8]
        return self.pending_of(store)

    def pending_of(self, store: str) -> Path:
        """What `pending` is for another store, by what its address comes to."""
        return self.folder / f"pending-{store}.jsonl"

    @property
    def artifacts(self) -> Path:
        """Files that belong to MLflow runs."""
        return self.folder / addresses.ARTIFACTS

    @property
    def tracking_uri(self) -> str:
        """`MLFLOW_TRACKING_URI`, else an SQLite file in this folder."""
        return os.environ.get("MLFLOW_TRACKING_URI") or self._own

    @property
    def _own(self) -> str:
        return addresses.sqlite_address(self.folder / addresses.STORE)

    @property
    def database(self) -> str | None:
        """`ABLATE_STORAGE`: Optuna's database, in which machines that share a store also say what each has in hand."""
        return os.environ.get("ABLATE_STORAGE") or None

    @property
    def claims(self) -> str | None:
        """The database in which commands that share this store say what they train: `database`, or the store's own.

        None where the store is a file, whose lock is enough, and behind a server where `database` is not named.
        """
        store = self.tracking_uri
        if addresses.sqlite_file(store) is not None or store.startswith("file:"):
            return None
        return self.database or (None if store.startswith(("http:", "https:")) else store)

    @property
    def has_store(self) -> bool:
        """Whether the store is there: of a server or a database nobody knows, and it is taken to be."""
        file = addresses.sqlite_file(self.tracking_uri)
        return file is None or file.is_file()

    def check_writable(self, folder: Path | None = None, instead: str = "") -> None:
        """Make this folder, or one in it. Raises AblateError where that, or writing to it, is not possible.

        instead: the end of the sentence: what can be done then.
        """
        folder = folder or self.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            why = "a file is in its way" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
            instead = instead or "Name another output folder: ABLATE_HOME=FOLDER."
            raise AblateError(f"{self.shown(folder)} cannot be written to: {why}. {instead}") from None

    def shown(self, path: Path) -> str:
        """A path as a person would type it from here."""
        try:
            return os.path.relpath(path)
        except ValueError:  # on another of Windows' drives
            return str(path)

    @property
    def is_held(self) -> bool:
        """Whether another command is at work in this folder; True also where nobody can know. Writes nothing."""
        file = self.folder / LOCK
        if not file.exists():
            return False
        lock = filelock.FileLock(file)
        try:
            lock.acquire(timeout=0)
        except (filelock.Timeout, OSError):
            return True
        lock.release()
        return False

    @contextmanager
    def locked(self, doing: str, say: Callable[[str], None], *, wait: bool = True) -> Iterator[None]:
        """Hold this folder for one command at a time, and the file of a store that lies elsewhere; wait, saying for
        whom, while another one holds either.

        The operating system releases a lock when its holder dies, however it dies; what it had begun to write is
        removed a day later. Raises AblateError where the folder, or that of the store, cannot be written to; and,
        unless it shall `wait`, where another one holds either.
        """
        self.check_writable()
        places = [(self.folder / LOCK, self.folder)]
        file = addresses.sqlite_file(self.tracking_uri)
        if file is not None and file.parent.resolve() != self.folder:
            store = file.resolve()
            self.check_writable(store.parent, "Name another store: MLFLOW_TRACKING_URI=sqlite:///FILE.")
            places.append((store.with_name(f"{store.name}.ablate.lock"), store))
        with ExitStack() as held:
            for lock, of in places:
                held.enter_context(self._held(lock, of, doing, say if wait else None))
            for folder in (self.folder, self.reports, self.recipes, self.exports):
                remove_left(folder)
            yield

    @contextmanager
    def _held(self, file: Path, of: Path, doing: str, say: Callable[[str], None] | None) -> Iterator[None]:
        """Hold the lock in a file, with a note beside it of who does; of: what it is for; say: None for no waiting."""
        lock, note = filelock.FileLock(file), file.with_name(f"{file.name}.json")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            if say is None:
                raise AblateError(
                    f"{_holder(note)} is at work in {self.shown(of)}, and nothing was changed. Wait for it to end, and "
                    "give the same command again."
                ) from None
            say(f"{_holder(note)} is at work in {self.shown(of)}; waiting for it to end (Ctrl-C to stop waiting).")
            lock.acquire(poll_interval=0.5)
        try:
            note.write_text(json.dumps(to_json(LockRecord(os.getpid(), doing, time.strftime("%H:%M:%S")))))
            yield
        finally:
            note.unlink(missing_ok=True)
            lock.release()


def _holder(note: Path) -> str:
    try:
        about = from_json(LockRecord, note.read_bytes(), note.name)
    except (OSError, RecordError):  # not written yet, or half of it
        return "Another ablate"
    return f"Another ablate (process {about.pid}, {about.doing}, since {about.since})"
