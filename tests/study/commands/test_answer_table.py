"""The answer on the terminal: what the page says, in at most twenty lines, whole at every width."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from cifar_ablations.ablations.record import (
    ArmRecord,
    BestRecord,
    DataRecord,
    PlanRecord,
    ProfileRecord,
    RuleRecord,
    SearchOutcomeRecord,
    StudyRecord,
    WinnerRecord,
)
from cifar_ablations.reports.wording import outcome_lines
from cifar_ablations.reports.wording.outcome_lines import ArmLine, Line
from cifar_ablations.study.commands import answer_table
from cifar_ablations.study.commands.answer_table import bar, show_answer, show_search
from tests.study.commands.test_terminal import Screen

FULL, OWN = "In the full recipe", "On its own"
LINES = [
    Line("Overall", "full recipe, not bare recipe", 0.486, 0.468, -0.018, -0.03, -0.006, "−1.80 [−3.00, −0.60]",
         "hurts", "hurts"),
    Line(FULL, "augmentation", 0.518, 0.468, -0.0501, -0.0644, -0.0358, "−5.01 [−6.44, −3.58]", "hurts", "hurts"),
    Line(FULL, "the learning-rate schedule", 0.441, 0.468, 0.027, 0.012, 0.042, "+2.70 [1.20, 4.20]", "helps", "helps"),
    Line(FULL, "Kaiming initialisation", 0.468, 0.468, 0.0003, -0.004, 0.0046, "+0.03 [−0.40, 0.46]",
         "same within 0.5 pp", "same"),
    Line(OWN, "weight decay", 0.486, 0.489, 0.0031, -0.012, 0.018, "+0.31 [−1.20, 1.80]", "open", "open",
         "too few seeds"),
    Line(OWN, "Adam", float("nan"), 0.489, float("nan"), float("nan"), float("nan"), "3 against 0 diverged",
         "more diverge", "hurts"),
]  # fmt: skip


def plan(**others: object) -> PlanRecord:
    blank = PlanRecord(
        name="techniques",
        question="",
        arms=(ArmRecord("full recipe", "aa"),),
        seeds=(0, 1),
        rule=RuleRecord(margin=0.005),
        claims=(),
        digest="",
        profile=ProfileRecord("quick", ""),
        data=DataRecord("cifar10", "aa"),
    )
    return replace(blank, **others)  # type: ignore[arg-type]


def shown(
    monkeypatch: pytest.MonkeyPatch,
    width: int,
    techniques: list[Line] = (),  # type: ignore[assignment]
    statements: list[Line] = (),  # type: ignore[assignment]
    arms: list[ArmLine] = (),  # type: ignore[assignment]
    screen: Screen | None = None,
    **of_plan: object,
) -> str:
    """What is written on a screen, by default one that is no terminal."""
    screen = screen or Screen(tty=False)
    with monkeypatch.context() as here:
        here.setenv("COLUMNS", str(width))
        for name in ("NO_COLOR", "FORCE_COLOR"):
            here.delenv(name, raising=False)
        here.setattr(sys, "stdout", screen)
        here.setattr(outcome_lines, "of_techniques", lambda plan, verdicts: techniques)
        here.setattr(outcome_lines, "of_statements", lambda verdicts: statements)
        here.setattr(outcome_lines, "of_arms", lambda table: arms)
        verdicts = pd.DataFrame({"confidence": [0.95]})
        show_answer(SimpleNamespace(plan=plan(**of_plan), verdicts=verdicts, arms=None))  # type: ignore[arg-type]
    return screen.getvalue()


def words(text: str) -> set[str]:
    return set(text.split())


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_every_claim_stands_in_the_table_whatever_the_width(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    said = shown(monkeypatch, width, LINES)
    assert all(len(line.rstrip()) <= width for line in said.splitlines())
    assert "\x1b" not in said
    assert len(said.splitlines()) <= answer_table.MOST_LINES
    places = [said.index(part) for part in ("Overall", FULL, "augmentation", OWN, "weight decay")]
    assert places == sorted(places)
    for line in LINES:
        assert line.effect in said
        spoken = words(f"{line.what.removeprefix('the ')} {line.outcome}")
        assert spoken <= words(said.replace(":", "")), "no word is broken"
    assert ("51.8 %" in said) == ("46.8 %" in said) == ("too few seeds" in said) == (width >= 100)
    if width >= 80:
        assert len(said.splitlines()) == 1 + 3 + len(LINES)
    assert ("●" in said) == (width >= 120), "a bar where there is room for one"


def test_a_bar_lies_where_its_interval_does() -> None:
    assert bar((-1.0, 0.0, 1.0), (-2.0, 2.0), 9) == "  ──●──  "
    assert bar((1.0, 1.5, 2.0), (-2.0, 2.0), 9) == "    │ ─●─"
    assert bar((-2.0, -1.0, 1.0), (-2.0, 2.0), 9) == "──●─│──  "
    assert bar((float("nan"), 1.0, 2.0), (-2.0, 2.0), 9) == ""
    assert bar((-9.0, 1.0, 9.0), (-2.0, 2.0), 9) == "────│─●──", "cut off at the ends"


def test_bars_share_their_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    said = shown(monkeypatch, 200, [line for line in LINES if line.difference == line.difference])
    zeros = {line.index("│") for line in said.splitlines() if "│" in line}
    assert len(zeros) == 1
    hurts = next(line for line in said.splitlines() if "augmentation" in line)
    assert hurts.index("●") < hurts.index("│")


def test_colour_is_a_matter_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured = shown(monkeypatch, 120, LINES, screen=Screen())
    assert "\x1b[32mhelps" in coloured
    assert "\x1b[31mhurts" in coloured
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b[3" not in shown(monkeypatch, 120, LINES, screen=Screen())


def test_an_encoding_without_the_signs_gets_others(monkeypatch: pytest.MonkeyPatch) -> None:
    said = shown(monkeypatch, 120, LINES, screen=Screen("ascii", tty=False))
    said.encode("ascii")
    assert "-5.01 [-6.44, -3.58]" in said
    assert re.search(r"-o-+ +\|", said)


@pytest.mark.parametrize("width", [60, 120])
def test_of_many_claims_the_most_telling_stand_and_the_others_are_counted(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [
        replace(LINES[4], place=place, what=f"technique {i}", difference=i / 1000)
        for place in (FULL, OWN)
        for i in range(20)
    ]
    many[3] = replace(LINES[1], what="the one that counts")
    said = shown(monkeypatch, width, many)
    lines = said.splitlines()
    assert len(lines) == answer_table.MOST_LINES
    assert "one that counts" in said
    rows = sum("technique " in line for line in lines) + 1
    assert lines[-1] == f"… and {len(many) - rows} more on the page"
    assert words("technique 19") <= words(said)
    assert "technique 2 " not in said


def test_statements_are_cut_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    long = "Weight decay makes the weights of the network smaller than they would be without any of it at all"
    statements = [
        replace(LINES[0], what=long, effect="−1.20", outcome="supported"),
        replace(LINES[0], what="Short", effect="+3.00 pp", outcome="opposite found"),
    ]
    said = shown(monkeypatch, 60, statements=statements, layout="ledger", techniques=LINES)
    assert len(said.splitlines()) == 3
    assert all(len(line.rstrip()) <= 60 for line in said.splitlines())
    (cut,) = re.findall(r"^(Weight.*)…", said, re.MULTILINE)
    assert long.startswith(f"{cut} ")
    assert "supported" in said.splitlines()[1]
    assert "opposite found" in said
    assert long in shown(monkeypatch, 200, statements=statements, layout="ledger")


def test_a_plan_that_claims_nothing_ranks_its_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = float("nan")
    arms = [
        ArmLine("best", 0.52, 0.01, 0.51, 0.53, 6, 0),
        ArmLine("second", 0.48, nothing, nothing, nothing, 1, 0),
        ArmLine("lost", nothing, nothing, nothing, nothing, 6, 6),
    ]
    said = shown(monkeypatch, 110, arms=arms)
    rows = said.splitlines()
    assert rows[1].split("  ")[0] == "best"
    assert "52.0 % ± 1.0" in rows[1]
    assert "[51.0, 53.0]" in rows[1]
    assert "not tested" in rows[1]
    assert "not tested" not in rows[2]
    assert "6 runs, 6 diverged" in rows[3]
    assert shown(monkeypatch, 110) == "No training has ended yet.\n"


def test_a_rehearsal_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = DataRecord("synthetic", "aa", stand_in=True)
    assert shown(monkeypatch, 120, LINES, data=drawn).count("rehearsal") == 1


def study(name: str, value: float | None, **sampled: float) -> StudyRecord:
    best = None if value is None else BestRecord(3, value, sampled)
    return StudyRecord(name, name, {}, (), "tpe", 0, ("optimizer.rate",) if name == "adam" else (), best)


@pytest.mark.parametrize("width", [60, 200])
def test_a_search_ends_with_the_best_of_each_study(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    winner = WinnerRecord("rmsprop", 3, 0.5375, "", {}, (("optimizer.rate", 0.001, 0.002134),))
    outcome = SearchOutcomeRecord(
        "", (study("adam", 0.51, rate=0.003), study("rmsprop", 0.5375, rate=0.002134), study("sgd", None)), winner
    )
    show_search(outcome)
    said = capsys.readouterr().out
    assert all(len(line.rstrip()) <= width or line.startswith("Best:") for line in said.splitlines())
    flat = " ".join(said.split())
    assert "53.75 % rate 0.00213" in flat
    assert "(at the edge:" in flat
    assert "no trial came to an end" in flat
    assert "Best: trial 3 of rmsprop; it changes optimizer.rate 0.00213." in flat


def test_of_many_studies_the_best_stand(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    studies = tuple(study(f"study {i}", 0.4 + i / 1000, rate=0.1) for i in range(30))
    show_search(SearchOutcomeRecord("", studies, None))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == answer_table.MOST_LINES
    assert lines[-1] == "… and 12 more on the page"
    assert lines[1].startswith("study 12 ")
    assert lines[-2].startswith("study 29 ")
