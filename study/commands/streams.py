"""The standard streams: what they have no sign for is written plainly, and what they take no more ends no training."""

from __future__ import annotations

import codecs
import io
import os
import re
import select
import sys
from contextlib import suppress
from typing import Any

PLAIN = str.maketrans(
    {
        **{"−": "-", "–": "-", "—": "-", "·": ".", "…": "...", "×": "x", "÷": "/", "±": "+/-", "→": "->"},
        **{"“": '"', "”": '"', "’": "'", "≤": "<=", "≥": ">=", "≈": "~", "√": "sqrt ", "∞": "inf", "²": "^2"},
        **{"α": "alpha", "χ": "chi", "Δ": "delta", "λ": "lambda", "ρ": "rho", "‖": "|", "³": "^3", "₁": "1", "₀": "0"},
        **{"°": " degrees", "†": "+", "─": "-", "│": "|", "●": "o", "◆": "x"},
    }
)
"""What is written in place of signs that an encoding does not have; others become their number, as \\xe9."""
TURNING = "\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069"
"""Signs that make a terminal write a line from the right, or read a name otherwise than it is."""
OBEYED = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029{TURNING}]")
"""What a terminal obeys and does not show; ends of lines and tabs are none of it."""
NARROWEST = 20
"""A terminal of fewer columns is taken for one that does not say how many it has: no sentence fits into it."""
ERRORS = "plain"
"""The name under which codecs know that."""


def inert(text: str) -> str:
    """The text with what a terminal would obey as escapes, \\x1b: names come from stores, files and other people."""
    return OBEYED.sub(lambda sign: sign[0].encode("unicode_escape").decode("ascii"), text)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(PLAIN)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error(ERRORS, _plain)


class Patient(io.RawIOBase):
    """The file of a standard stream. What it cannot take is lost: who reads has gone, or the disk is full."""

    def __init__(self, file: Any):
        self._file = file
        self.lost: OSError | None = None
        """Why something was lost, if anything was."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._file.fileno())

    def isatty(self) -> bool:
        return bool(self._file.isatty())

    def write(self, data: Any) -> int:
        """Write some of the data, waiting for who reads; all of it where it is lost."""
        try:
            while (written := self._file.write(data)) is None:  # another process has made it one that does not wait
                select.select([], [self._file], [])
            return int(written)
        except OSError as error:
            self.lost = self.lost or error
            return len(data)


def take_over() -> None:
    """Have both standard streams write plainly and patiently, also where they are closed or have no width."""
    with suppress(ValueError):
        if int(os.environ.get("COLUMNS", NARROWEST)) < NARROWEST:
            del os.environ["COLUMNS"]
    # A closed one's number would be given to the next file that is opened, and what is printed be written there.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            file = io.BufferedWriter(Patient(getattr(stream.buffer, "raw", stream.buffer)))
            kept: dict[str, Any] = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
            setattr(sys, name, io.TextIOWrapper(file, encoding=stream.encoding, errors=ERRORS, **kept))


def lost() -> OSError | None:
    """Why something of the standard output was lost, if anything was."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.lost if isinstance(raw, Patient) else None
