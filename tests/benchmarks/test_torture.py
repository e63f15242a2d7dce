"""Some faults of each kind and some bad input, on real commands: what `make torture` does by the hundred."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from benchmarks.torture import __main__ as torture
from benchmarks.torture import damage, grammar, record
from benchmarks.torture.command import Ended
from benchmarks.torture.ground import differences

ROOT = Path(__file__).parents[2]


def tortured(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.torture", "--seed", "0", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "kinds",
    [["kills", "damage", "inputs"], pytest.param([*torture.KINDS], marks=pytest.mark.slow, id="every kind")],
)
def test_faults_of_each_kind_lose_nothing(kinds: list[str]) -> None:
    told = tortured("--short", "--minutes", "5", *(word for kind in kinds for word in ("--only", kind)))
    assert told.returncode == 0, told.stdout + told.stderr
    for kind in kinds:
        assert f"| {torture.KINDS[kind][0].TITLE} | " in told.stdout


@pytest.mark.exhaustive
def test_many_faults_lose_nothing() -> None:
    told = tortured("--minutes", "4", "--results", "/dev/null")
    assert told.returncode == 0, told.stdout + told.stderr


def test_a_case_is_drawn_from_its_seed_alone(tmp_path: Path) -> None:
    drawn = []
    for again in ("one", "other"):
        here = tmp_path / again
        here.mkdir()
        (here / "lock.json").write_text('{"plan": {"seeds": [0, 1]}}')
        rng = Random("0/inputs/3")
        drawn.append([grammar.draw(rng, here, here / "lock.json") for _ in range(30)])
    assert drawn[0] == drawn[1]
    assert len({one.words[0] for one in drawn[0]}) > 5


def test_every_kind_has_its_turn() -> None:
    first = list(islice(torture.schedule([*torture.KINDS]), 200))
    assert {kind for kind, _ in first} == torture.KINDS.keys()
    assert len(set(first)) == 200
    assert len(list(torture.schedule([*torture.KINDS], short=True))) == len(torture.KINDS) - 1 + torture.FEW_INPUTS


def test_what_is_lost_doubled_or_different_is_found() -> None:
    one, other = ((("finished",), ("loss", 1, "0x1.0p+0", 0)),), ((("finished",), ("loss", 1, "0x1.1p+0", 0)),)
    whole = {("a", "0"): [one[0]], ("b", "0"): [one[0]]}
    assert differences(whole, whole, "training") == []
    assert differences({("a", "0"): [one[0]]}, whole, "training") == ["1 results of trainings are lost"]
    twice = {**whole, ("a", "0"): [one[0], one[0]]}
    assert differences(twice, whole, "training") == ["1 trainings are there more than once"]
    (changed,) = differences({**whole, ("a", "0"): [other[0]]}, whole, "training")
    assert "another result" in changed


@pytest.mark.parametrize(
    ("code", "said", "found"),
    [
        (0, "fine", False),
        (None, "", True),
        (-11, "", True),
        (1, "Traceback (most recent call last):\n  File x\nKeyError: 1", True),
        (2, "", True),
        (2, "no plan '\x1b[31m'", True),
        (1, "ablate: this is a fault of ablate's own, not of what you typed (KeyError: 1). Please report it", True),
    ],
)
def test_what_a_person_should_not_see_is_found(code: int | None, said: str, found: bool) -> None:
    assert bool(Ended(code, "", said, 1.0, 0).unseemly()) == found


@pytest.mark.parametrize("way", damage.WAYS)
def test_damage_is_damage(way: object) -> None:
    assert callable(way)
    assert way(b"some bytes of a file" * 20, Random(1)) != b"some bytes of a file" * 20
    assert way(b"", Random(1)) == b""


def test_what_did_not_hold_is_in_the_table_with_the_line_that_shows_it_again() -> None:
    cases = [record.Case("damage", 3, "x", 1, ("it is lost",), 1.0), record.Case("damage", 4, "x", 2, (), 1.0)]
    text = record.section([damage], cases, 7, 1.5)
    assert "| 3 faults in 2 cases | 2 |" in text
    assert "it is lost — `python -m benchmarks.torture --seed 7 --only damage --case 3`" in text
    assert "Nothing was lost" not in text
    assert "Nothing was lost" in record.section([damage], cases[1:], 7, 1.5)
