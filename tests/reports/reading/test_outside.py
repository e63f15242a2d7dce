"""Runs of other programs: which tables are read, how their seeds agree, and what is said of those that cannot be."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cifar_ablations.ablations import schema
from cifar_ablations.ablations.errors import AblateError
from cifar_ablations.ablations.metrics import METRICS
from cifar_ablations.reports.reading import outside
from cifar_ablations.reports.reading.outside import Source
from tests.fresh_store import put_fresh_store

ACCURACIES = [0.5, 0.52, 0.49, 0.6, 0.61, 0.62]


def table(**columns):
    return pd.DataFrame({"arm": ["a"] * 3 + ["b"] * 3, "seed": [0, 1, 2] * 2, "accuracy": ACCURACIES} | columns)


def read(frame, **asked):
    asked = {"arm": "arm", "seed": None, "metric": "accuracy", "control": "a"} | asked
    return outside.of_frame(Source(frame, "results.csv"), **asked)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_a_csv_is_read_however_its_columns_are_divided(separator, ending, tmp_path):
    text = "﻿" + table(arm=['"0.10"'] * 3 + ["007"] * 3).to_csv(sep=separator, index=False, quoting=3)
    path = tmp_path / f"results.{ending}"
    path.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
    frame = outside.of_file(path, ("arm", "seed")).frame
    assert list(frame.columns) == ["arm", "seed", "accuracy"]
    assert list(frame["arm"].unique()) == ["0.10", "007"], "names stay as they are written"
    assert list(frame["accuracy"]) == ACCURACIES


def test_a_parquet_file_is_read(tmp_path):
    table().to_parquet(tmp_path / "results.parquet")
    found = read(outside.of_file(tmp_path / "results.parquet").frame)
    assert found.arms == ["a", "b"]
    assert found.pairing.paired


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.csv", b"", "is empty"),
        ("latin.csv", "arm,accuracy\nmüde,0.5\n".encode("latin-1"), "is not UTF-8"),
        ("torn.csv", b"a,b\n1,2\n1,2,3\n", "cannot be read as CSV or Parquet"),
        ("no.parquet", b"arm,accuracy\n", "cannot be read as CSV or Parquet"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AblateError, match=said):
        outside.of_file(tmp_path / name)


def test_a_mistyped_file_is_guessed(tmp_path):
    (tmp_path / "results.csv").write_text("a\n1\n")
    with pytest.raises(AblateError, match=r"did you mean results\.csv\?"):
        outside.of_file(tmp_path / "result.csv")


@pytest.mark.parametrize(
    ("columns", "asked", "said"),
    [
        ({}, {"metric": "acuracy"}, "no column 'acuracy' .*did you mean accuracy?"),
        ({}, {"arm": "arms"}, "did you mean arm?"),
        ({}, {"seed": "sed"}, "did you mean seed?"),
        ({}, {"metric": None}, "--metric says .* arm, seed, accuracy"),
        ({}, {"control": None}, "--control says .* a, b"),
        ({}, {"control": "c"}, "no arm 'c' .*Known: a, b"),
        ({}, {"metric": "arm"}, "three different columns"),
        ({}, {"better": "more"}, "--better is higher or lower, not 'more'"),
        ({"arm": ["a"] * 6}, {}, "the only arm"),
        ({"arm": list("abcdef")}, {}, "one run alone, and one seed cannot"),
        ({"arm": ["a"] + ["b"] * 5}, {}, "the control 'a' has one run alone"),
        ({"arm": ["a"] * 4 + ["b", "c"]}, {}, "every arm but the control 'a' has one run alone"),
        ({"accuracy": [0.5] * 6}, {}, "every value of 'accuracy' is 0.5"),
        ({"accuracy": [0.5] * 3 + [0.6] * 3}, {}, "the same in all runs of each arm"),
        ({"accuracy": [np.nan] * 6}, {}, "no run in results.csv has a number"),
        ({"accuracy": ["0.5", "bad", *"1234"]}, {}, "holds text: 'bad' in row 2 below the head"),
        ({"accuracy": ["0,5", "0,6", *"1234"]}, {}, "and 1 other row; a number has a point"),
        ({"accuracy": ["50%", *"12345"]}, {}, "leave out the sign for per cent"),
        ({"accuracy": pd.date_range("2026-01-01", periods=6)}, {}, "holds times"),
    ],
)
def test_what_cannot_be_judged_is_said_in_a_sentence(columns, asked, said):
    with pytest.raises(AblateError, match=said) as raised:
        read(table(**columns), **asked)
    assert "\n" not in str(raised.value)


def test_an_arm_is_what_several_runs_have_in_common():
    many = pd.DataFrame({"rate": np.arange(300) // 2, "accuracy": np.linspace(0, 1, 300)})
    with pytest.raises(AblateError, match="has 150 different values"):
        read(many, arm="rate")
    with pytest.raises(AblateError, match="has no rows"):
        read(table().iloc[:0])


def test_names_are_shown_on_one_line():
    assert read(table(arm=["a"] * 3 + ["b\x1b[2J\nc"] * 3)).arms == ["a", "b [2J c"]


@pytest.mark.parametrize("control", ["0.1", "0.10", ".1"])
def test_a_control_that_is_a_number_is_found_however_it_is_written(control):
    assert read(table(arm=[0.1] * 3 + [0.2] * 3), control=control).arms == ["0.1", "0.2"]


@pytest.mark.parametrize(
    ("columns", "asked", "pairing"),
    [
        ({}, {}, {"paired": True}),
        ({"seed": [2, 1, 0, 0, 1, 2]}, {}, {"paired": True}),
        ({"seed": [0, 1, 2, 3, 4, 5]}, {}, {"differing": ("b",)}),
        ({"seed": [0, 1, 2, 0, 1, 3]}, {}, {"differing": ("b",)}),
        ({"seed": [0, 1, 2, 0, 1, 1]}, {}, {"repeated": 1, "differing": ("b",)}),
        ({"seed": [0, 1, 2, 0, 1, None]}, {}, {"unnamed": 1, "differing": ("b",)}),
        ({"seed": [None] * 6}, {}, {"unnamed": 6}),
        ({"seed": [0, 0, 0, 0, 0, 0], "epoch": [1, 2, 3] * 2}, {}, {"repeated": 4, "steps": ("epoch",)}),
    ],
)
def test_how_the_seeds_agree_is_seen(columns, asked, pairing):
    found = read(table(**columns), **asked).pairing
    assert found == outside.Pairing(**{"paired": False, "seed": "seed"} | pairing)


def test_runs_without_seeds_are_not_paired():
    found = read(table().drop(columns="seed"))
    assert found.pairing == outside.Pairing(False)
    assert list(found.runs["seed"]) == [0, 1, 2, 0, 1, 2]


@given(order=st.permutations(range(6)))
@settings(max_examples=30, deadline=None)
def test_the_order_of_rows_changes_nothing(order):
    names = read(table().iloc[list(order)]).runs
    codes = dict(zip(table().iloc[list(order)]["seed"], names["seed"], strict=True))
    name = read(table()).name
    expected = {(arm, codes[seed]): value for arm, seed, value in table().itertuples(index=False)}
    assert {(row["arm"], row["seed"]): row[name] for row in names.to_dict("records")} == expected


def test_a_run_without_a_number_is_one_that_diverged():
    found = read(table(accuracy=["0.5", "nan", "", "0.6", "inf", "0.7"]))
    assert list(found.runs["converged"]) == [True, False, False, True, False, True]
    assert found.runs[found.name].isna().tolist() == [False, True, True, False, True, False]


@pytest.mark.parametrize(
    ("name", "values", "share", "scale", "better"),
    [
        ("accuracy", ACCURACIES, True, 1.0, +1),
        ("test/acc", [50, 52, 49, 60, 61, 62], True, 0.01, +1),
        ("val_loss", ACCURACIES, False, 1.0, -1),
        ("trainloss", ACCURACIES, False, 1.0, -1),
        ("val_bpb", ACCURACIES, False, 1.0, -1),
        ("reward", ACCURACIES, False, 1.0, +1),
        ("accuracy", [-1, 0, 1, 2, 3, 4], False, 1.0, +1),
    ],
)
def test_what_a_metric_is_follows_from_its_name_and_values(name, values, share, scale, better):
    frame = table().rename(columns={"accuracy": name}).assign(**{name: values})
    found = read(frame, metric=name)
    assert (found.metric.share, found.scale, found.metric.better) == (share, scale, better)
    assert found.runs[found.name].to_numpy() == pytest.approx(np.array(values, dtype=float) * scale)
    assert bool(found.notes) == (better < 0 or scale != 1)
    assert read(frame, metric=name, better="higher").metric.better == 1


def test_names_of_judged_metrics_are_nobody_elses():
    found = read(table().rename(columns={"accuracy": schema.TEST_ACCURACY}), metric=schema.TEST_ACCURACY)
    assert found.name not in METRICS
    assert outside.metric(found.name) is found.metric
    assert outside.metric(schema.TEST_ACCURACY) is METRICS[schema.TEST_ACCURACY]


def test_a_plan_claims_that_each_arm_differs_from_the_control():
    found = read(table(arm=list("aabbcc"), seed=[0, 1] * 3), control="b")
    plan = outside.plan_of(found)
    assert [(one.treatment, one.control, one.sign) for one in plan.claims] == [("a", "b", 0), ("c", "b", 0)]
    assert plan.claims[0].statement == "a is different from b in accuracy"
    assert (plan.rule.test, plan.rule.margin, plan.seeds) == ("welch t", outside.MARGIN, (0, 1))
    lower = outside.plan_of(found, expect="lower", margin=0.1, paired=True)
    assert lower.claims[1].statement == "c has a lower accuracy than b"
    assert (lower.claims[1].sign, lower.rule.margin, lower.rule.test) == (-1, 0.1, "paired t")


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan"), float("inf")])
def test_a_margin_is_above_zero(margin):
    with pytest.raises(AblateError, match="--margin must be above 0"):
        outside.plan_of(read(table()), margin=margin)


def test_the_margin_of_per_cent_is_in_per_cent():
    assert outside.plan_of(read(table(accuracy=[50, 51, 52, 53, 54, 55])), margin=1.0).rule.margin == 0.01
    loss = read(table().rename(columns={"accuracy": "loss"}), metric="loss")
    assert np.isnan(outside.plan_of(loss).rule.margin)


def test_what_cannot_be_paired_is_not():
    with pytest.raises(AblateError, match="--paired needs every arm to have the control's seeds, each once; not so b"):
        outside.plan_of(read(table(seed=range(6))), paired=True)


def test_a_rehearsal_stays_one():
    assert read(table(data_kind=[schema.REHEARSAL] * 6)).rehearsal
    assert not read(table(data_kind=["images"] * 6)).rehearsal


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of another program's: parameters name the change and the seed, but for a parent run that has neither."""
    client = outside.load.connect(f"sqlite:///{put_fresh_store(tmp_path_factory.mktemp('store')) / 'mlflow.db'}")
    experiment = client.create_experiment("tuning")
    for change, seed, accuracy, status in [
        ("none", 0, 0.50, "FINISHED"),
        ("none", 1, 0.52, "FINISHED"),
        ("dropout", 0, 0.61, "FINISHED"),
        ("dropout", 1, None, "FINISHED"),
        ("mixup", 0, 0.99, "FAILED"),
        ("mixup", 1, 0.63, "FINISHED"),
        ("mixup", 2, 0.98, None),
        (None, None, None, "FINISHED"),
    ]:
        run = client.create_run(experiment, tags={"note": "x"}).info.run_id
        if change is not None:
            client.log_param(run, "change", change)
            client.set_tag(run, "draw", str(seed))
        if accuracy is not None:
            client.log_metric(run, "val/accuracy", accuracy)
        if status is not None:
            client.set_terminated(run, status)
    return client.tracking_uri


def test_an_experiment_is_read_from_mlflow(store):
    source = outside.of_experiment("tuning", store, "change", "draw", "val/accuracy")
    found = read(source.frame, arm="change", seed="draw", metric="val/accuracy", control="none")
    assert set(found.arms) == {"none", "dropout", "mixup"}
    assert found.pairing.paired
    values = found.runs.set_index(["arm", "seed"])[found.name]
    assert values["none"].tolist() in ([0.50, 0.52], [0.52, 0.50])
    # One without a number, and one that failed, whatever it had logged by then.
    assert sorted(found.runs["arm"][~found.runs["converged"]]) == ["dropout", "mixup"]
    assert source.notes == (
        "1 run of the experiment had not ended and was left out.",
        "1 run with neither 'draw' nor 'val/accuracy' was left out.",
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["tunin"], "no experiment 'tunin' in this store; did you mean tuning?"),
        (["Default"], "no run of experiment 'Default' has ended"),
        (["tuning", "changes"], "--arm 'changes' is none of the params or tags .*did you mean change?"),
        (["tuning", "change", "drw"], "--seed 'drw' is none .*did you mean draw?"),
        (["tuning", "change", None, "accuracy"], "--metric 'accuracy' is none of the metrics .*val/accuracy"),
    ],
)
def test_what_an_experiment_has_not_is_said(asked, said, store):
    with pytest.raises(AblateError, match=said):
        outside.of_experiment(asked[0], store, *asked[1:])


def test_of_an_experiment_all_is_there_where_nothing_is_named(store):
    frame = outside.of_experiment("tuning", store).frame
    assert list(frame.columns) == ["change", "draw", "note", "val/accuracy"]


def test_a_store_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(AblateError, match="there is no MLflow store at"):
        outside.of_experiment("x", f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_table_by_its_size_is_refused_at_once(tmp_path) -> None:
    with (tmp_path / "runs.csv").open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(AblateError, match="has more than 512 MB"):
        outside.of_file(tmp_path / "runs.csv")
