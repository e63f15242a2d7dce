"""`ablate judge` as a person meets it: the table, the page, the document for a program, and what is mistyped."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cifar_ablations.reports.pages import judged_page
from cifar_ablations.study.commands import answer_table, app
from cifar_ablations.study.store.home import Home

EXAMPLE = Path(__file__).parents[3] / "examples" / "judge" / "results.csv"
ASKED = ["--metric", "accuracy", "--control", "baseline"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "out"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    return Home()


def _judge(*words: object):
    return CliRunner().invoke(app.app, ["judge", *map(str, words)], catch_exceptions=False)


def _many(folder: Path, arms: int, name: str = "arm {}") -> Path:
    rng = np.random.default_rng(0)
    rows = [(name.format(i), seed, 0.5 + 0.002 * i + rng.normal(0, 0.01)) for i in range(arms) for seed in range(6)]
    pd.DataFrame(rows, columns=["arm", "seed", "accuracy"]).to_csv(folder / "many.csv", index=False)
    return folder / "many.csv"


@pytest.mark.slow
def test_the_answer_is_a_table_sentences_and_a_page(home: Home) -> None:
    done = _judge(EXAMPLE, *ASKED)
    assert done.exit_code == 0
    head, control, first, *_ = done.stdout.splitlines()
    assert re.split(" {2,}", head.strip()) == ["Arm", "accuracy", "effect, pp [95 %]"]
    assert control.startswith("baseline (control)  21.60 %")
    assert re.match(r"no augmentation +28.40 % +\+6.80 \[1.83, 11.77\] .*●.* helps", first)
    assert "Every arm has the control's 6 seeds, each once; they are compared as independent" in done.stdout
    assert "about 120 seeds would settle no initialisation" in done.stdout
    page = home.reports / "judged-results.html"
    assert {file.name for file in home.reports.iterdir()} == {page.name, "how-to-read.html"}
    assert 'href="how-to-read.html"' in page.read_text(encoding="utf-8")
    assert done.stdout.splitlines()[-1].endswith("judged-results.html")


@pytest.mark.slow
def test_the_command_on_the_page_asks_the_same(home: Home, tmp_path: Path) -> None:
    options = ["--arm", "arm", "--seed", "seed", "--metric", "loss", "--control", "baseline"]
    options += ["--better", "lower", "--expect", "higher", "--margin", "0.1", "--paired"]
    page, again = tmp_path / "page.html", tmp_path / "folder" / "again.html"
    assert _judge(EXAMPLE, *options, "--output", page).exit_code == 0
    (command,) = re.findall(r"<pre[^>]*><code>(.*?)</code>", page.read_text(encoding="utf-8"))
    _, verb, *words = shlex.split(command)
    assert [verb, *words] == ["judge", str(EXAMPLE), *options]
    assert _judge(*words, "--output", again).exit_code == 0
    assert again.read_bytes() == page.read_bytes()
    assert not home.folder.exists()


@pytest.mark.exhaustive
@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize(
    "name", ["arm {}", "an arm with a name as long as that of a run in a sweep of learning rates {}"]
)
def test_a_table_of_many_arms_fits(
    columns: int, name: str, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(judged_page.Judged, "to_html", lambda judged, *words: "")
    done = _judge(_many(tmp_path, 40, name), "--metric", "accuracy", "--control", name.format(0))
    lines = done.stdout.splitlines()
    last = next(i for i, line in enumerate(lines) if "more on the page" in line)
    assert last + 1 <= answer_table.MOST_LINES
    assert f"… and {39 - (last - 2)} more on the page" == lines[last]
    assert all(len(line.rstrip()) <= columns for line in lines[: last + 1])
    assert "helps" in "".join(lines[:last])


def test_a_program_gets_the_numbers(home: Home) -> None:
    done = _judge(EXAMPLE, *ASKED, "--json")
    told = json.loads(done.stdout)
    assert told["schema"] == "cifar-ablations/judge/1"
    assert told["control"] == "baseline"
    assert [(one["treatment"], one["outcome"]) for one in told["claims"]] == [
        ("no augmentation", "helps"),
        ("no initialisation", "open"),
        ("rate 0.01", "open"),
    ]
    frame = pd.read_csv(EXAMPLE)
    means = frame.groupby("arm")["accuracy"].mean()
    assert told["claims"][0]["difference"] == pytest.approx(means["no augmentation"] - means["baseline"])
    assert told["claims"][1]["seeds_to_settle"] == 120
    assert told["pairing"]["paired"]
    assert Path(told["page"]).is_file()
    failed = _judge(EXAMPLE, "--metric", "acc", "--control", "baseline", "--json")
    assert json.loads(failed.stdout)["error"]["exit_code"] == failed.exit_code == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name either a CSV or Parquet file or, with --experiment NAME, an experiment"),
        ([EXAMPLE, "--experiment", "x"], "name either"),
        ([EXAMPLE, "--tracking-uri", "sqlite:///x.db"], "--tracking-uri is for --experiment"),
        ([EXAMPLE, "--metric", "acuracy", "--control", "baseline"], "did you mean accuracy?"),
        ([EXAMPLE, "--metric", "accuracy", "--control", "base"], "did you mean baseline?"),
        ([EXAMPLE, "--metric", "accuracy"], "--control says which arm"),
        ([EXAMPLE, *ASKED, "--margin", "x"], "must be a number, not 'x'"),
        ([EXAMPLE, *ASKED, "--output", EXAMPLE.parent], "is a folder; name a file"),
        ([EXAMPLE, *ASKED, "--output", EXAMPLE / "page.html"], "--output"),
        (["nowhere.csv", *ASKED], "there is no file 'nowhere.csv'"),
        (["--experiment", "x", *ASKED], "there is no MLflow store at"),
    ],
)
def test_what_cannot_be_judged_is_a_sentence_and_leaves_nothing(words: list[object], said: str, home: Home) -> None:
    done = _judge(*words)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert not list(home.folder.rglob("*.html"))
