"""`ablate export`, on the store that version 0.1.0 wrote: files, standard output, and what is mistyped."""

from __future__ import annotations

import sqlite3
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from cifar_ablations.study.commands import app
from cifar_ablations.study.store.home import Home

ARCHIVE = Path(__file__).parents[2] / "fixtures" / "store-0.1.0.tar.xz"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A copy of the old output folder that commands find; where its artifacts lie is where it lies now."""
    folder = tmp_path_factory.mktemp("0.1.0")
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(folder, filter="data")
    with sqlite3.connect(folder / "out" / "mlflow.db") as database:
        (old,) = database.execute("select artifact_uri from runs limit 1").fetchone()
        before, now = old.partition("/artifacts/")[0], (folder / "out").as_uri()
        for table, column in (("runs", "artifact_uri"), ("experiments", "artifact_location")):
            database.execute(f"update {table} set {column} = replace({column}, ?, ?)", (before, now))
    database.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABLATE_HOME", str(folder / "out"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield Home()


def _ablate(*words: str):
    return CliRunner().invoke(app.app, list(words), catch_exceptions=False)


def _accuracies(home: Home) -> pd.DataFrame:
    """Mean and standard deviation over the trainings of each recipe, straight from the database."""
    query = """
        select arm.value as arm, metrics.value as accuracy from tags as kind
        join tags as arm on arm.run_uuid = kind.run_uuid and arm.key = 'arm'
        join tags as plan on plan.run_uuid = kind.run_uuid and plan.key = 'plan' and plan.value = 'techniques'
        join latest_metrics as metrics on metrics.run_uuid = kind.run_uuid and metrics.key = 'test/accuracy'
        where kind.key = 'kind' and kind.value = 'training'
    """
    with sqlite3.connect(home.folder / "mlflow.db") as database:
        frame = pd.read_sql_query(query, database)
    database.close()
    return frame.groupby("arm")["accuracy"].agg(["mean", "std", "count"])


@pytest.mark.slow
def test_the_table_holds_what_the_store_holds(home: Home) -> None:
    result = _ablate("export", "techniques", "--to", "csv")
    assert result.exit_code == 0, result.output
    (path,) = home.exports.glob("*.csv")
    assert result.output.splitlines()[-1] == f"Exported: {home.shown(path)}"
    table = pd.read_csv(path).set_index("arm")
    expected = _accuracies(home).loc[table.index]
    assert len(table) == 14
    assert table["accuracy"].to_numpy() == pytest.approx(expected["mean"].to_numpy(), rel=1e-7)
    assert table["accuracy_std"].to_numpy() == pytest.approx(expected["std"].to_numpy(), rel=1e-7)
    assert table["converged"].to_list() == expected["count"].to_list() == [2] * 14
    assert table.loc["without dropout", ["label", "below", "reference"]].to_list() == [
        "− dropout",
        "full recipe",
        "full recipe",
    ]
    assert table.loc["only dropout", "label"] == "'+ dropout", "which a spreadsheet would calculate"
    difference = expected["mean"] - expected["mean"].loc[table["reference"].fillna("full recipe")].to_numpy()
    compared = table["reference"].notna()
    assert table.loc[compared, "difference"].to_numpy() == pytest.approx(difference[compared].to_numpy(), abs=1e-8)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("to", "ending", "begins"), [("latex", "tex", b"% \\usepackage"), ("pdf", "pdf", b"%PDF")])
def test_a_file_is_written_where_it_is_asked_for(
    home: Home, tmp_path: Path, to: str, ending: str, begins: bytes
) -> None:
    path = tmp_path / "new" / f"table.{ending}"
    result = _ablate("export", "techniques", "--to", to, "--output", str(path))
    assert result.exit_code == 0, result.output
    assert path.read_bytes().startswith(begins)
    assert list(path.parent.iterdir()) == [path], "nothing else is left there"
    assert home.shown(path) in result.output


def test_standard_output_holds_the_table_alone(home: Home) -> None:
    result = _ablate("export", "levels/learning_rate", "--to", "markdown", "--output", "-")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("| Arm |")
    assert lines[-1].startswith("Table: Test accuracy on shapes")
    assert "Diverged: 1 of 1 of" in lines[-1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["technique"], "no plan 'technique'; did you mean techniques?"),
        (["ladder"], "no runs of plan 'ladder' yet; `ablate run ladder` trains them"),
        (
            ["techniques", "--to", "latx"],
            "no format 'latx'; did you mean latex? Known: latex, markdown, csv, pdf, svg.",
        ),
        (["techniques", "--style", "matrx"], "no style 'matrx'; did you mean matrix?"),
        (["techniques", "--to", "pdf", "--output", "-"], "--output -: a PDF is no text"),
        (["techniques", "--to", "svg", "--width", "100"], "the width must lie between 3 and 20 inches, not at 100"),
    ],
)
def test_a_mistake_is_one_sentence_and_code_2(home: Home, words: list[str], said: str) -> None:
    result = _ablate("export", *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_place_that_cannot_be_written_to_is_a_sentence(home: Home, tmp_path: Path) -> None:
    result = _ablate("export", "techniques", "--to", "csv", "--output", str(tmp_path))
    assert (result.exit_code, result.stderr) == (2, f"ablate: --output {tmp_path}: Is a directory\n")
    assert list(tmp_path.iterdir()) == []


def test_without_a_store_it_says_how_to_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATE_HOME", str(tmp_path / "nothing"))
    result = _ablate("export")
    assert result.exit_code == 2
    assert "no runs yet: there is no store at" in result.stderr
    assert not (tmp_path / "nothing").exists()
