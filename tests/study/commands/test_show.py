"""What the command line says of a plan before it is run: its arms, and what it could tell."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from rich.table import Table
from scipy import stats

from cifar_ablations.ablations import catalog
from cifar_ablations.ablations.plan import Plan, with_looks
from cifar_ablations.ablations.profiles import profile
from cifar_ablations.ablations.record import DataRecord, PlanRecord, RuleRecord
from cifar_ablations.reports.inference import decision, simulation, verdict
from cifar_ablations.reports.inference.power import Design
from cifar_ablations.reports.pages.preview import Pilot
from cifar_ablations.study.commands import show
from cifar_ablations.study.execution.sizing import Estimate
from tests.reports.inference.test_power import SHARED, found_on_pages
from tests.reports.inference.test_simulation import shape
from tests.study.commands.test_terminal import Screen

WELCH = RuleRecord(margin=0.005, test="welch t", correction="weighted holm")


def asked(name: str, seeds: int, looks: str = "") -> PlanRecord:
    size = profile("quick")
    plan: Plan = catalog.make_plan(name, size.apply(catalog.notebook_recipe()), size, tuple(range(seeds)))
    return (with_looks(plan, looks) if looks else plan).record(size, DataRecord("cifar10", "aa"))


def said(plan: PlanRecord, *pilots: Pilot) -> tuple[list[str], list[list[str]]]:
    """The sentences, and the table's rows, its head first."""
    parts = list(show._resolution(plan, {str(i): pilot for i, pilot in enumerate(pilots)}))
    tables = [part for part in parts if isinstance(part, Table)]
    rows = [list(row) for table in tables for row in zip(*(_cells(column) for column in table.columns), strict=True)]
    return [part.strip() for part in parts if isinstance(part, str)], rows


def _cells(column: object) -> list[str]:
    return [str(column.header).strip(), *(str(cell).strip() for cell in column.cells)]  # type: ignore[attr-defined]


@pytest.fixture
def rate(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Error rates by number of seeds, in place of simulated ones: .02 where none is given."""
    rates: dict[int, float] = {}
    monkeypatch.setattr(verdict, "error_rate", lambda shape: rates.get(shape.seeds, 0.02))
    return rates


def test_the_error_rate_is_that_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = asked("ladder", 5)
    monkeypatch.setattr(simulation, "DRAWS", 200)
    rate = f"{100 * verdict.error_rate(verdict.shape_of(plan)):.1f} %"
    assert said(plan)[0][0] == (
        f"By simulation, at most {rate} of such pages say something false: all 9 claims share one error of 5 %."
    )


def test_too_few_seeds_get_no_verdicts_and_hear_how_many_do(rate: dict[int, float]) -> None:
    rate.update({3: 0.084, 4: 0.057, 5: 0.051})
    sentences, rows = said(asked("techniques", 3))
    assert sentences[0] == (
        "No verdicts with 3 seeds: by simulation, 8.4 % of such pages would say something false. "
        "They are given from 6 seeds on."
    )
    assert [row[0] for row in rows] == ["seeds", "6", "8", "10", "15"]
    assert not any("equivalent" in sentence for sentence in sentences)
    rate.update(dict.fromkeys((6, 8, 10, 15), 0.06))
    sentences, rows = said(asked("techniques", 3))
    assert (sentences[0][-6:], rows) == ("false.", [])


def test_one_seed_decides_nothing_and_a_plan_without_claims_promises_nothing(rate: dict[int, float]) -> None:
    assert said(asked("techniques", 1))[0] == ["One seed cannot tell an effect from chance: no claim will be decided."]
    assert said(asked("notebook", 5)) == ([], [])


def test_the_table_has_the_plans_own_seeds_among_others(rate: dict[int, float]) -> None:
    _, rows = said(asked("techniques", 7))
    assert [row[0] for row in rows] == ["seeds", "5", "6", "7, this plan", "8", "10", "15"]
    assert rows[0][1:] == ["0.5 sd", "1 sd", "1.5 sd", "2 sd", "3 sd", "4 sd"]
    # Of a non-central t, 14 degrees of freedom: 3 sd are 3 / sqrt(2 / 7) standard errors; nine claims share .03.
    bound, shift = stats.t.isf(0.03 / 9 / 2, 14), 3 * math.sqrt(7 / 2)
    assert rows[3][5] == f"[bold]{100 * stats.nct.sf(bound, 14, shift):.0f}[/bold]"
    assert rows[3][6] == "[bold]>99[/bold]"


def test_looks_are_listed_with_their_error_and_are_the_rows(rate: dict[int, float]) -> None:
    sentences, rows = said(asked("techniques", 5, "adaptive"))
    assert sentences[0] == (
        "Looks after 5, 10, 15 seeds, each with an error of 1 % for all differences; training stops when every claim "
        "is decided."
    )
    assert [row[0] for row in rows] == ["seeds", "5", "10", "15, this plan"]
    alone = said(asked("techniques", 5))[1]
    assert int(rows[1][5]) < int(alone[1][5]), "looks share the error"
    sentences, rows = said(asked("techniques", 5, "open"))
    assert "each with an error of 3.5 %" in sentences[0]
    assert rows[1][1:] == ["<1"] * 6, "an e-process finds nothing with five seeds"
    assert any("if runs of equal seeds do not correlate" in sentence for sentence in sentences)


@pytest.mark.parametrize(("name", "words"), [("data-size", "two differences"), ("factorial", "means over 64 arms")])
def test_claims_of_other_kinds_have_effects_of_their_size(name: str, words: str, rate: dict[int, float]) -> None:
    sentences, rows = said(asked(name, 5))
    assert any(f"finds an effect between {words}, by its size" in sentence for sentence in sentences)
    assert rows[0][4] == {"data-size": "2.8 sd", "factorial": "0.35 sd"}[name]


def test_a_plan_with_several_kinds_says_how_the_others_differ(rate: dict[int, float]) -> None:
    plan = asked("claims", 5)
    sentences, _ = said(plan)
    assert "For the 1 claim about two differences, an effect must be about 1.4 times as large." in sentences


def test_pilots_give_percentage_points_but_none_that_cannot_happen(rate: dict[int, float]) -> None:
    plan = asked("techniques", 5)
    pilots = [Pilot(0.01, 0.5), Pilot(0.02, 0.5), Pilot(0.35, 0.5)]
    sentences, rows = said(plan, *pilots[:2])
    assert rows[0][1:4] == ["0.5 sd\n0.75 pp", "1 sd\n1.50 pp", "1.5 sd\n2.25 pp"]
    assert "Test accuracy, in 2 comparisons in the store: 1 sd is typically 1.50 pp (1.00 to 2.00 pp)." in sentences
    assert not any("cannot change" in sentence or "No pilot runs" in sentence for sentence in sentences)
    sentences, rows = said(plan, *pilots)
    assert rows[0][2:4] == ["1 sd\n2.00 pp", "1.5 sd\n2.25 pp"]
    assert "In 1 of 3 comparisons, test accuracy cannot change by 1.5 sd." in sentences
    _, rows = said(plan, pilots[2])
    assert rows[0] == ["seeds", "0.5 sd\n17.50 pp", "1 sd\n35.00 pp"]
    sentences, _ = said(plan)
    assert (
        "No pilot runs in the store to say how large such a deviation is. Differences within 0.5 pp do not matter here."
        in sentences
    )


def test_whether_equivalence_is_on_offer(rate: dict[int, float]) -> None:
    below = 100 * Design(WELCH, 19).equivalent_below(5)
    start = f"With 5 seeds a claim can be called equivalent (within 0.5 pp) only where the sd is below {below:.2f} pp"
    plan = asked("techniques", 5)
    assert f"{start}." in said(replace(plan, rule=WELCH))[0]
    few, many = Pilot(0.9 * below / 100, 0.5), Pilot(1.1 * below / 100, 0.5)
    assert f"{start} (1 of 2 comparisons in the store)." in said(replace(plan, rule=WELCH), few, many)[0]
    assert f"{start} (none of 1 comparison in the store)." in said(replace(plan, rule=WELCH), many)[0]


@pytest.mark.parametrize("n", [5, 15])
def test_equivalence_passes_below_that_spread_alone(n: int) -> None:
    """With equal means on arms of equal spreads, which the pseudo-seed raises by up to a few per cent."""
    rule, of_pairs = replace(WELCH, margin=1.0), shape([(i, 0) for i in range(1, 7)], n)
    below = Design(rule, 6).equivalent_below(n)
    assert stats.t.sf(1 / (below * math.sqrt(2 / n)), 2 * n) == pytest.approx(0.01 / 6)
    claims = replace(of_pairs.claims, margin=np.ones(6))
    for factor, passes in ((0.95, True), (1.01, False)):
        values = np.tile(stats.zscore(np.arange(n), ddof=1) * factor * below, (of_pairs.arms, 1))
        samples = {name: decision.Sample(values, np.full(of_pairs.arms, n)) for name in set(claims.metric)}
        decided = decision.decide(samples, claims, rule.test, rule.correction)
        assert decided.equivalent.tolist() == [passes] * 6
    assert Design(replace(rule, looks=(5, 10, n + 1)), 6).equivalent_below(n) < below, "looks share the error"


@pytest.mark.parametrize(("pairs", "n", "effect"), [(SHARED, 5, 3.0), (SHARED, 10, 1.5), ([(0, 1)], 5, 2.0)])
def test_cells_are_what_simulated_pages_find(pairs: Sequence[tuple[int, int]], n: int, effect: float) -> None:
    chance = Design(WELCH, len(pairs)).chance(effect, n)
    assert found_on_pages(shape(pairs, n), effect) == pytest.approx(chance, abs=0.07)


def test_help_does_not_wait_for_the_simulation() -> None:
    code = (
        "import sys; from cifar_ablations.study.commands import app\n"
        "try: app.app(['--help'], standalone_mode=False)\nexcept SystemExit: pass\n"
        "assert not [m for m in sys.modules if m.startswith(('scipy', 'cifar_ablations.reports.inference'))]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


class Shown:
    """An invocation as far as a plan is shown of it."""

    def __init__(self, name: str, *settings: str):
        size = profile("quick")
        recipe = size.apply(catalog.notebook_recipe())
        for setting in settings:
            recipe = recipe.set(setting)
        self.plan: Plan = catalog.make_plan(name, recipe, size, (0, 1))
        self.profile, self.device, self.workers = size, "cpu", 2
        self.data = DataRecord("cifar10", "aa")
        self.shard, self.seeds = None, self.plan.seeds

    def missing(self, done: object) -> dict[object, str]:
        return self.members()

    def members(self) -> dict[object, str]:
        return dict.fromkeys(range(len(self.plan.arms) * 2), "")

    def record(self) -> PlanRecord:
        return self.plan.record(self.profile, self.data)


def plan_shown(invocation: Shown, width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a terminal shows."""
    monkeypatch.setenv("TERM", "dumb")
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", str(width))
    show.show_plan(invocation, set(), Estimate(600.0, 1.0), {})  # type: ignore[arg-type]
    return screen.getvalue()


@pytest.mark.parametrize("width", [60, 120])
def test_a_plans_matrix_has_the_techniques_that_are_on_somewhere(
    width: int, rate: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    invocation = Shown("techniques")
    said = plan_shown(invocation, width, monkeypatch)
    rows = said.split("arm", 1)[1].splitlines()
    marks = [re.findall("[●·◆]", row) for row in rows if re.search("[●·◆] [●·◆]", row)]
    assert len(marks) == len(invocation.plan.arms) == 14
    assert {len(row) for row in marks} == {6}
    assert "·" not in marks[0], "the full recipe has all of them"
    assert all("●" in column or "◆" in column for column in zip(*marks, strict=True))
    assert "weight decay" in " ".join(said.split())
    assert "mixup" not in said
    assert all(len(line.rstrip()) <= width for line in said.splitlines())


def test_numbers_of_two_digits_stand_above_their_marks(rate: dict[int, float], monkeypatch: pytest.MonkeyPatch) -> None:
    invocation = Shown("techniques", "mixup=on", "cutmix=on", "label_smoothing=on", "gradient_clipping=on")
    said = plan_shown(invocation, 160, monkeypatch)
    head, full = (line for line in said.splitlines() if line.startswith(("arm ", "full recipe ")))
    assert head.index(" 10") + 2 == max(full.rindex(mark) for mark in "●◆" if mark in full)


def test_runs_of_an_arm_with_seeds_of_its_own_are_counted_by_those(
    rate: dict[int, float], capsys: pytest.CaptureFixture[str]
) -> None:
    invocation = Shown("a-a")
    first, second = invocation.plan.arms
    assert second.seed_offset
    done = {(second.recipe.digest(), seed + second.seed_offset) for seed in invocation.plan.seeds}
    show.show_plan(invocation, done, Estimate(600.0, 1.0), {})  # type: ignore[arg-type]
    rows = capsys.readouterr().out.splitlines()
    assert [next(row for row in rows if row.startswith(arm.name)).split()[-1] for arm in (first, second)] == [
        "0/2",
        "2/2",
    ]


def test_a_program_gets_the_chances_that_the_table_shows(rate: dict[int, float]) -> None:
    plan = asked("techniques", 7)
    found = show.chances(plan, 7)
    assert list(found) == [0.5, 1, 1.5, 2, 3, 4]
    bound, shift = stats.t.isf(0.03 / 9 / 2, 14), 3 * math.sqrt(7 / 2)
    assert found[3] == pytest.approx(stats.nct.sf(bound, 14, shift), abs=0.01)
    row = next(row for row in said(plan)[1] if row[0] == "7, this plan")
    assert row[5] == f"[bold]{100 * found[3]:.0f}[/bold]"
