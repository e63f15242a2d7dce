"""`ablate check`, on a store with planted runs: what holds, what does not, and what is open, by its exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cifar_ablations.ablations import schema
from cifar_ablations.study.commands import app
from cifar_ablations.study.commands.check import CODES
from cifar_ablations.study.store.home import Home
from tests.fresh_store import put_fresh_store
from tests.reports.conftest import HOSTILE, Writer, planted_runs, small_plan

pytestmark = pytest.mark.slow

PLAN = replace(small_plan(), seeds=tuple(range(8)))
"""Planted: without dropout test accuracy is six points lower, and the gap the same; the hostile arm makes no
difference. A run of the bare recipe diverged, and one of "only dropout" is missing."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with the planted runs."""
    writer = Writer(tmp_path_factory.mktemp("planted") / "out")
    experiment = writer.experiment(PLAN.name)
    older = replace(PLAN, overrides=("dropout.p=0.3",), digest="0" * 16, profile=replace(PLAN.profile, name="smoke"))
    writer.invoke(experiment, older, started=500)
    parent = writer.invoke(experiment, PLAN, started=1_000, commit="c0ffee")
    for row in planted_runs(PLAN).to_dict("records"):
        writer.train(experiment, parent, PLAN, row)
    return writer.folder


@pytest.fixture
def home(planted: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ABLATE_HOME", str(planted))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Home()


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Home()


def _check(*words: object):
    return CliRunner().invoke(app.app, ["check", *map(str, words)], catch_exceptions=False)


def _expected(folder: Path, text: str) -> Path:
    path = folder / "expectations.toml"
    path.write_text(text, encoding="utf-8")
    return path


LOWER = '[[expect]]\narm = "without dropout"\nmetric = "test_accuracy"\neffect = "lower"\n'
NO_LOSS = '[[expect]]\narm = "without dropout"\nat_least = -3.0\n'
OPEN = '[[expect]]\narm = "only dropout"\neffect = "higher"\n'


@pytest.mark.exhaustive
def test_what_was_planted_holds(home: Home, tmp_path: Path) -> None:
    result = _check("techniques", "--expect", _expected(tmp_path, f"{LOWER}at_least = -9\nat_most = -3\n"))
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == "Held: the one expectation."
    assert "without dropout against full recipe" in result.stdout
    assert "Plan 'techniques' was asked in 2 ways; this is the newest." in result.stdout


def test_a_planted_loss_does_not_hold(home: Home, tmp_path: Path) -> None:
    result = _check("--expect", _expected(tmp_path, NO_LOSS))
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-2:] == [
        "1 does not hold. The whole interval lies below −3 pp.",
        "Does not hold: the one expectation.",
    ]


def test_what_is_open_is_3_and_a_failure_outweighs_it(home: Home, tmp_path: Path) -> None:
    still_open = _check("--expect", _expected(tmp_path, OPEN + LOWER))
    assert still_open.exit_code == 3
    assert still_open.stdout.splitlines()[-1] == "Undecided: 1 of 2 expectations (1 holds)."
    assert "runs are missing" in still_open.stdout
    failed = _check("--expect", _expected(tmp_path, OPEN + LOWER + NO_LOSS))
    assert failed.exit_code == 1
    assert failed.stdout.splitlines()[-1] == "Does not hold: 1 of 3 expectations (1 undecided, 1 holds)."


def test_a_bound_within_the_interval_is_undecided(home: Home, tmp_path: Path) -> None:
    found = json.loads(_check("--json", "--expect", _expected(tmp_path, NO_LOSS)).stdout)["expectations"][0]["found"]
    middle = 100 * (found["low"] + found["high"]) / 2
    result = _check("--expect", _expected(tmp_path, NO_LOSS.replace("-3.0", f"{middle:.3f}")))
    assert result.exit_code == 3
    assert "within it; more seeds make it narrower." in result.stdout


def test_without_a_file_the_plans_own_claims_are_checked(home: Home) -> None:
    result = _check("techniques", "--json")
    document = json.loads(result.stdout)
    outcomes = [one["outcome"] for one in document["expectations"]]
    assert outcomes[0] == "holds", "dropout helps"
    assert outcomes[3] == "undecided", "a run is missing"
    assert [one["statement"] for one in document["expectations"]] == [claim.statement for claim in PLAN.claims]
    worst = next((one for one in ("does not hold", "undecided") if one in outcomes), "holds")
    assert document["outcome"] == worst
    assert result.exit_code == document["exit_code"] == CODES[worst]


def test_a_document_is_turned_as_what_is_expected(home: Home, tmp_path: Path) -> None:
    result = _check("--json", "--expect", _expected(tmp_path, f"{LOWER}at_least = -9"))
    (one,) = json.loads(result.stdout)["expectations"]
    assert (one["claim"], one["arm"], one["against"]) == (1, "without dropout", "full recipe")
    assert one["expected"] == {"effect": "lower", "verdict": None, "at_least": -0.09, "at_most": None}
    frame = planted_runs(PLAN).pivot(index="seed", columns="arm", values=schema.TEST_ACCURACY)
    difference = (frame["without dropout"] - frame["full recipe"]).mean()
    assert one["found"]["difference"] == pytest.approx(difference, abs=1e-12)
    assert one["found"]["low"] < difference < one["found"]["high"]
    assert (one["found"]["effect"], one["found"]["verdict"]) == ("lower", "supported")


def test_the_summary_is_markdown_that_nothing_breaks(home: Home, tmp_path: Path) -> None:
    hostile = json.dumps(f"without {HOSTILE}")
    file = _expected(tmp_path, f"{NO_LOSS}[[expect]]\narm = {hostile}\nat_least = -20\n")
    result = _check("--expect", file, "--markdown", tmp_path / "new" / "summary.md")
    assert result.exit_code == 1
    text = (tmp_path / "new" / "summary.md").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert lines[0] == "### ablate check techniques: does not hold"
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 4
    assert rows[2].endswith("| **does not hold** |")
    assert rows[3].endswith("| holds |")
    assert "<script>" not in text.replace(r"\<script>", "")
    to_stdout = _check("--expect", file, "--markdown", "-")
    assert (to_stdout.exit_code, to_stdout.stdout) == (1, text)
    assert to_stdout.stderr.splitlines()[-1] == "Does not hold: 1 of 2 expectations (1 holds)."


def test_a_profile_chooses_the_invocation(home: Home, tmp_path: Path) -> None:
    none = _check("--expect", _expected(tmp_path, f'profile = "full"\n{LOWER}'))
    assert none.exit_code == 3
    assert "Undecided: no invocation of plan 'techniques', profile full in " in none.stdout
    older = _check("--json", "--expect", _expected(tmp_path, f'profile = "smoke"\n{LOWER}'))
    assert json.loads(older.stdout)["plan"]["profile"] == "smoke"
    assert older.exit_code == 0, "it has the same arms, whose runs there are"


@pytest.mark.parametrize("fresh", [False, True])
def test_a_plan_that_was_never_run_is_open(empty: Home, tmp_path: Path, fresh: bool) -> None:
    if fresh:
        put_fresh_store(empty.folder)
    result = _check("ladder", "--markdown", tmp_path / "summary.md")
    assert result.exit_code == 3
    assert result.stdout == f"Undecided: no invocation of plan 'ladder' in {empty.shown(empty.folder)}.\n"
    assert result.stdout.strip()[:30] in (tmp_path / "summary.md").read_text()
    assert empty.folder.exists() == fresh, "nothing is written there"


@pytest.mark.parametrize(
    ("words", "text", "said"),
    [
        (["technique"], LOWER, "no plan 'technique'; did you mean techniques"),
        (
            ["ladder"],
            f'plan = "techniques"\n{LOWER}',
            "the expectations are of plan 'techniques', and 'ladder' is",
        ),
        ([], LOWER.replace("without", "witout"), "expectations.toml, expectation 1: no arm 'witout dropout'"),
        ([], LOWER.replace("test_accuracy", "test_loss"), "claims nothing about test loss"),
        ([], "[[expect", "is not TOML"),
        (["--markdown", "-", "--json"], LOWER, "--json and --markdown - both ask for the standard output"),
        (["--markdown", "/dev/null/summary.md"], LOWER, "--markdown /dev/null/summary.md cannot be written"),
    ],
)
def test_a_mistake_is_one_sentence_and_code_2(
    home: Home, tmp_path: Path, words: list[str], text: str, said: str
) -> None:
    result = _check(*words, "--expect", _expected(tmp_path, text))
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.startswith("ablate: ")


def test_a_plan_that_claims_nothing_cannot_be_checked(empty: Home) -> None:
    writer = Writer(empty.folder)
    plan = replace(PLAN, name="notebook", claims=(), arms=PLAN.arms[:1], references=())
    writer.invoke(writer.experiment("notebook"), plan)
    result = _check("notebook")
    assert (result.exit_code, result.stderr) == (
        2,
        "ablate: plan 'notebook' claims nothing, so there is nothing to check\n",
    )
