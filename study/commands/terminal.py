"""The terminal at hand: how wide it is, what it can show, and lines broken between words."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator

from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.segment import Segment

from cifar_ablations.study.commands.streams import ERRORS, inert


class InertConsole(Console):
    """One whose own signs alone a terminal obeys, and none of what it is given to print."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """As rich has it."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(inert(segment.text), segment.style)


PIPE_COLUMNS = 110
"""The width of tables where nobody says how wide a line may be, as in a pipe and in a log."""


def console() -> Console:
    """The console of the standard output, as wide as its terminal, or PIPE_COLUMNS where there is none."""
    made = InertConsole(highlight=False)
    made.size = ConsoleDimensions(*shutil.get_terminal_size((PIPE_COLUMNS, 25)))  # rich takes dumb ones to have 80
    return made


def is_live() -> bool:
    """Whether lines on the standard output can be written over: on a terminal that is neither dumb nor a CI's log."""
    return sys.stdout.isatty() and not Console().is_dumb_terminal and not os.environ.get("CI")


def writable(text: str) -> str:
    """The text in signs that the standard output can write, and that no terminal obeys."""
    encoding = sys.stdout.encoding or "ascii"
    return inert(text).encode(encoding, ERRORS).decode(encoding)


COMMAND = re.compile(r"^Report: |: (\S*ablate|make) [a-z]")
"""A line that must stay whole, so that what it says can be copied."""


def wrapped(text: str) -> str:
    """The text with its lines broken between words where a terminal would break them anywhere; as it is in a pipe.

    Lines with a command or a path stay whole. What a terminal would obey in it is shown.
    """
    text = inert(text)
    if not sys.stdout.isatty():
        return text
    width = shutil.get_terminal_size().columns
    lines = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        parts = textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        lines += [line] if COMMAND.search(line) else parts or [""]
    return "\n".join(lines)
