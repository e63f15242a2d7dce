"""How commands speak and end: sentences, exit codes, and what becomes of an error."""

from __future__ import annotations

import atexit
import errno
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import typer

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.lock import BrokenLockError
from cifar_ablations.ablations.secrets import without_password
from cifar_ablations.study.commands import facts, streams

if TYPE_CHECKING:
    from cifar_ablations.study.data.dataset import Dataset

FAILED = 1
USER_ERROR = 2
INTERRUPTED = 130
NAMES = "EACCES EDQUOT EFBIG EIO EISDIR ELOOP EMFILE ENAMETOOLONG ENFILE ENOSPC ENOTDIR EPERM EROFS"
OF_THE_SYSTEM = {getattr(errno, name) for name in NAMES.split() if hasattr(errno, name)}
"""Errors of files that lie with the machine and not with the suite: full, broken, not allowed, not such a path."""
STOPPED = "Stopped. What has ended is kept; the same command goes on with the rest."


@dataclass
class Loudness:
    """How much is told: `quiet`, errors and the answer alone; `verbose`, also warnings of libraries and tracebacks."""

    quiet: bool = False
    verbose: bool = False


LOUDNESS = Loudness()
"""Of the command that is running; options before its name set it."""


def leave(code: str | int | None) -> NoReturn:
    """End this process as `sys.exit` does, without taking apart what the system frees anyway.

    To free the objects of torch and MLflow one by one takes over a second.
    """
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        sys.exit(code)  # waits for them
    atexit._run_exitfuncs()
    sys.stdout.flush()
    error = streams.lost()
    if error is not None and not isinstance(error, BrokenPipeError):  # a reader such as `head` may stop reading
        print(f"ablate: some of the output could not be written: {error.strerror}", file=sys.stderr)
        code = code or FAILED
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else FAILED if code else 0)


def say(text: str) -> None:
    """Tell the person at the terminal."""
    from cifar_ablations.study.commands.terminal import wrapped

    print(wrapped(text), flush=True)


def complain(sentence: str) -> None:
    """Say on the standard error what went wrong, without a secret and with nothing that a terminal would obey."""
    print(streams.inert(without_password(sentence)), file=sys.stderr, flush=True)


def along(text: str) -> None:
    """Tell the person at the terminal what is no answer: nothing, where --quiet asks for that."""
    if not LOUDNESS.quiet:
        say(text)


def finish(data: Dataset, asked: str | None, failed: bool = False) -> None:
    """End a command: say, last of all, where no photographs were used; exit code 1 where trainings or trials failed.

    asked: the data as they were asked for.
    """
    from cifar_ablations.study.data.dataset import closing

    if line := closing(data, asked):
        along(line)
    if failed:
        raise typer.Exit(FAILED)


@contextmanager
def errors(command: str = "", as_json: bool = False) -> Iterator[facts.Document | None]:
    """Whatever is raised within becomes a sentence and an exit code, as `ending` has them.

    Yields the command's document to be written, where one is asked for: then it has the sentence too.
    """
    with facts.alone_on_stdout(command) if as_json else nullcontext() as document:
        try:
            yield document
        except typer.Exit:
            raise
        except (Exception, KeyboardInterrupt) as error:
            sentence, code = ending(error)
            if document is not None:
                document.fail(without_password(sentence).strip().removeprefix("ablate: "), code)
            if LOUDNESS.verbose:
                complain("".join(traceback.format_exception(error)))
            complain(sentence)
            raise typer.Exit(code) from None


def ending(error: BaseException) -> tuple[str, int]:
    """The sentence and the exit code that an error ends a command with.

    A person's mistake has exit code 2, a broken lock and a fault of the suite's own 1, Ctrl-C 130.
    """
    if isinstance(error, BrokenLockError):
        return f"ablate: {error}", FAILED
    if isinstance(error, AblateError):
        return f"ablate: {error}", USER_ERROR
    if isinstance(error, KeyboardInterrupt):
        return f"\n{STOPPED}", INTERRUPTED
    if isinstance(error, OSError) and error.errno in OF_THE_SYSTEM:
        return f"ablate: {f'{error.filename}: ' if error.filename else ''}{error.strerror}", USER_ERROR
    if isinstance(error, MemoryError):
        return (
            "ablate: there is not enough memory for this; fewer workers or smaller images need less",
            FAILED,
        )
    from cifar_ablations.ablations.stores import failing

    sentence = failing(error) if isinstance(error, Exception) else None
    if sentence is not None:
        return f"ablate: {sentence}", USER_ERROR
    from cifar_ablations.study.commands.fault import reported

    return reported(error), FAILED
