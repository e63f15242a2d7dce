"""Files of details, read back, and the figures made from them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import unquote, urlparse

import numpy as np
import pandas as pd
import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.reports.figures import confusion, depth, theme
from cifar_ablations.reports.reading import details

CLIENT = SimpleNamespace(tracking_uri="http://nowhere")


@pytest.fixture
def deep(plan):
    return replace(plan, claims=(replace(plan.claims[0], technique="initialisation"), *plan.claims))


@pytest.fixture
def kept(runs, tmp_path):
    """The planted runs with a file of details each, but for one without a file and one without arrays."""
    rng = np.random.default_rng(0)
    frame = runs.assign(run_id=[f"run {i}" for i in range(len(runs))], artifacts="")
    for i in frame.index:
        folder = tmp_path / f"{i} é"
        folder.mkdir()
        frame.loc[i, "artifacts"] = folder.as_uri()
        arrays = {
            "correct": rng.random(50) < 0.5,
            "confusion": rng.integers(0, 9, (10, 10)),
            "initial/variance": rng.uniform(0.1, 9, 4).astype(np.float32),
            "final/variance": np.array([1, np.nan, 0, 2], dtype=np.float32),
        }
        if i != 1:
            np.savez_compressed(folder / schema.DETAILS_FILE, **({} if i == 2 else arrays))
    return frame


def read(frame, i):
    folder = urlparse(frame.loc[i, "artifacts"]).path
    return np.load(f"{unquote(folder)}/{schema.DETAILS_FILE}")


def test_each_run_has_what_the_page_shows_of_it(deep, kept):
    arrays = details.arrays_of(CLIENT, kept, deep)
    names = {arm: set(found) for arm, found in zip(kept["arm"], (arrays[i] for i in kept["run_id"]), strict=True)}
    assert names["full recipe"] == {"correct", "confusion", *details.VARIANCES}
    assert names["without dropout"] == {"correct", *details.VARIANCES}
    assert names["bare recipe"] == {"correct"}
    assert arrays["run 1"] == arrays["run 2"] == {}
    answers = details.answers(arrays)
    assert list(answers) == [run_id for run_id in kept["run_id"] if run_id not in ("run 1", "run 2")]
    np.testing.assert_array_equal(answers["run 3"], read(kept, 3)["correct"])
    assert details.answers(details.arrays_of(CLIENT, kept, replace(deep, claims=()))) == {}


def test_only_claims_about_depth_are_looked_into(plan, deep):
    assert details.deep_claims(plan) == []
    assert [c.treatment for c in details.deep_claims(deep)] == ["full recipe"]
    over = replace(deep.claims[0], over=(("full recipe", 1.0),))
    assert details.deep_claims(replace(deep, claims=(over,))) == []


def test_depth_data(deep, kept):
    data = depth.data(details.arrays_of(CLIENT, kept, deep), kept, deep)
    rows = data[(data["when"] == "before training") & (data["role"] == "without")]
    ids = kept.index[kept["arm"] == "without dropout"]
    values = pd.DataFrame([read(kept, i)["initial/variance"] for i in ids]).astype(float)
    np.testing.assert_allclose(rows["middle"], 10 ** np.log10(values).mean())
    np.testing.assert_allclose(rows[["low", "high"]], values.agg(["min", "max"]).T)
    assert rows["layer"].to_list() == [1, 2, 3, 4]
    after = data[(data["when"] == "after training") & (data["role"] == "with")]
    assert after["layer"].to_list() == [1, 4], "what is not positive has no logarithm"
    assert set(after["n"]) == {4}, "two of six seeds have no arrays"
    assert "'without dropout' before training" in depth.describe(data)


def test_confusion_data(deep, kept):
    data = confusion.data(details.arrays_of(CLIENT, kept, deep), kept, deep)
    ids = [i for i in kept.index[kept["arm"] == "full recipe"] if i not in (1, 2)]
    total = sum(read(kept, i)["confusion"] for i in ids)
    table = data.pivot(index="truth", columns="answer", values="count")
    np.testing.assert_array_equal(table, total)
    np.testing.assert_allclose(data.groupby("truth")["share"].sum(), 1)
    assert set(data["n"]) == {4}
    assert data["truth"].unique().tolist() == list(deep.data.classes)
    assert "over 4 runs" in confusion.describe(data)
    one = replace(deep, data=replace(deep.data, classes=("only one",)))
    unnamed = confusion.data(details.arrays_of(CLIENT, kept, one), kept, one)
    assert unnamed["answer"].iloc[-1] == "class 9"


@pytest.mark.slow
def test_figures_of_details(deep, kept):
    arrays = details.arrays_of(CLIENT, kept, deep)
    for figure, data in (
        (depth, depth.data(arrays, kept, deep)),
        (confusion, confusion.data(arrays, kept, deep)),
        (depth, depth.data({}, kept, deep)),
        (confusion, confusion.data({}, kept, deep)),
    ):
        first, second = (theme.svg(figure.draw(data), "name") for _ in range(2))
        assert first == second
        assert "<image" not in first
        assert figure.describe(data).startswith("No ") == data.empty
