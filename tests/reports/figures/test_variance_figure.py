"""The figure of variances by purpose, and a page with it, from a store."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.purposes import EVERYTHING, PURPOSES
from cifar_ablations.ablations.record import ArmRecord
from cifar_ablations.reports.figures import theme
from cifar_ablations.reports.figures import variance as figure
from cifar_ablations.reports.inference import variance
from cifar_ablations.reports.pages import plan_page
from cifar_ablations.reports.reading import details

PURPOSES_HERE = PURPOSES[:3]

CLIENT = SimpleNamespace(tracking_uri="http://nowhere")


@pytest.fixture
def split_up(plan):
    names = {"full recipe": {}, **{f"only {name}": {"seeding": name} for name in PURPOSES_HERE}, "bare recipe": {}}
    arms = tuple(ArmRecord(name, f"{i:016x}", levels=at) for i, (name, at) in enumerate(names.items()))
    return replace(plan, name="variance", arms=arms, claims=(), references=(), seeds=(0, 1, 2, 3))


@pytest.fixture
def its_runs(split_up):
    rng = np.random.default_rng(0)
    endings = {"outcome": schema.FINISHED, "converged": True, **dict.fromkeys(schema.ENDINGS, 1.0)}
    rows = [
        {"arm": arm.name, "seed": seed, "digest": arm.digest, "run_id": f"{arm.name} {seed}", **endings}
        | {schema.TEST_ACCURACY: round(0.7 + rng.normal(0, 0.01 / (1 + i)), 4)}
        for i, arm in enumerate(split_up.arms)
        for seed in split_up.seeds
    ]
    return pd.DataFrame(rows)


def test_bars_are_the_tables_variances_in_points(split_up, its_runs):
    answers = {run_id: np.random.default_rng(i).random(50) < 0.7 for i, run_id in enumerate(its_runs["run_id"])}
    table = variance.table(split_up, its_runs, answers)
    data = figure.data(table)
    assert data["purpose"].iloc[0] == EVERYTHING
    assert data["purpose"].iloc[-1] == variance.IMAGES
    assert set(data["purpose"].iloc[1:-1]) == set(PURPOSES_HERE)
    assert data["value"].iloc[1:-1].is_monotonic_decreasing
    by_purpose = table.set_index("purpose").loc[data["purpose"]]
    np.testing.assert_allclose(data[["value", "low", "high"]], 1e4 * by_purpose.filter(like="variance"))
    variances = 1e4 * its_runs.groupby("arm")[schema.TEST_ACCURACY].var()
    assert data["value"].iloc[0] == pytest.approx(variances["full recipe"])
    assert f"everything {variances['full recipe']:.2f}" in figure.describe(data)


def test_it_is_drawn_also_where_little_is_known(split_up, its_runs):
    for seeds in (4, 2, 1, 0):
        data = figure.data(variance.table(split_up, its_runs[its_runs["seed"] < seeds], {}))
        assert data.empty == (seeds < 2)
        ET.fromstring(theme.svg(figure.draw(data), "variance"))
    assert figure.describe(data) == "Too few runs have a test accuracy."


def test_right_answers_are_read_where_a_purpose_is_varied(split_up, its_runs, tmp_path):
    np.savez_compressed(tmp_path / schema.DETAILS_FILE, correct=np.array([True, False]))
    kept = its_runs.assign(artifacts=tmp_path.as_uri())
    assert set(details.answers(details.arrays_of(CLIENT, kept, split_up))) == set(kept["run_id"])
    plain = replace(split_up, arms=tuple(replace(arm, levels={}) for arm in split_up.arms))
    assert details.answers(details.arrays_of(CLIENT, kept, plain)) == {}


@pytest.mark.exhaustive
def test_a_page_of_it(split_up, its_runs, tmp_path):
    from tests.reports.conftest import Writer
    from tests.reports.pages.test_plan_page import Parsed

    writer = Writer(tmp_path)
    experiment = writer.experiment("variance")
    parent = writer.invoke(experiment, split_up)
    for row in its_runs.to_dict("records"):
        writer.train(experiment, parent, split_up, row)
    (path,) = plan_page.write_reports(writer.uri, tmp_path / "pages")
    parsed = Parsed(path.read_text(encoding="utf-8"))
    assert "variance" in parsed.ids
    assert "Drawn anew alone, beside one draw of all else, each makes of that variance" in parsed.text
    assert "the variance of the difference between 'bare recipe' and 'full recipe' (ρ = " in parsed.text
    assert any(i.startswith("variance-") for i in parsed.ids), "the figure"
    files = {Path(a["href"]).name for a in parsed.all("a") if a.get("href", "").startswith("variance-")}
    assert files == {file.name for file in path.parent.iterdir()} - {path.name, "how-to-read.html"}
    table = pd.read_csv(path.with_name(f"{path.stem}-variance.csv"))
    assert table["purpose"].to_list() == [EVERYTHING, *PURPOSES_HERE, variance.TOGETHER, variance.IMAGES]
    assert pd.read_csv(path.with_name(f"{path.stem}-pairing.csv"))["arm"].to_list() == ["bare recipe"]
