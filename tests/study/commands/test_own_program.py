"""Plans of commands as a person meets them: run, stopped, gone on with, judged and reported. Programs are real."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import psutil
import pytest
from typer.testing import CliRunner

from cifar_ablations.ablations import schema
from cifar_ablations.reports.inference import simulation
from cifar_ablations.reports.pages import judged_page
from cifar_ablations.reports.pages.command_page import judged_invocation
from cifar_ablations.reports.reading import command_plans
from cifar_ablations.study.commands import app
from cifar_ablations.study.store import tracking
from cifar_ablations.study.store.home import Home
from tests.fresh_store import put_fresh_store

pytestmark = pytest.mark.slow

PROGRAM = """
import json, os, sys, time
seed, shift, mode = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else ""
path = os.environ["ABLATE_METRICS"]
with open("ran.txt", "a") as file:
    file.write(f"{shift:g} {seed}\\n")
if mode == "fails" and not os.path.exists("mended"):
    sys.exit(f"cannot go on at seed {seed}")
if mode == "hangs":
    import subprocess
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    with open("hangs.txt", "w") as file:
        file.write(f"{os.getpid()} {child.pid}")
    time.sleep(60)
value = 0.5 + shift + 0.01 * ((seed * 37 + int(100 * shift) * 11) % 7 - 3)
written = {"accuracy": value, "test/loss": 1.5, "seed_seen": int(os.environ["ABLATE_SEED"])}
text = {"diverges": '{"accuracy": NaN}', "bad": '{"accuracy": "high"}', "none": None}.get(mode, json.dumps(written))
if text is not None:
    with open(path, "w") as file:
        file.write(text)
print("done", seed)
"""
RUNS = {"a": "0", "b": "0.2"}
"""Arms by name, with what follows the seed."""


@pytest.fixture
def drawn() -> bool:
    """Whether pages are made as they are; else they say what was fixed alone, which takes no second."""
    return False


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: bool) -> Home:
    monkeypatch.setenv("ABLATE_HOME", str(put_fresh_store(tmp_path / "out")))
    monkeypatch.setenv("ABLATE_DATA", "synthetic")  # which says nothing here
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(simulation, "DRAWS", 200)
    if not drawn:
        monkeypatch.setattr(judged_page.Judged, "to_html", lambda judged, *words: f"{judged.fixed}\n{words}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(PROGRAM)
    return Home()


def write(arms: dict[str, str] = RUNS, name: str = "shifts", file: str = "plan.toml", **changed: object) -> None:
    keys = {"name": name, "control": "a", "metric": "accuracy", "seeds": 3, "code": ["train.py"], **changed}
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    for arm, words in arms.items():
        command = ["{python}", "-S", "train.py", "{seed}", *words.split()]
        lines.append(f"[arms.{json.dumps(arm)}]\ncommand = {json.dumps(command)}")
    Path(file).write_text("\n".join(lines))


def ablate(*words: str):
    return CliRunner().invoke(app.app, list(words), catch_exceptions=False)


def ran() -> list[str]:
    return Path("ran.txt").read_text().splitlines() if Path("ran.txt").exists() else []


def runs(home: Home, kind: str = schema.KIND_COMMAND) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(tracking_uri=home.tracking_uri)
    every = [one.experiment_id for one in client.search_experiments()]
    return client.search_runs(every, f"tags.{schema.KIND} = '{kind}'", order_by=["attributes.start_time ASC"])


@pytest.mark.exhaustive
@pytest.mark.parametrize("drawn", [True])
def test_a_plan_is_run_seed_by_seed_logged_and_judged(home: Home) -> None:
    write(question="Does a shift help?")
    done = ablate("run", "plan.toml")
    assert done.exit_code == 0, done.output
    assert ran() == ["0 0", "0.2 0", "0 1", "0.2 1", "0 2", "0.2 2"], "all arms of a seed before the next"
    assert "Does a shift help?\n  plan shifts: 2 arms × 3 seeds = 6 runs, 0 already done\n" in done.stdout
    assert "\n  starting a, seed 0\n  1/6 runs done (16 %)" in done.stdout
    assert re.search(r"(?m)^a \(control\) +[\d.]+ %", done.stdout)
    assert re.search(r"(?m)^b .*helps", done.stdout)
    assert done.stdout.splitlines()[-1] == "Report: out/reports/commands-shifts.html"
    page = (home.reports / "commands-shifts.html").read_text()
    for said in ("Does a shift help?", "before the first of these runs (plan ", "{python} -S train.py {seed} 0.2"):
        assert said in page
    index = (home.reports / "index.html").read_text()
    assert '<a href="commands-shifts.html">Does a shift help?</a>' in index
    (parent,) = runs(home, schema.KIND_COMMANDS)
    first, *others = runs(home)
    assert len(others) == 5
    assert first.info.status == parent.info.status == "FINISHED"
    assert first.info.experiment_id == parent.info.experiment_id
    assert first.data.metrics == pytest.approx({"accuracy": 0.47, "test/loss": 1.5, "seed_seen": 0})
    assert (first.data.params["arm"], first.data.params["seed"]) == ("a", "0")
    assert first.data.params["command"].endswith("-S train.py 0 0")
    assert first.data.tags[schema.PARENT] == parent.info.run_id
    client = mlflow.MlflowClient(tracking_uri=home.tracking_uri)
    assert Path(client.download_artifacts(first.info.run_id, schema.OUTPUT_FILE)).read_text() == "done 0\n"
    kept = json.loads(Path(client.download_artifacts(parent.info.run_id, schema.COMMANDS_FILE)).read_text())
    assert (kept["seeds"], kept["test"], kept["control"]) == ([0, 1, 2], "welch t", "a")
    assert not home.commands.exists()
    again = ablate("run", "plan.toml")
    assert "6 already done" in again.stdout
    assert len(ran()) == len(runs(home)) == 6
    assert len(runs(home, schema.KIND_COMMANDS)) == 1, "what is fixed is not logged twice"


def test_the_answer_is_that_of_judge(home: Home, tmp_path: Path) -> None:
    write(margin=0.05, expect="higher", seeds=4)
    told = json.loads(ablate("run", "plan.toml", "--json").stdout)
    table = "\n".join(
        [
            "arm,seed,accuracy",
            *(f"{r.data.tags['arm']},{r.data.tags['seed']},{r.data.metrics['accuracy']!r}" for r in runs(home)),
        ]
    )
    (tmp_path / "table.csv").write_text(table)
    words = ["--metric", "accuracy", "--control", "a", "--margin", "0.05", "--expect", "higher", "--json"]
    other = json.loads(ablate("judge", "table.csv", *words).stdout)
    assert told["schema"] == "cifar-ablations/run-commands/1"
    (mine,), (theirs,) = told["judged"]["claims"], other["claims"]
    assert {name for name in mine if mine[name] != theirs[name]} <= {"exploratory"}
    assert mine["verdict"] == "supported"
    assert told["judged"]["arms"] == other["arms"]
    assert told["judged"]["error_rate"] == other["error_rate"]
    assert told["runs"] == {"planned": 8, "asked": 8, "done": 8, "diverged": 0, "failed": {}}


@pytest.mark.exhaustive
def test_more_seeds_run_what_is_missing_and_are_marked(home: Home) -> None:
    write()
    ablate("run", "plan.toml", "--seeds", "2")
    done = ablate("run", "plan.toml")
    assert "4 already done" in done.stdout
    assert ran()[4:] == ["0 2", "0.2 2"]
    page = (home.reports / "commands-shifts.html").read_text()
    assert "Exploratory: 4 of these 6 runs had ended when arms, metric, claims, rule and seeds were fixed" in page
    fresh = ablate("run", "plan.toml", "--seeds", "2", "--first-seed", "50")
    assert ran()[6:] == ["0 50", "0.2 50", "0 51", "0.2 51"]
    assert fresh.exit_code == 0
    assert "before the first of these runs" in (home.reports / "commands-shifts.html").read_text()
    assert "run plan.toml --seeds 2 --first-seed 50" in (home.reports / "commands-shifts.html").read_text()


@pytest.mark.exhaustive
def test_what_failed_is_tried_again_and_what_changed_is_another_run(home: Home) -> None:
    write({"a": "0", "b": "0.2 fails", "; rm -rf *": "0.1"})
    done = ablate("run", "plan.toml")
    assert done.exit_code == 1
    assert "Failed: b, seed 0: exit code 1; it printed last: cannot go on at seed 0" in done.stdout
    assert "3 of 9 planned runs have no result: 'b', seed 0 (exit code 1)" in " ".join(done.stdout.split())
    assert re.search(r"(?m)^b .*open: runs missing", done.stdout), "no verdict before all planned seeds"
    assert {run.info.status for run in runs(home) if run.data.tags["arm"] == "b"} == {"FAILED"}
    Path("mended").touch()
    again = ablate("run", "plan.toml")
    assert (again.exit_code, ran()[9:]) == (0, ["0.2 0", "0.2 1", "0.2 2"])
    assert "no result" not in again.stdout
    write({"a": "0", "b": "0.3 fails", "; rm -rf *": "0.1"})
    assert ablate("run", "plan.toml").exit_code == 0
    assert ran()[12:] == ["0.3 0", "0.3 1", "0.3 2"]
    Path("train.py").write_text(PROGRAM + "# changed\n")
    told = json.loads(ablate("plan", "plan.toml", "--json").stdout)
    assert told["runs"] == {"total": 9, "done": 0, "missing": 9}


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("mode", "cause"),
    [
        ("none", "it wrote no metrics file"),
        ("bad", "the metrics file has 'high' as 'accuracy', which is no number"),
        ("hangs", "timed out after 1.0 s"),
    ],
)
def test_what_has_no_number_says_why(mode: str, cause: str, home: Home) -> None:
    write({"a": "0", "b": f"0.2 {mode}"}, seeds=1, timeout_seconds=1.0)
    done = ablate("run", "plan.toml")
    assert done.exit_code == 1
    assert f"Failed: b, seed 0: {cause}" in done.stdout
    assert "No page of plan 'shifts' yet: no arm but the control 'a' has a result." in done.stdout
    assert runs(home)[-1].data.tags[schema.CAUSE].startswith(cause)
    assert not (home.reports / "commands-shifts.html").exists()
    if mode == "hangs":
        assert not any(map(_alive, map(int, Path("hangs.txt").read_text().split())))


def _alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_run_without_a_finite_number_has_diverged(home: Home) -> None:
    write({"a": "0", "b": "0.2 diverges"}, seeds=2)
    done = ablate("run", "plan.toml")
    assert done.exit_code == 0
    assert "2 of them diverged" in done.stdout
    assert "counts as diverged: 2 of 2 of 'b'" in done.stdout
    assert [run.data.tags[schema.OUTCOME] for run in runs(home)][1::2] == [schema.DIVERGED] * 2
    assert "4 already done" in ablate("run", "plan.toml").stdout, "it is a result"


def _when(there: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    def wait() -> None:
        end = time.monotonic() + 60
        while not there() and time.monotonic() < end:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.exhaustive
def test_ctrl_c_ends_the_command_and_the_next_call_goes_on(home: Home) -> None:
    write({"a": "0", "b": "0.2 hangs"}, seeds=1)
    there = lambda: Path("hangs.txt").exists() and len(Path("hangs.txt").read_text().split()) == 2  # noqa: E731
    thread = _when(there, lambda: os.kill(os.getpid(), signal.SIGINT))
    done = ablate("run", "plan.toml")
    thread.join()
    assert done.exit_code == 130
    assert "the same command goes on with the rest" in done.stderr
    assert not any(map(_alive, map(int, Path("hangs.txt").read_text().split())))
    assert [run.info.status for run in runs(home)] == ["FINISHED", "KILLED"]
    assert runs(home, schema.KIND_COMMANDS)[0].info.status == "KILLED"
    Path("train.py").write_text(PROGRAM.replace("time.sleep(60)\nvalue", "pass\nvalue"))
    write({"a": "0", "b": "0.2 hangs"}, seeds=1, code=[])  # another run, of the place
    assert ablate("run", "plan.toml", "--seeds", "2").exit_code == 0


def test_what_a_killed_call_left_is_ended_and_run_again(home: Home) -> None:
    """As kill -9 leaves it: a run that is marked running, and its command."""
    write()
    ablate("run", "plan.toml", "--seeds", "1")
    (_, last) = runs(home)
    client = mlflow.MlflowClient(tracking_uri=home.tracking_uri)
    client.set_tag(last.info.run_id, schema.COORDINATOR, f"{tracking.this_process()}9")  # which is no process
    client.delete_tag(last.info.run_id, schema.OUTCOME)
    client.update_run(last.info.run_id, status="RUNNING")
    words = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
    orphan = subprocess.Popen(words, start_new_session=True)
    left = home.commands / "shifts-1"
    left.mkdir(parents=True)
    (left / "process").write_text(tracking.process_named(orphan.pid))
    done = ablate("run", "plan.toml", "--seeds", "1")
    assert "Closed 1 training that an earlier call left unfinished." in done.stdout
    assert ran()[2:] == ["0.2 0"]
    assert orphan.wait(10) == -signal.SIGTERM
    assert not home.commands.exists()


@pytest.mark.exhaustive
def test_a_call_that_was_killed_is_gone_on_with(home: Home) -> None:
    write({"a": "0", "b": "0.2 hangs"}, seeds=1)
    start = (
        "import sys; from cifar_ablations.study.commands.app import main; sys.argv[1:] = ['run', 'plan.toml']; main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    process = subprocess.Popen([sys.executable, "-c", start], env=environment)
    thread = _when(lambda: Path("hangs.txt").exists() and " " in Path("hangs.txt").read_text(), process.kill)
    thread.join()
    process.wait(30)
    orphans = list(map(int, Path("hangs.txt").read_text().split()))
    assert all(map(_alive, orphans))
    write({"a": "0", "b": "0.2"}, seeds=1)
    done = ablate("run", "plan.toml")
    assert done.exit_code == 0
    assert "Closed 1 training" in done.stdout
    assert "2 runs, 1 already done" in done.stdout
    assert not any(map(_alive, orphans))


def test_a_file_that_changes_meanwhile_stops_the_plan(home: Home) -> None:
    write({"a": "0", "b": "0.2"})
    Path("train.py").write_text(PROGRAM + "\nopen('train.py', 'a').write('# more')")
    done = ablate("run", "plan.toml")
    assert done.exit_code == 2
    assert "train.py has changed since this call began" in done.stderr
    assert len(ran()) == 1
    assert {run.info.status for run in runs(home, schema.KIND_COMMANDS)} == {"KILLED"}


@pytest.mark.exhaustive
def test_plan_and_report_run_nothing(home: Home) -> None:
    write({**RUNS, "$(touch x); [red]": "0.1"})
    first = ablate("plan", "plan.toml")
    assert first.exit_code == 0
    assert not ran()
    assert "9 runs, 0 already done; how long the 9 take is known once one has ended." in first.stdout
    assert "$(touch x); [red]" in first.stdout
    ablate("run", "plan.toml", "--seeds", "2")
    told = json.loads(ablate("plan", "plan.toml", "--json").stdout)
    assert told["schema"] == "cifar-ablations/plan-commands/1"
    assert [arm["done"] for arm in told["arms"]] == [2, 2, 2]
    seconds = [(run.info.end_time - run.info.start_time) / 1000 for run in runs(home)]
    assert told["seconds"] == pytest.approx(sum(seconds) / 2, rel=1e-6)
    assert told["verdicts"]["given"] is (told["verdicts"]["error_rate"] <= 0.05)
    page = home.reports / "commands-shifts.html"
    before = page.read_bytes()
    for words in ([], ["shifts"], ["plan.toml"]):
        page.unlink()
        done = ablate("report", *words)
        assert done.exit_code == 0, done.output
        assert page.read_bytes() == before
        assert "Report: out/reports/commands-shifts.html" in done.stdout
    told = json.loads(ablate("report", "--json").stdout)
    assert [one["plan"]["name"] for one in told["commands"]] == ["shifts"]
    assert len(ran()) == 6
    assert not Path("x").exists()


@pytest.mark.exhaustive
@pytest.mark.parametrize("drawn", [True])
def test_claims_of_some_arms_have_a_direction(home: Home) -> None:
    write({"a": "0", "b": "0.2", "c": "-0.2"}, seeds=4)
    text = Path("plan.toml").read_text().replace('[arms."c"]\n', '[arms."c"]\nexpect = "higher"\n')
    Path("plan.toml").write_text(text)
    done = ablate("run", "plan.toml")
    assert re.search(r"(?m)^b .*helps", done.stdout)
    assert re.search(r"(?m)^c .*opposite found", done.stdout)
    page = (home.reports / "commands-shifts.html").read_text()
    assert "b is different from a in accuracy; c has a higher accuracy than a" in page
    assert re.search(r'class="chip supported">helps<', page)
    assert re.search(r'class="chip refuted">opposite found<', page)


@pytest.mark.exhaustive
def test_pairs_are_compared_where_the_file_says_so(home: Home) -> None:
    write({"a": "0", "b": "0.2", "c": "0.1 fails"}, paired=True, seeds=4)
    done = ablate("run", "plan.toml")
    assert done.exit_code == 1
    assert "they are compared within seeds (paired t test)" in done.stdout
    (known,) = command_plans.invocations(home.tracking_uri)
    found = judged_invocation(home.tracking_uri, known, [known])
    assert isinstance(found, judged_page.Judged)
    assert found.plan.rule.test == "paired t"
    assert list(found.verdicts["treatment"]) == ["b", "c"], "an arm without runs keeps its claim"
    assert found.verdicts["reason"].iloc[1] == "runs missing"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "cpu"], "--device is about the suite's own trainings"),
        (["--set", "dropout.p=0.3"], "--set is about"),
        (["--profile", "smoke"], "--profile is about"),
        (["--workers", "1"], "--workers is about"),
        (["--lock", "lock.json"], "--lock is about"),
        (["--data", "synthetic"], "--data is about"),
        (["--minutes", "1"], "--minutes is about"),
        (["--seeds", "adaptive"], "a plan of commands has a whole number of them, not 'adaptive'"),
        (["--seeds", "0"], "the number of seeds must be at least 1, not 0"),
    ],
)
def test_what_says_nothing_of_commands_is_refused(words: list[str], said: str, home: Home) -> None:
    write()
    done = ablate("run" if "--lock" in words else "plan", "plan.toml", *words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not ran()


def test_a_program_that_is_not_there_is_said_before_anything_runs(home: Home) -> None:
    write()
    text = Path("plan.toml").read_text()
    for name in ("pyhton", "./train.sh"):
        Path("plan.toml").write_text(text.replace("{python}", name, 1))
        done = ablate("run", "plan.toml", "--json")
        assert done.exit_code == 2
        assert f"arm 'a': there is no program '{name}'" in json.loads(done.stdout)["error"]["message"]
    assert not ran()
    assert not runs(home, schema.KIND_COMMANDS)
    assert ablate("run", "plna.toml").exit_code == 2


@pytest.mark.exhaustive
def test_quiet_leaves_the_answer_and_errors(home: Home) -> None:
    write({"a": "0", "b": "0.2", "c": "0.1 fails"}, seeds=2)
    done = ablate("--quiet", "run", "plan.toml")
    assert done.exit_code == 1
    assert done.stdout.startswith("Arm ")
    assert "Report:" not in done.stdout
    assert done.stderr.startswith("ablate: failed: c, seed 0: exit code 1")


@pytest.mark.exhaustive
def test_two_plans_have_experiments_and_pages_of_their_own(home: Home) -> None:
    write(seeds=2)
    ablate("run", "plan.toml")
    write({"a": "0", "b": "0.1"}, name="others", file="other.toml", seeds=2)
    ablate("run", "other.toml")
    assert len(ran()) == 8, "a run of one plan is none of another's"
    assert len({run.info.experiment_id for run in runs(home)}) == 2
    assert {page.name for page in home.reports.glob("*.html")} == {
        "index.html",
        "how-to-read.html",
        "commands-shifts.html",
        "commands-others.html",
    }


def test_the_documents_are_as_described(home: Home) -> None:
    docs = (Path(__file__).parents[3] / "docs" / "automation.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"(?ms)^### (run|plan) of commands\n(.+?)(?=^### |\Z)", docs))
    write(seeds=2)
    for verb in ("plan", "run"):
        told = json.loads(ablate(verb, "plan.toml", "--json").stdout)
        assert told.pop("schema") == f"cifar-ablations/{verb}-commands/1", told
        described = re.findall(r"`(\w+)`", " ".join(re.findall(r"(?m)^- ((?:`\w+`(?:, )?)+):", sections[verb])))
        assert set(described) == set(told)
