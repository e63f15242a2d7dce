"""The file of Optuna's journal, mended where its end cannot be read: Optuna itself would go on writing behind it."""

from __future__ import annotations

import os
from pathlib import Path

from cifar_ablations.ablations.files import parse_json

TORN = ".torn"
"""Ends the name of the file beside a journal that keeps what was cut off."""


def mend(file: Path) -> str:
    """Cut a journal off before the first line that is not whole; returns a sentence about it, "" where all are.

    A power cut leaves half a line, or zeros; versions before this one then went on writing behind it. What is cut off
    is added to a file beside the journal. To be called by whoever holds the output folder.
    """
    lines, whole, rest = _read(file)
    if not rest:
        return ""
    if _is_whole(rest + b"\n"):  # nothing but the end of its line is missing
        with file.open("ab") as journal:
            journal.write(b"\n")
        return ""
    beside = file.with_name(file.name + TORN)
    with beside.open("ab") as torn:
        torn.write(rest.rstrip(b"\n") + b"\n")
        torn.flush()
        os.fsync(torn.fileno())
    os.truncate(file, whole)
    return (
        f"{file.name} ended in a line that cannot be read, as after a power cut. The {lines} lines before it are kept; "
        f"the rest ({len(rest):,} bytes) lies in {beside.name}, and what it told of trials is found out anew."
    )


def torn(file: Path) -> str:
    """A sentence where a journal has a line that cannot be read, else ""; nothing is written."""
    lines, _, rest = _read(file)
    if not rest or _is_whole(rest + b"\n"):
        return ""
    return f"{file.name} has a line that cannot be read: the {lines} lines before it can, {len(rest):,} bytes cannot"


def _read(file: Path) -> tuple[int, int, bytes]:
    """How many whole lines a journal begins with, their bytes, and what follows; nothing where there is no journal."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return 0, 0, b""
    whole = lines = 0
    for line in content.splitlines(keepends=True):
        if not _is_whole(line):
            break
        whole, lines = whole + len(line), lines + 1
    return lines, whole, content[whole:]


def _is_whole(line: bytes) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        return isinstance(parse_json(line), dict)
    except ValueError:  # a UnicodeDecodeError too
        return False
