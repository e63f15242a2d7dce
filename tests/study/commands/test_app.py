"""The command line as a person meets it: what works says where to look, what is wrong says what to type instead."""

from __future__ import annotations

import ast
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import mlflow
import pytest
from rich.text import Text
from typer.main import get_command
from typer.testing import CliRunner

from cifar_ablations.ablations import schema
from cifar_ablations.study.commands import app, arguments, ending, execute
from cifar_ablations.study.data import synthetic
from cifar_ablations.study.execution.fleets import TRAININGS, Progress
from cifar_ablations.study.store.home import Home
from tests.fresh_store import put_fresh_store
from tests.official_like import NOWHERE
from tests.study.commands.test_progress import Pace

ROOT = Path(__file__).parents[3]

TINY = [
    f"--set={setting}"
    for setting in (
        "model.width=0.0625",
        "budget.epochs=2",
        "budget.train_images=80",
        "budget.validation_images=40",
        "budget.test_images=60",
    )
]


@pytest.fixture
def home(tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An output folder, and the tiny data set named by the environment, so that no command needs --data."""
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    monkeypatch.setenv("ABLATE_DATA", str(tiny_folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Home()


def test_a_mistake_cannot_drive_the_terminal(home: Home) -> None:
    told = CliRunner().invoke(app.app, ["report", "--compare", "https://u:p\x1b[1m@127.0.0.1:9#x", "a\x9b\rb#y"])
    assert told.exit_code == 2
    assert not {"\x1b", "\x9b", "\r"} & set(told.output)


@pytest.fixture
def no_data(used_home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """An output folder where no data is named and CIFAR-10 cannot be downloaded; there are few images to draw."""
    monkeypatch.delenv("ABLATE_DATA")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("torchvision.datasets.CIFAR10.url", NOWHERE)
    monkeypatch.setattr(synthetic, "SIZES", {"train": 400, "test": 200})
    return used_home


@pytest.fixture
def used_home(home: Home) -> Home:
    """An output folder in which MLflow has made its tables already, as after any first command."""
    put_fresh_store(home.folder)
    return home


def _ablate(*words: str):
    return CliRunner().invoke(app.app, list(words), catch_exceptions=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "technique"], "no plan 'technique'; did you mean techniques?"),
        (["plan", "nonsense"], "no plan 'nonsense'. Known: a-a, claims, data-size"),
        (["report", "notebok"], "no plan 'notebok'; did you mean notebook?"),
        (["run", "--profile", "quik"], "no profile 'quik'; did you mean quick?"),
        (["run", "--seeds", "0"], "--seeds must be at least 1, not 0"),
        (
            ["run", "--seeds", "adaptve"],
            "--seeds must be a whole number or a way, not 'adaptve'; did you mean adaptive?",
        ),
        (["run", "--first-seed", "-1"], "--first-seed must be at least 0, not -1"),
        (["run", "--workers", "-2"], "--workers must be at least 1, not -2"),
        (["run", "--workers", "99999999999999999999"], "--workers must be at most 1024, not 1.000e+20"),
        (["run", "--seeds", "99999999999999999999"], "--seeds must be at most 10000, not 1.000e+20"),
        (["run", "--seeds", "9" * 5_000], "--seeds must be a whole number or a way, not '9999"),
        (["run", "--first-seed", "99999999999999999999"], "--first-seed must be at most 9007199254740992, not 1.0"),
        (["run", "--minutes", "nan"], "--minutes must be positive, not nan"),
        (["run", "--minutes", "1e400"], "--minutes must be positive, not inf"),
        (["run", "--image-size", "99999999999999999999"], "--image-size must be 32"),
        (["tune", "joint", "--trials", "99999999999999999999"], "--trials must be at most 100000, not 1.000e+20"),
        (
            ["tune", "joint", "--seeds-per-trial", "4294967296"],
            "--seeds-per-trial must be at most 10000, not 4294967296",
        ),
        (["tune", "joint", "--seed", "99999999999999999999"], "--seed must be at most 9007199254740992"),
        (["foundations", "--seed", "99999999999999999999"], "--seed must be at most 9007199254740992"),
        (["export", "--width", "nan"], "the width must lie between 3 and 20 inches, not at nan"),
        (["watch", "--every", "inf"], "--every must lie between 1 and 86400 seconds, not at inf"),
        (["watch", "--every", "0"], "--every must lie between 1 and 86400 seconds, not at 0"),
        (["ui", "--port", "65536"], "--port must be at most 65535, not 65536"),
        (["ui", "--port", "0"], "--port must be at least 1, not 0"),
        (["run", "--baseline", "x" * 300], "no recipe 'xxx"),
        (["run", "--baseline", "~nosuchuser/x"], "no recipe '~nosuchuser/x'"),
        (["plan", "--profile", "smoke", *TINY, "--lock", "x" * 300], "cannot be written (File name too long)"),
        (["run", "--set", "budget.epochs=99999999999999999999"], "budget.epochs must be at most 9007199254740992"),
        (["run", "--set", "budget.epochs=1000000000"], "steps of batch 32; at most 100,000,000"),
        (["run", "--set", "dropout.p=nan"], "dropout.p must be a number, not nan"),
        (["run", "--set", "dropout.p=-1e400"], "dropout.p must be a number, not -inf"),
        (["run", "--set", f"augmentation.padding={'9' * 5_000}"], "must be a whole number, not '9999"),
        (["run", "--device", "gpu"], "no device 'gpu'. Known: cpu, cuda"),
        (["run", "--device", "cuda:99"], "--device cuda:99: this machine has"),
        (["run", "--set", "dropout"], "--set dropout: 'dropout' is not of the form object.field=value"),
        (["run", "--set", "droput.p=0.3"], "--set droput.p=0.3: no object 'droput'; did you mean dropout?"),
        (["run", "--set", "dropout.q=0.3"], "--set dropout.q=0.3: dropout has no field 'q'. Known: p"),
        (["run", "--set", "dropout.p=high"], "dropout.p must be a number, not 'high'"),
        (["run", "--set", "dropout.p=1.5"], "dropout.p must lie between 0 and 0.95, not at 1.5"),
        (["run", "--set", "augmentation=flp"], "augmentation has no level 'flp'; did you mean flip?"),
        (["run", "--set", "budget.epochs=0"], "budget.epochs must be at least 1, not 0"),
        (["run", "--set", "budget.epochs=2.5"], "budget.epochs must be a whole number, not '2.5'"),
        (["run", "--set", "budget.precision=fp8"], "budget.precision cannot be 'fp8'"),
        (["run", "--set", "model.name=resnet"], "model.name cannot be 'resnet'; did you mean resnet9?"),
        (["run", "--profile", "smoke", "--set", "budget.train_images=70000"], "lower one of them (--set changes"),
        (["run", "--data", "no/such/place"], "no/such/place does not exist"),
        (["run", "--executor", "rai"], "no executor 'rai'; did you mean ray? Known: local, ray"),
        (["run", "--address", "auto"], "--address names a Ray cluster; give --executor ray with it"),
        (["run", "--shard", "3/2"], "a shard must be I/N, the I-th of N shares, such as 2/4, not '3/2'"),
        (["run", "--profile", "smoke", *TINY, "--shard", "3/3"], "the plan has 2 seeds, and a shard needs one"),
        (["run", "--shard", "1/2", "--minutes", "3"], "--shard shares out the seeds that a plan has, and --minutes"),
        (["run", "--shard", "1/2", "--seeds", "adaptive"], "--seeds adaptive looks how many it needs"),
        (["run", "--shard", "1/2", "--retune"], "the search of --retune is one, and cannot be shared out"),
    ],
)
def test_a_mistake_is_one_sentence_and_code_2(home: Home, words: list[str], said: str) -> None:
    result = _ablate(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith("ablate: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (home.folder / "mlflow.db").exists(), "nothing is stored for a command that cannot run"


@pytest.mark.slow
@pytest.mark.parametrize("value", ["", " ", "abc", "1e5", "0x10", "1,5", "9" * 5_000, "½", "None"])
@pytest.mark.parametrize("option", ["--first-seed", "--workers", "--trials", "--image-size", "--minutes"])
def test_what_is_no_number_is_named_with_its_option_and_what_is_allowed(option: str, value: str) -> None:
    if option == "--minutes" and value in ("1e5", "9" * 5_000):
        pytest.skip("a number")
    result = _ablate("plan", f"{option}={value}")
    assert result.exit_code == 2
    said = " ".join(line.strip("│ ") for line in result.stderr.splitlines())
    assert f"Invalid value for '{option}': must be a" in said
    assert f"number, not {value[:9]!r}"[:-1] in said
    assert len(said) < 600


def test_only_commands_name_their_options() -> None:
    """What lies deeper speaks of objects and fields, whoever asks."""
    options = {
        name
        for command in get_command(app.app).commands.values()  # type: ignore[attr-defined]
        for parameter in command.params
        for name in parameter.opts
        if name.startswith("--")
    }
    assert "--set" in options
    rooms = ["ablations", *(f"study/{room}" for room in ("execution", "foundations", "store", "training"))]
    plain = ROOT / "ablations" / "plain"  # whose programs have options of their own
    for path in (p for room in rooms for p in (ROOT / room).rglob("*.py") if plain not in p.parents):
        texts = [n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)]
        words = {word for text in texts if isinstance(text, str) for word in re.findall(r"--[a-z-]+", text)}
        assert not words & options, path


def test_what_is_wrong_with_the_settings_names_their_option(home: Home, tiny_folder: Path) -> None:
    (tiny_folder / "dataset.toml").write_text("mirror_safe = false\n")
    try:
        result = _ablate("run", "notebook", *TINY)
    finally:
        (tiny_folder / "dataset.toml").unlink()
    assert result.exit_code == 2
    assert "set augmentation.flip=0, or augmentation=off (--set changes a setting)" in result.stderr


def test_an_error_of_ours_is_not_taken_for_the_users(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "plan_invocation", lambda *_: int("not a number of the user's"))
    result = _ablate("run")
    assert result.exit_code == 1
    assert "a fault of ablate's own" in result.stderr
    assert "ValueError: invalid literal" in result.stderr
    assert len(list((home.folder / "errors").iterdir())) == 1


COMMANDS = get_command(app.app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_every_default(command: str) -> None:
    shown = CliRunner(env={"COLUMNS": "400", "TERMINAL_WIDTH": "400"}).invoke(app.app, [command, "--help"]).output
    for parameter in COMMANDS[command].params:
        for default in re.findall(r"\(default: .*\)", parameter.help or ""):
            assert default in shown
        if parameter.default not in (None, False) and parameter.name != "help":
            assert f"[default: {parameter.default}]" in shown
        elif parameter.nargs == 1 and not parameter.required and parameter.default is None:
            told = f"{parameter.opts[-1]}: say in its help what it is without it"
            assert "default" in parameter.help or "Repeatable" in parameter.help or parameter.name in NOTHING, told


NOTHING = {"lock"}
"""Options without which nothing is done in their place."""


def test_no_help_is_lost_to_markup() -> None:
    texts = [
        parameter.help
        for command in get_command(app.app).commands.values()  # type: ignore[attr-defined]
        for parameter in command.params
        if parameter.help
    ]
    assert len(texts) > 40
    assert [text for text in texts if Text.from_markup(text).plain != text] == []


@pytest.mark.slow
def test_run_report_and_run_again(home: Home) -> None:
    planned = _ablate("plan", "notebook", "--seeds", "2", *TINY)
    assert planned.exit_code == 0
    reading, first = planned.stdout.splitlines()[:2]
    assert reading.startswith("Reading tiny")
    assert re.fullmatch(r"Data: tiny, 200 training and 80 test images, digest [0-9a-f]{16}", first)
    assert "rehearsal" not in planned.stdout
    assert "2 trainings, 0 already done; the other 2 take about" in planned.output

    first = _ablate("run", "notebook", "--seeds", "1", "--workers", "1", *TINY)
    assert first.exit_code == 0, first.output
    assert first.stdout.startswith("Data: tiny, ")
    assert "rehearsal" not in first.stdout
    assert "1 trainings in" in first.output or "1 training in" in first.output
    assert "  starting 1 worker\n" in first.output
    assert "1 run (highest" not in first.output
    assert re.search(r"\n(.+ %  .*)\nReport: .+\nNext: ablate run techniques --data ", first.output)
    (shown,) = re.findall(r"^Report: (.+)$", first.output, re.MULTILINE)
    page = Path(shown).resolve()
    assert page.parent == home.reports
    assert page.stat().st_size > 10_000

    again = _ablate("run", "notebook", "--seeds", "1", *TINY)
    assert again.exit_code == 0
    assert "1 already done" in again.output
    planned = _ablate("plan", "notebook", "--seeds", "2", *TINY)
    assert "2 trainings, 1 already done" in planned.output

    page.unlink()
    assert _ablate("report", "notebook").exit_code == 0
    assert page.exists()

    (plan,) = home.artifacts.rglob(schema.PLAN_FILE)
    plan.write_bytes(plan.read_bytes()[:-20])  # as an unlucky power cut leaves it
    damaged = _ablate("report")
    assert damaged.exit_code == 2
    assert f"Left out: {schema.PLAN_FILE} of run " in damaged.stdout


@pytest.mark.exhaustive
def test_a_training_that_cannot_be_read_is_said_and_trained_again(used_home: Home) -> None:
    words = ["notebook", "--seeds", "1", "--workers", "1", *TINY]
    assert "Left out" not in _ablate("run", *words).stdout
    client = mlflow.MlflowClient(used_home.tracking_uri)
    (training,) = client.search_runs([e.experiment_id for e in client.search_experiments()], "tags.kind = 'training'")
    client.set_tag(training.info.run_id, schema.SEED, "zero")
    for command in ("plan", "run"):
        said = _ablate(command, *words).stdout
        assert f"Left out: run {training.info.run_id}: the tag seed " in said
        assert "0 already done" in said


@pytest.mark.parametrize("fails", [False, True])
def test_a_first_page_is_written_once_when_a_seed_is_complete_and_much_is_left(
    fails: bool, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def write(uri: str, folder: Path, plan: str) -> list[Path]:
        written.append(folder / f"{plan}.html")
        if fails:
            raise OSError("the disk is full")
        return written

    monkeypatch.setattr("cifar_ablations.reports.pages.plan_page.write_reports", write)
    monkeypatch.setattr("cifar_ablations.reports.pages.index_page.write_index", lambda uri, folder: None)
    said: list[str] = []
    first = execute._FirstPage(home, home.tracking_uri, {"plan": "ladder"}, said.append)
    for seeds_done, done, left in ((0, 7, 600.0), (1, 14, None), (1, 14, 60.0), (1, 84, 600.0)):
        first.see(Progress(TRAININGS, 84, done, seeds_done=seeds_done, pace=Pace(left)))  # type: ignore[arg-type]
    first.wait()
    assert written == []
    for _ in range(3):
        first.see(Progress(TRAININGS, 84, 14, seeds_done=1, pace=Pace(600.0)))  # type: ignore[arg-type]
    first.wait()
    assert written == [home.reports / "ladder.html"]
    failed = "No first page: OSError: the disk is full. Training goes on, and the page is tried again."
    assert said == [failed if fails else f"First results: {home.shown(written[0])}"]


LONG = ["notebook", "--seeds=8", *TINY, "--workers=1", "--set=budget.epochs=400"]


@pytest.mark.slow
def test_ctrl_c_ends_in_order(used_home: Home) -> None:
    home = used_home
    asked = []

    def press() -> None:
        _wait_for_a_run(home)
        for worker in multiprocessing.active_children():  # as a terminal does: to the workers too
            asked.append(worker)
            os.kill(worker.pid, signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    finger = threading.Thread(target=press)
    finger.start()
    result = _ablate("run", *LONG)
    finger.join()
    assert asked, "no worker was at work"
    assert result.exit_code == 130
    assert result.stderr.strip() == ending.STOPPED
    _nothing_finished(home)


@pytest.mark.exhaustive
def test_ctrl_c_ends_a_process_of_its_own_in_order(home: Home) -> None:
    command = [sys.executable, "-c", "from cifar_ablations.study.commands.app import main; main()", "run", *LONG]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        _wait_for_a_run(home, process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip() == ending.STOPPED
    _nothing_finished(home)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("words", "writer"),
    [
        (["run", "notebook", "--seeds", "1"], "plan_page.write_reports"),
        (["tune", "joint", "--trials", "1"], "search_page.write_search_reports"),
    ],
)
def test_ctrl_c_while_the_report_is_written_ends_at_once(
    used_home: Home, words: list[str], writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = f"cifar_ablations.reports.pages.{writer}"
    monkeypatch.setattr(writer, lambda *_, **__: os.kill(os.getpid(), signal.SIGINT))
    result = _ablate(*words, "--workers=1", *TINY, "--set=budget.epochs=1")
    assert result.exit_code == 130
    assert result.stderr.strip() == ending.STOPPED


def _nothing_finished(home: Home) -> None:
    client = mlflow.MlflowClient(home.tracking_uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert runs
    assert {r.info.status for r in runs} == {"KILLED"}
    assert schema.FINISHED not in {r.data.tags.get(schema.OUTCOME) for r in runs}


def _wait_for_a_run(home: Home, process: subprocess.Popen | None = None) -> None:
    """Until a training is under way: an epoch of it has been reported."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process is None or process.poll() is None, process.communicate()
        if home.pending.exists() and schema.TRAIN_LOSS in home.pending.read_text():
            return
        time.sleep(0.2)
    raise AssertionError("no training began")


@pytest.mark.exhaustive
def test_looks_stop_when_every_claim_is_decided_and_are_not_taken_twice(used_home: Home) -> None:
    home = used_home
    small = ["a-a", *TINY, "--seeds", "adaptive", "--set", "budget.epochs=1", "--workers", "1"]
    first = _ablate("run", *small)
    assert first.exit_code == 0, first.stderr
    assert "2 arms × up to 15 seeds = up to 30 trainings, 0 already done" in first.stdout
    looks = re.findall(r"(\d) of 3 claims decided", first.stdout)
    assert 1 <= len(looks) <= 2  # the third look is the last, and nobody asks after it
    trained = int(re.search(r"(\d+) trainings in", first.stdout)[1])  # type: ignore[index]
    assert trained == (10 * len(looks) if looks[-1] == "3" else 30)
    again = _ablate("run", *small)
    assert f"{trained} already done" in again.stdout
    assert "trainings in" not in again.stdout
    (page,) = home.reports.glob("a-a-*.html")
    assert "looks after 5, 10 and 15 seeds, until every claim is decided" in page.read_text()


REHEARSAL = "Data: rehearsal on drawn images, 400 training and 200 test images, digest "
ADVICE = "For CIFAR-10: ablate data cifar10 --from PATH (without --from, it is downloaded)"
LAST = "A rehearsal on drawn images: what is found is not about photographs."


def _lines_from_data_on(words: list[str]) -> list[str]:
    """What a command said, without what led to its data."""
    done = _ablate(*words, *(TINY if words[0] != "adopt" else []))
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.rstrip().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("Data: "))
    assert all(re.match("Downloading|Drawing|CIFAR-10 could not be downloaded", line) for line in lines[:start])
    return lines[start:]


@pytest.mark.exhaustive
def test_without_data_a_run_is_a_rehearsal_from_the_first_line_to_the_last(no_data: Home) -> None:
    for words in (
        ["run", "notebook", "--seeds", "1", "--workers", "1"],
        ["plan", "notebook", "--seeds", "1"],
        ["tune", "regularization", "--trials", "2", "--dry-run"],
    ):
        first, *_, last = _lines_from_data_on(words)
        assert first.startswith(REHEARSAL)
        assert first.endswith(ADVICE)
        assert last == f"{LAST} {ADVICE}"


@pytest.mark.slow
def test_a_rehearsal_asked_for_by_name_downloads_nothing_and_gives_no_advice(no_data: Home) -> None:
    plan = _ablate("plan", "notebook", "--seeds", "1", "--data", "synthetic", *TINY)
    assert plan.exit_code == 0, plan.stderr
    assert "Downloading" not in plan.stdout
    assert "ablate data" not in plan.stdout
    assert plan.stdout.splitlines()[1].startswith(REHEARSAL)
    assert plan.stdout.rstrip().splitlines()[-1] == LAST


def test_what_was_given_once_is_not_taken_again_unasked(no_data: Home, tiny_folder: Path) -> None:
    assert _ablate("plan", "notebook", "--seeds", "1", "--data", str(tiny_folder), *TINY).exit_code == 0
    assert _lines_from_data_on(["plan", "notebook", "--seeds", "1"])[0].startswith(REHEARSAL)


# The search starts from another recipe than the notebook's, so that its winner is another one too.
SEARCH = ["--trials", "2", "--workers", "1", "--sampler", "random", *TINY, "--set=optimizer.rate=0.002"]


@pytest.mark.exhaustive
def test_tuning_from_the_search_to_a_plan_on_fresh_seeds(used_home: Home) -> None:
    home = used_home
    dry = _ablate("tune", "regularization", "--dry-run", *SEARCH)
    assert dry.exit_code == 0, dry.stderr
    assert dry.stdout.splitlines()[1].startswith("Data: tiny, ")
    assert "2 trainings, at most" in dry.stdout
    assert not home.journal.exists()
    assert "no search 'regularization' has ended on tiny yet" in _ablate("adopt", "regularization").stderr
    tuned = _ablate("tune", "regularization", *SEARCH)
    assert tuned.exit_code == 0, tuned.stderr
    assert tuned.stdout.startswith("Data: tiny, ")
    data = f" --data {os.environ['ABLATE_DATA']}\n"
    assert tuned.stdout.endswith(f"Next: ablate adopt regularization{data}")
    assert re.search(r"2 trials in [\d.]+ (s|min): \d pruned, 0 diverged, 0 failed\.", tuned.stdout)
    assert "Best: trial" in tuned.stdout
    assert "Report: " in tuned.stdout
    assert "Nothing left to try" in _ablate("tune", "regularization", *SEARCH).stdout
    adopted = _ablate("adopt", "regularization", "--as", "mine")
    assert adopted.exit_code == 0, adopted.stderr
    assert adopted.stdout.endswith(f"Next: ablate run tuned --profile quick --baseline mine{data}")
    text = (home.recipes / "mine.toml").read_text()
    assert "seeds = [100000]" in text
    run = ["run", "tuned", "--baseline", "mine", "--seeds", "1", *TINY]
    wrong = _ablate(*run, "--first-seed", "100000")
    assert wrong.exit_code == 2
    assert "was chosen with seed 100000" in wrong.stderr
    assert "such as --first-seed 100001" in wrong.stderr
    done = _ablate(*run, "--workers", "1")
    assert done.exit_code == 0, done.stderr
    (page,) = home.reports.glob("tuned-*.html")
    assert "baseline=mine (" in page.read_text()


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tune", "learning-rat"], "no search 'learning-rat'; did you mean learning-rate?"),
        (["tune", "joint", "--sampler", "tpee"], "no sampler 'tpee'; did you mean tpe?"),
        (["tune", "joint", "--pruner", "halvin"], "no pruner 'halvin'; did you mean halving?"),
        (["tune", "joint", "--trials", "0"], "--trials must be at least 1, not 0"),
        (["tune", "joint", "--pruner", "wilcoxon"], "it needs --seeds-per-trial of at least 3"),
        (
            ["tune", "joint", "--storage", "nonsense://x", "--profile", "smoke"],
            "--storage nonsense://x cannot be opened",
        ),
        (["run", "--baseline", "tuned"], "none has been adopted yet: run `ablate tune`"),
        (["run", "tuned"], "the tuned recipe is the notebook's: give another baseline"),
        (["adopt", "join"], "no search 'join'; did you mean joint?"),
        (["adopt", "joint", "--as", "a/b"], "--as 'a/b': a recipe's name is of letters"),
        (
            ["adopt", "joint", "--as", "x" * 300],
            "(302 signs): a recipe's name is of letters, digits, - and _, and of at",
        ),
    ],
)
def test_a_mistake_in_tuning_is_one_sentence_and_code_2(home: Home, words: list[str], said: str) -> None:
    result = _ablate(*words, *(TINY if words[0] != "adopt" else []))
    assert result.exit_code == 2, result.stdout
    assert result.stderr.startswith("ablate: ")
    assert said in result.stderr
