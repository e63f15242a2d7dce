"""`ablate report` ends with the answer of the newest page, or of the plan that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from cifar_ablations.ablations.record import DataRecord, SearchOutcomeRecord
from cifar_ablations.study.commands import answer_table, reporting
from cifar_ablations.study.commands.reporting import report
from cifar_ablations.study.store.home import Home
from tests.study.commands.test_answer_table import plan, study


def at(day: int) -> datetime:
    return datetime(2026, 1, day, tzinfo=UTC)


def findings(day: int, **of_plan: object) -> Any:
    command = "ablate run techniques --profile quick --seeds 6"
    asked = plan(**{"command": command} | of_plan)
    return SimpleNamespace(invocation=SimpleNamespace(order=at(day)), plan=asked, verdicts=pd.DataFrame())


def search(day: int, *, ended: bool = True) -> Any:
    outcome = SearchOutcomeRecord("", (study("adam", 0.51, rate=0.003),), None) if ended else None
    return SimpleNamespace(order=at(day), name="joint", outcome=outcome)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[str]]:
    """What `report` says of plans, newest first, and of searches, whose pages are called by their places."""
    monkeypatch.delenv("MAKELEVEL", raising=False)
    monkeypatch.delenv("ABLATE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)

    def of(plans: list[Any], logged: list[Any], asked: str | None = None) -> list[str]:
        home, lines = Home(tmp_path), list[str]()

        def write(home: Home, plan: str | None, tell: object, found: Callable[[Any], None], *_: object) -> list[Path]:
            for one in plans:
                found(one)
            names = [f"plan-{i}" for i in range(len(plans))] + [f"search-{i}" for i in range(len(logged))]
            return [home.reports / f"{name}.html" for name in (*names, "index")]

        monkeypatch.setattr(reporting, "write_pages", write)
        monkeypatch.setattr(reporting.searches, "searches", lambda uri: logged)
        monkeypatch.setattr(answer_table, "show_answer", lambda results: lines.append(f"answer of {results.plan.name}"))
        monkeypatch.setattr(answer_table, "show_search", lambda outcome: lines.append("best of the search"))
        report(home, asked, lines.append)
        return lines

    return of


def test_the_newest_plan_has_the_last_word(said: Callable[..., list[str]]) -> None:
    assert said([findings(3, name="ladder"), findings(1)], [search(2)]) == [
        "Report: reports/plan-1.html",
        "Report: reports/search-0.html",
        "Report: reports/index.html",
        "answer of ladder",
        "Report: reports/plan-0.html",
        "Next: ablate run techniques",
        "      what each technique is worth",
    ]


def test_a_search_that_is_newer_has_it(said: Callable[..., list[str]]) -> None:
    assert said([findings(1)], [search(2), search(1)])[-3:] == [
        "best of the search",
        "Report: reports/search-0.html",
        "Next: ablate adopt joint",
    ]
    assert said([], [search(2)])[-1] == "Next: ablate adopt joint"


def test_a_search_that_has_not_ended_leaves_it_to_the_plan(said: Callable[..., list[str]]) -> None:
    assert "answer of techniques" in said([findings(1)], [search(2, ended=False)])
    assert said([], [search(2, ended=False)]) == ["Report: reports/search-0.html", "Report: reports/index.html"]


def test_a_plan_that_is_asked_for_answers_whatever_is_newer(said: Callable[..., list[str]]) -> None:
    assert "answer of techniques" in said([findings(1)], [search(2)], "techniques")


def test_images_whose_place_is_not_known_lead_to_no_command_that_would_fail(said: Callable[..., list[str]]) -> None:
    assert said([findings(1, data=DataRecord("flowers", "aa"))], [])[-1] == "Next: ablate ui"
