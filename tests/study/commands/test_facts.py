"""What commands say to programs: one document each, as `docs/automation.md` has it; all commands there are run here."""

from __future__ import annotations

import json
import math
import re
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cifar_ablations.ablations import catalog
from cifar_ablations.reports.inference import simulation
from cifar_ablations.study.commands import app, arguments, doctor, ending, facts
from cifar_ablations.study.store.home import Home
from tests.fresh_store import put_fresh_store

DOCS = (Path(__file__).parents[3] / "docs" / "automation.md").read_text(encoding="utf-8")
COMMANDS = list(dict.fromkeys(re.findall(r"(?m)^(?:    |- run: )(ablate .+)$", DOCS)))
(EXPECTATIONS,) = re.findall(r"(?s)```toml\n(.+?)```", DOCS)
SECTIONS = {
    name: set(re.findall(r"`(\w+)`", " ".join(re.findall(r"(?m)^- ((?:`\w+`(?:, )?)+):", text))))
    for name, text in re.findall(r"(?ms)^### ([\w-]+)\n(.+?)(?=^### |\Z)", DOCS)
}
"""The fields of each document, by command."""
TRAINING = ("plan", "run", "tune")
TINY = [
    f"--set={setting}"
    for setting in (
        "model.width=0.0625",
        "budget.epochs=1",
        "budget.train_images=80",
        "budget.validation_images=40",
        "budget.test_images=60",
    )
]


@pytest.fixture
def home(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    monkeypatch.setenv("ABLATE_DATA", str(tiny_folder))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    put_fresh_store(tmp_path / "out")
    return Home()


def _ablate(*words: str):
    return CliRunner().invoke(app.app, list(words))


def _strict(text: str) -> dict:
    """A document: JSON without NaN, and nothing beside it."""

    def no(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, parse_constant=no)


@pytest.mark.slow
def test_every_command_of_the_page_does_what_it_says(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation, "DRAWS", 200)
    monkeypatch.setattr(doctor, "SPEED_SECONDS", 0.0)
    (tmp_path / "expectations.toml").write_text(EXPECTATIONS, encoding="utf-8")
    rows = [f"{arm},{seed},0.{5 + (arm == 'b')}{seed}" for arm in "ab" for seed in range(5)]
    put_fresh_store(tmp_path / "other" / "out")
    (tmp_path / "runs.csv").write_text("\n".join(["arm,seed,accuracy", *rows]))
    documented = set()
    for line in COMMANDS:
        words = [word.replace("$GITHUB_STEP_SUMMARY", str(tmp_path / "step.md")) for word in shlex.split(line)[1:]]
        command = next(word for word in words if not word.startswith("--"))
        if command in TRAINING:
            words += [*TINY, "--workers", "1"]
        done = _ablate(*words)
        assert done.exit_code in ((0, 3) if command == "check" else (0,)), f"{line}: {done.output}"
        if "--json" not in words:
            continue
        document = _strict(done.stdout)
        name = "doctor-store" if {"--store", "--repair"} & set(words) else command
        documented.add(name)
        assert document.pop("schema") == f"cifar-ablations/{name}/1"
        assert set(document) == SECTIONS[name], line
        if "lock.json" in words and command in ("run", "plan"):
            assert document["plan"]["lock"]["sha256"] == json.loads((tmp_path / "lock.json").read_bytes())["sha256"]
        if "exit_code" in document:
            assert document["exit_code"] == done.exit_code
    assert documented == set(SECTIONS) - {"error"}
    assert (tmp_path / "summary.md").read_text().startswith("### ablate check levels/dropout: undecided")
    assert (tmp_path / "step.md").exists()


@pytest.mark.exhaustive
def test_numbers_are_those_of_the_store(home: Home) -> None:
    words = ["a-a", "--profile", "smoke", "--workers", "1", *TINY]
    planned = _strict(_ablate("plan", *words, "--json").stdout)
    assert planned["trainings"] == {"total": 4, "done": 0, "missing": 4}
    assert planned["seconds"] > 0
    assert planned["disk_bytes"] > 0
    assert planned["verdicts"]["given"] is (planned["verdicts"]["error_rate"] <= 0.05)
    result = _ablate("run", *words, "--json")
    ran = _strict(result.stdout)
    assert "  starting 1 worker\n" in result.stderr
    assert ran["trainings"]["done"] == 4
    assert ran["runs"] == {"planned": 4, "ended": 4, "diverged": 0}
    assert datetime.fromisoformat(ran["invocation"]["started"]).tzinfo == UTC
    assert ran["invocation"]["started"].endswith("Z")
    reported = _strict(_ablate("report", "a-a", "--json").stdout)["plans"][0]
    del ran["trainings"], ran["schema"]
    assert reported == ran, "the same findings, whoever asks"
    page = Path(ran["page"])
    assert page.is_file()
    verdicts = pd.read_csv(page.with_name(f"{page.stem}-verdicts.csv"))
    claims = pd.DataFrame(ran["claims"])
    assert claims["difference"].to_numpy() == pytest.approx(verdicts["difference"].to_numpy(), rel=1e-6)
    again = _strict(_ablate("plan", *words, "--json").stdout)
    assert again["trainings"] == {"total": 4, "done": 4, "missing": 0}
    assert [arm["done"] for arm in again["arms"]] == [2, 2]
    quiet = _ablate("--quiet", "run", *words)
    assert quiet.stdout.startswith("Test accuracy")
    assert "Report:" not in quiet.stdout
    assert "Data:" not in quiet.stdout


def test_the_catalog_has_all_that_can_be_asked_for() -> None:
    document = _strict(_ablate("list", "--json").stdout)
    assert [plan["name"] for plan in document["plans"]] == catalog.plan_names()
    for technique in document["techniques"]:
        cls = catalog.techniques()[technique["name"]]
        assert technique["notebook"] in technique["levels"]
        for level, knobs in technique["levels"].items():
            assert cls(**knobs) == cls.at(level)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (["run", "technique"], "no plan 'technique'; did you mean techniques", 2),
        (["plan", "--seeds", "0"], "--seeds must be at least 1, not 0", 2),
        (["report"], "no runs yet", 2),
        (["export", "ladder"], "no runs of plan 'ladder' yet", 2),
        (["check", "technique"], "no plan 'technique'", 2),
        (["verify", "none.json"], "the lock none.json cannot be read", 2),
        (["adopt", "joint"], "no search 'joint' has ended", 2),
        (["run", "--workers", "two"], "must be a whole number, not 'two'", 2),
        (["run", "--wrkers", "2"], "--wrkers", 2),
        (["verify"], "FILE", 2),
        (["tune", "joint"], "--json", 2),
        (["lsit"], "lsit", 2),
    ],
)
def test_a_mistake_is_a_document_with_the_same_code(home: Home, words: list[str], said: str, code: int) -> None:
    result, plain = _ablate(*words, "--json"), _ablate(*words)
    document = _strict(result.stdout)
    name = words[0] if words[0] != "lsit" else "ablate"
    assert document["schema"] == f"cifar-ablations/{name}/1"
    assert set(document) == {"schema", *SECTIONS["error"]}
    assert said in document["error"]["message"]
    assert document["error"]["exit_code"] == result.exit_code == code
    if words[0] != "tune":
        assert plain.exit_code == code
        assert result.stderr.endswith(plain.stderr), "a person reads the same"


def test_a_fault_of_the_suites_own_is_a_document_too(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "plan_invocation", lambda *_: int("no number of the user's"))
    result = _ablate("run", "--json")
    assert result.exit_code == 1
    said = _strict(result.stdout)["error"]["message"]
    assert said.startswith("this is a fault of ablate's own")
    assert "ValueError: invalid literal" in said
    assert "Traceback" not in result.stderr
    (log,) = (home.folder / "errors").iterdir()
    assert log.name in said
    assert "Traceback" in log.read_text()


def test_ctrl_c_is_a_document_too(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(arguments, "plan_invocation", press)
    result = _ablate("run", "--json")
    assert result.exit_code == 130
    assert _strict(result.stdout)["error"] == {"message": ending.STOPPED, "exit_code": 130}


def test_verbose_keeps_the_traceback_of_a_sentence(home: Home) -> None:
    result = _ablate("--verbose", "run", "technique")
    assert result.exit_code == 2
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("ablate: no plan 'technique'")
    assert "Traceback" not in _ablate("run", "technique").stderr


@dataclass(frozen=True)
class Pair:
    first: object
    second: object


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.builds(Pair, inner, inner),
    max_leaves=20,
)


@given(values)
def test_whatever_is_written_is_read_back(value: object) -> None:
    """But for numbers that JSON has not, which are null, and for what lists and objects stand for."""

    def as_read(one: object) -> object:
        if isinstance(one, float):
            return one if math.isfinite(one) else None
        if isinstance(one, Pair):
            return {"first": as_read(one.first), "second": as_read(one.second)}
        if isinstance(one, dict):
            return {name: as_read(inner) for name, inner in one.items()}
        return [as_read(inner) for inner in one] if isinstance(one, list) else one

    assert _strict(facts.encoded({"value": value}))["value"] == as_read(value)


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1)), st.integers(-12, 12))
def test_times_are_in_utc(when: datetime, hours: int) -> None:
    local = when.replace(tzinfo=timezone(timedelta(hours=hours)))
    written = facts.plain(local)
    assert written.endswith("Z")
    assert datetime.fromisoformat(written) == local


def test_what_numpy_and_pandas_hold_is_plain() -> None:
    assert facts.plain([np.float64(0.1), np.int64(3), np.bool_(True), np.nan, np.array([1.0, np.inf])]) == [
        0.1,
        3,
        True,
        None,
        [1.0, None],
    ]
    assert facts.plain([pd.NA, pd.NaT, Path("a"), frozenset([1])]) == [None, None, "a", [1]]
    assert facts.plain(pd.Timestamp("2026-01-02T03:04:05Z")) == "2026-01-02T03:04:05Z"
    with pytest.raises(TypeError, match="a complex has no place in JSON"):
        facts.plain(1j)


def test_completion_knows_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"_ABLATE_COMPLETE": "complete_bash", "COMP_WORDS": "ablate run tech", "COMP_CWORD": "2"}
    done = CliRunner().invoke(app.app, [], env=environment, prog_name="ablate")
    assert done.stdout.split() == ["techniques"]


@pytest.mark.slow
def test_a_document_names_every_command_that_has_one() -> None:
    assert set(SECTIONS) - {"error", "doctor-store"} == {
        command.name
        for command in app.app.registered_commands
        if command.name and "--json" in _ablate(command.name, "--help").output
    }
