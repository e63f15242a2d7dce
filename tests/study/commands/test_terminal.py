"""What is written suits the terminal: its width, its signs, and whether a line can be written over."""

from __future__ import annotations

import io
import json
import os
import re
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.table import Table
from rich.text import Text

from cifar_ablations.study.commands import ending, facts, streams, terminal


class Screen(io.StringIO):
    def __init__(self, encoding: str = "utf-8", tty: bool = True):
        super().__init__()
        self._encoding, self._tty = encoding, tty

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return self._tty


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "CI", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_terminal_is_as_wide_as_it_says_a_dumb_one_too(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLUMNS", "61")
    assert terminal.console().width == 61


def test_a_pipe_has_room_for_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_terminal(descriptor: int) -> os.terminal_size:
        raise OSError

    monkeypatch.setattr(os, "get_terminal_size", no_terminal)
    monkeypatch.setattr(sys, "stdout", Screen(tty=False))
    assert terminal.console().width == terminal.PIPE_COLUMNS


@pytest.mark.parametrize(
    ("environment", "tty", "live"),
    [
        ({}, True, True),
        ({"NO_COLOR": "1"}, True, True),
        ({}, False, False),
        ({"FORCE_COLOR": "1"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"CI": "true"}, True, False),
    ],
)
def test_lines_are_written_over_only_where_that_works(
    environment: dict[str, str], tty: bool, live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", Screen(tty=tty))
    assert terminal.is_live() == live


def test_signs_that_cannot_be_written_become_others(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "−5.0 [−6.4, −3.6] ─●─│ … 3 ± 1 × ÷ →"
    assert terminal.writable(text) == text
    monkeypatch.setattr(sys, "stdout", Screen("ascii"))
    assert terminal.writable(text) == "-5.0 [-6.4, -3.6] -o-| ... 3 +/- 1 x / ->"
    assert terminal.writable("café") == "caf\\xe9", "a file's name stays one that can be told from others"
    monkeypatch.setattr(sys, "stdout", Screen("cp1252"))
    assert terminal.writable("café") == "café"


def test_lines_break_between_words_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "A sentence that is longer than the terminal is wide.\n  and a line of its own, indented, and long as well\n"
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr(sys, "stdout", Screen())
    lines = terminal.wrapped(text).split("\n")
    assert all(len(line) <= 20 for line in lines)
    assert " ".join(" ".join(lines).split()) == " ".join(text.split()), "no word is broken or lost"
    assert lines[3].startswith("  and")
    assert lines[4].startswith("  ")
    monkeypatch.setattr(sys, "stdout", Screen(tty=False))
    assert terminal.wrapped(text) == text


def test_what_is_to_be_copied_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr(sys, "stdout", Screen())
    for line in (
        "Next: .venv/bin/ablate run techniques --seeds 9",
        "Next: make ablate PLAN=ladder SEEDS=9",
        "  the same by number: ablate run techniques --seeds 9",
        "Report: some folder/out/reports/techniques.html",
    ):
        assert terminal.wrapped(line) == line


HOSTILE = "cat\x1b[2J\x1b]0;title\x07\x9b31m\r\x08\u202egnp.\u2066"
"""Clears the screen, calls the window otherwise, colours what follows, goes back, and turns the direction round."""
SHOWN = r"cat\x1b[2J\x1b]0;title\x07\x9b31m\r\x08\u202egnp.\u2066"


@pytest.mark.parametrize("tty", [False, True])
def test_no_name_is_obeyed_by_a_terminal(tty: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen(tty=tty)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "200")
    ending.say(f"one {HOSTILE}")
    ending.complain(f"two {HOSTILE}")
    console = terminal.console()
    console.print(f"three {HOSTILE}", markup=False)
    table = Table("name", box=None)
    table.add_row(Text(terminal.writable(HOSTILE), style="red"))
    table.add_row(HOSTILE)
    console.print(table)
    written = re.sub(r"\x1b\[\d*m", "", screen.getvalue())  # rich's own colours
    assert written.count(SHOWN) == 3
    assert written.count(r"cat\x1b[2J\x1b]0;title") == 5, "rich leaves out some signs itself"
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2066]", written)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.text())
def test_what_is_inert_says_the_same(text: str) -> None:
    inert = streams.inert(text)
    assert not streams.OBEYED.search(inert)
    assert streams.inert(inert) == inert
    if not streams.OBEYED.search(text):
        assert inert == text


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.text())
@example(HOSTILE)
def test_a_document_is_json_that_no_terminal_obeys_and_says_what_it_was_given(text: str) -> None:
    document = facts.encoded({"name": text, text: 1})
    assert not streams.OBEYED.search(document)
    assert json.loads(document)["name"] == text
