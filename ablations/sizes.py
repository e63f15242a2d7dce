"""How much room files take, and how it is freed."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path


def size(path: Path | None) -> int:
    """The bytes of a file, or of all files in a folder; 0 where there is none. A link is as large as itself."""
    total = 0
    for one in [] if path is None else [path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())]:
        with suppress(OSError):
            about = one.lstat()
            total += 0 if one.is_dir() and not one.is_symlink() else about.st_size
    return total


def readable(count: int) -> str:
    """Bytes as a person reads them, such as "1.2 MB"."""
    for unit, large in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= large:
            return f"{count / large:.{0 if count >= 100 * large else 1}f} {unit}"
    return f"{count} bytes"


def remove(path: Path) -> None:
    """Delete a file, or a folder with all in it; of a link, the link alone. Raises OSError where it cannot be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
