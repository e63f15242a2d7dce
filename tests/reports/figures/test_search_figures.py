"""Every figure of a search: its data step in plain pandas, and what all figures keep to."""

import itertools
import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from cifar_ablations.ablations import schema
from cifar_ablations.reports.figures import (
    search_budget,
    search_contour,
    search_history,
    search_importance,
    search_parallel,
    search_rungs,
    search_slices,
    theme,
)
from cifar_ablations.reports.reading import searches
from cifar_ablations.reports.reading.searches import Parameter, Study

HOSTILE = "<script>alert('$x$')</script>"
EPOCHS, RUNGS, CHANCE = 12, [3, 6], 0.1
RATE, DROPOUT, SHAPE = "optimizer.rate", "dropout.p", "schedule.shape"

RATES = [
    Study("sgd", [Parameter(RATE, 0.003, 0.3, True, doc="the learning rate")], {"optimizer.kind": "sgd"}, 1, (RATE,)),
    Study(HOSTILE, [Parameter(RATE, 3e-4, 0.03, True)], {}, 1, ()),
]
JOINT = [
    Study(
        "joint",
        [
            Parameter(RATE, 1e-3, 0.1, True),
            Parameter(DROPOUT, 0.0, 0.6),
            Parameter(SHAPE, choices=("cosine", "constant")),
        ],
        {},
        0,
        (),
        sampler="random",
    )
]


def planted_rates():
    """Two studies with the optimum at rates of 0.02 and 0.002; one trial each pruned, diverged and interrupted."""
    rows = []
    for study, low, optimum in (("sgd", 0.003, 0.02), (HOSTILE, 3e-4, 0.002)):
        for trial in range(8):
            rate = low * 100 ** (trial / 7)
            value = round(0.47 - 0.05 * np.log10(rate / optimum) ** 2, 5)
            rows.append(trial_row(study, trial, schema.FINISHED, value, {RATE: rate}))
    by = {(row["study"], row["trial"]): row for row in rows}
    by["sgd", 0] |= {"outcome": schema.PRUNED, "value": np.nan, "last": 0.3, "epochs": 3.0}
    by["sgd", 7] |= {"outcome": schema.DIVERGED, "value": CHANCE, "last": CHANCE, "epochs": 2.0}
    by[HOSTILE, 2] |= {"outcome": schema.INTERRUPTED, "value": np.nan, "last": 0.2, "epochs": np.nan}
    again = by[HOSTILE, 2] | {"trial": 8, "outcome": schema.FINISHED, "value": 0.46, "last": 0.46, "epochs": 12.0}
    return frame_of([*rows, again | {"run_id": f"{HOSTILE}8", "ended": 9_500.0}])


def planted_joint():
    """One study in which the rate is worth ten times the dropout, and the shape nothing."""
    rng = np.random.default_rng(7)
    rows = []
    for trial in range(16):
        rate, dropout = 10 ** rng.uniform(-3, -1), rng.uniform(0, 0.6)
        value = round(0.5 - 0.1 * (np.log10(rate) + 2.2) ** 2 - 0.1 * (dropout - 0.3) ** 2, 6)
        sampled = {RATE: rate, DROPOUT: dropout, SHAPE: ("cosine", "constant")[trial % 2]}
        rows.append(trial_row("joint", trial, schema.FINISHED, value, sampled))
    return frame_of(rows)


def trial_row(study, trial, outcome, value, sampled):
    return {
        "study": study,
        "trial": trial,
        "outcome": outcome,
        "value": value,
        "last": value,
        "seconds": 8.0,
        "epochs": float(EPOCHS),
        "digest": f"{study}{trial}",
        "run_id": f"{study}{trial}",
        "experiment_id": "1",
        "ended": 1_000.0 * (trial + 1),
        "dated": 1_000.0 * (trial + 1),
        "origin": "",
        **sampled,
    }


def frame_of(rows):
    frame = pd.DataFrame(rows)
    assert list(frame.columns[: len(searches.TRIAL_COLUMNS)]) == searches.TRIAL_COLUMNS
    return frame.sort_values(["study", "trial"], ignore_index=True)


def planted_curves(trials):
    rows = []
    for row in searches.counted(trials).to_dict("records"):
        epochs = int(row["epochs"])
        rows += [
            {"study": row["study"], "trial": row["trial"], "epoch": e, "value": row["last"] * e / epochs}
            for e in range(1, epochs + 1)
        ]
    return pd.DataFrame(rows, columns=searches.CURVE_COLUMNS)


@pytest.fixture
def rates():
    return planted_rates()


@pytest.fixture
def joint():
    return planted_joint()


@pytest.fixture(scope="module")
def importances():
    return search_importance.data(planted_joint(), JOINT)


def test_what_counts(rates):
    assert len(rates) == 17
    counted = searches.counted(rates)
    assert len(counted) == 16
    assert schema.INTERRUPTED not in set(counted["outcome"])
    assert len(searches.complete(rates)) == 15
    assert searches.best_of(rates)["study"] == HOSTILE
    assert searches.best_of(rates.iloc[:0]) is None
    twice = pd.concat([rates, rates.iloc[[0]].assign(run_id="later")], ignore_index=True)
    assert len(searches.counted(twice)) == 16


def test_best_so_far(rates):
    frame = searches.in_order(rates)
    for _, rows in frame.groupby("study"):
        best, spent = np.nan, 0.0
        for row in rows.to_dict("records"):
            if row["outcome"] != schema.PRUNED:
                best = np.nanmax([best, row["value"]])
            spent += row["epochs"]
            assert row["best"] == best or (np.isnan(best) and np.isnan(row["best"]))
            assert row["spent"] == spent
        assert rows["order"].to_list() == list(range(1, 9))
    # The trial that was tried again ended last.
    assert frame.loc[frame["study"] == HOSTILE, "trial"].to_list() == [0, 1, 3, 4, 5, 6, 7, 8]


def test_history_data(rates):
    data = search_history.data(rates)
    assert list(data.columns) == search_history.COLUMNS
    of_sgd = data[data["study"] == "sgd"]
    assert of_sgd["kind"].to_list() == ["pruned", *["complete"] * 6, "diverged"]
    assert of_sgd["value"].iloc[0] == pytest.approx(30)
    assert of_sgd["value"].iloc[-1] == pytest.approx(10)
    assert np.isnan(of_sgd["best"].iloc[0]), "a pruned trial is never the best"
    expected = 100 * rates.loc[(rates["study"] == "sgd") & (rates["outcome"] == schema.FINISHED), "value"]
    assert of_sgd["best"].iloc[-1] == pytest.approx(expected.max())


def test_one_trial_that_did_not_learn_does_not_flatten_the_rest():
    low, high = search_history.window(pd.Series([60.0, 61, 62, 63, 10]))
    assert 50 < low < 60
    assert 63 < high < 70
    assert search_history.window(pd.Series([40.0])) == (39, 41)
    assert search_history.window(pd.Series([], dtype=float)) == (0, 1)


@pytest.mark.parametrize("values", [[0.3, 0.1, 0.2, 0.2, 0.45], [0.5], [0.2, 0.2]])
def test_expected_best_is_the_mean_over_all_samples(values):
    for n in range(1, 5):
        every = [max(sample) for sample in itertools.product(values, repeat=n)]
        assert search_budget.expected_best(values, n) == pytest.approx(np.mean(every))


def test_expected_best_by_resampling():
    values = np.random.default_rng(1).normal(size=30)
    drawn = np.random.default_rng(2).choice(values, size=(200_000, 10)).max(axis=1)
    assert search_budget.expected_best(list(values), 10) == pytest.approx(drawn.mean(), abs=0.005)


def test_budget_data(rates, joint):
    data = search_budget.data(rates, {"sgd": "tpe", HOSTILE: "tpe"})
    assert set(data["kind"]) == {"best so far"}, "the trials of a sampler that learns are no sample"
    of_sgd = data[data["study"] == "sgd"]
    assert of_sgd["epochs"].to_list() == [15, 27, 39, 51, 63, 75, 77]
    drawn = search_budget.data(joint, {"joint": "random"})
    curve = drawn[drawn["kind"] == "expected"].set_index("n")
    assert curve["epochs"].to_list() == [12 * n for n in range(1, 17)]
    assert curve.loc[1, "value"] == pytest.approx(100 * joint["value"].mean())
    assert curve["value"].is_monotonic_increasing
    assert curve["value"].iloc[-1] < 100 * joint["value"].max()


def test_slices_data(rates, joint):
    data = search_slices.data(rates, RATES)
    complete = searches.complete(rates)
    assert len(data) == len(complete)
    sgd = data[data["study"] == "sgd"].set_index("trial")
    expected = complete[complete["study"] == "sgd"].set_index("trial")
    np.testing.assert_allclose(sgd["value"], 100 * expected["value"])
    np.testing.assert_allclose(sgd["place"], expected[RATE])
    assert sgd["best"].to_list() == (expected["value"] == expected["value"].max()).to_list()
    assert set(sgd["low"]) == {0.003}
    data = search_slices.data(joint, JOINT)
    assert data["parameter"].unique().tolist() == [RATE, DROPOUT, SHAPE]
    shapes = data[data["parameter"] == SHAPE].set_index("trial")
    assert shapes["choice"].to_list() == joint[SHAPE].to_list()
    assert shapes["place"].to_list() == joint[SHAPE].map({"constant": 0.0, "cosine": 1.0}).to_list()


def test_log_ticks_are_round_and_within():
    assert search_slices.log_ticks(3e-4, 0.3) == [0.001, 0.01, 0.1]
    assert search_slices.log_ticks(0.0012, 0.9) == [0.01, 0.1] or search_slices.log_ticks(0.0012, 0.9)[0] == 0.003
    assert search_slices.log_ticks(0.012, 0.018) == [0.012, 0.018]


@pytest.mark.exhaustive
def test_importances_find_what_dominates(importances):
    for method in ("fANOVA", "PED-ANOVA"):
        rows = importances[importances["method"] == method]
        assert rows["parameter"].iloc[0] == RATE
        assert rows["mean"].sum() == pytest.approx(1)
        assert rows["mean"].is_monotonic_decreasing
    forest = importances[importances["method"] == "fANOVA"]
    assert (forest["low"] < forest["high"]).all(), "its seeds differ"
    assert (forest["low"] <= forest["mean"]).all()
    assert set(importances["trials"]) == {16}
    table = search_importance.table(importances)
    assert table[0]["parameter"] == RATE
    assert all(row["fanova"] and row["ped"] for row in table)


@pytest.mark.exhaustive
def test_importances_need_trials_parameters_and_differences(joint):
    assert search_importance.data(joint.iloc[:9], JOINT).empty
    assert search_importance.data(joint.assign(value=0.4), JOINT).empty
    assert search_importance.data(joint.assign(**{DROPOUT: 0.1, SHAPE: "cosine"}), JOINT).empty
    assert search_importance.data(planted_rates(), RATES).empty
    sometimes = joint.assign(**{DROPOUT: joint[DROPOUT].where(joint["trial"] > 3)})
    assert DROPOUT not in set(search_importance.data(sometimes, JOINT)["parameter"])


def test_contour_data(joint, importances):
    data = search_contour.data(joint, JOINT, importances)
    assert set(data["x_name"]) == {RATE}
    assert set(data["y_name"]) == {DROPOUT}, "a choice is no axis"
    np.testing.assert_allclose(data["x"], joint[RATE])
    np.testing.assert_allclose(data["value"], 100 * joint["value"])
    assert data.loc[data["best"], "trial"].to_list() == [joint["value"].idxmax()]
    assert search_contour.data(joint.iloc[:11], JOINT, importances).empty


def test_contour_of_points_on_one_line():
    assert search_contour._triangles(np.arange(5.0), np.arange(5.0)) is None
    assert search_contour._triangles(np.zeros(5), np.arange(5.0)) is None
    assert len(search_contour._triangles(np.array([0.0, 1, 0]), np.array([0.0, 0, 1]))) == 1


def test_parallel_data(joint, importances):
    data = search_parallel.data(joint, JOINT, importances)
    assert data["axis"].unique().tolist() == [RATE, DROPOUT, SHAPE, search_parallel.VALUE]
    by_axis = {name: rows.set_index("trial") for name, rows in data.groupby("axis")}
    np.testing.assert_allclose(by_axis[RATE]["place"], (np.log10(joint[RATE]) + 3) / 2)
    np.testing.assert_allclose(by_axis[DROPOUT]["place"], joint[DROPOUT] / 0.6)
    assert by_axis[SHAPE]["place"].to_list() == [0.0, 1.0] * 8
    values = by_axis[search_parallel.VALUE]
    assert values["place"].max() == 1
    assert values["group"].value_counts().to_dict() == {"rest": 12, "upper": 3, "best": 1}
    assert values.loc[values["group"] == "best"].index.to_list() == [joint["value"].idxmax()]
    assert search_parallel.data(planted_rates(), RATES, importances).empty


def test_parallel_says_what_was_not_drawn_and_leaves_out_what_matters_least(joint, importances):
    sometimes = joint.assign(**{DROPOUT: joint[DROPOUT].where(joint["trial"] > 3)})
    data = search_parallel.data(sometimes, JOINT, importances)
    places = data[data["axis"] == DROPOUT].set_index("trial")["place"]
    assert places[:4].to_list() == [search_parallel.UNDRAWN] * 4
    assert (places[4:] >= 0).all()
    assert "<svg" in theme.svg(search_parallel.draw(data), "undrawn")
    names = [f"a.p{i}" for i in range(12)]
    many = joint.assign(**dict.fromkeys(names, 0.5))
    study = Study("joint", [*(Parameter(name, 0, 1) for name in names), *JOINT[0].parameters])
    kept = search_parallel.data(many, [study], importances)["axis"].unique().tolist()
    assert len(kept) == search_parallel.MOST_PARAMETERS + 1
    assert {RATE, DROPOUT, SHAPE} < set(kept)


def test_rungs_data(rates):
    curves = planted_curves(rates)
    data = search_rungs.data(curves, rates, RUNGS)
    learnt = data[data["kind"] != "rung"]
    np.testing.assert_allclose(learnt["value"], 100 * curves["value"])
    assert data.loc[data["kind"] == "rung", "epoch"].to_list() == [*RUNGS, *RUNGS]
    ends = learnt[learnt["last"]].set_index(["study", "trial"])
    assert ends.loc[("sgd", 0), ["kind", "epoch"]].to_list() == ["pruned", 3]
    assert ends.loc[("sgd", 7), ["kind", "epoch"]].to_list() == ["diverged", 2]
    assert sorted(ends[ends["kind"] == "best"].index) == [(HOSTILE, 3), ("sgd", 3)]


def test_rungs_in_sentences(rates):
    curves = planted_curves(rates)
    at_rungs = curves[curves["epoch"].isin(RUNGS)]
    assert search_rungs.compared(at_rungs, rates, RUNGS) == [
        "At epoch 3, 15 trials were compared and 1 pruned.",
        "At epoch 6, 14 trials were compared and 0 pruned.",
    ]


def drawn(rates, joint, importances):
    return [
        (search_history, search_history.data(rates)),
        (search_budget, search_budget.data(rates, {})),
        (search_budget, search_budget.data(joint, {"joint": "random"})),
        (search_slices, search_slices.data(rates, RATES)),
        (search_slices, search_slices.data(joint, JOINT)),
        (search_contour, search_contour.data(joint, JOINT, importances)),
        (search_parallel, search_parallel.data(joint, JOINT, importances)),
        (search_rungs, search_rungs.data(planted_curves(rates), rates, RUNGS)),
        (search_importance, importances),
    ]


@pytest.mark.exhaustive
def test_figures_are_the_same_twice_and_safe_to_inline(rates, joint, importances):
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    before = dict(mpl.rcParams)
    for figure, data in drawn(rates, joint, importances):
        kept = data.copy()
        first, second = (theme.svg(figure.draw(data), "name") for _ in range(2))
        assert first == second
        pd.testing.assert_frame_equal(data, kept)
        ET.fromstring(first)
        assert "<text" in first
        assert "<script" not in first.lower()
        assert not re.search(r"<(metadata|style|image)|<dc:", first)
        assert all(name.startswith("name-") for name in re.findall(r'\bid="([^"]*)"', first))
        assert "var(--figure-muted, #5c6673)" in first
        assert len(figure.describe(data)) > 30
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []


def test_figures_with_nothing_to_show(rates, joint, importances):
    for figure, data in drawn(rates.iloc[:0], joint.iloc[:0], importances.iloc[:0]):
        assert "<svg" in theme.svg(figure.draw(data), "empty")
        assert figure.describe(data).startswith("No ")


@pytest.mark.exhaustive
def test_figures_of_few_trials(rates, joint, importances):
    for figure, data in drawn(rates.iloc[[9]], joint.iloc[:3], importances):
        assert "<svg" in theme.svg(figure.draw(data), "few")


@pytest.mark.parametrize("outcome", [schema.PRUNED, schema.FAILED, schema.INTERRUPTED, schema.DIVERGED])
def test_figures_where_no_trial_has_finished(outcome):
    joint, at = planted_joint().iloc[:4].copy(), [0, 2, 3]
    joint["outcome"] = outcome
    if outcome == schema.DIVERGED:
        joint[["value", "last"]] = CHANCE
    else:
        joint["value"] = np.nan
        joint.loc[at, "last"] = np.nan if outcome == schema.FAILED else 0.3
    importances = search_importance.data(joint, JOINT)
    for figure, data in drawn(joint.assign(study="sgd"), joint, importances):
        assert "<svg" in theme.svg(figure.draw(data), "no-trial")
        assert figure.describe(data).endswith(".")
