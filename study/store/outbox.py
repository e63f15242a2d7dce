"""What has been said of runs and is not in MLflow yet: in a file, and delivered in order, most often by a thread.

So training waits for no store: not for one that is slow, not for one that is gone for a while. Every write can be made
twice: one that was made just before a process was killed, or whose answer was lost, is made again, and is there once.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cifar_ablations.ablations.files import write_atomically
from cifar_ablations.ablations.stores import StoreError

SECONDS = 60.0
"""How long what is not urgent waits at most while trainings report: so late does MLflow show how those in flight are
doing, or an epoch late where that is longer."""

PATIENCE = 30.0
"""Seconds without a sign of life from the store, after which whoever waits for it gives up."""

AFTER_STOPPED = 5.0
"""As PATIENCE, where a person has pressed Ctrl-C or an error ends the command."""

AT_A_LOOK = 600.0
"""As PATIENCE, where what is trained next depends on what the store has."""

SPOKEN_OF = 4.0
"""Seconds without an answer before anything is said of it; four times as many each further time, up to a minute."""

LONGEST_PAUSE = 10.0
"""Seconds between two attempts; the first are shorter."""

MOST_METRICS = 800
"""Written in one batch, in which MLflow takes a thousand of metrics, parameters and tags together."""

SPARE_LINES = 1_000
"""So many lines of what has been delivered may stand in the file beside as many as are still needed."""

KINDS = CREATE, INPUTS, BATCH, FILES, REMOVE, END = "create", "inputs", "batch", "files", "remove", "end"
"""The kinds of writes: a run with its tags; its data set; metrics, parameters and tags; files; what files go; how it
ended."""

Content = dict[str, Any]
"""Of a write, as JSON keeps it."""


@dataclass(frozen=True)
class Write:
    """Something to be written of a run: one entry of the outbox, or several batches that go along in one."""

    run: str
    kind: str
    content: Content
    numbers: tuple[int, ...]
    again: bool
    """Whether it may have been made already, without anybody knowing."""


class Unanswered(Exception):  # noqa: N818
    """The store does not take a write now, and may do so later."""


class Refused(Exception):  # noqa: N818
    """The store will never take what is written of a run; what is to be told of it, if anything, is the cause."""


class SilentStoreError(StoreError):
    """The store has not answered for a while, and something waits for it."""


class Outbox:
    """Writes by run, in memory and in a file of a line each; files of runs lie in a folder beside it.

    Both are gone when nothing waits. What is put in is delivered at once by the caller's thread; within `at_work`, by
    one of its own. The file is written without waiting for the disk, as what it guards against is the end of this
    process; only where the store is silent, and may stay so, each write is on the disk before anything else goes on.

    deliver: makes a write. Raises Unanswered or Refused, or what ends the command; then all that waits is kept.
    """

    def __init__(self, path: Path, deliver: Callable[[Write], None], say: Callable[[str], None], shown: str = ""):
        self.path, self.folder = path, path.with_suffix("")
        self._deliver, self._say, self._shown = deliver, say, shown or str(path)
        self._waiting: dict[str, list[Write]] = {}
        self._due: set[str] = set()
        """The runs of which something urgent waits."""
        self._since: dict[str, float] = {}
        """When the first came that waits of a run and is not urgent."""
        self._numbered, self._lines = time.time_ns(), 0
        self._last: dict[str, int] = {}
        """The number of the last write of each run in the file."""
        self._changed = threading.Condition(threading.RLock())
        """Guards all of this: the thread delivers, and others put in."""
        self._thread: threading.Thread | None = None
        self._closing = self._hurried = self._taken_up = self._left_alone = False
        self._error: BaseException | None = None
        """What ended the thread, or was refused, until somebody has been told."""
        self._heard = time.monotonic()
        """When the store last took something, or began to be asked."""
        self._asking = False
        self._reason = ""
        """Why the store does not take anything; empty where it does."""
        self._spoken_of, self._spoken_after = False, SPOKEN_OF

    def put(self, run: str, *writes: tuple[str, Content], urgent: bool = True) -> None:
        """Keep writes of a run, in this order. What is not urgent goes along with what is, or after SECONDS.

        Raises what ended the thread, or was refused, where nobody has been told yet.
        """
        if not self._taken_up:
            self.take_up()
        with self._changed:
            self._tell()
            self._keep(run, writes)
            if urgent:
                self._due.add(run)
            else:
                self._since.setdefault(run, time.monotonic())
            self._speak()
            self._changed.notify_all()
        if self._thread is None:
            self._deliver_here(urgent_only=True)

    def _keep(self, run: str, writes: Sequence[tuple[str, Content]]) -> None:
        lines = []
        for kind, content in writes:
            self._numbered += 1
            write = Write(run, kind, content, (self._numbered,), again=False)
            self._waiting.setdefault(run, []).append(write)
            lines.append(self._line_of(write))
        self._append(lines)

    def _line_of(self, write: Write) -> str:
        """A write as a line of the file: with the number of the one before it of its run, so that a gap is seen."""
        number, after = write.numbers[0], self._last.get(write.run, 0)
        self._last[write.run] = number
        return _line({"number": number, "after": after, "run": write.run, "kind": write.kind, "content": write.content})

    def _append(self, lines: Sequence[str]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
            if self._reason:
                file.flush()
                os.fsync(file.fileno())
        self._lines += len(lines)

    def new_folder(self) -> Path:
        """A folder for files of a run, which a write of the kind FILES then names."""
        if not self._taken_up:
            self.take_up()
        with self._changed:
            self.folder.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix="files", dir=self.folder))

    def take_up(self) -> int:
        """Take up what a process left behind that has ended. The caller has made sure that there is no other.

        Of a run of which a line is missing, nothing that came after it is taken up: it has not ended then, and is
        trained again.

        Returns how many runs have ended in it.
        """
        entries: list[Any] = []
        self._taken_up = True
        with suppress(FileNotFoundError):
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                # The last, of a process that ended in its middle; or one that was damaged, or not written here.
                with suppress(ValueError, RecursionError):
                    entries.append(_entry(line))
        lines = _Lines(entries)
        found = lines.waiting
        if lines.broken:
            count = len(lines.broken)
            self._say(
                f"{self._shown} is damaged: lines are missing of {count} run{'s' * (count > 1)}, which therefore "
                f"count{'s' * (count == 1)} as unfinished. The same command trains what is unfinished again."
            )
        with self._changed:
            known = {number for writes in self._waiting.values() for one in writes for number in one.numbers}
            for number in sorted(found.keys() - known):
                self._waiting.setdefault(found[number].run, []).append(found[number])
            self._due.update(self._waiting)
            self._rewrite()
        named = {w.content["folder"] for w in found.values() if w.kind == FILES}
        for left in () if self.folder.is_symlink() else self.folder.glob("*"):
            if left.name not in named:
                shutil.rmtree(left, ignore_errors=True)
        return len({write.run for write in found.values() if write.kind == END})

    def _rewrite(self) -> None:
        """Write the file anew with what waits; none where nothing does."""
        left = [w for writes in self._waiting.values() for w in writes]
        self._last = {}
        if left:
            write_atomically(self.path, "".join(f"{self._line_of(one)}\n" for one in left).encode())
        else:
            self.path.unlink(missing_ok=True)
        self._lines = len(left)

    def runs(self) -> list[str]:
        """Those of which something waits."""
        with self._changed:
            return list(self._waiting)

    def flush(self, patience: float | None = None, stopped: Callable[[], bool] = lambda: False) -> None:
        """Wait until all that waits is delivered.

        Raises SilentStoreError once the store has given no sign of life for `patience` seconds (PATIENCE where it is
        None), KeyboardInterrupt when `stopped` says so, and what else ends the command.
        """
        patience = PATIENCE if patience is None else patience
        if self._thread is None:
            self._deliver_here(patience=patience)
            return
        began = time.monotonic()
        with self._changed:
            self._due.update(self._waiting)
            self._hurried = True
            self._changed.notify_all()
            while self._waiting and self._thread.is_alive():
                self._tell()
                if time.monotonic() - max(began, self._heard) >= patience:
                    raise self._silent()
                if stopped():
                    raise KeyboardInterrupt
                self._speak()
                self._changed.wait(0.2)
            self._tell()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within it a thread delivers, and nobody waits for the store but in `flush`; at the end all is delivered.

        Raises what `flush` does. Where an error or Ctrl-C ends it, that is not waited for as long, and only said.
        """
        self._closing = self._left_alone = False
        self._thread = threading.Thread(target=self._work, name="outbox", daemon=True)
        self._thread.start()
        try:
            yield
        except SilentStoreError:
            raise
        except BaseException:
            try:
                self.flush(AFTER_STOPPED)
            except SilentStoreError as silent:
                self._say(str(silent))
            except Exception:
                pass  # the one that is on its way says what happened
            raise
        else:
            self.flush()
        finally:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
            # One that has no answer is not waited for: what it delivers is delivered again, which changes nothing.
            self._thread.join(1.0 if self._asking else None)
            with self._changed:
                self._left_alone, self._thread = self._thread.is_alive(), None

    def _work(self) -> None:
        """Deliver what is due, until closed; the thread's."""
        pause = 0.0
        while True:
            with self._changed:
                if pause:
                    self._changed.wait_for(lambda: self._closing or self._hurried, pause)
                    self._hurried = False
                while (write := self._next(urgent_only=True)) is None and not self._closing:
                    self._changed.wait(self._until_due())
                if write is None or self._closing:
                    return
            try:
                pause = 0.0 if self._attempt(write) else min(LONGEST_PAUSE, max(1.0, 2 * pause))
            except BaseException as error:
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return

    def _deliver_here(self, *, urgent_only: bool = False, patience: float | None = None) -> None:
        """Deliver in the caller's thread, with pauses where the store does not answer."""
        patience = PATIENCE if patience is None else patience
        began, pause = time.monotonic(), 0.0
        while (write := self._next(urgent_only=urgent_only)) is not None:
            if self._attempt(write):
                pause = 0.0
                self._tell()
                continue
            if time.monotonic() - max(began, self._heard) + pause >= patience:
                raise self._silent()
            pause = min(LONGEST_PAUSE, max(1.0, 2 * pause))
            time.sleep(pause)

    def _attempt(self, write: Write) -> bool:
        """Make a write; returns whether it is off the list."""
        with self._changed:
            self._asking = True
            if not self._reason:
                self._heard = max(self._heard, time.monotonic())
        try:
            self._deliver(write)
        except Unanswered as error:
            with self._changed:
                self._reason = str(error)
                waiting = self._waiting[write.run]
                waiting[0] = Write(write.run, waiting[0].kind, waiting[0].content, waiting[0].numbers, again=True)
                self._speak()
            return False
        except Refused as refused:
            self._drop(write.run, None)
            if refused.__cause__ is not None:
                with self._changed:
                    self._error = self._error or refused.__cause__
        else:
            self._drop(write.run, write)
        finally:
            with self._changed:
                self._asking = False
                self._changed.notify_all()
        with self._changed:
            self._heard = time.monotonic()
            if self._spoken_of:
                self._say("The MLflow store answers again; what waited for it is being written.")
            self._reason, self._spoken_of = "", False
        return True

    def _next(self, *, urgent_only: bool) -> Write | None:
        """The first write of the first run that has any; urgent_only: of one that is due."""
        now = time.monotonic()
        with self._changed:
            for run, writes in self._waiting.items():
                if not urgent_only or run in self._due or now - self._since.get(run, now) >= SECONDS:
                    return _merged(writes)
        return None

    def _until_due(self) -> float | None:
        if not self._since:
            return None
        return max(0.0, min(self._since.values()) + SECONDS - time.monotonic())

    def _drop(self, run: str, write: Write | None) -> None:
        """Forget a write of a run that was made; None: all of them."""
        with self._changed:
            if self._left_alone:  # by now the file may be another's
                return
            writes = self._waiting[run]
            count = len(writes) if write is None else len(write.numbers)
            gone, self._waiting[run] = writes[:count], writes[count:]
            if not self._waiting[run]:
                del self._waiting[run]
                self._due.discard(run)
                self._since.pop(run, None)
            left = sum(map(len, self._waiting.values())) if self._lines > SPARE_LINES else 0
            if not self._waiting or self._lines > SPARE_LINES + 2 * left:
                self._rewrite()
            else:
                self._append([_line({"done": [number for one in gone for number in one.numbers]})])
            for one in gone:
                if one.kind == FILES:
                    shutil.rmtree(self.folder / one.content["folder"], ignore_errors=True)
            with suppress(OSError):  # not empty, or never made
                self.folder.rmdir()

    def _tell(self) -> None:
        """Raise, once, what ended the thread or was refused."""
        with self._changed:
            error, self._error = self._error, None
        if error is not None:
            raise error

    def _speak(self) -> None:
        """Say, once, that the store does not answer."""
        silent = (self._asking or self._reason) and time.monotonic() - self._heard >= self._spoken_after
        if silent and not self._spoken_of:
            self._spoken_of = True
            self._say(
                f"The MLflow store has not answered for {self._spoken_after:.0f} s{self._why()}. Training goes on, and "
                f"what is to be written waits in {self._shown}."
            )
            self._spoken_after = min(60.0, 4 * self._spoken_after)

    def _why(self) -> str:
        return f" ({self._reason})" if self._reason else ""

    def _silent(self) -> SilentStoreError:
        count = len(self._waiting)
        return SilentStoreError(
            f"The MLflow store does not answer{self._why()}. Nothing is lost: what there is to say of {count} "
            f"run{'s' * (count != 1)} waits in {self._shown}. The same command delivers it and goes on, once the store "
            "is back; `ablate sync` only delivers."
        )


class _Lines:
    """What the lines of the file say: the writes that wait, by number, and the runs of which a line is missing that was
    not delivered."""

    def __init__(self, entries: Sequence[Any]) -> None:
        self.waiting: dict[int, Write] = {}
        self.broken: set[str] = set()
        self._known: set[int] = {0}
        """The numbers of lines that were read, and of those that were delivered, whether or not they can be read."""
        for read in (self._read_done, self._read):
            for entry in entries:
                with suppress(ValueError, TypeError, KeyError):  # what no line of ours says
                    read(entry)

    def _read_done(self, entry: Any) -> None:
        if isinstance(entry, dict) and "done" in entry:
            self._known.update(int(number) for number in entry["done"])

    def _read(self, entry: Any) -> None:
        if isinstance(entry, list):  # of the version before: metrics and parameters
            run, metrics, params = entry
            number = max(self.waiting, default=0) + 1
            self.waiting[number] = Write(run, BATCH, {"metrics": metrics, "params": params}, (number,), again=True)
        elif "done" in entry:
            for number in entry["done"]:
                self.waiting.pop(number, None)
        else:
            number, run, kind, content = int(entry["number"]), str(entry["run"]), entry["kind"], dict(entry["content"])
            if number in self._known:  # delivered
                return
            if kind not in KINDS or (kind == FILES and not re.fullmatch(r"\w+", content["folder"])):  # none elsewhere
                return
            if run in self.broken or entry.get("after", 0) not in self._known:
                self.broken.add(run)
            else:
                self._known.add(number)
                self.waiting[number] = Write(run, kind, content, (number,), again=True)


def _merged(writes: Sequence[Write]) -> Write:
    """The first of a run's writes; where that is a batch, with the batches that follow, as many as MLflow takes."""
    first = writes[0]
    if first.kind != BATCH:
        return first
    content: Content = {"metrics": [], "params": [], "tags": []}
    numbers: list[int] = []
    for write in writes:
        metrics = write.content.get("metrics", [])
        if write.kind != BATCH or (numbers and len(content["metrics"]) + len(metrics) > MOST_METRICS):
            break
        for name in content:
            content[name] += write.content.get(name, [])
        numbers += write.numbers
    return Write(first.run, BATCH, content, tuple(numbers), first.again)


def _line(entry: dict[str, Any]) -> str:
    """An entry of the file, with its checksum."""
    text = json.dumps(entry)
    return f"{text}\t{zlib.crc32(text.encode()):08x}"


def _entry(line: str) -> Any:
    """What a line of the file says; the version before had no checksums. Raises ValueError where it is damaged."""
    text, tab, checksum = line.partition("\t")
    if tab and f"{zlib.crc32(text.encode()):08x}" != checksum:
        raise ValueError("damaged")
    return json.loads(text)
