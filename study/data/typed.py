"""What a person types: the name of this program, and the option that names the data."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from cifar_ablations.ablations.errors import AblateError


class Resized(str):
    """A source of data as it was typed, whose images are to be resized; a str, as sources are everywhere else."""

    image_size: int

    def __new__(cls, source: str, image_size: int) -> Resized:
        resized = super().__new__(cls, source)
        resized.image_size = image_size
        return resized


def typed_source(source: str | None, image_size: int | None) -> str | None:
    """What --data and --image-size ask for. Raises AblateError where there is nothing to resize."""
    if image_size is None:
        return source
    if not source:
        raise AblateError("--image-size resizes the images of --data PATH; give both")
    return Resized(source, image_size)


def image_size(source: str | Path | None) -> int | None:
    """The size to which a source's images are to be resized; None for the one that all of them must have."""
    return source.image_size if isinstance(source, Resized) else None


def option(source: str | Path | None) -> str:
    """The options that give another command the same data, with a space before them; empty where none were given."""
    resized = f" --image-size {size}" if (size := image_size(source)) else ""
    return f" --data {shlex.quote(str(source))}{resized}" if source else ""


def program() -> str:
    """This program's name as a person types it."""
    called = Path(sys.argv[0])
    on_path = shutil.which("ablate")
    if called.stem != "ablate" or (on_path and Path(on_path).resolve() == called.resolve()):
        return "ablate"
    return str(called)
