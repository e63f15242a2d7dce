"""Whatever stands behind an option, a command ends with a sentence: no fault of its own, nothing a terminal obeys."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cifar_ablations.study.commands import app, streams
from tests.fresh_store import put_fresh_store

NASTY = [
    *(
        "",
        " ",
        "\n",
        "\x1b[31m",
        "\x9b2J",
        "\u202e",
        "é" * 100,
        "x" * 300,
        "9" * 5_000,
        "-" + "9" * 5_000,
        "½",
        "²",
        "-0",
        "nan",
    ),
    *(
        "1e400",
        "inf",
        "None",
        "[]",
        "a=b",
        "=",
        ":",
        "/",
        ".",
        "..",
        "~",
        "~nosuchuser",
        "a/" * 200,
        "%s",
        "{0}",
        "$HOME",
    ),
    *(
        "http://anna:geheim@h:x/y",
        "cpu:",
        "cuda:²",
        "os:getcwd",
        "shutil:rmtree",
        "torch:nn",
        os.fsdecode(b"n\xff"),
        "A#B",
    ),
    *(
        "pipe",
        "socket",
        "folder",
        "deep.toml",
        "deep.json",
        "dots.toml",
        "bytes.toml",
        "types.toml",
        "/dev/zero",
        "/proc/self/mem",
    ),
]
FILES = {
    "deep.toml": b"a = " + b"[" * 50_000,
    "deep.json": b"[" * 50_000,
    "dots.toml": b"a." * 20_000 + b"b = 1",
    "bytes.toml": b"a = '\xff'",
    "types.toml": b"techniques = 5\n",
}
PLAN = ("plan", "a-a", "--profile", "smoke")
"""It goes as far as to its images, which are not there, after all else was looked at."""
PLACES: list[tuple[str, ...]] = [
    *(
        (*PLAN, option)
        for option in ("--seeds", "--first-seed", "--workers", "--device", "--backend", "--minutes", "--trials")
    ),
    *((*PLAN, option) for option in ("--image-size", "--extensions", "--lock", "--data")),
    ("plan", "a-a", "--profile"),
    ("plan", "a-a", "--set"),
    ("plan", "a-a", "--set=model.name="),
    ("plan", "a-a", "--set=dropout.p="),
    ("plan", "a-a", "--baseline"),
    ("plan",),
    ("tune",),
    ("tune", "sweep", "--sampler"),
    ("tune", "sweep", "--pruner"),
    ("tune", "sweep", "--seed"),
    ("adopt", "joint", "--as"),
    ("verify",),
    ("check",),
    ("check", "--expect"),
    ("judge",),
    ("judge", "types.toml", "--metric"),
    ("judge", "types.toml", "--tracking-uri"),
    ("report",),
    ("report", "--compare", "a"),
    ("export", "--to"),
    ("export", "--width"),
    ("data",),
    ("data", "cifar10", "--from"),
    ("script", "--set"),
    ("script", "--baseline"),
    ("script", "--without"),
    ("check-extension",),
    ("watch", "--every"),
    ("ui", "--port"),
    ("foundations", "--seed"),
    ("nothing",),
]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    before = Path.cwd()
    os.chdir(folder)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket")
    finally:
        os.chdir(before)
    put_fresh_store(folder / "out")
    return folder


@pytest.fixture(autouse=True)
def environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    monkeypatch.setenv("ABLATE_HOME", str(here / "out"))
    monkeypatch.setenv("ABLATE_DATA", str(here / "nothing"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def _check(place: tuple[str, ...], word: str, as_json: bool) -> None:
    words = [*place[:-1], f"{place[-1]}{word}"] if place[-1].endswith("=") else [*place, word]
    if as_json and place[0] in ("plan", "adopt", "verify", "check", "judge", "report", "export"):
        words.append("--json")
    result = CliRunner().invoke(app.app, words)
    said = result.stdout + result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit), words
    assert result.exit_code in ((0, 2) if word else (0, 1, 2)), (words, said)
    assert "fault of ablate" not in said, (words, said)
    assert "Traceback" not in said, (words, said)
    assert "geheim" not in said, (words, said)
    assert not streams.OBEYED.search(said), (words, said)
    assert len(said) < 12_000, (words, len(said))


@pytest.mark.exhaustive
@pytest.mark.parametrize("place", PLACES, ids=" ".join)
def test_three_nasty_words_behind_every_option(place: tuple[str, ...]) -> None:
    first = 7 * PLACES.index(place)
    for i, word in enumerate(NASTY[(first + step) % len(NASTY)] for step in (0, 19, 38)):
        _check(place, word, as_json=bool(i % 2))


@pytest.mark.exhaustive
@settings(
    max_examples=600, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(PLACES), st.one_of(st.sampled_from(NASTY), st.text(max_size=20)), st.booleans())
def test_any_word_behind_any_option(place: tuple[str, ...], word: str, as_json: bool) -> None:
    if "\0" not in word and not word.startswith("-"):
        _check(place, word, as_json)
