"""An error that is a fault of the suite's own: its traceback goes to a file, and a sentence says where it lies."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.files import write_atomically
from cifar_ablations.ablations.secrets import without_password
from cifar_ablations.study.store.home import Home

FOLDER = "errors"
"""In the output folder."""
PACKAGES = ("cifar-ablations", "torch", "mlflow", "optuna", "numpy", "pandas")
LONGEST = 200
"""Of what is quoted of an error at the terminal."""


def reported(error: BaseException) -> str:
    """Write an error's traceback, with the command and the versions, to a file; returns the sentence that names it.

    Passwords in addresses are left out. Where no file can be written the traceback follows the sentence.
    """
    text = without_password(
        f"{shlex.join(sys.argv)}\n"
        f"{', '.join(f'{name} {version(name)}' for name in PACKAGES)}; Python {sys.version}; {sys.platform}\n\n"
        f"{''.join(traceback.format_exception(error))}"
    )
    what = without_password(f"{type(error).__name__}: {' '.join(str(error).split())}")[:LONGEST]
    said = f"ablate: this is a fault of ablate's own, not of what you typed ({what})."
    for folder in _folders():
        file = folder / f"{time.strftime('%Y-%m-%dT%H-%M-%S')}-{os.getpid()}.log"
        try:
            write_atomically(file, text.encode("utf-8", "backslashreplace"))
        except OSError:
            continue
        return f"{said} Please report it, with the file {os.path.relpath(file)}; what has ended is kept."
    return f"{said} Please report it, with this:\n{text}"


def _folders() -> Iterator[Path]:
    with suppress(AblateError, OSError):
        yield Home().folder / FOLDER
    yield Path(tempfile.gettempdir())
