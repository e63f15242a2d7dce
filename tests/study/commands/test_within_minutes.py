"""`--minutes` as a person meets it: what it buys is said first, and the same again goes on with the same."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import mlflow
import pytest
from typer.testing import CliRunner

from cifar_ablations.reports.reading import load
from cifar_ablations.study.commands import app, execute, within_minutes
from cifar_ablations.study.execution.minutes import START_AND_REPORT_SECONDS
from cifar_ablations.study.execution.runner import Invocation
from cifar_ablations.study.store.home import Home
from cifar_ablations.study.training.fleet import Member
from tests.fresh_store import put_fresh_store

pytestmark = pytest.mark.slow

IMAGES = ("budget.train_images=80", "budget.validation_images=40", "budget.test_images=60")
SMALL = ["--profile=smoke", "--workers=1", *(f"--set={setting}" for setting in ("model.width=0.0625", *IMAGES))]
"""The smoke profile with few images, in which three epochs may become fewer."""
FIXED = [*SMALL, "--set=budget.epochs=1"]


@pytest.fixture
def home(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An output folder with MLflow's tables, and the tiny data set named by the environment."""
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    monkeypatch.setenv("ABLATE_DATA", str(tiny_folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    put_fresh_store(tmp_path / "out")
    return Home()


class Machine:
    """Takes so many seconds for an epoch of a training, in place of a timed trial."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def __call__(self, invocation: object, members: Sequence[Member]) -> float:
        return self.seconds * sum(member.recipe.budget.epochs for member in members)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One that takes a second for an epoch, where nothing is said."""
    machine = Machine(1.0)
    monkeypatch.setattr(within_minutes, "estimated_seconds", machine)
    return machine


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[Invocation]:
    """What `ablate run` would train, for tests of what that is."""
    asked: list[Invocation] = []
    monkeypatch.setattr(execute, "run_plan", lambda home, invocation, request, say: asked.append(invocation))
    return asked


def _ablate(*words: str):
    return CliRunner().invoke(app.app, list(words), catch_exceptions=False)


def _said(*words: str) -> str:
    result = _ablate(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def _minutes(training: float) -> str:
    """The option that leaves so many seconds for the training."""
    return f"--minutes={(training + START_AND_REPORT_SECONDS) / 60}"


def _by_number(said: str) -> str:
    (command,) = re.findall(r"^  the same by number: (.*)$", said, re.MULTILINE)
    return command


@pytest.mark.exhaustive
def test_a_run_of_a_minute_and_the_same_again(home: Home) -> None:
    """For real: steps are timed, and ten seeds of so small a recipe fit, with which 95 % is found."""
    first = _said("run", "a-a", "--minutes", "1", *FIXED)
    assert re.search(
        r"^1 minute: 2 arms × 10 seeds of 80 images × 1 epoch, about \d+ s\. The page finds an effect of 2 standard "
        r"deviations \(sd\) of one arm's runs between two arms with about 96 % probability, if half of its 3 claims "
        r"are true\. More seeds would find hardly more, so it ends before the time is over\.$",
        first,
        re.MULTILINE,
    )
    assert first.index("1 minute: ") < first.index("20 trainings, 0 already done") < first.index("20 trainings in ")
    (logged,) = load.invocations(home.tracking_uri)
    assert logged.plan.command.startswith("ablate run a-a --profile smoke --seeds 10 --set model.width=0.0625")
    assert "minutes" not in logged.plan.command
    assert _by_number(first).startswith(logged.plan.command)
    again = _said("run", "a-a", "--minutes", "1", *FIXED)
    assert (
        "1 minute: 2 arms × 10 seeds of 80 images × 1 epoch, as chosen when it was begun (--seeds asks for others). "
        "The page finds" in again
    )
    assert "20 trainings, 20 already done" in again
    assert _by_number(again) == _by_number(first)


@pytest.mark.exhaustive
def test_what_was_begun_goes_on_on_a_machine_that_is_slower_by_now(
    home: Home, machine: Machine, untrained: list[Invocation]
) -> None:
    asked = ["a-a", _minutes(14), *FIXED]
    assert "2 arms × 7 seeds of 80 images × 1 epoch, about 29 s." in _said("run", *asked)
    machine.seconds = 100.0
    for command in ("plan", "run"):
        assert (
            "2 arms × 7 seeds of 80 images × 1 epoch, as chosen when it was begun (--seeds asks for others)."
            in _said(command, *asked)
        )
    machine.seconds = 1.0
    assert "2 arms × 8 seeds" in _said("run", "a-a", _minutes(16), *FIXED), "another time is another choice"
    assert "2 arms × 6 seeds" in _said("run", "a-a", _minutes(12), *FIXED, "--set=dropout.p=0.4"), "another recipe too"
    assert "2 arms × 7 seeds of 80 images × 1 epoch, as chosen" in _said("run", *asked)
    assert [len(invocation.plan.seeds) for invocation in untrained] == [7, 7, 8, 6, 7]


def test_a_plan_says_the_same_and_begins_nothing(home: Home, machine: Machine) -> None:
    said = _said("plan", "a-a", _minutes(15), *FIXED)
    assert "2 arms × 7 seeds of 80 images × 1 epoch, about 29 s. The page finds" in said
    assert "14 trainings, 0 already done; the other 14 take about 29 s" in said
    assert "More seeds would" not in said
    (percent,) = re.findall(r"with about (\d+) % probability", said)
    (row,) = re.findall(r"7, this plan +(.*)", said)
    assert row.split()[3] == percent, "the table has the same, in the column of 2 sd"
    machine.seconds = 0.5
    assert "2 arms × 10 seeds" in _said("plan", "a-a", _minutes(15), *FIXED)


def test_a_time_that_is_too_short_for_the_whole_budget_trains_less(
    home: Home, machine: Machine, untrained: list[Invocation]
) -> None:
    """Six seeds, which verdicts need, of three epochs would take 36 seconds."""
    said = _said("run", "a-a", _minutes(25), *SMALL)
    assert "2 arms × 6 seeds of 80 images × 2 epochs, about 39 s." in said
    trained_less = (
        "\n  Trained less: 6 seeds, the fewest that say anything, do not fit with the whole budget, so it is 2 epochs "
        "in place of 3. The effects are those in networks that have learned less: "
    )
    assert trained_less in said
    settings = " ".join(f"--set {setting}" for setting in ("model.width=0.0625", *IMAGES, "budget.epochs=2"))
    command = f"ablate run a-a --profile smoke --seeds 6 {settings}"
    assert _by_number(said).startswith(f"{command} --data ")
    machine.seconds = 0.1
    again = _said("run", "a-a", _minutes(25), *SMALL)
    assert "2 epochs, as chosen when it was begun (--seeds asks for others)." in again
    assert trained_less in again
    _said(*shlex.split(_by_number(said))[1:])
    assert len({invocation.plan.digest() for invocation in untrained}) == 1
    assert {invocation.record().command for invocation in untrained} == {command}
    assert len(untrained) == 3


def test_a_budget_that_was_set_is_not_changed(home: Home, machine: Machine) -> None:
    refused = _ablate("run", "a-a", _minutes(20), *SMALL, "--set=budget.epochs=3")
    assert refused.exit_code == 2
    assert refused.stderr == (
        "ablate: 35 s are too short: 6 seeds, the fewest that say anything, take about 51 s even with 3 epochs on "
        "80 images\n"
    )
    assert not (home.folder / "minutes.json").exists()
    assert not mlflow.MlflowClient(home.tracking_uri).search_experiments(filter_string="name LIKE 'a-a%'")


def test_where_nothing_is_claimed_the_intervals_become_narrower(home: Home, machine: Machine) -> None:
    said = _said("plan", "notebook", _minutes(7.5), *FIXED)
    assert (
        "1 arm × 7 seeds of 120 images × 1 epoch, about 22 s. Nothing is claimed, so there are no verdicts: more seeds "
        "make its intervals narrower." in said
    )


def test_what_cannot_get_verdicts_says_so(home: Home, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(within_minutes, "_decides", lambda plan, seeds: False)
    assert "With 4 seeds there are intervals, and no verdicts." in _said("plan", "a-a", _minutes(8), *FIXED)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--minutes", "0"], "--minutes must be positive, not 0"),
        (["plan", "--minutes", "nan"], "--minutes must be positive, not nan"),
        (["run", "--minutes", "inf"], "--minutes must be positive, not inf"),
        (
            ["run", "--minutes", "10", "--seeds", "5"],
            "--minutes chooses the number of seeds, so --seeds 5 cannot be asked for too",
        ),
        (
            ["plan", "--minutes", "10", "--seeds", "adaptive"],
            "--minutes chooses the number of seeds, so --seeds adaptive cannot be asked for too",
        ),
        (
            ["run", "--minutes", "10", "--lock", "lock.json"],
            "--minutes chooses the number of seeds, and --lock has fixed it: leave --minutes out",
        ),
        (["run", "technique", "--minutes", "10"], "no plan 'technique'; did you mean techniques?"),
    ],
)
def test_a_mistake_is_one_sentence_and_code_2(home: Home, words: list[str], said: str) -> None:
    result = _ablate(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"ablate: {said}")
    assert result.stderr.count("\n") == 1


def test_a_plan_for_a_time_can_be_locked_and_is_run_by_its_number(
    home: Home, machine: Machine, untrained: list[Invocation], tmp_path: Path
) -> None:
    lock = str(tmp_path / "lock.json")
    said = _said("plan", "a-a", _minutes(12), *FIXED, "--lock", lock)
    _said(*shlex.split(_by_number(said))[1:], "--lock", lock)
    assert [len(invocation.plan.seeds) for invocation in untrained] == [6]


def test_a_damaged_file_is_named(home: Home, machine: Machine) -> None:
    (home.folder / "minutes.json").write_text("{")
    result = _ablate("plan", "a-a", "--minutes", "1", *FIXED)
    assert result.exit_code == 2
    assert result.stderr.startswith("ablate: minutes.json is not whole JSON")
