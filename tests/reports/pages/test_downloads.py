"""The list of files beside a page."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from dataclasses import replace

import pandas as pd

from cifar_ablations.ablations import schema
from cifar_ablations.reports.pages import downloads, drawings, findings
from cifar_ablations.reports.reading import load
from tests.reports.conftest import Writer, small_plan

FORMULA = '=HYPERLINK("http://127.0.0.1/";"x")'


def test_a_file_is_listed_with_its_kind_and_what_is_in_it() -> None:
    first, second = downloads.listed("techniques-quick", ["verdicts.csv", "runs.parquet"])
    assert first == {"name": "techniques-quick-verdicts.csv", "kind": "CSV", "about": "a row per claim"}
    assert (second["name"], second["kind"]) == ("techniques-quick-runs.parquet", "Parquet")


def test_every_table_is_said_to_be_something_of_its_own() -> None:
    assert len(set(downloads.ABOUT.values())) == len(downloads.ABOUT)


def test_what_a_spreadsheet_would_calculate_stands_there_as_text(tmp_path) -> None:
    """Of an arm, a technique's level and a data set that somebody else named."""
    writer, plan = Writer(tmp_path), small_plan()
    arm = replace(plan.arms[0], name=FORMULA, levels={"dropout": "@on"})
    plan = replace(plan, arms=(arm,), claims=(), references=(), data=replace(plan.data, name="+cifar"))
    experiment = writer.experiment("first")
    parent = writer.invoke(experiment, plan)
    ended = {"arm": FORMULA, "seed": 0, "digest": arm.digest, "outcome": schema.FINISHED}
    writer.train(experiment, parent, plan, ended | dict.fromkeys(schema.ENDINGS, 0.5))
    (known,) = load.invocations(writer.uri)
    results = findings.of_invocation(load.connect(writer.uri), known, [known])
    files = downloads.files(results, drawings.frames(drawings.of_plan(results)))
    with zipfile.ZipFile(io.BytesIO(files["figures.zip"])) as archive:
        files |= {name: archive.read(name) for name in archive.namelist() if name == "seeds.csv"}
    assert "seeds.csv" in files
    for name, content in files.items():
        if name.endswith(".csv"):
            cells = list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))
            assert any(f"'{FORMULA}" in row for row in cells), name
            texts = [cell for row in cells for cell in row if not re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", cell)]
            assert not [cell for cell in texts if cell.startswith(("=", "+", "-", "@", "\t"))]
    assert pd.read_parquet(io.BytesIO(files["runs.parquet"]))["arm"].to_list() == [FORMULA], "no spreadsheet's format"
